"""The toy race: exact where it says so, unbiased where it samples."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from maxrl.errors import InputError
from maxrl.experiments.notebooks import toy
from maxrl.experiments.notebooks.toy import (
    Lane,
    RaceSettings,
    ToyPolicy,
    expected_gradient,
    gradient_noise,
    race,
)
from maxrl.objectives import GRPO, MaxRL, analyse, as_estimator, effective_weight, utility

NAMES = ("maxrl", "grpo", "rloo", "reinforce", "maxrl(order=3)", "maxrl(no_success='penalize')")
DIFFICULTIES = (0.5, 1.0, 2.0, 3.5)
THETAS = (-6.0, -1.3, 0.0, 2.5)


def log_chance(theta: torch.Tensor, difficulty: float, success: bool) -> torch.Tensor:
    """log P(r) of the policy, as its definition has it."""
    p = torch.sigmoid(theta) ** difficulty
    return torch.log(p if success else 1 - p)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("theta", THETAS)
def test_scores_are_the_derivatives_of_log_chances(theta: float, difficulty: float) -> None:
    policy = ToyPolicy(difficulty=difficulty)
    for success, score in zip((True, False), policy.scores(theta), strict=True):
        variable = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        log_chance(variable, difficulty, success).backward()
        assert variable.grad is not None
        assert float(score) == pytest.approx(float(variable.grad), rel=1e-9)
    p = float(policy.pass_rates(theta))
    success, failure = policy.scores(theta)
    assert float(policy.slopes(theta)) == pytest.approx(p * float(success), rel=1e-12)
    assert p * success + (1 - p) * failure == pytest.approx(0, abs=1e-15)


def test_the_score_of_difficulty_one_is_r_minus_p() -> None:
    success, failure = ToyPolicy().scores(0.7)
    p = 1 / (1 + math.exp(-0.7))
    assert (success, failure) == pytest.approx((1 - p, -p), rel=1e-12)


def test_extreme_theta_stays_finite() -> None:
    for difficulty in DIFFICULTIES:
        policy = ToyPolicy(difficulty=difficulty)
        for theta in (-800.0, -40.0, 40.0, 800.0):
            values = [policy.pass_rates(theta), policy.slopes(theta), *policy.scores(theta)]
            assert all(map(np.isfinite, values))
    assert ToyPolicy(difficulty=3).scores(800.0)[1] == -1


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("p", [1e-6, 0.02, 0.5, 0.99])
def test_theta_of_a_pass_rate(p: float, difficulty: float) -> None:
    policy = ToyPolicy(difficulty=difficulty)
    assert float(policy.pass_rates(policy.theta_at(p))) == pytest.approx(p, rel=1e-12)


def enumerated_gradient(name: str, n: int, p: Fraction, scores: tuple[Fraction, Fraction]) -> Fraction:
    """E[(1/N) Σ A_i S_i] over every one of the 2^N groups, from the pair for each K."""
    estimator = as_estimator(name)
    total = Fraction(0)
    for group in product((1, 0), repeat=n):
        k = sum(group)
        pair = estimator.binary_advantages(k, n)
        made = sum((pair[1 - r] * scores[1 - r] for r in group), Fraction(0))
        total += p**k * (1 - p) ** (n - k) * made / n
    return total


@pytest.mark.parametrize(
    "name", ["maxrl", "rloo", "reinforce", "maxrl(order=3)", "maxrl(no_success='penalize')"]
)
def test_expected_gradients_are_those_of_every_group(name: str) -> None:
    # d = 2 and σ = 1/3: p = 1/9, p' = 2·p·(1 − σ) = 4/27, S = p'/p = 4/3 and −p'/(1−p) = −1/6.
    p, right, naive = Fraction(1, 9), (Fraction(4, 3), Fraction(-1, 6)), (Fraction(2, 3), Fraction(-1, 3))
    n, slope = 5, Fraction(4, 27)
    exact = analyse(name, n)
    assert enumerated_gradient(name, n, p, right) == exact.effective_weight(p) * slope
    for scores in (right, naive):
        found = expected_gradient(exact, float(p), (float(scores[0]), float(scores[1])))
        assert found == pytest.approx(float(enumerated_gradient(name, n, p, scores)), rel=1e-12)
    theta = math.log(0.5)  # σ(log ½) = 1/3
    policy = ToyPolicy(difficulty=2)
    assert policy.scores(theta) == pytest.approx(tuple(map(float, right)), rel=1e-12)
    assert policy.naive_scores(theta) == pytest.approx(tuple(map(float, naive)), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_expected_gradient_climbs_the_utility(name: str, difficulty: float) -> None:
    policy, n, theta, h = ToyPolicy(difficulty=difficulty), 8, -0.8, 1e-5
    p = float(policy.pass_rates(theta))
    climbed = [utility(name, float(policy.pass_rates(theta + step)), n) for step in (-h, h)]
    slope = (climbed[1] - climbed[0]) / (2 * h)
    scores = tuple(map(float, policy.scores(theta)))
    found = expected_gradient(analyse(name, n), p, (scores[0], scores[1]))
    assert found == pytest.approx(slope, rel=1e-6)


def test_a_score_that_does_not_know_the_difficulty_is_biased() -> None:
    theta, n = -1.0, 8
    for difficulty in DIFFICULTIES:
        policy = ToyPolicy(difficulty=difficulty)
        p, sigma = float(policy.pass_rates(theta)), 1 / (1 + math.e)
        success, failure = map(float, policy.naive_scores(theta))
        assert p * success + (1 - p) * failure == pytest.approx(p - sigma, abs=1e-15)
        right = effective_weight("maxrl", p, n) * float(policy.slopes(theta))
        naive = expected_gradient(analyse("maxrl", n), p, (success, failure))
        # Where a group's advantages add up to zero, it is off by the factor that the notebook names.
        assert naive == pytest.approx(right * (1 - p) / (difficulty * (1 - sigma)), rel=1e-12)
        assert (naive == pytest.approx(right, rel=1e-9)) == (difficulty == 1)
        # Where they do not, there is a push besides.
        lopsided = expected_gradient(analyse("maxrl(no_success='penalize')", n), p, (success, failure))
        factor = lopsided / (
            effective_weight("maxrl(no_success='penalize')", p, n) * float(policy.slopes(theta))
        )
        assert (factor == pytest.approx((1 - p) / (difficulty * (1 - sigma)), rel=1e-6)) == (difficulty == 1)


def first_steps(name: str, settings: RaceSettings) -> np.ndarray:
    """ĝ of the first step of each sampled path, from the change of θ."""
    policy = settings.policy
    sampled = toy.sampled_paths(analyse(name, settings.num_generations), settings)
    thetas = np.array([policy.theta_at(float(p)) for p in sampled[:, 1]])
    return (thetas - settings.theta0) / settings.learning_rate


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("difficulty", [1.0, 3.0])
def test_sampled_gradients_have_the_exact_mean_and_variance(name: str, difficulty: float) -> None:
    settings = RaceSettings(
        theta0=-0.3,
        difficulty=difficulty,
        steps=1,
        num_generations=8,
        repeats=20_000,
        seed=5,
        learning_rate=0.1,
    )
    slope = float(settings.policy.slopes(settings.theta0))
    made = first_steps(name, settings) / slope
    noise = gradient_noise(analyse(name, 8), settings.p0)
    error = math.sqrt(noise.variance / settings.repeats)
    assert abs(made.mean() - effective_weight(name, settings.p0, 8)) < 4 * error
    assert noise.weight == pytest.approx(effective_weight(name, settings.p0, 8), rel=1e-12)
    fourth = ((made - made.mean()) ** 4).mean()
    spread = math.sqrt((fourth - noise.variance**2) / settings.repeats)
    assert abs(made.var() - noise.variance) < 5 * spread + 1e-12


def test_noise_by_hand() -> None:
    # REINFORCE, N = 1: ĝ/∇p is 1/p with chance p, else 0: mean 1, variance 1/p − 1.
    noise = gradient_noise(analyse("reinforce", 1), 0.2)
    assert (noise.weight, noise.variance) == pytest.approx((1, 4), rel=1e-12)
    assert noise.signal_to_noise == pytest.approx(0.5)
    assert noise.groups_to_see == pytest.approx(4)
    silent = gradient_noise(analyse("maxrl", 1), 0.2)
    assert (silent.weight, silent.signal_to_noise, silent.groups_to_see) == (0, 0, math.inf)
    for p in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="strictly between"):
            gradient_noise(analyse("maxrl", 4), p)


def test_masses_are_exact_and_monte_carlo_agrees() -> None:
    rates, n = list(np.linspace(0.02, 0.98, 100)), 16
    exact = toy.expected_mass("maxrl", rates, n)
    p = np.array(rates)
    np.testing.assert_allclose(exact, 2 * ((1 - (1 - p) ** n) - p), rtol=1e-12)
    for name in ("maxrl", "grpo"):
        mean, error = toy.sampled_mass(name, rates, n, repeats=400, seed=1)
        off = np.abs(mean - toy.expected_mass(name, rates, n)) / np.maximum(error, 1e-9)
        assert (off < 2).mean() > 0.9
        assert off.max() < 5


def test_one_standard_deviation_in_every_figure() -> None:
    # N = 4, K = 1: σ̂ = 1/2 with divisor N − 1, so A = 3/4/(1/2 + 1e-4): not the 3/4/√(3/16) of divisor N.
    rates, n = [0.3], 4
    own = GRPO()
    by_hand = sum(
        math.comb(n, k) * 0.3**k * 0.7 ** (n - k) * float(own([[1.0] * k + [0.0] * (n - k)]).abs().mean())
        for k in range(n + 1)
    )
    assert toy.expected_mass(toy.GRPO, rates, n)[0] == pytest.approx(by_hand, rel=1e-6)
    assert toy.weight_curves(rates, n)["grpo, N = 4"][0] == pytest.approx(
        effective_weight(own, 0.3, n), rel=1e-12
    )


def test_weights_of_the_ideals_and_of_groups() -> None:
    curves = toy.weight_curves([0.05, 0.5], 16)
    assert list(curves) == ["1/p", "1/√(p(1−p))", "maxrl, N = 16", "grpo, N = 16"]
    assert curves["1/p"].tolist() == pytest.approx([20, 2])
    assert curves["1/√(p(1−p))"].tolist() == pytest.approx([1 / math.sqrt(0.05 * 0.95), 2])
    assert curves["maxrl, N = 16"][0] == pytest.approx(10.73418, abs=1e-5)  # w_15, a published value


@pytest.mark.parametrize("difficulty", [1.0, 2.5])
def test_the_expected_path_takes_expected_steps(difficulty: float) -> None:
    settings = RaceSettings(
        theta0=-2.0, difficulty=difficulty, learning_rate=0.3, steps=7, num_generations=4, repeats=1
    )
    [lane] = race(["maxrl"], settings)
    theta, policy = -2.0, settings.policy
    for p in lane.expected:
        assert p == pytest.approx(float(policy.pass_rates(theta)), rel=1e-12)
        theta += 0.3 * effective_weight(MaxRL(), float(p), 4) * float(policy.slopes(theta))
    assert lane.expected.shape == (8,)
    assert lane.sampled.shape == (1, 8)


def test_with_two_rollouts_maxrl_is_plain_reinforcement_learning() -> None:
    maxrl, rloo = race(["maxrl", "rloo"], RaceSettings(num_generations=2, repeats=5))
    np.testing.assert_allclose(maxrl.expected, rloo.expected, rtol=1e-12)
    np.testing.assert_allclose(maxrl.sampled, rloo.sampled, rtol=1e-12)  # the same random numbers
    large, small = race(["maxrl", "rloo"], RaceSettings(num_generations=64, repeats=5))
    assert large.expected[20] > 0.8 > 0.05 > small.expected[20]


def test_paths_follow_the_seed_and_leave_global_generators_alone() -> None:
    state = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first, again, other = (race(["grpo"], RaceSettings(steps=5, seed=seed))[0].sampled for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == state


def test_what_a_lane_says() -> None:
    lane = Lane(
        name="x",
        exact=analyse("maxrl", 2),
        expected=np.array([0.1, 0.4, 0.6, 0.5]),
        sampled=np.array([[0.1, 0.7, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]]),
    )
    assert (lane.steps_to(0.4), lane.steps_to(0.61)) == (1, None)
    assert lane.share_at(0.5) == 0.5
    assert lane.outcome() == ("0.500", "0.350", "(0.305 … 0.395)", "2", "50%")
    assert lane.quantiles(0.0, 1.0)[1].tolist() == [0.1, 0.7, 0.3, 0.4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"difficulty": 0.0}, "difficulty must be above 0"),
        ({"learning_rate": -1.0}, "learning rate must be above 0"),
        ({"num_generations": 1}, "num_generations must be at least 2"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"theta0": math.inf}, "theta0 must be a finite number"),
        ({"steps": 10**6, "repeats": 10**3}, "at most 200,000,000 are drawn"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RaceSettings(**settings)  # pyright: ignore[reportArgumentType]


def test_estimators_that_a_toy_cannot_show() -> None:
    for name in ("hybrid", "adaptive_switch", "curve_rl"):
        with pytest.raises(InputError, match=f"{name} has memory"):
            race([name], RaceSettings())
    with pytest.raises(InputError, match="at least 16 rollouts per group, but a group has 8"):
        race(["maxrl(order=16)"], RaceSettings(num_generations=8))
    with pytest.raises(InputError, match="whole batch"):
        toy.sampled_mass("success_weighted", [0.5], 4, repeats=2, seed=0)
    with pytest.raises(InputError, match="at least 2 groups"):
        toy.sampled_mass("maxrl", [0.5], 4, repeats=1, seed=0)
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        ToyPolicy().theta_at(1.0)
