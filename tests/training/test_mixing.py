"""Several tasks in one run: whole groups of each in every batch, each with its own estimator, sampled and told apart."""

import math
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.runs import Recording, logs, weights
from trl.trainer.utils import RepeatSampler

from maxrl.engine import SharedPrefixGenerator
from maxrl.errors import InputError
from maxrl.objectives import GRPO, CurveRL, MaxRL, SuccessWeighted, as_estimator
from maxrl.training import MaxRLTrainer
from maxrl.training.estimating import Estimating
from maxrl.training.mixing import MixtureSampler
from maxrl.training.task_settings import Composition, TaskSettings

TASKS = {
    "small": {"share": 2, "num_generations": 4, "advantage_estimator": "grpo"},
    "large": {"num_generations": 8, "advantage_estimator": "maxrl"},
}
"""A batch of 16 rows: two groups of four, one of eight."""


def rows_of(*tasks: str, each: int = 12) -> Dataset:
    """Prompts of these tasks, one after the other."""
    rows = [
        {"prompt": f"{1 + number % 4} {1 + place} =", "id": f"{task}-{number}", "task": task}
        for number in range(each)
        for place, task in enumerate(tasks)
    ]
    return Dataset.from_list(rows)


def chance(id: list[str], **_: Any) -> list[float]:
    """A reward that belongs to the prompt and the number of the rollout, whatever else is in the batch."""
    seen: Counter[str] = Counter()
    rewards: list[float] = []
    for name in id:
        # 10: the halves of the large groups differ, and one of the small groups is dead.
        rewards.append(float(random.Random(f"10 {name} {seen[name]}").random() < 0.4))
        seen[name] += 1
    return rewards


def even(completions: list[str], **_: Any) -> list[float]:
    """A reward that belongs to the completion."""
    return [float(len(completion.split()) % 2 == 0) for completion in completions]


@pytest.fixture
def mix(make_trainer: Any) -> Any:
    """A trained run of two tasks, in the order of the data."""

    def run(**fields: Any) -> Recording:
        defaults = {
            "train_dataset": rows_of("small", "large"),
            "reward_funcs": chance,
            "task_settings": TASKS,
            "per_device_train_batch_size": 16,
            "shuffle_dataset": False,
            "max_steps": 2,
        }
        trainer = make_trainer(Recording, **{**defaults, **fields})
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
        return trainer

    return run


def alone(mix: Any, task: str, groups: int, **fields: Any) -> Recording:
    """A run of one of the tasks by itself, with the groups that it has in the mixture."""
    own = TASKS[task]
    return mix(
        train_dataset=rows_of(task),
        task_settings=None,
        num_generations=own["num_generations"],
        advantage_estimator=own["advantage_estimator"],
        per_device_train_batch_size=groups * own["num_generations"],
        **fields,
    )


def test_each_task_has_the_advantages_it_has_alone(mix: Any) -> None:
    """To the bit: a MaxRL task packed with a GRPO task in one batch, as prime-rl packs environments."""
    both = mix()
    small, large = alone(mix, "small", 2), alone(mix, "large", 1)
    for batch, of_small, of_large in zip(both.advantages, small.advantages, large.advantages, strict=True):
        assert batch == of_small + of_large
        assert any(of_small)
        assert any(of_large)
    assert all(len(batch["prompt_ids"]) == 16 for batch in both.batches)
    for row in logs(both):
        assert row["tasks/small/frac_rollouts"] == row["tasks/large/frac_rollouts"] == 0.5


@pytest.mark.parametrize("estimator", ["curve_rl", "adaptive_switch(at=0.3)", "hybrid(steps=1)"])
def test_a_memory_does_not_see_the_other_tasks_rollouts(mix: Any, estimator: str) -> None:
    """Its state is that of the task by itself, and so are the advantages of every step."""
    tasks = {**TASKS, "small": {**TASKS["small"], "advantage_estimator": estimator}}
    both = mix(task_settings=tasks, max_steps=3)
    small = alone(mix, "small", 2, max_steps=3)  # GRPO, for the rewards
    by_hand = Estimating(MaxRL(), {"small": both.estimating.of("small")})
    for step, batch in enumerate(small.batches):
        rewards = torch.tensor(chance([f"small-{2 * step + group}" for group in range(2) for _ in range(4)]))
        advantages = by_hand.advantages(rewards.view(2, 4), ["small"] * 2, step)
        by_hand.advance(rewards.view(2, 4), ["small"] * 2, step)
        assert both.advantages[step][:8] == advantages.flatten().tolist()
        assert len(batch["advantages"]) == 8
    assert both.estimating.states == by_hand.states
    assert both.estimating.states.keys() == {"small"}


