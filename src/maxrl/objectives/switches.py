"""Estimators that are one estimator at a time: for so many steps, or as long as so much succeeds."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives.arrays import is_number, to_count
from maxrl.objectives.base import Estimator
from maxrl.objectives.centred import GRPO
from maxrl.objectives.likelihood import MaxRL
from maxrl.objectives.memory import EstimatorWithMemory, State

CHOICE: dict[str, bool] = {"estimator": True}
"""Metadata of a field that holds an estimator; the registry builds it from its name."""


@dataclass(frozen=True, kw_only=True)
class Hybrid(EstimatorWithMemory):
    """One estimator for the first optimizer steps, another from then on.

    Formula: that of `first` for `steps` optimizer steps, then that of `then`. Defaults: GRPO for 200, then MaxRL.

    Gradient: that of the estimator in use; `given(state)` is it.

    Assumptions: those of both. State: the optimizer steps so far. A caller that counts them says so (`at_step`), as
    `MaxRLTrainer` does; without, each call counts as one step.

    Zero signal: that of the estimator in use.

    Paper: none; it is the two-stage training that the README of a Rust code generator recommends. Another number of rollouts
    in each stage takes a recipe with `stages`. Shapes: (groups, rollouts), state → (groups, rollouts), state.

    >>> hybrid = Hybrid(steps=200)
    >>> hybrid.given({"step": 199}).name, hybrid.given({"step": 200}).name
    ('grpo', 'maxrl')
    """

    name: ClassVar[str] = "hybrid"
    first: Estimator = field(default=GRPO(), metadata=CHOICE)
    then: Estimator = field(default=MaxRL(), metadata=CHOICE)
    steps: int = 200
    """Optimizer steps with `first`."""

    def __post_init__(self) -> None:
        _check_choice("first", self.first)
        _check_choice("then", self.then)
        to_count(self.steps, "steps", least=0)

    @property
    def formula(self) -> str:
        return f"{self.first.formula} for {self.steps} steps, then {self.then.formula}"

    @property
    def choices(self) -> tuple[Estimator, ...]:
        return self.first, self.then

    def initial_state(self) -> State:
        return {"step": 0}

    def at_step(self, state: State, step: int) -> State:
        return {"step": step}

    def given(self, state: State | None = None) -> Estimator:
        step = self._remembered(state, "step", int)
        if isinstance(step, bool) or step < 0:
            raise self._no_state(state)
        return self.first if step < self.steps else self.then

    def _advance(self, state: State, rewards_GN: Float[Tensor, "groups rollouts"]) -> State:
        return {"step": state["step"] + 1}


@dataclass(frozen=True, kw_only=True)
class AdaptiveSwitch(EstimatorWithMemory):
    """One estimator while few rollouts succeed, another while many do.

    Formula: that of `below` or of `above`. The success rate of a batch, over all its rollouts, decides for the batch after
    it: from `below` to `above` when it is at least `at` + `hysteresis`, back when it is less than `at` − `hysteresis`. It
    begins with `below`. That the batch itself does not decide keeps either estimator's gradient what it is.

    Gradient: that of the estimator in use; `given(state)` is it.

    Assumptions: those of both. A success is a reward of 1 or, with `threshold`, above it.

    Zero signal: that of the estimator in use.

    Paper: none; from the same README as `Hybrid`, with hysteresis, without which a rate near `at` switches at every batch.
    Shapes: (groups, rollouts), state → (groups, rollouts), state.

    >>> switch = AdaptiveSwitch(at=0.5, hysteresis=0.1)
    >>> _, state = switch([[1, 1, 1, 0]])
    >>> state, switch.given(state).name
    ({'above': True}, 'maxrl')
    """

    name: ClassVar[str] = "adaptive_switch"
    below: Estimator = field(default=GRPO(), metadata=CHOICE)
    above: Estimator = field(default=MaxRL(), metadata=CHOICE)
    at: float = 0.5
    """Success rate at which to switch."""
    hysteresis: float = 0.05
    """How far beyond `at` the rate must be, either way."""
    threshold: float | None = None
    """A reward above it is a success; None: a reward of 1."""

    def __post_init__(self) -> None:
        _check_choice("below", self.below)
        _check_choice("above", self.above)
        for option in ("at", "hysteresis"):
            value = getattr(self, option)
            if not is_number(value) or not 0 <= value <= 1:
                raise InputError(f"{option} must be a number from 0 to 1, got {value!r}")
        if self.threshold is not None and not (is_number(self.threshold) and math.isfinite(self.threshold)):
            raise InputError(f"threshold must be a number or None, got {self.threshold!r}")
        if self.at + self.hysteresis > 1 or self.at - self.hysteresis <= 0:
            raise InputError(
                f"at={self.at:g} ± hysteresis={self.hysteresis:g} leaves the rates from 0 to 1, so that one way would never "
                "be taken: lower the hysteresis"
            )

    @property
    def formula(self) -> str:
        return f"{self.below.formula} below a success rate of {self.at:g}, {self.above.formula} above"

    @property
    def choices(self) -> tuple[Estimator, ...]:
        return self.below, self.above

    def initial_state(self) -> State:
        return {"above": False}

    def given(self, state: State | None = None) -> Estimator:
        return self.above if self._remembered(state, "above", bool) else self.below

    def _advance(self, state: State, rewards_GN: Float[Tensor, "groups rollouts"]) -> State:
        scored = int((~rewards_GN.isnan()).sum())
        if scored == 0:
            return dict(state)
        success_GN = rewards_GN == 1 if self.threshold is None else rewards_GN > self.threshold
        rate = int(success_GN.sum()) / scored
        bound = self.at - self.hysteresis if state["above"] else self.at + self.hysteresis
        return {"above": rate >= bound - 1e-9}  # 3/10 is .2 + .1, which is a little more in floating point


def _check_choice(option: str, value: object) -> None:
    if not isinstance(value, Estimator):
        raise InputError(
            f"{option} must be an estimator without memory, as MaxRL(), or Custom(function=…) for a function of your own; "
            f"got {value!r}"
        )
