"""How a run ends before its last step: a checkpoint of all that was spent, and rows that a resumed run replaces."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.training.kinds import Rewards, data
from tests.training.runs import dictated, logs

from maxrl.errors import NoSignalError
from maxrl.experiments.callbacks import DiagnosticsFile, MetricsFile
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.objectives import CurveRL, MaxRL
from maxrl.training.progress import STATE


class Alternating(Rewards):
    """Every second rollout succeeds."""

    def __call__(self, prompts: Any, completions: Any, id: list[str], **_: Any) -> list[float]:
        return [float(row % 2) for row in range(len(prompts))]


class Mastering(Rewards):
    """At the first step every second rollout succeeds, then all do."""

    def __call__(
        self, prompts: Any, completions: Any, id: list[str], trainer_state: Any = None, **_: Any
    ) -> list[float]:
        self.calls.append(id[::4])
        return [float(trainer_state.global_step > 0 or row % 2) for row in range(len(prompts))]


def test_no_signal_saves_a_checkpoint_and_stops(run_kinds: Any, tmp_path: Path) -> None:
    """At the second step; a run that goes on from the checkpoint with other rewards has all of it counted."""
    calls: list[int] = []

    def first_step_only(completions: Any, trainer_state: Any, **_: Any) -> list[float]:
        calls.append(len(completions))
        return [float(row % 4 == 0 and trainer_state.global_step == 0) for row in range(len(completions))]

    kinds = ["dead"] * 40
    with pytest.raises(NoSignalError) as stopped:
        run_kinds(kinds, refill_dead_groups=2, max_steps=3, reward_funcs=first_step_only)
    message = str(stopped.value)
    assert (
        "no group has any signal at step 1: 48 rollouts of 12 prompts were drawn "
        "(success rate 0; 100% of the groups dead, 0% mastered), with refill_dead_groups=2"
    ) in message
    for remedy in ("easier problems", "warm", "num_generations (now 4)", "refill_dead_groups", "maxrl probe"):
        assert remedy in message
    assert calls == [16] * 4
    assert (tmp_path / "checkpoint-1" / "trainer_state.json").is_file()
    assert json.loads((tmp_path / "checkpoint-1" / STATE).read_text())["rollouts"] == 16 + 48
    trainer, _ = run_kinds(kinds, max_steps=3, resume_from_checkpoint=True, reward_funcs=Alternating())
    assert trainer.progress.rollouts == 16 + 48 + 32


def test_what_was_spent_without_signal_is_logged(make_trainer: Any) -> None:
    trainer = make_trainer(train_dataset=data(["dead"] * 20), reward_funcs=Rewards(), refill_dead_groups=1)
    with pytest.raises(NoSignalError):
        trainer.train()
    assert trainer.state.log_history[-1]["rollouts"] == 16
    assert trainer.state.log_history[-1]["success_rate"] == 0


@pytest.mark.parametrize("memory", [False, True])
def test_the_checkpoint_of_the_very_step_counts_what_was_spent_since(
    run_kinds: Any, tmp_path: Path, memory: bool
) -> None:
    with pytest.raises(NoSignalError):
        run_kinds(
            ["dead"] * 40,
            refill_dead_groups=2,
            reward_funcs=dictated([[1.0, 0, 0, 0], [0.0]]),
            max_steps=3,
            save_strategy="steps",
            save_steps=1,
            estimator=CurveRL() if memory else MaxRL(),
        )
    saved = json.loads((tmp_path / "checkpoint-1" / STATE).read_text())
    assert saved["rollouts"] == 16 + 48
    assert saved["estimator"]["states"] == ({"": {"pass_rates": [[0.25] * 4, []]}} if memory else {})
    assert (tmp_path / "checkpoint-1" / "trainer_state.json").is_file()


def test_the_rows_of_a_stop_are_those_of_the_step_that_did_not_come(
    make_trainer: Any, tmp_path: Path
) -> None:
    """A resumed run makes that step after all: in none of its files is a row twice, or lost."""

    def trainer(later: float, rounds: int) -> Any:
        made = make_trainer(
            train_dataset=data(["dead"] * 40),
            reward_funcs=dictated([[1.0, 0, 0, 0], [later, 0, 0, 0]]),
            refill_dead_groups=rounds,
            max_steps=3,
            save_strategy="steps",
            save_steps=1,
            log_completions=True,
            num_completions_to_print=0,
            callbacks=[MetricsFile(tmp_path / "metrics.jsonl")],
        )
        made.add_callback(DiagnosticsFile(tmp_path / "diagnostics.jsonl", made))
        return made

    def kept(name: str, of: str) -> list[Any]:
        return [(row["step"], row[of]) for row in read_metrics(tmp_path / f"{name}.jsonl")]

    def table(step: int) -> list[float]:
        return pd.read_parquet(tmp_path / "completions" / f"completions_{step:05d}.parquet")[
            "advantage"
        ].tolist()

    with pytest.raises(NoSignalError):
        trainer(0.0, 1).train()
    assert kept("metrics", "rollouts") == [(1, 8), (2, 24)]
    assert kept("diagnostics", "groups/live") == [(1, 1), (2, 0)]
    assert kept("diagnostics", "k_histogram")[1] == (2, [4, 0, 0, 0, 0])
    assert table(1) == [3, -1, -1, -1] * 2
    assert table(2) == [0] * 8
    trainer(1.0, 0).train(resume_from_checkpoint=True)
    assert kept("metrics", "rollouts") == [(1, 8), (2, 32), (3, 40)]
    assert kept("diagnostics", "groups/live") == [(1, 1), (2, 1), (3, 1)]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_where_every_prompt_is_mastered_training_ends(
    run_kinds: Any, tmp_path: Path, accumulation: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With step 2, which is made to its end, logged and saved."""
    trainer, rewards = run_kinds(
        ["live"] * 60,
        refill_dead_groups=1,
        reward_funcs=Mastering(),
        max_steps=5,
        per_device_train_batch_size=16 // accumulation,
        gradient_accumulation_steps=accumulation,
        logging_steps=5,
        save_strategy="steps",
        save_steps=5,
    )
    assert trainer.state.global_step == 2
    assert [len(call) for call in rewards.calls] == [4, 4, 4]
    (row,) = logs(trainer)
    assert row["rollouts"] == 48
    assert trainer.diagnostics[-1]["groups/mastered"] == 1
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()
    words = [record.message for record in caplog.records if record.name.startswith("maxrl")]
    assert words == [
        "training ends after step 2: every prompt drawn for it is mastered (8 prompts, every scored rollout a success)"
    ]
    # An end is not forever: other rewards, and the same trainer goes on.
    trainer.reward_funcs = [dictated([[1.0, 0, 0, 0]])]
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 5


