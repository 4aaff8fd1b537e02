"""From logits to the log-probabilities of the tokens that were chosen, without a second copy of the logits.

Written with torch's own operations, a softmax over a vocabulary of 150,000 goes through memory a dozen times, forward and
backward. Here a few rows at a time are taken through all of it while they are in the processor's cache, and the backward
recomputes what the forward would have had to keep.

Shape suffixes: U positions, V vocabulary, M tokens (several may be predicted at one position).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**20
"""Logits taken through at once: 4 MiB in float32."""

BLOCK_ON_GPU = 2**27


def selected_logprobs(
    logits_UV: Tensor,
    source_M: Tensor,
    targets_M: Tensor,
    temperature: float = 1.0,
    *,
    entropies: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """log softmax(logits / temperature) of each token, (M,), and the entropies (U,), in single precision or better.

    Args:
        logits_UV: in any precision.
        source_M: row that predicts each token.
        targets_M: the tokens.
        temperature: divides the logits.
        entropies: also return −Σ p log p of every row.
    """
    logprobs_M, entropy_U = _Selected.apply(logits_UV, source_M, targets_M, 1 / temperature, entropies)  # pyright: ignore
    return logprobs_M, entropy_U if entropies else None


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_UV: Tensor, source_M: Tensor, targets_M: Tensor, scale: float, entropies: bool
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(logits_UV.dtype, torch.float32)
        lse_U = logits_UV.new_empty(len(logits_UV), dtype=wide)
        entropy_U = logits_UV.new_zeros(len(logits_UV) if entropies else 0, dtype=wide)
        for rows in _blocks(logits_UV):
            block = logits_UV[rows].to(wide, copy=True).mul_(scale)
            lse_U[rows] = block.logsumexp(-1)
            if entropies:
                logprobs = block.sub_(lse_U[rows, None])
                entropy_U[rows] = -(logprobs.exp() * logprobs.clamp_(min=torch.finfo(wide).min)).sum(-1)
        chosen_M = logits_UV[source_M, targets_M].to(wide) * scale
        ctx.save_for_backward(logits_UV, source_M, targets_M, lse_U, entropy_U)
        ctx.scale, ctx.entropies = scale, entropies
        return chosen_M - lse_U[source_M], entropy_U

    @staticmethod
    def backward(ctx: Any, grad_M: Tensor, grad_entropy_U: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """d logp / d x = 1[chosen] − p, and d H / d x = −p (log p + H), with x = scale · logits."""
        logits_UV, source_M, targets_M, lse_U, entropy_U = ctx.saved_tensors
        with_entropy = ctx.entropies and bool(grad_entropy_U.any())
        per_row_U = torch.zeros_like(lse_U).index_add_(0, source_M, grad_M)
        # Several tokens may be chosen at one position: their gradients are summed before they are rounded.
        order_M = source_M.argsort(stable=True)
        sorted_M = source_M[order_M]
        grad_UV = torch.empty_like(logits_UV)
        for rows in _blocks(logits_UV):
            logprobs = logits_UV[rows].to(lse_U.dtype, copy=True).mul_(ctx.scale).sub_(lse_U[rows, None])
            if with_entropy:
                factor = (
                    (logprobs + entropy_U[rows, None])
                    .mul_(grad_entropy_U[rows, None])
                    .nan_to_num_(neginf=0.0)
                )
                grad = logprobs.exp_().mul_(factor.add_(per_row_U[rows, None])).mul_(-ctx.scale)
            else:
                grad = logprobs.exp_().mul_(per_row_U[rows, None] * -ctx.scale)
            first, end = torch.searchsorted(sorted_M, sorted_M.new_tensor([rows.start, rows.stop])).tolist()
            chosen = order_M[first:end]
            place = (source_M[chosen] - rows.start, targets_M[chosen])
            grad_UV[rows] = grad.index_put_(place, grad_M[chosen] * ctx.scale, accumulate=True)
        return grad_UV, None, None, None, None


def _blocks(logits_UV: Tensor) -> Iterator[slice]:
    most = BLOCK_ON_GPU if logits_UV.is_cuda else BLOCK
    size = max(1, most // logits_UV.shape[1])
    for start in range(0, len(logits_UV), size):
        yield slice(start, start + size)