def test_an_estimator_sees_groups_as_wide_as_they_are() -> None:
    """One of the user's own need not know that NaN is a rollout that is missing."""
    seen: list[torch.Tensor] = []

    def centred(rewards: torch.Tensor) -> torch.Tensor:
        seen.append(rewards)
        return rewards - rewards.mean(dim=1, keepdim=True)

    @dataclass(frozen=True)
    class Watched(CurveRL):
        def _advance(self, state: Any, rewards_GN: torch.Tensor) -> Any:
            seen.append(rewards_GN)
            return super()._advance(state, rewards_GN)

    signal = torch.tensor([[1.0, 0, 0, 0], [1, 0, math.nan, math.nan], [0, 1, math.nan, math.nan]])
    estimating = Estimating(MaxRL(), {"small": as_estimator(centred), "other": Watched()})
    advantages = estimating.advantages(signal, ["large", "small", "small"], 0, (4, 2, 2))
    assert advantages.tolist() == [[3, -1, -1, -1], [0.5, -0.5, 0, 0], [-0.5, 0.5, 0, 0]]
    estimating.advance(signal, ["large", "other", "other"], 0, (4, 2, 2))
    assert [rewards.tolist() for rewards in seen] == [[[1, 0], [0, 1]]] * 2
    assert all(rewards.is_contiguous() for rewards in seen), (
        "sums over columns round as they do for the task alone"
    )


def test_a_run_hands_estimators_their_own_columns(make_trainer: Any) -> None:
    seen: list[tuple[int, ...]] = []

    @dataclass(frozen=True)
    class Watched(CurveRL):
        def _advance(self, state: Any, rewards_GN: torch.Tensor) -> Any:
            seen.append(tuple(rewards_GN.shape))
            return super()._advance(state, rewards_GN)

        def given(self, state: Any = None) -> Any:
            return as_estimator(self.centred)

        def centred(self, rewards: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(rewards.shape))
            return rewards - rewards.mean(dim=1, keepdim=True)

    trainer = make_trainer(
        train_dataset=rows_of("small", "large"),
        reward_funcs=chance,
        task_settings=TASKS,
        per_device_train_batch_size=16,
        max_steps=1,
    )
    trainer.estimating.of_tasks["small"] = Watched()
    trainer.train()
    assert seen.count((2, 4)) >= 2, "the advantages, and the memory"
    assert {*seen} == {(2, 4)}


def test_statistics_of_one_estimator_are_not_those_of_all() -> None:
    signal = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    estimating = Estimating(MaxRL(), {"a": SuccessWeighted(), "b": GRPO(), "c": SuccessWeighted()})
    assert estimating.metrics(signal, ["a", "b"], 0) == {}
    assert estimating.metrics(signal[:1], ["a"], 0)["n_correct"] == 1
    assert (
        estimating.metrics(signal, ["a", "c"], 0).keys() == estimating.metrics(signal, ["a", "a"], 0).keys()
    )


def test_figures_are_told_apart(mix: Any) -> None:
    both = mix(log_completions=True)
    small, large = alone(mix, "small", 2), alone(mix, "large", 1)
    for row, of_small, of_large in zip(*map(logs, (both, small, large)), strict=True):
        for name in (
            "success_rate",
            "advantage_mass",
            "groups/live",
            "groups/dead",
            "groups/mastered",
            "reward",
        ):
            assert row[f"tasks/small/{name}"] == pytest.approx(of_small[name])
            assert row[f"tasks/large/{name}"] == pytest.approx(of_large[name])
        assert row["success_rate"] == pytest.approx((of_small["success_rate"] + of_large["success_rate"]) / 2)
        assert row["groups/live"] == pytest.approx(
            (2 * of_small["groups/live"] + of_large["groups/live"]) / 3
        )
        alike = (of_small["frac_reward_zero_std"] + of_large["frac_reward_zero_std"]) / 2
        assert row["frac_reward_zero_std"] == pytest.approx(alike)
        assert row["tasks/large/train_pass@8"] == row["train_pass@8"] == of_large["train_pass@8"]
        assert "tasks/small/train_pass@8" not in row
    assert list(both._logs["advantages"]) == both.advantages[-1]
    truncated = [row["frac_truncated"] for row in logs(both)]
    assert truncated == pytest.approx([row["completions/clipped_ratio"] for row in logs(both)])
    assert any(0 < value < 1 for value in truncated)


