"""A step without any signal leaves weights and optimizer state as they are, to the bit."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from tests.training.settings import settings
from torch import Tensor
from transformers import TrainerCallback

from maxrl.models import load_policy
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, task_dataset
from maxrl.training.signalless import live_rows, unskippable_reason

LIVE, DEAD, MASTERED = [1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0] * 4

Snapshot = tuple[Tensor, list[Any]]


class Snapshots(TrainerCallback):
    """Weights and optimizer state after every step."""

    def __init__(self) -> None:
        self.taken: list[Snapshot] = []

    def on_step_end(self, *_: Any, model: Any = None, optimizer: Any = None, **__: Any) -> None:
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        state = copy.deepcopy(optimizer.state_dict()["state"])
        self.taken.append(
            (weights, [value for _, entry in sorted(state.items()) for value in entry.values()])
        )


def same(one: Snapshot, other: Snapshot) -> tuple[bool, bool]:
    """Whether the weights are equal, and whether the optimizer's state is."""
    assert len(one[1]) == len(other[1])
    equal = [
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(one[1], other[1], strict=True)
    ]
    return torch.equal(one[0], other[0]), all(equal)


@pytest.fixture
def make(tmp_path: Path, policy_folder: Path, tokenizer: Any, task: SubsetSum) -> Callable[..., MaxRLTrainer]:
    """A trainer whose generations have the rewards of a script, group by group; rollouts are 5 tokens of the prompt."""

    def run(script: list[list[list[float]]], **fields: Any) -> MaxRLTrainer:
        generations = iter(script)

        def scripted(completions: list[str], **_: Any) -> list[float]:
            rewards = [reward for group in next(generations) for reward in group]
            assert len(rewards) == len(completions)
            return rewards

        def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
            prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
            completion_ids = [[*ids, *ids][row % 3 : row % 3 + 5] for row, ids in enumerate(prompt_ids)]
            logprobs = [[-1.0] * 5] * len(prompts)
            return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

        torch.manual_seed(0)
        return MaxRLTrainer(
            model=load_policy(str(policy_folder)),
            reward_funcs=scripted,
            args=MaxRLConfig(**settings(tmp_path, **fields)),
            train_dataset=task_dataset(task, "train", 64),
            processing_class=tokenizer,
            rollout_func=rollouts,
        )

    return run


@pytest.fixture
def run(make: Callable[..., MaxRLTrainer]) -> Callable[..., tuple[list[Snapshot], list[dict[str, Any]]]]:
    """Snapshots and log rows of a run."""

    def trained(
        script: list[list[list[float]]], **fields: Any
    ) -> tuple[list[Snapshot], list[dict[str, Any]]]:
        trainer, snapshots = make(script, **fields), Snapshots()
        trainer.add_callback(snapshots)
        trainer.train()
        assert trainer.packed == (fields["update_backend"] == "engine")
        return snapshots.taken, [row for row in trainer.state.log_history if "grad_norm" in row]

    return trained


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.1},
    "adamw one by one": {"weight_decay": 0.1, "optim_args": "foreach=False"},
    "adafactor": {"optim": "adafactor", "weight_decay": 0.1},
    "sgd with momentum": {"optim": "sgd", "optim_args": "momentum=0.9", "weight_decay": 0.1},
    "kl": {"beta": 0.5},
    "entropy": {"entropy_coef": 0.1},
    "not clipped": {"max_grad_norm": 0.0},
    "two iterations": {"num_iterations": 2, "max_steps": 6},
}


