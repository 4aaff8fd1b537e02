"""An estimator at work in the trainer: which one, what it remembers, and that a resumed run remembers it."""

import json
import logging
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.training.runs import Recording, dictated, logs, weights

from maxrl.errors import InputError
from maxrl.objectives import (
    GRPO,
    RLOO,
    AdaptiveSwitch,
    CurveRL,
    Custom,
    EstimatorWithMemory,
    Hybrid,
    MaxRL,
    SuccessWeighted,
)
from maxrl.tasks import Task, Verdict
from maxrl.training import TaskReward
from maxrl.training.estimating import Estimating
from maxrl.training.progress import STATE

HYBRID = Hybrid(first=GRPO(), then=MaxRL(), steps=2)
SWITCH = AdaptiveSwitch(below=RLOO(), above=MaxRL(), at=0.5, hysteresis=0.2)
WITH_MEMORY = [HYBRID, Hybrid(first=GRPO(), then=MaxRL(), steps=5), SWITCH, CurveRL(window=4)]
"""Of six steps, interrupted after the third: a switch before and after, one that hysteresis keeps, a window that fills."""

RATES = [
    [1, 0, 0, 0, 1, 1, 0, 0],
    [0, 1, 0, 0, 0, 1, 0, 0],
    [1, 1, 1, 0, 1, 1, 1, 0],  # above .7: to MaxRL
    [1, 0, 0, 1, 1, 0, 0, 1],  # .5 does not lead back
    [0, 1, 0, 1, 0, 1, 1, 1],
    [1, 0, 0, 0, 0, 0, 0, 1],
]


def by_hand(estimator: EstimatorWithMemory, batches: list[list[float]]) -> tuple[list[list[float]], Any]:
    """Advantages of each batch and the state after the last, where a batch is a step of two groups."""
    state = estimator.initial_state()
    advantages = []
    for step, batch in enumerate(batches):
        found, state = estimator(torch.tensor(batch).view(2, 4).float(), estimator.at_step(state, step))
        advantages.append(found.flatten().tolist())
    return advantages, state


@pytest.mark.parametrize("estimator", WITH_MEMORY, ids=repr)
def test_the_memory_is_that_of_calls_by_hand_and_evaluations_leave_it(
    make_trainer: Any, estimator: EstimatorWithMemory
) -> None:
    """Evaluated after every step, on batches that would change it."""
    trainer = make_trainer(
        Recording,
        estimator=estimator,
        reward_funcs=dictated(RATES),
        max_steps=6,
        eval_dataset=Dataset.from_dict({"prompt": ["1", "2"]}),
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=8,
    )
    trainer.train()
    advantages, state = by_hand(estimator, RATES)
    assert trainer.advantages == advantages
    assert trainer.estimating.states == {"": state}
    assert sum("eval_success_rate" in row for row in trainer.state.log_history) == 6


def test_a_generation_advances_it_once(make_trainer: Any) -> None:
    """Two steps of two micro-batches each are made of one generation, twice over."""
    trainer = make_trainer(
        Recording,
        estimator=CurveRL(),
        reward_funcs=dictated([[1, 0, 0, 0]]),
        steps_per_generation=2,
        num_iterations=2,
        max_steps=8,
    )
    trainer.train()
    assert len(trainer.batches) == 2
    assert trainer.estimating.states == {"": {"pass_rates": [[0.25] * 4] * 2}}


def test_every_task_has_a_memory_of_its_own(make_trainer: Any) -> None:
    """Of each batch the first prompt is of task a, the second of task b; only a's success passes the switch."""
    data = Dataset.from_dict({"prompt": ["1", "2"] * 8, "task": ["a", "b"] * 8})
    trainer = make_trainer(
        Recording,
        estimator=SWITCH,
        reward_funcs=dictated([[1, 1, 1, 0, 1, 0, 0, 0]]),
        train_dataset=data,
        shuffle_dataset=False,
        max_steps=2,
    )
    trainer.train()
    assert trainer.estimating.states == {"a": {"above": True}, "b": {"above": False}}
    easy, hard = torch.tensor([[1.0, 1, 1, 0]]), torch.tensor([[1.0, 0, 0, 0]])
    assert trainer.advantages == [
        [*RLOO()(easy)[0].tolist(), *RLOO()(hard)[0].tolist()],
        [*MaxRL()(easy)[0].tolist(), *RLOO()(hard)[0].tolist()],
    ]
    assert [(row["estimator/rloo"], row["estimator/maxrl"]) for row in logs(trainer)] == [
        (1.0, 0.0),
        (0.5, 0.5),
    ]


