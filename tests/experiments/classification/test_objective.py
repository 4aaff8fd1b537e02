"""The loss from counts: equal to the one from draws, and in expectation w(p)·∇p exactly."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.experiments.classification.objective import (
    Objective,
    count_labels,
    draw_labels,
    label_weights,
    parse_arm,
    weighted_loss,
)
from maxrl.objectives import ESTIMATORS, MaxRL, analyse, as_estimator, effective_weight
from maxrl.objectives.memory import EstimatorWithMemory

CPU = torch.device("cpu")
LOGITS = torch.tensor([0.3, -0.4, 1.1], dtype=torch.float64)


def compositions(n: int, labels: int) -> Iterator[tuple[int, ...]]:
    """All counts of `labels` labels among n draws."""
    if labels == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in compositions(n - first, labels - 1):
            yield (first, *rest)


def chance(counts: tuple[int, ...], p: Tensor) -> float:
    """Of these counts in a multinomial draw."""
    ways = math.factorial(sum(counts)) / math.prod(math.factorial(c) for c in counts)
    return ways * math.prod(float(q) ** c for q, c in zip(p, counts, strict=True))


def gradient(weights_BV: Tensor, logits_BV: Tensor) -> Tensor:
    logits_BV = logits_BV.clone().requires_grad_()
    weighted_loss(weights_BV, logits_BV.log_softmax(1)).backward()
    assert logits_BV.grad is not None
    return logits_BV.grad


# --- expectation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["maxrl", "maxrl(order=2)", "grpo", "reinforce", "rloo", "tail_rl"])
@pytest.mark.parametrize("label", [0, 2])
@pytest.mark.parametrize("n", [2, 5])
def test_the_expected_gradient_is_the_exact_weight_times_that_of_p(spec: str, label: int, n: int) -> None:
    estimator = as_estimator(spec)
    pairs = analyse(estimator, n).pairs
    y, p = torch.tensor([label]), LOGITS.softmax(0)
    expected = torch.zeros(3, dtype=torch.float64)
    for counts in compositions(n, 3):
        success, failure = (torch.tensor([float(a)], dtype=torch.float64) for a in pairs[counts[label]])
        weights = label_weights(torch.tensor([counts], dtype=torch.float64), y, success, failure)
        expected += chance(counts, p) * gradient(weights, LOGITS[None])[0]
    gradient_of_p = p[label] * (torch.eye(3, dtype=torch.float64)[label] - p)
    weight = effective_weight(estimator, float(p[label]), n)
    torch.testing.assert_close(expected, -weight * gradient_of_p, rtol=1e-10, atol=1e-12)


def test_cross_entropy_is_torchs_and_the_limit_of_maxrl() -> None:
    logits, labels = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 5
    objective = Objective(parse_arm("cross_entropy", 8), seed=0, device=CPU)
    weighted = objective.weigh(logits.log_softmax(1), labels, step=0)
    assert weighted.successes_B is None
    loss = weighted_loss(weighted.weights_BV, logits.log_softmax(1))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels))
    # −w_{N−1}(p)·∇p → −∇p/p, the gradient of −log p
    assert effective_weight(MaxRL(), 0.05, 2049) * 0.05 == pytest.approx(1, abs=1e-12)


# --- counts against draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_counts_give_the_loss_and_gradient_of_the_draws_themselves(name: str) -> None:
    """Against advantages of every draw, a (batch, N) matrix, for two batches in a row: some remember the first."""
    n, generator = 12, torch.Generator().manual_seed(3)
    logits_BV = 2 * torch.randn(40, 6, generator=generator)
    labels_B = torch.randint(6, (40,), generator=generator)
    arm = parse_arm(f"{name}@{n}", 2)
    objective, twin = Objective(arm, seed=5, device=CPU), torch.Generator().manual_seed(5)
    state = None
    for step in range(2):
        log_p_BV = logits_BV.log_softmax(1)
        drawn_BN = draw_labels(log_p_BV, n, twin)
        rewards_BN = (drawn_BN == labels_B[:, None]).float()
        if isinstance(arm.estimator, EstimatorWithMemory):
            advantages_BN, state = arm.estimator(rewards_BN, state)
        else:
            assert arm.estimator is not None
            advantages_BN = arm.estimator(rewards_BN)
        weighted = objective.weigh(log_p_BV, labels_B, step=step)
        leaf = logits_BV.clone().requires_grad_()
        naive = -(advantages_BN * leaf.log_softmax(1).gather(1, drawn_BN)).mean()
        naive.backward()
        torch.testing.assert_close(
            weighted_loss(weighted.weights_BV, log_p_BV), naive.detach(), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(gradient(weighted.weights_BV, logits_BV), leaf.grad, rtol=1e-4, atol=1e-7)
        assert weighted.successes_B is not None
        assert weighted.successes_B.tolist() == rewards_BN.sum(1).tolist()


def test_an_estimator_with_memory_counts_optimizer_steps() -> None:
    """MaxRL from step 5 on, whatever was called before: seen in the weight of a lone success among four."""
    arm = parse_arm("hybrid(first=reinforce, then=maxrl, steps=5)@4", 2)
    log_p, label = torch.full((200, 2), 0.5).log(), torch.zeros(200, dtype=torch.long)
    for step, lone in ((4, 1 / 4), (5, 3 / 4)):
        weighted = Objective(arm, seed=0, device=CPU).weigh(log_p, label, step=step)
        assert weighted.successes_B is not None
        found = weighted.weights_BV[weighted.successes_B == 1, 0]
        assert len(found) > 10
        torch.testing.assert_close(found, torch.full_like(found, lone))


# --- draws ------------------------------------------------------------------------------------------------


def test_labels_are_drawn_as_often_as_they_are_likely() -> None:
    """Each count within five standard deviations of N·p, labels of probability 1e-9 included."""
    p = torch.tensor([[0.6, 0.3, 0.1 - 1e-9, 1e-9]], dtype=torch.float64)
    n = 200_000
    counts = count_labels(draw_labels(p.log(), n, torch.Generator().manual_seed(0)), 4)[0].double()
    assert counts.sum() == n
    assert bool(((counts - n * p[0]).abs() <= 5 * (n * p[0] * (1 - p[0])).sqrt() + 1e-9).all())


def test_rare_labels_are_drawn_beside_a_likely_one() -> None:
    """10,000 labels of probability 2e-8 after one of nearly 1, to which nothing so small can be added in float32."""
    p = torch.full((1, 10_001), 2e-8, dtype=torch.float64)
    p[0, 0] = 1 - 2e-4
    drawn = draw_labels(p.log().float(), 400_000, torch.Generator().manual_seed(0))
    assert 80 - 5 * 9 < int((drawn > 0).sum()) < 80 + 5 * 9


def test_nothing_but_what_was_drawn_has_weight_and_no_gradient_flows_through_it() -> None:
    log_p = torch.randn(40, 9, generator=torch.Generator().manual_seed(2), requires_grad=True).log_softmax(1)
    labels = torch.arange(40) % 9
    weighted = Objective(parse_arm("maxrl@4", 2), seed=1, device=CPU).weigh(log_p, labels, step=0)
    counts = count_labels(draw_labels(log_p, 4, torch.Generator().manual_seed(1)), 9)
    assert not weighted.weights_BV.requires_grad
    assert bool((weighted.weights_BV[counts == 0] == 0).all())
    live = counts.gather(1, labels[:, None]).squeeze(1) > 0
    assert bool(live.any())
    assert bool((weighted.weights_BV[live].sum(1).abs() < 1e-6).all())
    assert bool((weighted.weights_BV[~live] == 0).all())


def test_a_stream_goes_on_where_its_state_was_taken() -> None:
    log_p, labels = torch.randn(5, 7).log_softmax(1), torch.arange(5)
    arm = parse_arm("curve_rl@6", 2)
    one = Objective(arm, seed=0, device=CPU)
    one.weigh(log_p, labels, step=0)
    saved = one.state_dict()
    expected = one.weigh(log_p, labels, step=1)
    other = Objective(arm, seed=99, device=CPU)
    other.load_state_dict(saved)
    found = other.weigh(log_p, labels, step=1)
    assert torch.equal(found.weights_BV, expected.weights_BV)
    assert other.state_dict()["memory"] == one.state_dict()["memory"]
    assert len(one.state_dict()["memory"]["pass_rates"]) == 2


# --- arms -------------------------------------------------------------------------------------------------


def test_an_arm_says_its_estimator_and_its_n() -> None:
    assert parse_arm("grpo(eps=1e-6)@64", 128).estimator == as_estimator("grpo(eps=1e-6)")
    assert [parse_arm(s, 16).name for s in ("maxrl", " maxrl@0032 ", "cross_entropy")] == [
        "maxrl@16", "maxrl@32", "cross_entropy",
    ]  # fmt: skip
    assert [parse_arm(s, 16).spec for s in ("maxrl(order=4)@8", "cross_entropy")] == [
        "maxrl(order=4)",
        "cross_entropy",
    ]
    assert parse_arm("reinforce@1", 16).num_generations == 1, "the reward itself is a signal"
    assert parse_arm("hybrid(first=grpo, then=reinforce)@1", 16).num_generations == 1, "and will be one"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("maxlr@8", "did you mean 'maxrl'"),
        ("maxrl@", "the number of labels drawn per image"),
        ("maxrl@0", "the number of labels drawn per image"),
        ("maxrl@-3", "the number of labels drawn per image"),
        ("maxrl@1", "no signal with 1 label"),
        ("hybrid@1", "no signal with 1 label"),
        ("maxrl(order=9)@8", "write @9 or more"),
        ("cross_entropy@8", "draws no labels"),
        ("maxrl(ordre=4)@8", "did you mean 'order'"),
    ],
)
def test_an_arm_that_cannot_train_is_refused(spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_arm(spec, 128)
