"""Four ways to add up token losses: what each makes of the estimator, exactly, and that the trainer does just that.

`coefficients` states each aggregation as a number per rollout, c in ĝ = Σ c·A·∇log π(y), and both halves of this file use
it: expectations are enumerated in fractions, and the trainer's step is compared with a gradient taken rollout by rollout.
"""

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.exact.test_expectations import Policy, by_pair, expected_gradient, policy, w
from tests.training.settings import settings
from torch import Tensor

from maxrl.errors import InputError
from maxrl.experiments.fields import parse_recipe
from maxrl.experiments.recipe import resolved_fields
from maxrl.models import load_policy
from maxrl.objectives import RLOO, Estimator, MaxRL
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, task_dataset
from maxrl.training.aggregation import AGGREGATIONS

LONGEST = 5


def coefficients(name: str, lengths: list[int]) -> list[Fraction]:
    """c of each rollout of a batch."""
    rows = len(lengths)
    return {
        "rollout_sum": [Fraction(1, rows)] * rows,
        "constant": [Fraction(1, rows * LONGEST)] * rows,
        "rollout_mean": [Fraction(1, rows * length) for length in lengths],
        "token_mean": [Fraction(1, sum(lengths))] * rows,
    }[name]


# Exact expectations. An answer is its first token, which the policy chooses; those after it are certain and only add length.


def aggregated(
    name: str, estimator: Estimator, on: Policy, lengths: list[int], n: int, groups: int = 1
) -> list[Fraction]:
    """E[ĝ] over batches of so many groups of n."""
    of_group = by_pair(estimator, on, n)

    def scaled(answers: tuple[int, ...]) -> list[Fraction]:
        of_batch = [a for at in range(0, len(answers), n) for a in of_group(answers[at : at + n])]
        counted = coefficients(name, [lengths[answer] for answer in answers])
        # `expected_gradient` divides by the rows.
        return [len(answers) * c * a for c, a in zip(counted, of_batch, strict=True)]

    return expected_gradient(on, n * groups, scaled)


TWO = [policy(p, str(1 - Fraction(p)), right={0}) for p in ("1/20", "1/2", "19/20")]
THREE = policy("1/4", "1/4", "1/2", right={0, 1})


@pytest.mark.parametrize(("name", "scale"), [("rollout_sum", 1), ("constant", Fraction(1, LONGEST))])
@pytest.mark.parametrize("on", [*TWO, THREE], ids=lambda on: str(on.p))
def test_a_sum_over_tokens_keeps_the_weight(name: str, scale: Fraction, on: Policy) -> None:
    for n in (2, 3, 4):
        weight = scale * w(on.p, n - 1)
        expected = [weight * g for g in on.gradient_of_p]
        assert aggregated(name, MaxRL(), on, [1, 3, 2], n) == expected


@pytest.mark.parametrize("estimator", [MaxRL(), RLOO()], ids=repr)
@pytest.mark.parametrize("on", [*TWO, THREE], ids=lambda on: str(on.p))
def test_a_mean_over_each_rollout_climbs_something_else(estimator: Estimator, on: Policy) -> None:
    """w(p)·(∇E[r/L] − p·∇E[1/L]): right answers are pulled by (1 − p)/L, wrong ones pushed by p/L."""
    lengths = [1, 3, 2]
    for n in (2, 3, 4):
        weight = w(on.p, n - 1) if isinstance(estimator, MaxRL) else 1
        answers = range(len(on.probabilities))
        pull = [((j in on.right) - on.p) / lengths[j] for j in answers]
        mean = sum((q * f for q, f in zip(on.probabilities, pull, strict=True)), Fraction(0))
        expected = [weight * q * (f - mean) for q, f in zip(on.probabilities, pull, strict=True)]
        assert aggregated("rollout_mean", estimator, on, lengths, n) == expected


