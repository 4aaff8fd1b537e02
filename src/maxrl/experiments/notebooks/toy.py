"""The toy race: one prompt whose pass rate hangs on a single number θ, exactly and by sampling.

A rollout is its verdict r. It succeeds with p = σ(θ)^d: d steps, the *difficulty*, that must all go right, each with chance
σ(θ). So the score of a rollout, the derivative of the logarithm of its chance, is

    S = d/dθ log P(r) = (r − p)·p'/(p·(1 − p)),    p' = dp/dθ = d·p·(1 − σ(θ)),

with E[S] = 0, and the gradient that an estimator makes of a group, ĝ = (1/N) Σ A_i S_i, has the expectation w(p)·p'.
Only for d = 1 is S the familiar r − p. To score rollouts as if d were 1 at any difficulty, with r − σ(θ), is biased:
E[r − σ(θ)] = p − σ(θ), which is below 0 for d > 1. `ToyPolicy.naive_scores` has it for comparison.

Everything exact here sums over the successes K ~ Binomial(N, p) of a group; what is sampled takes a seed. No language model
is involved, and nothing but torch, through `maxrl.objectives`, and numpy is imported.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxrl.errors import InputError
from maxrl.objectives import Estimator, EstimatorWithMemory, ExactAnalysis, analyse, as_estimator
from maxrl.objectives.expectations import expectation

Array = NDArray[np.float64]

GRPO = "grpo"
"""The one of every figure: σ̂ has the divisor N − 1 and eps = 1e-4 is added to it, as in TRL."""

GOAL = 0.5
"""The pass rate that estimators race to."""

MOST_DRAWS = 200_000_000
"""Rollouts of a race and estimator: a few seconds."""


@dataclass(frozen=True, kw_only=True)
class ToyPolicy:
    """A success has the chance p = σ(θ)^difficulty. θ may be a number or an array; results have its shape."""

    difficulty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.difficulty < math.inf:
            raise InputError(f"difficulty must be above 0 and finite, but is {self.difficulty:g}")

    def pass_rates(self, theta: ArrayLike) -> Array:
        """p."""
        return np.exp(self._log_p(theta))

    def slopes(self, theta: ArrayLike) -> Array:
        """p' = dp/dθ."""
        return self.pass_rates(theta) * self._success_score(theta)

    def scores(self, theta: ArrayLike) -> tuple[Array, Array]:
        """S of a success, p'/p, and of a failure, −p'/(1−p)."""
        success, failing = self._success_score(theta), -np.expm1(self._log_p(theta))
        # As p → 1 both go to zero, and their quotient to 1.
        ratio = np.divide(success, failing, out=np.ones_like(success), where=failing > 0)
        return success, -self.pass_rates(theta) * ratio

    def naive_scores(self, theta: ArrayLike) -> tuple[Array, Array]:
        """r − σ(θ) of a success and of a failure: right for a difficulty of 1, biased for any other."""
        right = np.exp(-np.logaddexp(0.0, -np.asarray(theta, dtype=np.float64)))
        return 1 - right, -right

    def theta_at(self, p: float) -> float:
        """The θ of a pass rate strictly between 0 and 1."""
        if not 0 < p < 1:
            raise InputError(f"a pass rate to start from must lie strictly between 0 and 1, but is {p:g}")
        log_right = math.log(p) / self.difficulty
        return log_right - math.log(-math.expm1(log_right))

    def _log_p(self, theta: ArrayLike) -> Array:
        return -self.difficulty * np.logaddexp(0.0, -np.asarray(theta, dtype=np.float64))

    def _success_score(self, theta: ArrayLike) -> Array:
        return self.difficulty * np.exp(-np.logaddexp(0.0, np.asarray(theta, dtype=np.float64)))


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """What all estimators of a race share."""

    theta0: float = -4.0
    """θ at the start."""
    difficulty: float = 1.0
    learning_rate: float = 0.5
    steps: int = 100
    num_generations: int = 16
    """Rollouts of the one group of a step."""
    repeats: int = 64
    """Sampled paths of each estimator."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.theta0):
            raise InputError(f"theta0 must be a finite number, but is {self.theta0:g}")
        ToyPolicy(difficulty=self.difficulty)  # refuses what cannot be
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"the learning rate must be above 0 and finite, but is {self.learning_rate:g}")
        for name, least in (("steps", 1), ("num_generations", 2), ("repeats", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, but is {getattr(self, name)}")
        draws = self.steps * self.repeats * self.num_generations
        if draws > MOST_DRAWS:
            raise InputError(
                f"steps × repeats × num_generations come to {draws:,} rollouts, and at most {MOST_DRAWS:,} are drawn: "
                "lower one of them"
            )

    @property
    def policy(self) -> ToyPolicy:
        return ToyPolicy(difficulty=self.difficulty)

    @property
    def p0(self) -> float:
        """The pass rate at the start."""
        return float(self.policy.pass_rates(self.theta0))


@dataclass(frozen=True)
class Lane:
    """How one estimator ran."""

    name: str
    exact: ExactAnalysis
    """What it does to a group of the race's size."""
    expected: Array
    """p before the first step and after each, where every step takes the expected gradient: (steps + 1,)."""
    sampled: Array
    """p along paths of sampled groups: (repeats, steps + 1)."""

    def quantiles(self, *levels: float) -> list[Array]:
        """Of the sampled paths at each step."""
        return list(np.quantile(self.sampled, levels, axis=0))

    def steps_to(self, p: float) -> int | None:
        """Steps after which the expected path is at p for the first time; None where it never is."""
        there = np.flatnonzero(self.expected >= p)
        return int(there[0]) if len(there) else None

    def share_at(self, p: float) -> float:
        """Share of the sampled paths that are at p at some step."""
        return float((self.sampled.max(axis=1) >= p).mean())

    def outcome(self) -> tuple[str, str, str, str, str]:
        """For a table: p at the end, expected, the middle and 5 … 95 % of the sampled; step and share of paths at `GOAL`."""
        low, middle, high = (float(path[-1]) for path in self.quantiles(0.05, 0.5, 0.95))
        reached = self.steps_to(GOAL)
        return (
            f"{self.expected[-1]:.3f}",
            f"{middle:.3f}",
            f"({low:.3f} … {high:.3f})",
            "never" if reached is None else str(reached),
            f"{self.share_at(GOAL):.0%}",
        )


