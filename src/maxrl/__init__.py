"""maxrl: maximum-likelihood reinforcement learning for language models on answers that can be checked.

Public names are resolved when they are first used, so that `import maxrl` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxrl.objectives import (
        GRPO,
        MMPO,
        RLOO,
        AdaptiveSwitch,
        CurveRL,
        Custom,
        DrGRPO,
        Estimator,
        EstimatorWithMemory,
        Hybrid,
        MaxRL,
        PassAtK,
        PowerWeight,
        Reinforce,
        SuccessWeighted,
        TailRL,
        advantage_mass,
        analyse,
        effective_weight,
        get_estimator,
        order_weight,
        pass_at_k,
        second_moment,
        target_order,
        utility,
    )
    from maxrl.training import MaxRLConfig, MaxRLTrainer

__version__ = "0.1.0"

_HOME = {
    "AdaptiveSwitch": "maxrl.objectives",
    "CurveRL": "maxrl.objectives",
    "DrGRPO": "maxrl.objectives",
    "order_weight": "maxrl.objectives",
    "analyse": "maxrl.objectives",
    "EstimatorWithMemory": "maxrl.objectives",
    "Estimator": "maxrl.objectives",
    "Custom": "maxrl.objectives",
    "GRPO": "maxrl.objectives",
    "Hybrid": "maxrl.objectives",
    "MMPO": "maxrl.objectives",
    "MaxRL": "maxrl.objectives",
    "MaxRLConfig": "maxrl.training",
    "MaxRLTrainer": "maxrl.training",
    "PassAtK": "maxrl.objectives",
    "PowerWeight": "maxrl.objectives",
    "RLOO": "maxrl.objectives",
    "Reinforce": "maxrl.objectives",
    "SuccessWeighted": "maxrl.objectives",
    "TailRL": "maxrl.objectives",
    "advantage_mass": "maxrl.objectives",
    "effective_weight": "maxrl.objectives",
    "get_estimator": "maxrl.objectives",
    "pass_at_k": "maxrl.objectives",
    "second_moment": "maxrl.objectives",
    "target_order": "maxrl.objectives",
    "utility": "maxrl.objectives",
}

__all__ = [
    "GRPO",
    "MMPO",
    "RLOO",
    "AdaptiveSwitch",
    "CurveRL",
    "Custom",
    "DrGRPO",
    "Estimator",
    "EstimatorWithMemory",
    "Hybrid",
    "MaxRL",
    "MaxRLConfig",
    "MaxRLTrainer",
    "PassAtK",
    "PowerWeight",
    "Reinforce",
    "SuccessWeighted",
    "TailRL",
    "__version__",
    "advantage_mass",
    "analyse",
    "effective_weight",
    "get_estimator",
    "order_weight",
    "pass_at_k",
    "second_moment",
    "target_order",
    "utility",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'maxrl' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
