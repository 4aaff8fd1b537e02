"""maxrl: maximum-likelihood reinforcement learning for language models on answers that can be checked.

Public names are resolved when they are first used, so that `import maxrl` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxrl.objectives import (
        GRPO,
        RLOO,
        DrGRPO,
        MaxRL,
        Reinforce,
        effective_weight,
        get_estimator,
        pass_at_k,
    )
    from maxrl.training import MaxRLConfig, MaxRLTrainer

__version__ = "0.1.0"

_HOME = {
    "DrGRPO": "maxrl.objectives",
    "GRPO": "maxrl.objectives",
    "MaxRL": "maxrl.objectives",
    "MaxRLConfig": "maxrl.training",
    "MaxRLTrainer": "maxrl.training",
    "RLOO": "maxrl.objectives",
    "Reinforce": "maxrl.objectives",
    "effective_weight": "maxrl.objectives",
    "get_estimator": "maxrl.objectives",
    "pass_at_k": "maxrl.objectives",
}

__all__ = [
    "GRPO",
    "RLOO",
    "DrGRPO",
    "MaxRL",
    "MaxRLConfig",
    "MaxRLTrainer",
    "Reinforce",
    "__version__",
    "effective_weight",
    "get_estimator",
    "pass_at_k",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'maxrl' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
