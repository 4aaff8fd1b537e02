"""One attention function for shared prompts, registered with transformers' AttentionInterface.

A model calls it like any other implementation; what a token may see is decided by the `shared_prefix` argument that
travels through the model's forward: a `PackedGroups` (training, scoring, prefill) or the sampler's cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from maxrl.engine.modes import attention_of
from maxrl.engine.packed_attention import Kernel, packed_attention
from maxrl.engine.packing import PackedGroups
from maxrl.errors import InputError

IMPLEMENTATION = "maxrl_shared_prefix"
"""Name in transformers' table of attention functions."""


class AttentionState(Protocol):
    """What decides which keys a query sees."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of one layer: (S, H, D) queries, (S, K, D) keys and values, to (S, H, D)."""
        ...


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prefix: AttentionState | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed sequence; the signature is transformers'.

    Args:
        module: the attention layer; its `layer_idx` tells the state which layer asks.
        query: (1, H, S, D).
        key: (1, K, S, D), K a divisor of H.
        value: (1, K, S, D).
        attention_mask: ignored; transformers makes none for this implementation.
        scaling: factor of the scores, D^−1/2 by default.
        dropout: must be 0.
        shared_prefix: the layout.

    Returns:
        (1, S, H, D), and no attention weights.
    """
    if shared_prefix is None:
        raise InputError(
            "shared-prefix attention was called without its layout; use maxrl.engine, not the model"
        )
    if dropout:
        raise InputError(
            f"attention_dropout={dropout} is not supported by the shared-prefix engine; set it to 0, or "
            "rollout_backend='transformers'"
        )
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    else:
        query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return shared_prefix.attend(int(module.layer_idx), *rows, scale)[None], None  # pyright: ignore


AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)


class PackedState:
    """`AttentionState` of a packed sequence, with gradient."""

    def __init__(self, packed: PackedGroups, kernel: Kernel | None = None) -> None:
        self.packed = packed
        self.kernel = kernel

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See `AttentionState.attend`."""
        return packed_attention(query, key, value, self.packed, scale, kernel=self.kernel)


@contextmanager
def engine_attention(model: nn.Module) -> Iterator[None]:
    """The model with shared-prefix attention, forward and backward, and as it was afterwards."""
    with attention_of(model, IMPLEMENTATION):
        yield