def test_a_sum_over_the_batch_does_not_mix_tasks(make_trainer: Any) -> None:
    """n/Σw: 4/3 and 4/1, where the whole batch would give 8/4 to both."""
    fields = {"reward_funcs": dictated([[1, 1, 1, 0, 1, 0, 0, 0]]), "shuffle_dataset": False, "max_steps": 1}
    apart = Dataset.from_dict({"prompt": ["1", "2"], "task": ["a", "b"]})
    trainer = make_trainer(Recording, estimator=SuccessWeighted(), train_dataset=apart, **fields)
    trainer.train()
    assert trainer.advantages[0] == pytest.approx([4 / 3, 4 / 3, 4 / 3, 0, 4, 0, 0, 0])
    together = Dataset.from_dict({"prompt": ["1", "2"]})
    trainer = make_trainer(Recording, estimator=SuccessWeighted(), train_dataset=together, **fields)
    trainer.train()
    assert trainer.advantages[0] == [2, 2, 2, 0, 2, 0, 0, 0]
    row = logs(trainer)[0]
    assert (row["n_correct"], row["n_total"], row["correctness_rate"]) == (4, 8, 0.5)
    assert row["avg_correct_reward"] == 1


@pytest.mark.parametrize(
    ("estimator", "refills"), [*((estimator, 0) for estimator in WITH_MEMORY), (CurveRL(), 1)], ids=repr
)
def test_resumed_in_the_middle_it_ends_as_undisturbed(
    make_trainer: Any, tmp_path: Path, estimator: EstimatorWithMemory, refills: int
) -> None:
    """To the bit: weights, memory, everything logged, the counts of rollouts, and the latest pass rates."""

    def even(completions: list[str], trainer_state: Any, **_: Any) -> list[float]:
        """A matter of chance, and of the step: some groups are dead, and success rates wander about."""
        least = (2, 3, 1, 2, 1, 3)[trainer_state.global_step]
        lengths = [sum(word[0] != "<" for word in completion.split()) for completion in completions]
        return [float(length >= least) for length in lengths]

    fields = {
        "estimator": estimator,
        "reward_funcs": even,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "refill_dead_groups": refills,
    }
    whole = make_trainer(Recording, **fields)
    whole.train()
    shutil.rmtree(tmp_path / "checkpoint-6")
    resumed = make_trainer(Recording, **fields)
    resumed.train(resume_from_checkpoint=True)
    assert len(resumed.batches) == 3
    assert resumed.advantages == whole.advantages[3:]
    assert any(value for batch in resumed.advantages for value in batch)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.estimating.states == whole.estimating.states
    assert resumed.progress == whole.progress
    assert whole.progress.rollouts >= 48
    assert resumed.diagnostics == whole.diagnostics
    for ours, theirs in zip(logs(resumed), logs(whole), strict=True):
        assert {**ours, "step_time": 0} == {**theirs, "step_time": 0}


class _Seldom:
    """Refuses what it is asked about once, in the first step, and fails once."""

    name = "seldom"
    time_limit = 10.0

    def __init__(self) -> None:
        self.calls = 0

    def score(self, truth: Any, completion: str) -> Verdict:
        self.calls += 1
        if self.calls == 1:
            raise ValueError("at first")
        reason = "seldom seen" if self.calls == 2 else "often seen"
        return Verdict(success=False, reward=0.0, reason=reason)

    score_many = Task.score_many


def test_reasons_seen_before_a_resume_are_logged_at_0_after_it(make_trainer: Any) -> None:
    fields = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    names = ("verifier/seldom seen", "verifier/verifier crashed")
    whole = make_trainer(reward_funcs=TaskReward(_Seldom()), **fields)  # pyright: ignore[reportArgumentType]
    whole.train()
    first, second = logs(whole)
    assert all(first[name] > 0 for name in names)
    assert [second[name] for name in names] == [0, 0]
    shutil.rmtree(Path(whole.args.output_dir) / "checkpoint-2")
    resumed = make_trainer(reward_funcs=TaskReward(_Seldom()), **fields)  # pyright: ignore[reportArgumentType]
    resumed.reward_funcs[0].task.calls = 2
    resumed.train(resume_from_checkpoint=True)
    assert [logs(resumed)[-1][name] for name in names] == [0, 0]


