"""What the notebooks show of an estimator: the one that meets a group, its exact analysis, and what must be said with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maxrl.errors import InputError
from maxrl.experiments.notebooks.toy import Noise, gradient_noise
from maxrl.objectives import (
    Estimator,
    EstimatorWithMemory,
    ExactAnalysis,
    analyse,
    as_estimator,
    looks_at_batch,
)

RATE_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, *(step / 20 for step in range(1, 20)), 0.98, 0.99)
"""Pass rates that a slider goes through."""

REFERENCES = ("maxrl", "grpo", "rloo")
"""What an estimator's noise is held against."""


@dataclass(frozen=True, kw_only=True)
class EstimatorView:
    """An estimator on groups of N rollouts with 0/1 rewards."""

    name: str
    """With its options."""
    estimator: Estimator
    """Without memory: the one that a first batch meets."""
    exact: ExactAnalysis
    remarks: tuple[str, ...]
    """What these figures leave out, a sentence each."""

    @property
    def objective(self) -> str:
        """What is climbed, in a sentence."""
        order, n = self.exact.target_order(), self.exact.n
        if order == 0:
            return f"No signal at all with N = {n}: every advantage is zero, so that nothing is climbed."
        if order is None:
            return (
                "No truncation order: for no T is w(p) = (1 − (1 − p)^T)/p. What is climbed all the same is J(p), the "
                "integral of w."
            )
        if order == 1:
            return "Order T = 1: w(p) = 1 and J(p) = p, plain reinforcement learning, at every pass rate."
        limit = f" Maximum likelihood is T → ∞; with N = {n} rollouts no estimator gets beyond T = N."
        return f"Order T = {order}: w(p) = (1 − (1 − p)^{order})/p and J(p) = Σ pass@k/k for k = 1 … {order}.{limit}"


def view_estimator(name: str, options: str, n: int) -> EstimatorView:
    """An estimator by name, with options as in a call: `order=4`.

    Raises:
        InputError: no such estimator or option, or groups of n are too small for it.
    """
    options = options.strip()
    spec = f"{name}({options})" if options else name
    built = as_estimator(spec)
    remarks: list[str] = []
    estimator = built.given(None) if isinstance(built, EstimatorWithMemory) else built
    if isinstance(built, EstimatorWithMemory):
        met = "" if estimator.name == built.name else f", where it is {estimator.name}"
        remarks.append(
            f"{built.name} has memory: what it does depends on the batches before. Shown is its beginning{met}; "
            "`maxrl inspect --state` shows it later."
        )
    if estimator.least_rollouts > n:
        raise InputError(
            f"{spec} needs at least {estimator.least_rollouts} rollouts per group, but N = {n}: raise N, or lower its order"
        )
    if looks_at_batch(estimator, n):
        remarks.append(
            f"{built.name} looks at the whole batch. Shown is a group that is alone in its batch; `maxrl inspect --batch` "
            "gives it others."
        )
    return EstimatorView(name=spec, estimator=estimator, exact=analyse(estimator, n), remarks=tuple(remarks))


def with_references(shown: EstimatorView, n: int) -> dict[str, ExactAnalysis]:
    """The estimator first, then those of `REFERENCES` that it is not."""
    others = {name: analyse(name, n) for name in REFERENCES if name != shown.name}
    return {shown.name: shown.exact, **others}


def signal_to_noise(exact: ExactAnalysis, rates: Sequence[float]) -> list[float]:
    """|mean|/sd of one group's gradient at each pass rate; NaN where it is infinite, so that it is not drawn."""
    ratios = [gradient_noise(exact, rate).signal_to_noise for rate in rates]
    return [ratio if math.isfinite(ratio) else math.nan for ratio in ratios]


def noise_rows(exact: ExactAnalysis, noise: Noise, p: float) -> list[list[str]]:
    """The exact figures at one pass rate, as rows of a table."""
    groups = noise.groups_to_see
    return [
        ["effective weight w(p)", f"{noise.weight:.4f}"],
        ["utility J(p)", f"{float(exact.utility(p)):.4f}"],
        ["maximum likelihood's weight 1/p", f"{1 / p:.4f}"],
        ["variance of ĝ, in units of (∇p)²", f"{noise.variance:.4f}"],
        ["signal/noise of one group", f"{noise.signal_to_noise:.4f}"],
        ["groups until signal = noise", "never" if math.isinf(groups) else f"{groups:.3g}"],
        ["second moment E(Σ A²)", f"{float(exact.second_moment(p)):.4f}"],
        ["advantage mass E|A|", f"{float(exact.advantage_mass(p)):.4f}"],
    ]


def advantage_rows(exact: ExactAnalysis, p: float) -> list[dict[str, object]]:
    """For each K = 0 … N its chance at pass rate p and the advantages; None for a kind that the group does not hold."""
    n = exact.n
    return [
        {
            "K": k,
            "chance": math.exp(_log_choose(n, k) + k * math.log(p) + (n - k) * math.log1p(-p)),
            "A of a success": round(float(success), 6) if k else None,
            "A of a failure": round(float(failure), 6) if k < n else None,
            "mean |A|": round(float(mass), 6),
        }
        for k, ((success, failure), mass) in enumerate(zip(exact.pairs, exact.masses, strict=True))
    ]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