def test_zero_std_is_of_the_groups_as_they_are(mix: Any) -> None:
    """Of the group of eight the first half fails and the second succeeds: TRL's groups of four would not differ."""

    def halves(id: list[str], **_: Any) -> list[float]:
        return [0.0] * 12 + [1.0] * 4

    (row,) = logs(mix(reward_funcs=halves, max_steps=1))
    assert row["frac_reward_zero_std"] == 0.5
    assert row["groups/live"] == pytest.approx(1 / 3)
    assert (row["groups/dead"], row["tasks/small/groups/dead"]) == (pytest.approx(2 / 3), 1)


def test_each_task_has_its_own_threshold(mix: Any) -> None:
    def graded(task: list[str], **_: Any) -> list[float]:
        return [float(row % 4) for row in range(len(task))]

    tasks = {
        "small": {**TASKS["small"], "correctness_threshold": 2.5},
        "large": {**TASKS["large"], "correctness_threshold": None, "advantage_estimator": "dr_grpo"},
    }
    trainer = mix(reward_funcs=graded, task_settings=tasks, correctness_threshold=0.5, max_steps=1)
    small = GRPO()(torch.tensor([[0.0, 0, 0, 1]] * 2)).flatten().tolist()
    assert trainer.advantages[0] == [*small, *([-1.5, -0.5, 0.5, 1.5] * 2)]
    (row,) = logs(trainer)
    assert (row["tasks/small/success_rate"], row["tasks/small/reward"], row["tasks/large/reward"]) == (
        0.25,
        1.5,
        1.5,
    )
    del tasks["large"]["correctness_threshold"]  # the run's
    trainer = mix(reward_funcs=graded, task_settings=tasks, correctness_threshold=0.5, max_steps=1)
    assert trainer.advantages[0] == [*small, *([-0.75, 0.25, 0.25, 0.25] * 2)]


def test_a_warning_of_graded_rewards_names_the_task_s_estimator(mix: Any) -> None:
    def graded(task: list[str], **_: Any) -> list[float]:
        return [0.5 if name == "large" else 1.0 for name in task]

    with pytest.warns(UserWarning, match="8 of 8 rewards are neither 0 nor 1. The estimator 'maxrl'"):
        mix(reward_funcs=graded, max_steps=2)
    other = {
        "small": TASKS["large"] | {"num_generations": 4, "share": 2},
        "large": {**TASKS["small"], "share": 1},
    }
    mix(reward_funcs=graded, task_settings=other, per_device_train_batch_size=12, max_steps=1)