def test_the_choice_of_each_step_is_logged(make_trainer: Any) -> None:
    trainer = make_trainer(advantage_estimator="hybrid(steps=2)", max_steps=4)
    trainer.train()
    assert [row["estimator/grpo"] for row in logs(trainer)] == [1, 1, 0, 0]
    assert [row["estimator/maxrl"] for row in logs(trainer)] == [0, 0, 1, 1]
    # It counts optimizer steps, not generations: of two that serve four steps each the second begins at step 4.
    trainer = make_trainer(advantage_estimator="hybrid(steps=3)", steps_per_generation=4, max_steps=8)
    trainer.train()
    assert [row["estimator/grpo"] for row in logs(trainer)] == [1, 0]
    trainer = make_trainer(estimator=Hybrid(first=MaxRL(), then=MaxRL(order=2), steps=1), max_steps=2)
    trainer.train()
    names = [name for name in logs(trainer)[0] if name.startswith("estimator/")]
    assert names == [f"estimator/{MaxRL()!r}", f"estimator/{MaxRL(order=2)!r}"]
    assert [row[names[1]] for row in logs(trainer)] == [0, 1]


def halved(rewards: torch.Tensor) -> torch.Tensor:
    """A user's own."""
    return (rewards - rewards.mean(dim=1, keepdim=True)) / 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [(RLOO(), RLOO()), ("grpo(ddof=0)", GRPO(ddof=0)), (halved, Custom(function=halved)), (None, MaxRL())],
)
def test_an_estimator_is_given_as_what_it_is(make_trainer: Any, given: Any, expected: Any) -> None:
    trainer = make_trainer(Recording, estimator=given, reward_funcs=dictated([[1, 0, 0, 0]]), max_steps=1)
    assert trainer.estimator == expected
    trainer.train()
    assert trainer.advantages == [expected(torch.tensor([[1.0, 0, 0, 0]] * 2)).flatten().tolist()]


def test_one_that_contradicts_the_configuration_is_refused(make_trainer: Any) -> None:
    with pytest.raises(InputError, match="num_generations=4"):
        make_trainer(estimator=MaxRL(order=5))
    with pytest.raises(InputError, match="scale_rewards='none' contradicts advantage_estimator='grpo'"):
        make_trainer(estimator=GRPO(), scale_rewards="none")


def stopped(make_trainer: Any, **fields: Any) -> Any:
    """A run that left a checkpoint after its first step."""
    trainer = make_trainer(max_steps=1, save_strategy="steps", save_steps=1, **fields)
    trainer.train()
    return trainer


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """By maxrl; transformers has words of its own about a resumed run."""
    return [record.message for record in caplog.records if record.name.startswith("maxrl")]


