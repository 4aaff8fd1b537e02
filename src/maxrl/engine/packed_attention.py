"""Attention over a packed sequence: completions see their prompt and themselves. Three forms of one function.

- `dense`: the definition, with an S × S mask; for tests and small inputs.
- `blocks`: on a CPU. Completions of a group against the prompt's keys is one large rectangle without a mask, and
  each against itself one small triangle; both parts are merged by their log-sum-exp.
- `flex`: FlexAttention with a block mask, on a GPU.

Shape suffixes: S packed tokens, H query heads, K key heads, D head size; in blocks g groups, n completions, T their
longest, P prompt tokens, r = H / K.
"""

from functools import cache, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from maxrl.engine.cpu_attention import attend, attend_backward
from maxrl.engine.packing import CompletionBlock, PackedGroups
from maxrl.errors import unknown_name

Kernel = Literal["dense", "blocks", "flex"]


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: PackedGroups,
    scale: float,
    *,
    kernel: Kernel | None = None,
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


class _BlockAttention(torch.autograd.Function):
    """`blocks`. The gradient of each part is that of an attention whose output and log-sum-exp are the merged ones."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packed: PackedGroups, scale: float
    ) -> Tensor:
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept = []
        with torch.autocast(query.device.type, enabled=False):
            for index in packed.prompt_blocks:
                kept.append(_prompts_forward(query, key, value, index, scale, out))
            for block in packed.completion_blocks:
                kept.append(_completions_forward(query, key, value, block, scale, out))
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.packed, ctx.scale = packed, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, *lse = ctx.saved_tensors
        packed: PackedGroups = ctx.packed
        grads = tuple(
            torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in (query, key, value)
        )
        inputs = (query, key, value, out, grad)
        with torch.autocast(query.device.type, enabled=False):
            # Prompts first: they set what completions add to.
            for index in packed.prompt_blocks:
                _prompts_backward(*inputs, index, ctx.scale, lse.pop(0), grads)
            for block in packed.completion_blocks:
                _completions_backward(*inputs, block, ctx.scale, lse.pop(0), grads)
        return *grads, None, None


def _prompts_forward(
    query: Tensor, key: Tensor, value: Tensor, prompts: Tensor, scale: float, out: Tensor
) -> Tensor:
    """Prompts (g, P), each causally; returns their log-sum-exp."""
    index = prompts[:, None]  # as if each were the one completion of its group
    q, (k, v) = _folded(query, key, index), _keys(index, key, value)
    part, lse = attend(q.flatten(3, 4), k, v, scale, causal=True)
    out[index] = _unfolded(part.view_as(q))
    return lse


def _prompts_backward(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, grad: Tensor, prompts: Tensor, scale: float, lse: Tensor,
    grads: tuple[Tensor, ...],
) -> None:  # fmt: skip
    index = prompts[:, None]
    q, o, do = (_folded(tensor, key, index) for tensor in (query, out, grad))
    flat = (tensor.flatten(3, 4) for tensor in (do, q, o))
    dq, *dkv = attend_backward(*flat, *_keys(index, key, value), lse, scale, causal=True)
    grads[0][index] = _unfolded(dq.view_as(q))
    for target, part in zip(grads[1:], dkv, strict=True):
        target[index] = part.permute(0, 2, 3, 1, 4).to(target.dtype)


def _completions_forward(
    query: Tensor, key: Tensor, value: Tensor, block: CompletionBlock, scale: float, out: Tensor
) -> Tensor:
    """Completions on all of their prompt and, causally, on themselves; returns the log-sum-exp of both together."""
    index = block.index
    q = _folded(query, key, index)
    prompt_out, prompt_lse = attend(q.flatten(2, 4), *_keys(block.prompt_index, key, value), scale)
    own_out, own_lse = attend(q.flatten(3, 4), *_keys(index, key, value), scale, causal=True)
    prompt_lse, own_lse = prompt_lse.view(q.shape[:-1]), own_lse.view(q.shape[:-1])
    lse = torch.logaddexp(prompt_lse, own_lse)
    merged = prompt_out.view_as(q) * (prompt_lse - lse).exp_()[..., None]
    merged += own_out.view_as(q) * (own_lse - lse).exp_()[..., None]
    _scatter(out, block, _unfolded(merged.to(out.dtype)))
    return lse


def _completions_backward(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, grad: Tensor, block: CompletionBlock, scale: float,
    lse: Tensor, grads: tuple[Tensor, ...],
) -> None:  # fmt: skip
    index = block.index
    q, o, do = (_folded(tensor, key, index) for tensor in (query, out, grad))
    if block.valid is not None:
        do = do * block.valid[:, None, :, None, :, None]
    flat = (tensor.flatten(2, 4) for tensor in (do, q, o))
    dq, *dkv = attend_backward(*flat, *_keys(block.prompt_index, key, value), lse.flatten(2, 4), scale)
    for target, part in zip(grads[1:], dkv, strict=True):
        flat_part = part.transpose(1, 2).flatten(0, 1).to(target.dtype)
        target.index_add_(0, block.prompt_index.flatten(), flat_part)
    flat = (tensor.flatten(3, 4) for tensor in (do, q, o))
    own_dq, *own_dkv = attend_backward(
        *flat, *_keys(index, key, value), lse.flatten(3, 4), scale, causal=True
    )
    _scatter(grads[0], block, _unfolded(dq.view_as(q) + own_dq.view_as(q)))
    for target, part in zip(grads[1:], own_dkv, strict=True):
        _scatter(target, block, part.permute(0, 2, 3, 1, 4))


def _folded(tensor: Tensor, key: Tensor, index: Tensor) -> Tensor:
    """(S, H, D) → (g, K, n, r, T, D): queries that share keys lie together."""
    blocks = tensor[index].unflatten(3, (key.shape[1], -1))  # (g, n, T, K, r, D)
    return blocks.permute(0, 3, 1, 4, 2, 5).contiguous()


def _unfolded(folded: Tensor) -> Tensor:
    """(g, K, n, r, T, D) → (g, n, T, H, D)."""
    return folded.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)


def _keys(index: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """(S, K, D) each → (g, K, …, D), with the places that `index` (g, …) names."""
    return tuple(tensor[index].movedim(-2, 1) for tensor in tensors)


def _scatter(target: Tensor, block: CompletionBlock, values: Tensor) -> None:
    if block.valid is None:
        target[block.index] = values.to(target.dtype)
    else:
        target[block.index[block.valid]] = values[block.valid].to(target.dtype)