@pytest.mark.parametrize("name", ["rollout_mean", "token_mean"])
def test_means_over_tokens_do_not_keep_the_direction(name: str) -> None:
    """Of two right answers, equally likely, ∇p pulls on both alike."""
    short, long, _ = aggregated(name, MaxRL(), THREE, [1, 3, 2], 4)
    assert THREE.gradient_of_p[0] == THREE.gradient_of_p[1] > 0
    assert short > long > 0
    # Where all answers are of one length there is nothing to choose between.
    assert aggregated(name, MaxRL(), THREE, [3, 3, 3], 4) == [
        w(THREE.p, 3) * g / 3 for g in THREE.gradient_of_p
    ]


def test_the_bias_of_a_token_mean_falls_with_the_batch_and_that_of_a_rollout_mean_does_not() -> None:
    def tilt(name: str, groups: int) -> Fraction:
        short, long, _ = aggregated(name, MaxRL(), THREE, [1, 3, 2], 2, groups)
        return (short - long) / (short + long)

    one, two, three = (tilt("token_mean", groups) for groups in (1, 2, 3))
    assert one > two > three > 0
    assert three < one / 2
    assert tilt("rollout_mean", 1) == tilt("rollout_mean", 2) > one


DOCS = Path(__file__).parents[2] / "docs" / "aggregation.md"


@pytest.mark.parametrize("name", ["rollout_sum", "rollout_mean", "token_mean"])
@pytest.mark.parametrize("lengths", [[1, 3], [3, 1]], ids=str)
def test_the_figures_in_the_docs(name: str, lengths: list[int]) -> None:
    """E[ĝ] over w(p)·∇p, for two answers."""
    figures = []
    for on in TWO:
        found = aggregated(name, MaxRL(), on, lengths, 4)
        figures.append(f"{float(found[0] / (w(on.p, 3) * on.gradient_of_p[0])):.3f}")
    assert f"| `{name}` | {lengths[0]} | {lengths[1]} | {' | '.join(figures)} |" in DOCS.read_text()
    assert (len(set(figures)) == 1) == (name == "rollout_sum")


# The trainer.

ROWS = 8
REWARDS = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
LENGTHS = [1, 3, 5, 2, 4, 1, 2, 5]
ADVANTAGES = [3.0, -1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0]
CUTS = [(8, 1), (4, 2), (2, 4)]  # rows of a micro-batch, micro-batches of a step
NAMES = {
    **{name: name for name in AGGREGATIONS},
    "grpo": "rollout_mean",
    "dr_grpo": "constant",
    "dapo": "token_mean",
}
RATE = 0.5


@pytest.fixture
def stepped(tmp_path: Path, policy_folder: Path, tokenizer: Any, task: SubsetSum) -> Any:
    """Weights after one step of plain SGD on eight scripted rollouts, and what the rollouts were."""

    def scripted(rollouts: list[tuple[list[int], list[int]]]) -> Any:
        def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
            words = tokenizer("1 2 3 4 1 2", add_special_tokens=False)["input_ids"]
            for row, prompt in enumerate(prompts):
                completion = [*words[row % 3 :][: LENGTHS[row] - 1], tokenizer.eos_token_id]
                rollouts.append((tokenizer(prompt)["input_ids"], completion))
            prompt_ids, completion_ids = (list(ids) for ids in zip(*rollouts, strict=True))
            logprobs = [[-1.0] * len(ids) for ids in completion_ids]
            return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

        return rollout

    def first_half(completions: list[str], **_: Any) -> list[float]:
        assert len(completions) == ROWS
        return REWARDS

    def run(
        loss_type: str, backend: str, cut: tuple[int, int] = (ROWS, 1), **fields: Any
    ) -> tuple[Tensor, list[Any]]:
        rollouts: list[tuple[list[int], list[int]]] = []
        plain = {"optim": "sgd", "learning_rate": RATE, "max_grad_norm": 1e9, "max_steps": 1}
        # 12 tokens cut groups in pieces, so that the engine's slices have other tokens per row than the step.
        options = {"loss_type": loss_type, "update_backend": backend, "update_token_budget": 12}
        rows, accumulated = cut
        cut_up = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}
        trainer = MaxRLTrainer(
            model=load_policy(str(policy_folder)),
            reward_funcs=first_half,
            args=MaxRLConfig(**settings(tmp_path, **{**plain, **options, **cut_up, **fields})),
            train_dataset=task_dataset(task, "train", 64),
            processing_class=tokenizer,
            rollout_func=scripted(rollouts),
        )
        trainer.train()
        assert trainer.packed == (backend == "engine")
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]), rollouts

    return run


