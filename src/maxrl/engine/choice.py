"""Which back-end serves a model."""

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from maxrl.engine.protocol import Generator
from maxrl.engine.sampler import SharedPrefixGenerator
from maxrl.engine.support import unsupported_reason
from maxrl.engine.transformers_backend import TransformersGenerator
from maxrl.errors import InputError, unknown_name

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "engine", "transformers")


def make_generator(
    model: nn.Module,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
    backend: Literal["auto", "engine", "transformers"] = "auto",
    dtype: torch.dtype | None = None,
) -> Generator:
    """A generator for a model.

    Args:
        model: a transformers causal language model, or peft's wrapper of one.
        stop_ids: token ids that end a completion.
        pad_id: fills shorter rows, where the back-end needs that.
        backend: `auto` takes the shared-prefix engine where it can serve the model, else transformers' `generate`.
        dtype: precision of the engine's weights while sampling; the model's own by default.

    Raises:
        InputError: an unknown back-end; or `engine` for a model that it cannot serve.
    """
    if backend not in BACKENDS:
        raise unknown_name("generation back-end", backend, BACKENDS)
    reason = None if backend == "transformers" else unsupported_reason(model, training=False)
    if backend == "engine" and reason is not None:
        raise InputError(f"the engine cannot serve this model: {reason}; choose transformers")
    if reason is not None:
        logger.warning(
            "completions come from transformers' generate, not from the shared-prefix engine: %s", reason
        )
    if backend == "transformers" or reason is not None:
        return TransformersGenerator(model, stop_ids=stop_ids, pad_id=pad_id)  # pyright: ignore[reportArgumentType]
    return SharedPrefixGenerator(model, stop_ids=stop_ids, dtype=dtype)
