"""States a model is put into for a while, and brought back from."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off; every module that was training goes on training afterwards, and no other."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def attention_of(model: nn.Module, implementation: str) -> Iterator[None]:
    """All layers with one of transformers' attention implementations, forward and backward."""
    configs = list(
        {
            id(module.config): module.config
            for module in model.modules()
            if hasattr(getattr(module, "config", None), "_attn_implementation_internal")
        }.values()
    )
    before = [config._attn_implementation_internal for config in configs]
    for config in configs:
        config._attn_implementation_internal = implementation
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name