def race(estimators: Sequence[str], settings: RaceSettings) -> list[Lane]:
    """Every estimator climbs from the same θ, by expected gradients and along sampled paths.

    The sampled paths of the estimators share their random numbers: the i-th rollout of a step succeeds in all of them if its
    number is below their p.

    Args:
        estimators: names, with options as in `maxrl(order=4)`; none of those with memory.
        settings: of the race.

    Returns:
        A lane for each, in their order.

    Raises:
        InputError: an estimator is unknown, has memory, or needs more rollouts than a group has.
    """
    return [_run(name, settings) for name in estimators]


def _run(name: str, settings: RaceSettings) -> Lane:
    exact = _exact(name, settings.num_generations)
    return Lane(
        name=name,
        exact=exact,
        expected=expected_path(exact, settings),
        sampled=sampled_paths(exact, settings),
    )


def expected_path(exact: ExactAnalysis, settings: RaceSettings) -> Array:
    """p of θ ← θ + lr·w(p)·p', the path of infinitely many groups a step: (steps + 1,)."""
    policy, theta = settings.policy, settings.theta0
    thetas = [theta]
    for _ in range(settings.steps):
        weight = exact.effective_weight(float(policy.pass_rates(theta)))
        theta += settings.learning_rate * weight * float(policy.slopes(theta))
        thetas.append(theta)
    return policy.pass_rates(thetas)


def sampled_paths(exact: ExactAnalysis, settings: RaceSettings) -> Array:
    """p of θ ← θ + lr·ĝ with one sampled group a step: (repeats, steps + 1)."""
    policy, n = settings.policy, exact.n
    pairs = np.array(exact.pairs, dtype=np.float64)  # advantages by (K, success or failure)
    random = np.random.default_rng(settings.seed)
    theta = np.full(settings.repeats, settings.theta0)
    rates = [policy.pass_rates(theta)]
    for _ in range(settings.steps):
        successes = (random.random((settings.repeats, n)) < rates[-1][:, None]).sum(axis=1)
        of_success, of_failure = policy.scores(theta)
        a_success, a_failure = pairs[successes].T
        total = successes * a_success * of_success + (n - successes) * a_failure * of_failure
        theta = theta + settings.learning_rate * total / n
        rates.append(policy.pass_rates(theta))
    return np.stack(rates, axis=1)


