"""Estimators by name."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast, overload

from torch import Tensor

from maxrl.errors import InputError, unknown_name
from maxrl.objectives.base import Estimator
from maxrl.objectives.centred import GRPO, RLOO, DrGRPO, Reinforce
from maxrl.objectives.likelihood import MaxRL
from maxrl.objectives.relatives import PowerWeight, TailRL

ESTIMATORS: dict[str, type[Estimator]] = {
    "maxrl": MaxRL,
    "grpo": GRPO,
    "rloo": RLOO,
    "dr_grpo": DrGRPO,
    "reinforce": Reinforce,
    "power_weight": PowerWeight,
    "tail_rl": TailRL,
}
"""Every estimator, by its name. Trainer, command line, plug-ins and reports look here and nowhere else."""

ALIASES: dict[str, str] = {
    "max_rl": "maxrl",
    "drgrpo": "dr_grpo",
    "tailrl": "tail_rl",
}
"""Other spellings that are understood. Case, and - for _, make no difference either."""


@overload
def get_estimator(spec: str | type[Estimator], **kwargs: Any) -> Estimator: ...
@overload
def get_estimator(spec: Callable[..., Tensor], **kwargs: Any) -> Callable[..., Tensor]: ...
def get_estimator(spec: Any, **kwargs: Any) -> Callable[..., Tensor]:
    """The estimator that `spec` names, built with `kwargs`; an estimator or other callable passes through.

    >>> get_estimator("max_rl", no_success="penalize")
    MaxRL(no_success='penalize', control_variate=True, order=None)
    >>> get_estimator("maxlr")
    Traceback (most recent call last):
    maxrl.errors.InputError: unknown estimator 'maxlr'; did you mean 'maxrl'? (known: ...)
    """
    if isinstance(spec, str):
        key = spec.lower().replace("-", "_")
        key = ALIASES.get(key, key)
        if key not in ESTIMATORS:
            raise unknown_name("estimator", spec, ESTIMATORS)
        return _build(ESTIMATORS[key], kwargs)
    if isinstance(spec, type) and issubclass(spec, Estimator):
        return _build(spec, kwargs)
    if isinstance(spec, type) or not callable(spec):
        raise InputError(
            f"an estimator is a name ({', '.join(ESTIMATORS)}), an instance such as MaxRL(), or a callable "
            f"rewards → advantages, got {spec!r}"
        )
    if kwargs:
        raise InputError(f"{spec!r} is already built: {', '.join(kwargs)} cannot be set any more")
    return cast(Callable[..., Tensor], spec)


def _build(cls: type[Estimator], options: dict[str, Any]) -> Estimator:
    allowed = [field.name for field in fields(cls)]
    wrong = [option for option in options if option not in allowed]
    if wrong and not allowed:
        raise InputError(f"estimator '{cls.name}' takes no options, got {', '.join(wrong)}")
    if wrong:
        raise unknown_name(f"option of estimator '{cls.name}'", wrong[0], allowed)
    return cls(**options)
