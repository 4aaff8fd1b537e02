"""Grids that are killed in the middle end as if nothing had happened: here, and on a Ray of this machine."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.smallest import write_recipe

from maxrl.experiments.folders import last_checkpoint
from maxrl.experiments.grids.spec import load_grid

pytestmark = pytest.mark.slow

KILLS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a spec of 2 × 2 × 2 runs, and the grid made without disturbance in `undisturbed`."""
    folder = tmp_path_factory.mktemp("grid")
    write_recipe(folder, max_steps=60, save_steps=5, learning_rate="3e-3")
    (folder / "spec.yaml").write_text(
        "name: small\nrecipe: recipe.yaml\nfields: {batch_size: 4}\n"
        "axes:\n  seed: [0, 1]\n  group_size: [4, 8]\n  method: [maxrl, grpo]\n"
    )
    assert start(folder, "undisturbed").wait(timeout=900) == 0
    return folder


def start(folder: Path, output: str, *words: str) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "MAXRL_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / f"{output}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "maxrl.cli", "grid", "run", "spec.yaml", "--output_dir", output, *words],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            # As of a command that a script starts in the background: it must be stopped all the same.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )


def results(folder: Path, output: str) -> dict[str, dict[str, Any]]:
    """eval.json of every run without the seconds that the evaluation took."""
    grid = load_grid(folder / "spec.yaml", output_dir=str(folder / output))
    assert len(grid.runs) == 8
    found = {run.name: json.loads((run.folder / "eval.json").read_text()) for run in grid.runs}
    for evaluation in found.values():
        del evaluation["seconds"]
    return found


def weights(folder: Path, output: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (folder / output).glob("*/model.safetensors")}


def wait_until(what: Callable[[], bool], process: "subprocess.Popen[bytes]", seconds: float = 300) -> None:
    """Until it is so, or the process is over."""
    deadline = time.monotonic() + seconds
    while not what() and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def rows(folder: Path) -> int:
    """Steps that all runs have logged."""
    return sum(map(rows_of, folder.iterdir())) if folder.is_dir() else 0


def rows_of(run: Path) -> int:
    """Steps that a run has logged, of 60."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.is_file() else 0


def kill_one(grid: Path, process: "subprocess.Popen[bytes]") -> str:
    """Kill the process of a run that has a checkpoint to go on from and is far from done; the run's name."""

    def begun() -> list[Path]:
        folders = (path.parent for path in grid.glob("*/process.json"))
        return [folder for folder in folders if last_checkpoint(folder) and rows_of(folder) < 40]

    wait_until(lambda: bool(begun()), process)
    folder = begun()[0]
    os.kill(json.loads((folder / "process.json").read_text())["pid"], signal.SIGKILL)
    return folder.name


def test_a_grid_that_is_killed_five_times_ends_as_one_that_was_not(folder: Path) -> None:
    draw = random.Random(0)
    moments: list[tuple[int, int]] = []
    for _ in range(KILLS):
        process = start(folder, "killed")
        children = psutil.Process(process.pid)
        goal = rows(folder / "killed") + draw.randint(1, 70)
        wait_until(lambda: rows(folder / "killed") >= goal, process)  # noqa: B023 — called at once
        time.sleep(
            0.2 * draw.random()
        )  # short enough for fast machines: the last kill must find something to do
        workers = children.children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=900)
        _, left = psutil.wait_procs(workers, timeout=60)
        assert not left, "runs that nobody watches would be in the way of the next attempt"
        moments.append((rows(folder / "killed"), len(list((folder / "killed").glob("*/run.json")))))
    assert moments[0][0] > 0
    assert moments[-1][1] < 8, "it was done before the last kill"
    assert start(folder, "killed").wait(timeout=900) == 0
    assert results(folder, "killed") == results(folder, "undisturbed")
    assert weights(folder, "killed") == weights(folder, "undisturbed")
    before = {path: path.stat().st_mtime_ns for path in (folder / "killed").glob("*/*") if path.is_file()}
    assert start(folder, "killed").wait(timeout=900) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is done is not done again"


def test_a_run_that_is_killed_is_resumed_by_the_command_that_made_it(folder: Path) -> None:
    process = start(folder, "one-killed", "--jobs", "2")
    run = kill_one(folder / "one-killed", process)
    assert process.wait(timeout=900) == 0
    log = (folder / "one-killed.log").read_text()
    assert f"{run}: died: its process was killed by SIGKILL" in log
    assert f"{run}: resumed" in log
    assert results(folder, "one-killed") == results(folder, "undisturbed")


def test_on_ray_a_worker_that_is_killed_changes_nothing(folder: Path) -> None:
    process = start(folder, "ray", "--on", "ray", "--workers", "2")
    run = kill_one(folder / "ray", process)
    assert process.wait(timeout=900) == 0
    log = (folder / "ray.log").read_text()
    assert f"{run}: died" in log
    assert f"{run}: resumed" in log
    assert results(folder, "ray") == results(folder, "undisturbed")


def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(folder: Path) -> None:
    process = start(folder, "stopped")
    wait_until(lambda: rows(folder / "stopped") >= 4, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=900) == 1
    begun = [path.parent for path in (folder / "stopped").glob("*/metrics.jsonl")]
    assert begun
    for run in begun:
        steps = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        assert (run / f"checkpoint-{steps}").is_dir() or (run / "run.json").is_file()
        assert not (run / "error.txt").exists()
    assert start(folder, "stopped").wait(timeout=900) == 0
    assert results(folder, "stopped") == results(folder, "undisturbed")