def by_hand(policy_folder: Path, rollouts: list[Any], counted: list[Fraction]) -> Tensor:
    """The weights that Σ c·A·∇log π(y) leads to, each rollout forwarded on its own."""
    model = load_policy(str(policy_folder))
    total = torch.zeros(())
    for (prompt, completion), c, advantage in zip(rollouts, counted, ADVANTAGES, strict=True):
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])
        total = total + float(c) * advantage * chosen.sum()
    total.backward()
    return torch.cat([(p + RATE * p.grad).detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("backend", ["engine", "transformers"])
@pytest.mark.parametrize("loss_type", NAMES)
def test_the_step_is_the_aggregation_however_the_batch_is_cut(
    stepped: Any, policy_folder: Path, loss_type: str, backend: str
) -> None:
    for cut in CUTS:
        found, rollouts = stepped(loss_type, backend, cut)
        assert [len(completion) for _, completion in rollouts] == LENGTHS
        expected = by_hand(policy_folder, rollouts, coefficients(NAMES[loss_type], LENGTHS))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_mean_over_the_tokens_of_a_micro_batch_depends_on_the_cut(stepped: Any) -> None:
    """In TRL's update; the engine's has no micro-batches, and takes the mean over the step."""
    whole, *cut = (stepped("bnpo", "transformers", cut)[0] for cut in CUTS)
    assert min(float((weights - whole).abs().max()) for weights in cut) > 1e-3
    token_mean, _ = stepped("token_mean", "transformers")
    for each in CUTS:
        torch.testing.assert_close(stepped("bnpo", "engine", each)[0], token_mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_a_sum_is_the_constant_times_the_longest(stepped: Any, policy_folder: Path, backend: str) -> None:
    start = torch.cat([p.detach().flatten() for p in load_policy(str(policy_folder)).parameters()])
    for longest in (LONGEST, 16):
        summed, constant = (
            stepped(name, backend, max_completion_length=longest)[0] - start
            for name in ("rollout_sum", "constant")
        )
        torch.testing.assert_close(summed, longest * constant, rtol=0, atol=1e-6 * longest)
        assert summed.abs().max() > 1e-2


def test_a_sum_needs_no_length(stepped: Any) -> None:
    bounded, _ = stepped("rollout_sum", "transformers")
    unbounded, _ = stepped("rollout_sum", "transformers", max_completion_length=None)
    assert torch.equal(bounded, unbounded)
    with pytest.raises(InputError, match=r"'constant' divides by max_completion_length: .*'rollout_sum'"):
        stepped("constant", "transformers", max_completion_length=None)


@pytest.mark.parametrize(
    ("loss_type", "warned"),
    [
        ("token_mean", True),
        ("constant", True),
        ("dapo", True),
        ("rollout_mean", False),
        ("rollout_sum", False),
    ],
)
def test_trl_warns_of_what_it_calls_otherwise(
    stepped: Any, caplog: pytest.LogCaptureFixture, loss_type: str, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        stepped(loss_type, "transformers", importance_sampling_level="sequence")
    assert ("When using `importance_sampling_level='sequence'`" in caplog.text) == warned


def test_trl_does_not_ask_a_sum_for_the_ratios_of_luspo(
    stepped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        stepped("rollout_sum", "transformers")
    assert "luspo" not in caplog.text


def test_names_survive_being_written_and_read(tmp_path: Path) -> None:
    for name in AGGREGATIONS:
        made = MaxRLConfig(str(tmp_path), bf16=False, report_to="none", loss_type=name)
        assert made.loss_type == made.to_dict()["loss_type"] == name
        recipe = parse_recipe(["--task=subset_sum", f"--output_dir={tmp_path}", f"--loss_type={name}"])
        assert resolved_fields(recipe)["loss_type"] == recipe.training.loss_type == name
    with pytest.raises(InputError, match="unknown loss_type 'rollout_sums'; did you mean 'rollout_sum'"):
        MaxRLConfig(str(tmp_path), bf16=False, report_to="none", loss_type="rollout_sums")
