"""CurveRL: each prompt weighted by where its pass rate lies among the recent ones."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from maxrl.objectives.arrays import is_number, to_count
from maxrl.objectives.base import (
    Estimator,
    Number,
    count_present,
    excess,
    refuse_above_one,
    refuse_negative,
)
from maxrl.objectives.memory import EstimatorWithMemory, State


@dataclass(frozen=True)
class CurveRL(EstimatorWithMemory):
    """Context reweighting by the curve of recent pass rates.

    Formula: A = (f/F)(r̂)·(r − r̂), where f is the histogram of the pass rates 0 < r̂ < 1 of the last `window` batches, with
    N + 1 bins, r̂ in bin ⌊r̂(N+1)⌋, and F its cumulative sum. A bin that the window left empty gets weight 0.

    Where the window holds no such rate, as before the first batch, the reference is uniform over 1/N … (N−1)/N, which gives
    `MaxRL` divided by N. (The published code takes the batch for its own reference there.)

    Gradient: given its state, E[ĝ] = w(p)·∇p with w = `effective_weight(estimator, p, n, state=state)`; of no order, except
    with a uniform reference.

    Assumptions: rewards in [0, 1], meant as 0/1.

    Zero signal: groups whose rewards are all equal, and groups whose pass rate no recent one resembles. One rollout: 0.

    Paper: arXiv 2605.24331. Shapes: (groups, rollouts), state → (groups, rollouts), state.

    >>> _, state = CurveRL()([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    >>> state
    {'pass_rates': [[0.25, 0.75]]}
    >>> CurveRL()([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], state)[0]
    tensor([[ 0.7500, -0.2500, -0.2500, -0.2500],
            [ 0.0000,  0.0000, -0.0000, -0.0000],
            [ 0.1250,  0.1250,  0.1250, -0.3750]])
    """

    name: ClassVar[str] = "curve_rl"
    window: int = 10
    """Batches that the reference is made of."""

    def __post_init__(self) -> None:
        to_count(self.window, "window", least=1)

    @property
    def formula(self) -> str:
        return f"f/F (r − r̂), f the histogram of r̂ in the last {self.window} batches, F its sum so far"

    def initial_state(self) -> State:
        return {"pass_rates": []}

    def given(self, state: State | None = None) -> Estimator:
        batches: list[Any] = self._remembered(state, "pass_rates", list)
        if not all(
            isinstance(batch, list) and all(map(_is_live_rate, cast(Any, batch))) for batch in batches
        ):
            raise self._no_state(state)
        return _AgainstReference(pass_rates=tuple(rate for batch in batches for rate in batch))

    def _advance(self, state: State, rewards_GN: Float[Tensor, "groups rollouts"]) -> State:
        mean_G = rewards_GN.double().nanmean(dim=1)
        live = cast(Any, mean_G[(mean_G > 0) & (mean_G < 1)]).tolist()
        return {"pass_rates": [*map(list, state["pass_rates"]), live][-self.window :]}


@dataclass(frozen=True)
class _AgainstReference(Estimator):
    """CurveRL with its reference held fast."""

    name: ClassVar[str] = "curve_rl"
    pass_rates: tuple[float, ...]

    @property
    def formula(self) -> str:
        if not self.pass_rates:
            return "(r − r̂) / (N r̂), 0 when K = 0"
        return f"f/F (r − r̂), f the histogram of {len(self.pass_rates)} pass rates, F its sum so far"

    def target_order(self, n: int) -> int | None:
        return None if n > 1 else 0

    def _advantages(self, rewards_GN: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        refuse_negative(rewards_GN, "CurveRL")
        refuse_above_one(rewards_GN, "CurveRL")
        count_G1 = count_present(rewards_GN)
        total_G1 = rewards_GN.nansum(dim=1, keepdim=True)
        if not self.pass_rates:
            return torch.where(total_G1 > 0, excess(rewards_GN) / (count_G1 * total_G1), 0.0)
        reference = torch.tensor(self.pass_rates, dtype=torch.float64, device=rewards_GN.device)
        sizes_G1 = count_G1.double()
        bins_GR, bin_G1 = _bin(reference, sizes_G1), _bin(total_G1.double() / sizes_G1, sizes_G1)
        here_G1 = (bins_GR == bin_G1).sum(dim=1, keepdim=True).to(rewards_GN.dtype)
        below_G1 = (bins_GR <= bin_G1).sum(dim=1, keepdim=True).clamp(min=1).to(rewards_GN.dtype)
        return here_G1 * excess(rewards_GN) / (below_G1 * count_G1)

    def _binary(self, successes: int, rollouts: int) -> tuple[Number, Number]:
        weight = self._weight(Fraction(successes, rollouts), rollouts)
        return weight * Fraction(rollouts - successes, rollouts), -weight * Fraction(successes, rollouts)

    def _weight(self, rate: Fraction, rollouts: int) -> Fraction:
        if not self.pass_rates:
            return Fraction(1, 1) / (rollouts * rate) if rate else Fraction(0)
        count = torch.tensor(float(rollouts), dtype=torch.float64)
        bins = _bin(torch.tensor(self.pass_rates, dtype=torch.float64), count)
        own = _bin(torch.tensor(float(rate), dtype=torch.float64), count)
        return Fraction(int((bins == own).sum()), max(1, int((bins <= own).sum())))


def _is_live_rate(value: object) -> bool:
    return is_number(value) and 0 < cast(float, value) < 1


def _bin(rates: Tensor, count: Tensor) -> Tensor:
    """⌊r̂(N+1)⌋. A hair is added, for rates of groups of another size that are rounded to just below a boundary."""
    return (rates * (count + 1) + 1e-9).floor()