def test_missing_rollouts_are_left_out_of_their_group(mix: Any) -> None:
    def some(id: list[str], **_: Any) -> list[float | None]:
        return [1.0, 0.0, None, 0.0, *[None] * 4, None, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    trainer = mix(reward_funcs=some, max_steps=1)
    small = GRPO()([[1.0, 0.0, None, 0.0], [None] * 4]).flatten().tolist()
    large = MaxRL()([[None, 1.0, *[0.0] * 6]]).flatten().tolist()
    assert trainer.advantages[0] == pytest.approx(small + large)
    (row,) = logs(trainer)
    assert row["tasks/large/success_rate"] == pytest.approx(1 / 7)
    assert row["success_rate"] == pytest.approx(2 / 10)


def test_every_group_draws_its_own_rollouts(mix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group is one request to the engine, for as many rollouts as its task has."""
    asked: list[list[range]] = []
    generate = SharedPrefixGenerator.generate

    def watched(self: Any, prompts: Any, params: Any, *, seeds: Any, rollouts: Any) -> Any:
        asked.append(list(rollouts))
        assert len({*seeds}) == len(seeds)
        return generate(self, prompts, params, seeds=seeds, rollouts=rollouts)

    monkeypatch.setattr(SharedPrefixGenerator, "generate", watched)
    trainer = mix(num_generations=16)  # which no task takes
    assert asked == [[range(4), range(4), range(8)]] * 2
    assert trainer.num_generations == 4, "what TRL and its vLLM cut the rows into divides every group"


SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 1e9, "reward_funcs": even, "max_steps": 2}


@pytest.mark.parametrize(("loss_type", "budget"), [("rollout_sum", None), ("dapo", 40), ("grpo", 40)])
def test_the_weights_are_trls(mix: Any, loss_type: str, budget: int | None) -> None:
    """From the same rollouts; 40 tokens cut groups in two."""
    ours = mix(**SGD, loss_type=loss_type, update_backend="engine", update_token_budget=budget)
    theirs = mix(**SGD, loss_type=loss_type, update_backend="transformers", rollout_backend="engine")
    assert (ours.packed, theirs.packed) == (True, False)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=2e-6)
    assert ours.advantages == theirs.advantages
    assert any(value for batch in ours.advantages for value in batch)


def test_units_of_a_generation_hold_whole_groups(mix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of one generation, of 16 rows each; which group comes when is left to chance."""
    orders: list[list[int]] = []
    units = MaxRLTrainer._units

    def watched(self: Any, batch: dict[str, Any]) -> Any:
        found = units(self, {**batch, "row": torch.arange(len(batch["prompt_ids"]))})
        orders.append([row for unit in found for row in unit["row"].tolist()])
        return found

    monkeypatch.setattr(MaxRLTrainer, "_units", watched)
    mix(steps_per_generation=2, max_steps=8)
    whole = [
        list(range(start, start + size))
        for start, size in ((0, 4), (4, 4), (8, 8), (16, 4), (20, 4), (24, 8))
    ]
    starts = {group[0]: len(group) for group in whole}
    assert len(orders) == 4
    for order in orders:
        groups, place = [], 0
        while place < len(order):
            groups.append(order[place : place + starts[order[place]]])
            place += len(groups[-1])
        assert sorted(groups) == whole
    assert len({tuple(order) for order in orders}) > 1


def test_resumed_in_the_middle_it_ends_as_undisturbed(mix: Any, tmp_path: Path) -> None:
    """To the bit, in the second epoch of a shuffled data set, and with a memory."""
    tasks = {**TASKS, "small": {**TASKS["small"], "advantage_estimator": "curve_rl"}}
    fields = {
        "task_settings": tasks,
        "train_dataset": rows_of("small", "large", each=4),
        "reward_funcs": even,
        "shuffle_dataset": True,
        "max_steps": 9,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = mix(**fields)
    for step in (6, 9):
        shutil.rmtree(tmp_path / f"checkpoint-{step}")
    resumed = mix(**fields, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    shutil.rmtree(tmp_path / "checkpoint-9")
    later = mix(**fields, resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    for again, batches in ((resumed, 6), (later, 3)):
        assert again.advantages == whole.advantages[-batches:]
        assert torch.equal(weights(again), weights(whole))
        assert again.estimating.states == whole.estimating.states
        assert again.progress == whole.progress
    assert whole.progress.rollouts == 9 * 16
    assert any(value for batch in later.advantages for value in batch)


def test_a_task_that_goes_on_with_another_estimator_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    batch = (torch.tensor([[1.0, 0, 0, 0]] * 2), ["a", "b"], 0)
    before = Estimating(MaxRL(), {"a": CurveRL(), "b": CurveRL()})
    before.advance(*batch)
    saved = before.to_dict()
    assert saved["tasks"] == {"a": "curve_rl", "b": "curve_rl"}
    same = Estimating(MaxRL(), {"a": CurveRL(), "b": CurveRL()})
    same.restore(saved)
    assert same.states == before.states
    assert not caplog.records
    other = Estimating(MaxRL(), {"a": CurveRL(), "b": GRPO()})
    other.restore(saved)
    assert other.states == {"a": before.states["a"]}
    assert [record.getMessage() for record in caplog.records] == [
        "the checkpoint was saved with estimator 'curve_rl' for task b: 'grpo' begins without memory"
    ]
    assert Estimating(MaxRL()).remembers is False
    assert (before.remembers, other.remembers) == (True, True)


def test_evaluations_take_groups_of_one_size(mix: Any) -> None:
    """Of N as the run has it, each with its task's estimator, a task that is not trained on with the run's."""
    evaluated = Dataset.from_dict(
        {"prompt": ["1 2 =", "2 2 =", "3 1 ="], "id": ["x", "y", "z"], "task": ["small", "large", "new"]}
    )
    trainer = mix(
        eval_dataset=evaluated,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=12,
        max_steps=1,
    )
    (row,) = [row for row in trainer.state.log_history if "eval_success_rate" in row]
    for task in ("small", "large", "new"):
        assert row[f"eval_tasks/{task}/frac_rollouts"] == pytest.approx(1 / 3)
        assert f"eval_tasks/{task}/groups/live" not in row
    assert trainer.estimating.states == {}


@pytest.mark.slow
@pytest.mark.parametrize("rows_of_two", [8, 4], ids=["whole groups", "groups split over ranks"])
@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_two_ranks_equal_one_process(
    tmp_path: Path, policy_folder: Path, rows_of_two: int, backend: str
) -> None:
    """Groups of 3 and 5: with four rows each, the second rank has the end of the second group alone."""
    script = Path(__file__).with_name("mixed_rank.py")

    def run(ranks: int, rows: int) -> dict[str, Any]:
        launcher = [sys.executable]
        if ranks > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        output = tmp_path / f"{ranks}.pt"
        finished = subprocess.run(
            [*launcher, str(script), str(policy_folder), str(output), str(rows), backend],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-4000:]
        return torch.load(output)

    one, two = run(1, 2 * rows_of_two), run(2, rows_of_two)
    assert two["batches"] == one["batches"]
    assert any(value for batch in one["batches"] for value in batch["advantages"])
    assert two["states"] == one["states"]
    assert two["states"].keys() == {"five"}
    torch.testing.assert_close(two["weights"], one["weights"], rtol=0, atol=1e-5)
    for ours, theirs in zip(two["logged"], one["logged"], strict=True):
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"train_dataset": rows_of("small")}, "no row of the training data is of task 'large'"),
        ({"train_dataset": rows_of("small", "large", "other")}, "'other' is not in task_settings"),
        ({"train_dataset": rows_of("small", "large").remove_columns("task")}, "a column 'task' .* it has prompt, id"),
        ({"train_dataset": rows_of("small", "large").to_iterable_dataset()}, "of type IterableDataset; load it"),
        ({"remove_unused_columns": True}, "set remove_unused_columns=False"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_mixed_is_refused(mix: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        mix(**fields)


def composition(rows: int, **sizes: tuple[int, int]) -> Composition:
    settings = {
        task: TaskSettings(share=share, num_generations=n, estimator=None, correctness_threshold=None)
        for task, (share, n) in sizes.items()
    }
    return Composition(settings, rows)


def test_a_sampler_repeats_each_row_as_often_as_its_group_is_large() -> None:
    sampler = MixtureSampler(
        ["a", "b", "a", "a", "b", "a"], composition(7, a=(2, 2), b=(1, 3)), repeat_count=2, shuffle=False
    )
    first, second = [0, 0, 2, 2, 1, 1, 1], [3, 3, 5, 5, 4, 4, 4]
    assert list(sampler) == [*first, *first, *second, *second]
    assert len(sampler) == 28


def test_one_task_comes_in_trls_order() -> None:
    sampler = MixtureSampler(["a"] * 7, composition(6, a=(1, 2)), repeat_count=3, shuffle=False)
    theirs = RepeatSampler(list(range(7)), mini_repeat_count=2, batch_size=3, repeat_count=3, shuffle=False)
    assert list(sampler) == list(theirs)
    assert len(sampler) == len(theirs)


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.tuples(st.integers(1, 3), st.integers(2, 4)),
    st.tuples(st.integers(1, 3), st.integers(2, 4)),
    st.booleans(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_an_epoch_goes_through_the_longest_task_once(
    many: int, few: int, first: tuple[int, int], second: tuple[int, int], shuffle: bool
) -> None:
    rows = first[0] * first[1] + second[0] * second[1]
    made = composition(rows, a=first, b=second)
    sampler = MixtureSampler(["a"] * many + ["b"] * few, made, shuffle=shuffle, seed=1)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert len(order) == rows * max(1, many // first[0], few // second[0])
    picked: dict[str, list[int]] = {"a": [], "b": []}
    for start in range(0, len(order), rows):
        batch = iter(order[start : start + rows])
        for task, size in zip(made.tasks, made.layout.sizes, strict=True):
            (row,) = {*islice(batch, size)}  # one prompt, as often as the group is large
            assert task == ("a" if row < many else "b")
            picked[task].append(row)
    for task, count in (("a", many), ("b", few)):
        seen = picked[task]
        for start in range(0, len(seen), count):
            assert len({*seen[start : start + count]}) == len(seen[start : start + count]), (
                "none before all others"
            )


def test_the_order_belongs_to_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = MixtureSampler(["a", "b"] * 20, composition(4, a=(1, 2), b=(1, 2)), seed=seed)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(sampler)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert [row // 2 for row in order(0, 0) if row % 2] != [row // 2 for row in order(0, 0) if not row % 2]