def expected_gradient(exact: ExactAnalysis, p: float, scores: tuple[float, float]) -> float:
    """E[(1/N) Σ A_i S_i] of a group at pass rate p, for any two scores (success, failure), biased ones too."""
    return float(expectation(_gradients(exact, scores), p))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The gradient estimate of one group as a multiple of ∇p, on a policy whose rollouts are their verdicts."""

    weight: float
    """Its mean, w(p)."""
    variance: float

    @property
    def signal_to_noise(self) -> float:
        """|mean| over standard deviation; infinite without noise, 0 without signal."""
        if self.variance <= 0:
            return math.inf if self.weight else 0.0
        return abs(self.weight) / math.sqrt(self.variance)

    @property
    def groups_to_see(self) -> float:
        """Groups to average until the mean is as large as the noise, 1/SNR²."""
        return math.inf if self.signal_to_noise == 0 else self.signal_to_noise**-2


def gradient_noise(exact: ExactAnalysis, p: float) -> Noise:
    """Exact mean and variance of ĝ/∇p at a pass rate strictly between 0 and 1, over K ~ Binomial(N, p).

    The scores of verdicts alone, ∇p/p and −∇p/(1−p), are what all policies of this pass rate have on average. Those of a
    language model's rollouts vary about them, so its gradient is noisier than this.
    """
    if not 0 < p < 1:
        raise InputError(f"noise is that of a pass rate strictly between 0 and 1, but p is {p:g}")
    multiples = _gradients(exact, (1 / p, -1 / (1 - p)))
    weight = float(expectation(multiples, p))
    return Noise(weight=weight, variance=float(expectation([(g - weight) ** 2 for g in multiples], p)))


def weight_curves(rates: Sequence[float], n: int) -> dict[str, Array]:
    """w(p) of the ideals and of what groups of n rollouts give, at each pass rate: label → values.

    1/p is maximum likelihood, 1/√(p(1−p)) what dividing by the true standard deviation would give. MaxRL and GRPO as they
    are, with r̂ and σ̂ of n rollouts, are exact.
    """
    p = np.asarray(rates, dtype=np.float64)
    return {
        "1/p": 1 / p,
        "1/√(p(1−p))": 1 / np.sqrt(p * (1 - p)),
        f"maxrl, N = {n}": analyse("maxrl", n).effective_weight(list(rates)).numpy(),
        f"grpo, N = {n}": analyse(GRPO, n).effective_weight(list(rates)).numpy(),
    }


def expected_mass(estimator: str, rates: Sequence[float], n: int) -> Array:
    """E|A| of a rollout at each pass rate, by summing over K."""
    return np.asarray(_exact(estimator, n).advantage_mass(list(rates)))


def sampled_mass(
    estimator: str, rates: Sequence[float], n: int, *, repeats: int, seed: int
) -> tuple[Array, Array]:
    """Mean |A| of sampled groups at each pass rate, and its standard error.

    Args:
        estimator: one that looks at each group alone and has no memory; it is called on the rewards themselves.
        rates: pass rates.
        n: rollouts of a group.
        repeats: groups at each pass rate, at least 2.
        seed: of the draws.
    """
    if repeats < 2:
        raise InputError(f"a standard error takes at least 2 groups, but repeats is {repeats}")
    built = _without_memory(estimator)
    if built.batch_scoped:
        raise InputError(f"{estimator} looks at the whole batch: there is no |A| of a group alone")
    p = np.asarray(rates, dtype=np.float64)
    draws = np.random.default_rng(seed).random((len(p), repeats, n)) < p[:, None, None]
    rewards_GN = draws.reshape(-1, n).astype(np.float64)
    masses = np.abs(built(rewards_GN).numpy()).mean(axis=1).reshape(len(p), repeats)
    return masses.mean(axis=1), masses.std(axis=1, ddof=1) / math.sqrt(repeats)


def _gradients(exact: ExactAnalysis, scores: tuple[float, float]) -> list[float]:
    """ĝ of a group with K = 0 … N successes."""
    of_success, of_failure = scores
    return [
        (k * float(success) * of_success + (exact.n - k) * float(failure) * of_failure) / exact.n
        for k, (success, failure) in enumerate(exact.pairs)
    ]


def _exact(spec: str, n: int) -> ExactAnalysis:
    """An estimator as its advantages in float64: a race asks for its weight at every step."""
    estimator = _without_memory(spec)
    if estimator.least_rollouts > n:
        raise InputError(
            f"{spec} needs at least {estimator.least_rollouts} rollouts per group, but a group has {n}: raise "
            "num_generations"
        )
    pairs = analyse(estimator, n).pairs
    return ExactAnalysis(tuple((float(success), float(failure)) for success, failure in pairs))


def _without_memory(spec: str) -> Estimator:
    estimator = as_estimator(spec)
    if isinstance(estimator, EstimatorWithMemory):
        raise InputError(
            f"{spec} has memory: what it does depends on the batches before, of which one prompt is no picture; choose an "
            "estimator without memory, such as maxrl, grpo or rloo"
        )
    return estimator