def test_another_estimator_begins_without_memory(make_trainer: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = stopped(make_trainer, estimator=CurveRL())
    resumed = make_trainer(estimator=SWITCH, max_steps=2)
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        resumed.train(resume_from_checkpoint=True)
    assert said(caplog) == [
        "the checkpoint was saved with estimator 'curve_rl': 'adaptive_switch' begins without memory"
    ]
    assert resumed.estimating.states[""].keys() == {"above"}
    assert resumed.progress.rollouts == 2 * before.progress.rollouts == 16


def test_where_neither_remembers_nothing_is_said(make_trainer: Any, caplog: pytest.LogCaptureFixture) -> None:
    stopped(make_trainer, estimator=GRPO())
    for resumed, words in ((MaxRL(), 0), (SWITCH, 1)):
        with caplog.at_level(logging.WARNING, logger="maxrl"):
            make_trainer(estimator=resumed, max_steps=2).train(resume_from_checkpoint=True)
        assert len(said(caplog)) == words


def test_orders_are_lowered_by_the_estimator_that_is_met(make_trainer: Any) -> None:
    """Of four rollouts one group has three: enough for the first stage, not for the second. Evaluations have two each."""
    trainer = make_trainer(
        estimator=Hybrid(first=MaxRL(order=2), then=MaxRL(order=4), steps=1),
        reward_funcs=dictated([[1, 0, 0, None, 1, 1, 0, 0]]),
        max_steps=2,
        eval_dataset=Dataset.from_dict({"prompt": ["1", "2"]}),
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
        num_generations_eval=2,
    )
    trainer.train()
    assert [row["frac_order_lowered"] for row in logs(trainer)] == [0, 0.5]
    evaluations = [row for row in trainer.state.log_history if "eval_success_rate" in row]
    assert len(evaluations) == 2
    assert not any("eval_frac_order_lowered" in row for row in evaluations)


@dataclass(frozen=True)
class Watched(SuccessWeighted):
    """Keeps the batches whose statistics are asked for."""

    seen: list[torch.Tensor] = field(default_factory=list[torch.Tensor])

    def statistics(self, rewards_GN: torch.Tensor) -> dict[str, float]:
        self.seen.append(rewards_GN)
        return super().statistics(rewards_GN)


def test_statistics_are_computed_once_for_all_tasks() -> None:
    estimator = Watched()
    signal = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert Estimating(estimator).metrics(signal, ["a", "b", "a"], 0)["n_correct"] == 3
    (seen,) = estimator.seen
    assert seen.tolist() == [[1, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("estimator", "tasks", "warnings"),
    [
        (SWITCH, ["a", "b"], 1),
        (SuccessWeighted(), ["a", "b"], 1),
        (SuccessWeighted(threshold=20.0), ["a", "b"], 1),
        (SuccessWeighted(scope="group"), ["a", "b"], 0),
        (MaxRL(), ["a", "b"], 0),
        (SWITCH, ["a", "a"], 0),
        (SWITCH, ["a"], 0),
    ],
)
def test_tasks_of_one_group_each_are_warned_of_once(
    estimator: Any, tasks: list[str], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    estimating = Estimating(estimator)
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        for step in range(2):
            estimating.advance(torch.tensor([[1.0, 0.0]] * len(tasks)), tasks, step)
    assert len(said(caplog)) == warnings
    assert all("each of the 2 groups of a batch has a task of its own" in words for words in said(caplog))


def test_a_checkpoint_without_its_state_is_said_and_a_wrong_state_refused(
    make_trainer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(make_trainer, estimator=CurveRL())
    file = tmp_path / "checkpoint-1" / STATE
    saved = json.loads(file.read_text())
    assert saved["rollouts"] == 8
    file.write_text(json.dumps({**saved, "estimator": {"name": "curve_rl", "states": {"": {"step": 1}}}}))
    with pytest.raises(InputError, match="is no state of estimator 'curve_rl'"):
        make_trainer(estimator=CurveRL(), max_steps=2).train(resume_from_checkpoint=True)
    file.unlink()
    resumed = make_trainer(estimator=CurveRL(), max_steps=2)
    with caplog.at_level(logging.WARNING, logger="maxrl"):
        resumed.train(resume_from_checkpoint=True)
    assert "has no state of an estimator and no counts of rollouts: both begin anew" in said(caplog)[0]
    assert resumed.progress.rollouts == 8


def test_the_loss_of_success_weights_is_logged(make_trainer: Any) -> None:
    """−Σ w log π/Σ w, with the log-probabilities that the rollouts were drawn with; a missing rollout has no part in it."""
    rewards = [21.0, 22.0, 3.0, None, 4.0, 23.5, 20.0, 5.0]
    trainer = make_trainer(
        Recording,
        estimator=SuccessWeighted(threshold=20.0),
        reward_funcs=dictated([rewards]),
        max_steps=1,
        rollout_backend="engine",
    )
    trainer.train()
    [batch] = trainer.batches
    logprobs = (batch["sampling_per_token_logps"] * batch["completion_mask"]).sum(dim=1).tolist()
    weights = [math.exp(reward - 20.0) if reward and reward > 20.0 else 0.0 for reward in rewards]
    expected = -sum(w * logprob for w, logprob in zip(weights, logprobs, strict=True)) / sum(weights)
    assert logs(trainer)[0]["weighted_nll"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0
