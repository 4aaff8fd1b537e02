"""Attention over a packed sequence: completions see their prompt and themselves. Three forms of one function.

- `dense`: the definition, with an S × S mask; for tests and small inputs.
- `blocks`: on a CPU. Completions of a group against the prompt's keys is one large rectangle without a mask, and
  each against itself one small triangle; both parts are merged by their log-sum-exp, and the backward recomputes the
  scores, so that nothing quadratic is kept.
- `flex`: FlexAttention with a block mask, on a GPU.

Shape suffixes: S packed tokens, H query heads, K key heads, D head size; in blocks g groups, n completions, T their
longest, P prompt tokens, r = H / K.
"""

from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from maxrl.engine.packing import Block, PackedGroups
from maxrl.errors import unknown_name

SMALL_TRIANGLE = 128
"""Up to this many tokens a completion's own scores are computed as plain matrices, faster than in blocks."""


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: PackedGroups,
    scale: float,
    *,
    kernel: str | None = None,
) -> Tensor:
    """softmax(scale · q kᵀ) v over what each token of the packed sequence may see.

    Args:
        query: (S, H, D).
        key: (S, K, D), K a divisor of H.
        value: (S, K, D).
        packed: the layout.
        scale: factor of the scores.
        kernel: `dense`, `blocks` or `flex`; by default what suits the device.

    Returns:
        (S, H, D), differentiable in query, key and value.
    """
    kernel = kernel or ("flex" if query.is_cuda else "blocks")
    if kernel == "dense":
        return dense_attention(query, key, value, packed, scale)
    if kernel == "flex":
        return flex_attention(query, key, value, packed, scale)
    if kernel != "blocks":
        raise unknown_name("attention kernel", kernel, ("dense", "blocks", "flex"))
    return _BlockAttention.apply(query, key, value, packed, scale)  # pyright: ignore[reportReturnType]


def visible(packed: PackedGroups) -> Tensor:
    """(S, S): whether the token of the row sees the token of the column."""
    group, completion, position = packed.group_ids, packed.completion_ids, packed.position_ids[0]
    same = (group[:, None] == group) & ((completion == -1) | (completion[:, None] == completion))
    return same & (position <= position[:, None])


def dense_attention(query: Tensor, key: Tensor, value: Tensor, packed: PackedGroups, scale: float) -> Tensor:
    """The definition, written out."""
    share = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
    scores = torch.einsum("shd,thd->hst", query, key)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * scale
    scores = scores.masked_fill(~visible(packed), -torch.inf)
    return torch.einsum("hst,thd->shd", scores.softmax(-1).to(value.dtype), value)