def test_mastered_and_dead_groups_together_are_no_end(run_kinds: Any) -> None:
    with pytest.raises(NoSignalError) as stopped:
        run_kinds(["live"] * 40, refill_dead_groups=1, reward_funcs=dictated([[1.0] * 4 + [0.0] * 12]))
    message = str(stopped.value)
    assert "success rate 0.25; 75% of the groups dead, 25% mastered" in message
    assert "Choose problems between those it always solves and those it never does" in message
    assert "easier problems" not in message


def test_a_memory_that_has_not_seen_such_rates_goes_on(run_kinds: Any) -> None:
    """CurveRL gives ½ weight 0 while its window holds ¼ alone; at the next step it knows ½."""
    trainer, _ = run_kinds(
        ["live"] * 60,
        refill_dead_groups=1,
        estimator=CurveRL(),
        reward_funcs=dictated([[1.0, 0, 0, 0], [1.0, 1, 0, 0]]),
        max_steps=3,
    )
    first, second, third = trainer.advantages
    assert first == [0.75, -0.25, -0.25, -0.25] * 4
    assert not any(second)
    assert all(third)
    assert [row["refill_rounds"] for row in logs(trainer)] == [0, 1, 0]
    with pytest.raises(NoSignalError):
        run_kinds(["dead"] * 60, refill_dead_groups=1, estimator=CurveRL(), reward_funcs=dictated([[0.5]]))


def test_nothing_scored_is_said(make_trainer: Any) -> None:
    def broken(completions: Any, **_: Any) -> list[None]:
        return [None] * len(completions)

    with pytest.raises(NoSignalError, match="none was scored"):
        make_trainer(train_dataset=data(["dead"] * 20), reward_funcs=broken, refill_dead_groups=1).train()


def test_without_refill_a_run_without_signal_goes_on(run_kinds: Any) -> None:
    trainer, _ = run_kinds(["dead"] * 12, max_steps=3)
    assert trainer.state.global_step == 3