@pytest.mark.parametrize("backend", ["engine", "transformers"])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_a_dead_step_changes_nothing(run: Any, backend: str, case: str) -> None:
    """And it would without the option: momentum, weight decay, Adam's averages, KL and entropy all go on."""
    fields = {"update_backend": backend, "lr_scheduler_type": "linear", **OPTIMIZERS[case]}
    script = [[LIVE, DEAD], [DEAD, MASTERED], [LIVE, LIVE]]
    steps = 2 if case == "two iterations" else 1  # of a generation
    snapshots, log = run(script, **fields)
    assert same(snapshots[steps - 1], snapshots[2 * steps - 1]) == (True, True)
    assert same(snapshots[2 * steps - 1], snapshots[2 * steps])[0] is False
    assert [row["steps_skipped"] for row in log] == [0] * steps + [1] * steps + [0] * steps
    rates = [row["learning_rate"] for row in log]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates)  # the schedule goes on

    moving, log = run(script, **fields, skip_signalless_steps=False)
    assert same(moving[steps - 1], moving[2 * steps - 1])[0] is False
    assert "steps_skipped" not in log[0]
    torch.testing.assert_close(moving[steps - 1][0], snapshots[steps - 1][0], rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_the_first_step_may_be_dead(run: Any, policy_folder: Path, backend: str) -> None:
    start = torch.cat([p.detach().flatten() for p in load_policy(str(policy_folder)).parameters()])
    snapshots, _ = run([[DEAD, DEAD], [LIVE, LIVE], [DEAD, DEAD]], update_backend=backend, weight_decay=0.1)
    assert torch.equal(snapshots[0][0], start)
    assert snapshots[0][1] == []  # the optimizer has not begun
    assert same(snapshots[1], snapshots[2]) == (True, True)
    assert not torch.equal(snapshots[1][0], start)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
@pytest.mark.parametrize("live_at", [0, 1, None])
def test_a_step_of_two_generations_needs_one_with_signal(run: Any, backend: str, live_at: int | None) -> None:
    second = [[LIVE, DEAD] if live_at == number else [DEAD, DEAD] for number in range(2)]
    fields = {"update_backend": backend, "gradient_accumulation_steps": 2, "steps_per_generation": 1}
    snapshots, log = run([[LIVE, DEAD], [DEAD, DEAD], *second], **fields, max_steps=2, weight_decay=0.1)
    assert [row["steps_skipped"] for row in log] == [0, float(live_at is None)]
    assert same(*snapshots)[0] is (live_at is None)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_steps_of_one_generation_are_judged_one_by_one(
    run: Any, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Three steps of one generation, two micro-batches each; only the second step has signal, in its first one."""
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    snapshots, log = run(
        [[DEAD, MASTERED, LIVE, DEAD, DEAD, DEAD]],
        update_backend=backend,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=6,
        weight_decay=0.1,
    )
    assert [row["steps_skipped"] for row in log] == [1, 0, 1]
    assert not torch.equal(snapshots[0][0], snapshots[1][0])
    assert same(snapshots[1], snapshots[2]) == (True, True)


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_an_advantage_without_a_token_is_no_signal(run: Any, backend: str) -> None:
    """Every rollout is cut off, and such are masked."""
    fields = {"update_backend": backend, "weight_decay": 0.1, "max_steps": 1}
    snapshots, log = run([[LIVE, LIVE]], **fields, mask_truncated_completions=True)
    assert log[0]["advantage_mass"] > 0
    assert log[0]["steps_skipped"] == 1
    assert snapshots[0][1] == []


def test_the_log_has_the_fraction_of_steps(run: Any) -> None:
    _, log = run(
        [[LIVE, LIVE], *[[DEAD, DEAD]] * 3], max_steps=4, logging_steps=4, update_backend="transformers"
    )
    assert [row["steps_skipped"] for row in log] == [0.75]


@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_a_scaler_finds_what_it_checked(
    make: Callable[..., MaxRLTrainer], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """fp16's scaler refuses a step whose gradients it has not looked at; accelerate has it on GPUs alone."""
    trainer = make([[LIVE, LIVE], [DEAD, DEAD], [LIVE, DEAD]], update_backend=backend, weight_decay=0.1)
    snapshots = Snapshots()
    trainer.add_callback(snapshots)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    trainer.accelerator.scaler, trainer.accelerator.native_amp = scaler, True
    monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")
    trainer.train()
    assert same(*snapshots.taken[:2]) == (True, True)
    assert not torch.equal(snapshots.taken[1][0], snapshots.taken[2][0])
    assert scaler.get_scale() == 2048.0  # after three steps without an overflow


def test_it_says_where_it_cannot(
    make: Callable[..., MaxRLTrainer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make([])
    assert "skip_signalless_steps" not in caplog.text
    make([], optim="lomo")
    assert (
        "skip_signalless_steps has no effect: the optimizer lomo updates during the backward" in caplog.text
    )
    caplog.clear()
    make([], optim="lomo", skip_signalless_steps=False)
    assert "skip_signalless_steps" not in caplog.text
    trainer = make([])
    assert unskippable_reason(trainer) is None
    monkeypatch.setitem(AcceleratorState._shared_state, "distributed_type", DistributedType.DEEPSPEED)
    assert unskippable_reason(trainer) == "DeepSpeed steps by itself, within the backward"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["engine", "transformers"])
def test_ranks_decide_together(tmp_path: Path, policy_folder: Path, backend: str) -> None:
    """A rank without signal takes the step of the other's."""
    script = Path(__file__).with_name("one_sided_rank.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    output = tmp_path / "ranks"
    output.mkdir()
    finished = subprocess.run(
        [*launcher, str(script), str(policy_folder), str(output), backend],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    start = torch.cat([p.detach().flatten() for p in load_policy(str(policy_folder)).parameters()])
    first, second = (torch.load(output / f"rank{rank}.pt") for rank in range(2))
    assert first["skipped"] == [0, 0, 1, 1, 0]
    before = start
    for one, other, skipped in zip(first["weights"], second["weights"], first["skipped"], strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, before) == bool(skipped)
        before = one


def test_a_row_is_live_where_the_policy_chose_a_token() -> None:
    batch = {
        "advantages": torch.tensor([1.0, 1.0, 0.0, -1.0, 2.0]),
        "completion_mask": torch.tensor([[1, 1], [0, 0], [1, 1], [1, 0], [1, 1]]),
    }
    assert live_rows(batch).tolist() == [True, False, False, True, True]
    chosen = torch.tensor([[0, 1], [1, 1], [1, 1], [0, 1], [0, 0]])  # the rest a tool said
    assert live_rows({**batch, "tool_mask": chosen}).tolist() == [True, False, False, False, False]
    assert live_rows({**batch, "advantages": torch.eye(5)[:, :2]}).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
