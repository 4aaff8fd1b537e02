"""Attention of a rectangle or a triangle on a CPU, with its log-sum-exp, so that parts can be merged.

Two ways. *Plain*: a piece of the scores at a time, small enough to stay in the cache through softmax and both products; the
backward recomputes it, so that nothing quadratic is kept. *Flash*: torch's own kernel, which is better at large rectangles
in float32 and at triangles, half of which it skips, but slow at small matrices and, backward, in bfloat16.

Shape suffixes: leading dimensions …, R query rows, L keys, D head size. In a causal part the rows are r query heads times
L positions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

PIECE = 2**19
"""Scores computed at once: 2 MiB in float32."""

SMALL_RECTANGLE = 64
"""Up to so many keys, plain is better in float32, too."""

SMALL_TRIANGLE = 128
"""Up to so many positions, plain is better than skipping half of the scores."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """softmax(scale · q kᵀ) v and the log-sum-exp of the scores.

    Args:
        q: (…, R, D).
        k: (…, L, D).
        v: (…, L, D).
        scale: factor of the scores.
        causal: row i sees keys 0 … i mod L.

    Returns:
        (…, R, D) in the precision of `q`, and (…, R) in single precision or better.
    """
    shape = q.shape
    q, k, v = (tensor.flatten(0, -3) for tensor in (q, k, v))
    if _prefers_flash(q, k, causal):
        out, lse = _flash(*_heads(q, k, v, causal), 0.0, causal, scale=scale)
        return out.reshape(shape), lse.reshape(shape[:-1])
    wide = torch.promote_types(q.dtype, torch.float32)
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=wide)
    for batch, rows, hidden in _pieces(q, k, causal):
        scores = _scores(q[batch, rows], k[batch], scale, hidden)
        top = scores.amax(-1, keepdim=True)
        weights = scores.sub_(top).exp_()
        total = weights.sum(-1, keepdim=True)
        out[batch, rows] = (weights.to(q.dtype) @ v[batch]) / total
        lse[batch, rows] = total.log_().add_(top)[..., 0]
    return out.view(shape), lse.view(shape[:-1])


def attend_backward(
    do: Tensor, q: Tensor, o: Tensor, k: Tensor, v: Tensor, lse: Tensor, scale: float, *, causal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in q, k and v of one part, given the output `o` and the log-sum-exp of all parts together.

    With weights p = exp(s − lse) and δ = Σ do · o: dv = pᵀ do, ds = p (do vᵀ − δ), dq = scale · ds k, dk = scale · dsᵀ q
    (Dao et al., arXiv 2205.14135, appendix B).
    """
    shape, key_shape = q.shape, k.shape
    do, q, o, k, v = (tensor.flatten(0, -3) for tensor in (do, q, o, k, v))
    lse = lse.flatten(0, -2)
    if _prefers_flash(q, k, causal):
        do, q, o = (_split(tensor, k, causal) for tensor in (do, q, o))
        _, keys, values = _heads(q.flatten(1, 2), k, v, causal)
        dq, dk, dv = _flash_backward(do, q, keys, values, o, lse.view(q.shape[:-1]), 0.0, causal, scale=scale)
        return dq.reshape(shape), dk.sum(1).view(key_shape), dv.sum(1).view(key_shape)
    dq = torch.empty_like(q)
    dk, dv = (torch.zeros_like(tensor, dtype=lse.dtype) for tensor in (k, v))
    delta = (do * o).sum(-1, dtype=lse.dtype)
    for batch, rows, hidden in _pieces(q, k, causal):
        q_, do_ = q[batch, rows], do[batch, rows]
        weights = _scores(q_, k[batch], scale, hidden).sub_(lse[batch, rows, None]).exp_()
        dv[batch] += weights.to(q.dtype).transpose(1, 2) @ do_
        dscores = (do_ @ v[batch].transpose(1, 2)).to(lse.dtype).sub_(delta[batch, rows, None])
        dscores = dscores.mul_(weights).mul_(scale).to(q.dtype)
        dq[batch, rows] = dscores @ k[batch]
        dk[batch] += dscores.transpose(1, 2) @ q_
    return dq.view(shape), dk.view(key_shape), dv.view(key_shape)


def _scores(q: Tensor, k: Tensor, scale: float, hidden: Tensor | None) -> Tensor:
    scores = q @ k.transpose(1, 2)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).mul_(scale)
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)


def _pieces(q: Tensor, k: Tensor, causal: bool) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Cuts of (B, R, L) scores, and where keys are hidden from rows."""
    count, rows, keys = q.shape[0], q.shape[1], k.shape[1]
    hidden = None
    if causal:
        hidden = torch.arange(keys, device=q.device) > (torch.arange(rows, device=q.device) % keys)[:, None]
    together, height = max(1, PIECE // max(1, rows * keys)), min(rows, max(1, PIECE // keys))
    for first in range(0, count, together):
        for top in range(0, rows, height):
            row_slice = slice(top, top + height)
            yield slice(first, first + together), row_slice, None if hidden is None else hidden[row_slice]


def _prefers_flash(q: Tensor, k: Tensor, causal: bool) -> bool:
    if causal:
        return k.shape[1] > SMALL_TRIANGLE
    return q.dtype != torch.bfloat16 and k.shape[1] > SMALL_RECTANGLE


def _heads(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As flash reads them: (B, heads, rows, D). Query heads that share keys are rows, except in a triangle."""
    queries = _split(q, k, causal)
    keys, values = (tensor[:, None].expand(-1, queries.shape[1], -1, -1) for tensor in (k, v))
    return queries, keys, values


def _split(rows: Tensor, k: Tensor, causal: bool) -> Tensor:
    return rows.unflatten(1, (-1, k.shape[1])) if causal else rows[:, None]
