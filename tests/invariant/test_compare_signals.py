"""A comparison whose workers are killed, interrupted or orphaned."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.smallest import write_recipe

from maxrl.experiments.records import Comparison

STEPS = 6000
"""Far more than a run makes before the other one has started: some hundred a second."""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Starts `maxrl compare` with some more words; what a failed test leaves running is killed, its workers with it."""
    started: list[subprocess.Popen[str]] = []
    recipe = write_recipe(tmp_path, max_steps=STEPS, save_steps=5, save_total_limit=1)
    command = [sys.executable, "-m", "maxrl.cli", "compare", "-q", f"--config={recipe}", "--output_dir=out"]

    def start(*words: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*command, "--jobs", "2", *words],
                cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                # A shell may have had it ignored, which children inherit.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        with process:  # closes its pipe
            process.kill()


def steps(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def wait_for_steps(folders: list[Path], count: int) -> None:
    wait_until(lambda: min(map(steps, folders)) >= count, "the runs do not get going")


def workers_of(parent: int) -> list[int]:
    """Process ids of the workers below a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            line = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in line:
            found.append(int(status.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(happened: Callable[[], object], otherwise: str) -> None:
    deadline = time.monotonic() + 300  # against waiting for ever, also on a busy machine
    while not happened():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_run_alone(tmp_path: Path, start: Start) -> None:
    process = start("--estimators", "maxrl", "rloo", "grpo", "--seeds", "0", "--max_steps", "200")
    out = tmp_path / "out"
    wait_for_steps([out / "maxrl-seed0"], 2)
    victim = min(workers_of(process.pid))  # the first one started makes the first run
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "1 of 3 runs failed; maxrl-seed0: its process was killed by SIGKILL" in errors
    runs = {run.estimator: run for run in Comparison.load(out / "comparison.json").runs}
    assert {name: run.status for name, run in runs.items()} == {
        "maxrl": "failed",
        "rloo": "done",
        "grpo": "done",
    }
    assert runs["maxrl"].rollouts >= 2 * 16
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_saves_the_running_and_starts_no_other(tmp_path: Path, start: Start) -> None:
    process = start("--estimators", "maxrl", "rloo", "--seeds", "0", "1")
    out = tmp_path / "out"
    wait_for_steps([out / "maxrl-seed0", out / "rloo-seed0"], 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1] == "maxrl: failed: interrupted"
    for name in ("maxrl-seed0", "rloo-seed0"):
        (checkpoint,) = (out / name).glob("checkpoint-*")
        assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] >= 3
        assert not (out / name / "error.txt").exists()
    assert not (out / "maxrl-seed1").exists()
    assert not (out / "comparison.json").exists()


@pytest.mark.slow
def test_ctrl_c_ends_workers_that_do_not_train_yet(tmp_path: Path, start: Start) -> None:
    process = start("--estimators", "maxrl", "rloo", "--seeds", "0")
    wait_until(lambda: len(workers_of(process.pid)) == 2, "the workers do not start")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1] == "maxrl: failed: interrupted"
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").glob("*/run.json"))


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path, start: Start) -> None:
    process = start("--estimators", "maxrl", "rloo", "--seeds", "0")
    folders = [tmp_path / "out" / name for name in ("maxrl-seed0", "rloo-seed0")]
    wait_for_steps(folders, 2)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(alive, workers)), "the workers go on without their parent")
    assert max(map(steps, folders)) < STEPS
