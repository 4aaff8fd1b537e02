"""`maxrl train` under a launcher: one run, one folder, written once, stopped by all ranks together."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.smallest import write_recipe

from maxrl.experiments.folders import last_checkpoint

MAXRL = ("-m", "maxrl.cli")
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def program(name: str) -> tuple[str]:
    """`maxrl` with something in its way; takes the same words."""
    return (str(Path(__file__).with_name(name)),)


@pytest.fixture
def launch(tmp_path: Path, policy_folder: Path, environment: dict[str, str]) -> Launch:
    """Runs a program's `train` on two ranks in an empty folder, with some more words."""

    def launch(program: tuple[str, ...], *words: str, **fields: object) -> "subprocess.CompletedProcess[str]":
        recipe = write_recipe(
            tmp_path, model_name_or_path=str(policy_folder), prompt_format="compact", **fields
        )
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        own = [f"--config={recipe}", "--output_dir=run", "--use_cpu", "--per_device_train_batch_size=8"]
        return subprocess.run(
            [*launcher, *program, "train", "-q", *own, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return launch


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [MAXRL, program("late_rank.py")], ids=["together", "one late"])
def test_two_ranks_leave_one_run(tmp_path: Path, launch: Launch, ranks: tuple[str, ...]) -> None:
    done = launch(ranks, max_steps=2)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("run: run") == 1
    folder = tmp_path / "run"
    assert steps(folder) == [1, 2]
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 6 * (4 + 1)
    assert json.loads((folder / "run.json").read_text())["rollouts"] == 2 * 16


@pytest.mark.slow
def test_an_evaluation_may_take_longer_than_processes_wait_for_each_other(
    tmp_path: Path, launch: Launch
) -> None:
    done = launch(program("slow_evaluation.py"), max_steps=2, eval_every=2)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "run" / "run.json").is_file()
    rows = [json.loads(line) for line in (tmp_path / "run" / "evals.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2]
    assert rows[0]["seconds"] > 8


@pytest.mark.slow
def test_ctrl_c_in_one_rank_stops_all_after_the_same_step(tmp_path: Path, launch: Launch) -> None:
    stopped = launch(program("interrupted_rank.py"), max_steps=4, save_steps=100)
    assert stopped.returncode != 0
    assert stopped.stderr.count("failed: interrupted at step 2; go on with") == 2, stopped.stderr[-4000:]
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-2"
    refused = launch(MAXRL, max_steps=4, save_steps=100)
    assert refused.stderr.count("run already holds a run (checkpoint-2)") == 2, refused.stderr[-4000:]
    # The first decides for all from where they go on.
    resumed = launch(program("blind_rank.py"), "--resume_from_checkpoint=true", max_steps=4, save_steps=100)
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    assert steps(tmp_path / "run") == [1, 2, 3, 4]
