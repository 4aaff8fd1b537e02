"""What the sampler remembers: keys and values of each prompt once, and of each rollout's own tokens.

Shape suffixes: G groups, R rollouts, n most rollouts of a group, H query heads, K key heads, r = H / K, D head size,
P longest prompt, S most tokens of a completion.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from maxrl.engine.packed_attention import packed_attention
from maxrl.engine.packing import PackedGroups

FIRST_CAPACITY = 64
"""Tokens of its own that a rollout has room for at first, where every step reads all of the room; then twice as many."""


class PrefillState:
    """`AttentionState` of a packed sequence of prompts that keeps every layer's keys and values."""

    def __init__(self, packed: PackedGroups) -> None:
        self.packed = packed
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `AttentionState.attend`."""
        self.layers[layer] = (key, value)
        return packed_attention(query, key, value, self.packed, scale)


class SharedCache:
    """`AttentionState` of one decoding step: one new token per rollout.

    Rollouts lie in the order of their groups. The own part has a fixed shape, `capacity` tokens per rollout, which a static
    cache reaches by doubling.
    """

    def __init__(
        self,
        layers: dict[int, tuple[Tensor, Tensor]],
        prompt_lengths: Sequence[int],
        group_of: Tensor,
        capacity: int,
        *,
        static: bool = False,
    ) -> None:
        """
        Args:
            layers: keys and values (tokens of all prompts, K, D) of every layer, from `PrefillState`.
            prompt_lengths: tokens of each prompt.
            group_of: (R,) prompt of each rollout, ascending.
            capacity: tokens of its own a rollout can hold (S).
            static: read all of the capacity behind a mask instead of what is filled, so that every step runs the
                same operations on the same shapes (for CUDA graphs).
        """
        lengths = torch.tensor(prompt_lengths, device=group_of.device)
        self.group_of = group_of
        self.filled = 0
        self.static = static
        self.most = capacity
        # A static step reads all there is, so that there should not be much more than is filled.
        capacity = min(capacity, FIRST_CAPACITY) if static else capacity
        self.step = torch.zeros(1, dtype=torch.long, device=group_of.device)
        self.slots = torch.arange(capacity, device=group_of.device)
        longest = max(prompt_lengths)
        behind = torch.arange(longest, device=group_of.device) >= lengths[:, None]
        self.behind_prompt = behind[:, None, None] if min(prompt_lengths) < longest else None  # (G, 1, 1, P)
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}
        self.own: dict[int, tuple[Tensor, Tensor]] = {}
        for layer, tensors in layers.items():
            keys, values = (
                pad_sequence(tensor.split(list(prompt_lengths)), batch_first=True)
                .permute(0, 2, 1, 3)
                .contiguous()
                for tensor in tensors
            )
            # Keys lie as the product with queries reads them.
            self.prompts[layer] = keys.transpose(-1, -2).contiguous(), values
            shape = (len(group_of), keys.shape[1], capacity, keys.shape[3])
            # Zeros, because a static step multiplies what it does not see by zero.
            self.own[layer] = keys.new_zeros(shape), keys.new_zeros(shape)
        self._arrange()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `AttentionState.attend`; S is R here."""
        own_keys, own_values = self.own[layer]
        if self.static:
            own_keys.index_copy_(2, self.step, key[:, :, None])
            own_values.index_copy_(2, self.step, value[:, :, None])
        else:
            own_keys[:, :, self.filled] = key
            own_values[:, :, self.filled] = value
            own_keys, own_values = (own[:, :, : self.filled + 1] for own in (own_keys, own_values))
        rows, heads, size = query.shape
        kv_heads = key.shape[1]
        query = (query * scale).view(rows, kv_heads, heads // kv_heads, size)
        own = query @ own_keys.transpose(-1, -2)
        if self.static:
            own = own.masked_fill(self.slots > self.step, -torch.inf)
        return self._merged(self._prompt_part(layer, query), _weighted(own, own_values)).reshape(
            rows, heads, size
        )

    def advance(self) -> bool:
        """The step is done: the next one writes behind it. Whether shapes changed, because room had to be made."""
        self.filled += 1
        self.step += 1
        capacity = len(self.slots)
        if self.filled < capacity or capacity >= self.most:
            return False
        more = min(capacity, self.most - capacity)
        self.slots = torch.arange(capacity + more, device=self.slots.device)
        for layer, tensors in self.own.items():
            self.own[layer] = tuple(pad(tensor, (0, 0, 0, more)) for tensor in tensors)  # pyright: ignore[reportArgumentType]
        return True

    def select(self, kept: Tensor) -> Self:
        """Only the rollouts `kept` (ascending indices) stay, and only the prompts they need."""
        groups, self.group_of = self.group_of[kept].unique_consecutive(return_inverse=True)
        if len(groups) < len(next(iter(self.prompts.values()))[0]):
            self.prompts = {
                layer: (keys[groups], values[groups]) for layer, (keys, values) in self.prompts.items()
            }
            if self.behind_prompt is not None:
                self.behind_prompt = self.behind_prompt[groups]
        for layer, tensors in self.own.items():
            self.own[layer] = tuple(tensor[kept] for tensor in tensors)  # pyright: ignore[reportArgumentType]
        self._arrange()
        return self

    def _arrange(self) -> None:
        """Where each rollout stands in a (G, n) table, so that all prompts are one product."""
        counts = torch.bincount(self.group_of)
        self.table = (len(counts), int(counts.max()))
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(self.group_of), device=counts.device) - starts[self.group_of]
        full = len(self.group_of) == self.table[0] * self.table[1]
        self.place = None if full else self.group_of * self.table[1] + place  # (R,)
        if not full:
            taken = torch.arange(self.table[1], device=counts.device)
            self.row_at = (starts[:, None] + taken.clamp(max=counts[:, None] - 1)).flatten()  # (G n,)

    def _prompt_part(self, layer: int, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted values, weights' sum and largest score against the prompt, each (R, K, r, D or 1)."""
        keys, values = self.prompts[layer]
        groups, most = self.table
        _, kv_heads, share, size = query.shape
        table = query if self.place is None else query[self.row_at]
        table = table.view(groups, most, kv_heads, share, size).transpose(1, 2)  # (G, K, n, r, D)
        scores = table.reshape(groups, kv_heads, most * share, size) @ keys
        if self.behind_prompt is not None:
            scores = scores.masked_fill_(self.behind_prompt, -torch.inf)
        parts = (
            part.view(groups, kv_heads, most, share, -1).transpose(1, 2).flatten(0, 1)
            for part in _weighted(scores, values)
        )
        return tuple(part if self.place is None else part[self.place] for part in parts)  # pyright: ignore

    @staticmethod
    def _merged(*parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """One softmax over two parts of its keys."""
        (first, first_sum, first_top), (second, second_sum, second_top) = parts
        top = torch.maximum(first_top, second_top)
        a, b = (first_top - top).exp_(), (second_top - top).exp_()
        merged = (first * a + second * b) / (first_sum * a + second_sum * b)
        return merged.to(first.dtype)


def _weighted(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ exp(s − top) v, Σ exp(s − top) and top = max s; the last two in single precision or better."""
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp_()
    wide = torch.promote_types(scores.dtype, torch.float32)
    return weights @ values, weights.sum(-1, keepdim=True, dtype=wide), top.to(wide)