def flex_attention(query: Tensor, key: Tensor, value: Tensor, packed: PackedGroups, scale: float) -> Tensor:
    """FlexAttention; compiled on a GPU, where tiles that no token sees cost nothing."""
    attend, _ = _flex(query.is_cuda)
    heads_first = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    mask = _block_mask(packed, query.is_cuda)
    out = attend(*heads_first, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    return out[0].transpose(0, 1)


@cache
def _flex(compiled: bool) -> tuple[Any, Any]:
    from torch.nn.attention import flex_attention as flex  # a GPU's business: costs every CPU run its import

    if not compiled:
        return flex.flex_attention, flex.create_block_mask
    return torch.compile(flex.flex_attention, dynamic=True), torch.compile(
        flex.create_block_mask, dynamic=True
    )


@lru_cache(maxsize=2)  # every layer of a forward pass, and of its backward, asks for the same one
def _block_mask(packed: PackedGroups, compiled: bool) -> Any:
    group, completion, position = packed.group_ids, packed.completion_ids, packed.position_ids[0]

    def sees(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same = (group[q] == group[k]) & ((completion[k] == -1) | (completion[q] == completion[k]))
        return same & (position[k] <= position[q])

    _, create = _flex(compiled)
    length = len(group)
    return create(sees, B=None, H=None, Q_LEN=length, KV_LEN=length, device=group.device)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _BlockAttention(torch.autograd.Function):
    """`blocks`. The gradient of each part is that of an attention whose output and log-sum-exp are the merged ones."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packed: PackedGroups, scale: float
    ) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            out = torch.empty_like(query, memory_format=torch.contiguous_format)
            kept = []
            for block in packed.blocks:
                kept += [_prompt_forward(query, key, value, block, scale, out)]
                kept += [_completion_forward(query, key, value, block, scale, out)]
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.packed, ctx.scale = packed, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, *kept = ctx.saved_tensors
        grads = tuple(
            torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in (query, key, value)
        )
        inputs = (query, key, value, out, grad)
        with torch.autocast(query.device.type, enabled=False):
            for number, block in enumerate(ctx.packed.blocks):
                _prompt_backward(*inputs, block, ctx.scale, kept[2 * number], grads)
                _completion_backward(*inputs, block, ctx.scale, kept[2 * number + 1], grads)
        return *grads, None, None


def _prompt_forward(
    query: Tensor, key: Tensor, value: Tensor, block: Block, scale: float, out: Tensor
) -> Tensor:
    """Prompts, each causally; returns their log-sum-exp."""
    index = block.prompt_index
    share = query.shape[1] // key.shape[1]
    q = query[index].transpose(1, 2)  # (g, H, P, D)
    k, v = (tensor[index].transpose(1, 2).repeat_interleave(share, 1) for tensor in (key, value))
    part, lse = _flash(q, k, v, 0.0, True, scale=scale)
    out[index] = part.transpose(1, 2)
    return lse


def _prompt_backward(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, grad: Tensor, block: Block, scale: float, lse: Tensor,
    grads: tuple[Tensor, ...],
) -> None:  # fmt: skip
    index = block.prompt_index
    kv_heads = key.shape[1]
    share = query.shape[1] // kv_heads
    q, o, do = (tensor[index].transpose(1, 2) for tensor in (query, out, grad))
    k, v = (tensor[index].transpose(1, 2).repeat_interleave(share, 1) for tensor in (key, value))
    dq, dk, dv = _flash_backward(do, q, k, v, o, lse, 0.0, True, scale=scale)
    grads[0][index] = dq.transpose(1, 2)
    for target, part in ((grads[1], dk), (grads[2], dv)):
        target[index] = part.unflatten(1, (kv_heads, share)).sum(2).transpose(1, 2).to(target.dtype)


def _completion_forward(
    query: Tensor, key: Tensor, value: Tensor, block: Block, scale: float, out: Tensor
) -> Tensor:
    """Completions against their prompt and themselves; returns the log-sum-exp over both, (g, K, n, r, T)."""
    index = block.completion_index
    q = _folded_queries(query, key, index)
    if not index.numel():
        return q.new_empty(0)
    k, v = (tensor[index].permute(0, 3, 1, 2, 4) for tensor in (key, value))  # (g, K, n, T, D)
    prompt_out, prompt_lse = _prompt_part(q, key, value, block, scale)
    own_out, own_lse = _own_part(q, k, v, scale)
    lse = torch.logaddexp(prompt_lse, own_lse)
    merged = prompt_out * (prompt_lse - lse).exp()[..., None] + own_out * (own_lse - lse).exp()[..., None]
    _scatter(out, block, _unfolded(merged.to(out.dtype)))
    return lse


def _completion_backward(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, grad: Tensor, block: Block, scale: float, lse: Tensor,
    grads: tuple[Tensor, ...],
) -> None:  # fmt: skip
    index = block.completion_index
    if not index.numel():
        return
    q, o, do = (_folded_queries(tensor, key, index) for tensor in (query, out, grad))
    if block.valid is not None:
        do = do * block.valid[:, None, :, None, :, None]
    k, v = (tensor[index].permute(0, 3, 1, 2, 4) for tensor in (key, value))
    flat = (tensor.flatten(2, 4) for tensor in (do, q))
    prompt_k, prompt_v = (tensor[block.prompt_index].transpose(1, 2) for tensor in (key, value))
    flat_do, flat_q = flat
    dq, dk, dv = _flash_backward(
        flat_do, flat_q, prompt_k, prompt_v, o.flatten(2, 4), lse.flatten(2, 4), 0.0, False, scale=scale
    )
    grads[1].index_add_(0, block.prompt_index.flatten(), dk.transpose(1, 2).flatten(0, 1))
    grads[2].index_add_(0, block.prompt_index.flatten(), dv.transpose(1, 2).flatten(0, 1))
    own_dq, own_dk, own_dv = _own_part_backward(do, q, k, v, o, lse, scale)
    _scatter(grads[0], block, _unfolded(dq.view_as(own_dq) + own_dq))
    for target, part in ((grads[1], own_dk), (grads[2], own_dv)):
        _scatter(target, block, part.permute(0, 2, 3, 1, 4))


def _folded_queries(tensor: Tensor, key: Tensor, index: Tensor) -> Tensor:
    """(S, H, D) → (g, K, n, r, T, D): queries that share keys lie together."""
    kv_heads = key.shape[1]
    blocks = tensor[index].unflatten(3, (kv_heads, -1))  # (g, n, T, K, r, D)
    return blocks.permute(0, 3, 1, 4, 2, 5).contiguous()


def _unfolded(folded: Tensor) -> Tensor:
    """(g, K, n, r, T, D) → (g, n, T, H, D)."""
    return folded.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)


def _scatter(target: Tensor, block: Block, values: Tensor) -> None:
    if block.valid is None:
        target[block.completion_index] = values.to(target.dtype)
    else:
        target[block.completion_index[block.valid]] = values[block.valid].to(target.dtype)


def _prompt_part(q: Tensor, key: Tensor, value: Tensor, block: Block, scale: float) -> tuple[Tensor, Tensor]:
    """Queries of completions on all of their prompt: (g, K, n, r, T, D) and the log-sum-exp without D."""
    k, v = (tensor[block.prompt_index].transpose(1, 2) for tensor in (key, value))  # (g, K, P, D)
    out, lse = _flash(q.flatten(2, 4), k, v, 0.0, False, scale=scale)
    return out.view_as(q), lse.view(q.shape[:-1])


def _own_part(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Completions on themselves, causally."""
    if q.shape[-2] > SMALL_TRIANGLE:
        keys, values = (_for_each_query(tensor, q) for tensor in (k, v))
        out, lse = _flash(q.flatten(1, 3), keys, values, 0.0, True, scale=scale)
        return out.view_as(q), lse.view(q.shape[:-1])
    scores = _own_scores(q, k, scale)
    lse = scores.logsumexp(-1)
    weights = scores.sub_(lse[..., None]).exp_().to(v.dtype).flatten(3, 4)
    return (weights @ v).view_as(q), lse


def _own_part_backward(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    if q.shape[-2] > SMALL_TRIANGLE:
        keys, values = (_for_each_query(tensor, q) for tensor in (k, v))
        flat = (tensor.flatten(1, 3) for tensor in (do, q))
        grads = _flash_backward(
            *flat, keys, values, o.flatten(1, 3), lse.flatten(1, 3), 0.0, True, scale=scale
        )
        dq, dk, dv = (grad.view_as(q) for grad in grads)
        return dq, dk.sum(3), dv.sum(3)
    weights = _own_scores(q, k, scale).sub_(lse[..., None]).exp_()
    delta = (do * o).sum(-1, dtype=weights.dtype)
    dv = weights.to(v.dtype).flatten(3, 4).transpose(-1, -2) @ do.flatten(3, 4)
    dweights = (do.flatten(3, 4) @ v.transpose(-1, -2)).view_as(weights)
    dscores = (
        weights.mul_(dweights.to(weights.dtype).sub_(delta[..., None])).mul_(scale).to(q.dtype).flatten(3, 4)
    )
    return (dscores @ k).view_as(q), dscores.transpose(-1, -2) @ q.flatten(3, 4), dv


def _for_each_query(keys: Tensor, q: Tensor) -> Tensor:
    """(g, K, n, T, D) keys or values, repeated for the r queries that share them: (g, K n r, T, D)."""
    return keys[:, :, :, None].expand_as(q).flatten(1, 3)


def _own_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """(g, K, n, r, T, T), −∞ above the diagonal, in single precision or better."""
    length = q.shape[-2]
    scores = (q.flatten(3, 4) @ k.transpose(-1, -2)).view(*q.shape[:-1], length)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * scale
    above = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill_(above, -torch.inf)
