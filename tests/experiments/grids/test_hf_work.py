"""What a job on Hugging Face runs: the mirror, and whole runs in processes that are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.smallest import write_recipe

from maxrl.errors import InputError
from maxrl.experiments.fields import read_fields
from maxrl.experiments.grids import hf_work
from maxrl.experiments.grids.hf_work import MIRROR_VARIABLE, Mirror
from maxrl.experiments.grids.work import RUN_VARIABLE, make_run

JOB = "import sys; from maxrl.experiments.grids import hf_work; hf_work.MIRROR_SECONDS = 0.1; sys.exit(hf_work.main())"


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_mirror_follows_its_folder(tmp_path: Path) -> None:
    folder, target = tmp_path / "run", tmp_path / "bucket" / "run"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("1\n")
    (folder / "checkpoint-2" / "model").write_text("w")
    mirror = Mirror(folder, target, seconds=1000)
    mirror.copy()
    assert files_of(target) == {"metrics.jsonl": "1\n", "checkpoint-2/model": "w"}
    with (folder / "metrics.jsonl").open("a") as log:
        log.write("2\n")
    shutil.rmtree(folder / "checkpoint-2")
    (folder / "process.json").write_text("{}")
    (folder / "eval.json.m-1-ab.partial").write_text("half")
    (target / "notes.txt").write_text("of somebody")
    mirror.copy()
    assert files_of(target) == {"metrics.jsonl": "1\n2\n", "notes.txt": "of somebody"}
    assert not (target / "checkpoint-2").exists()


def test_only_what_has_changed_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("1")
    mirror = Mirror(folder, tmp_path / "bucket", seconds=1000)
    mirror.copy()
    copied = copies(monkeypatch, folder)
    (folder / "b").write_text("22")
    mirror.copy()
    assert copied == ["b"]


def copies(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Paths in the folder of the files that are copied from now on, in their order."""
    copied: list[str] = []
    copyfile = shutil.copyfile

    def noted(source: Path, target: Path) -> None:
        copied.append(str(source.relative_to(folder)))
        copyfile(source, target)

    monkeypatch.setattr(hf_work.shutil, "copyfile", noted)
    return copied


def test_what_says_that_something_is_complete_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    (folder / "stage-1" / "checkpoint-2").mkdir(parents=True)
    for name in ("run.json", "stage-1/run.json", "stage-1/checkpoint-2/trainer_state.json", "zz.json"):
        (folder / name).write_text(name)
    (folder / "stage-1" / "checkpoint-2" / "weights").write_text("w")
    order = copies(monkeypatch, folder)
    Mirror(folder, tmp_path / "bucket", seconds=1000).copy()
    assert order == [
        *["stage-1/checkpoint-2/weights", "zz.json", "stage-1/checkpoint-2/trainer_state.json"],
        *["stage-1/run.json", "run.json"],
    ]


def test_a_new_machine_begins_with_what_the_mirror_has(tmp_path: Path) -> None:
    target = tmp_path / "bucket"
    (target / "checkpoint-2").mkdir(parents=True)
    (target / "checkpoint-2" / "model").write_text("w")
    folder = tmp_path / "disk" / "run"
    with Mirror(folder, target, seconds=1000):
        assert files_of(folder) == {"checkpoint-2/model": "w"}
        shutil.rmtree(folder / "checkpoint-2")
        (folder / "run.json").write_text("{}")
    assert files_of(target) == {"run.json": "{}"}


def test_a_checkpoint_that_is_pruned_while_it_is_copied_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = tmp_path / "run", tmp_path / "bucket"
    (folder / "checkpoint-1").mkdir(parents=True)
    (folder / "checkpoint-1" / "model").write_text("w")
    (folder / "a").write_text("1")
    copyfile = shutil.copyfile

    def pruned_meanwhile(source: Path, copy: Path) -> None:
        shutil.rmtree(folder / "checkpoint-1", ignore_errors=True)
        copyfile(source, copy)

    monkeypatch.setattr(hf_work.shutil, "copyfile", pruned_meanwhile)
    Mirror(folder, target, seconds=1000).copy()
    assert files_of(target) == {"a": "1"}
    assert not (target / "checkpoint-1").exists()


def test_a_pass_that_fails_is_made_up_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, target = tmp_path / "run", tmp_path / "bucket"
    folder.mkdir()
    (folder / "a").write_text("1")
    target.write_text("in the way")
    with Mirror(folder, target, seconds=0.01):
        while "the mirror is behind" not in capsys.readouterr().err:
            time.sleep(0.01)
        target.unlink()
    assert files_of(target) == {"a": "1"}
    shutil.rmtree(target)
    target.write_text("in the way")
    with pytest.raises(OSError, match="bucket"), Mirror(folder, target, seconds=1000):
        pass


def test_both_variables_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MAXRL_RUN is not set"):
        hf_work.main({})
    with pytest.raises(InputError, match="MAXRL_MIRROR is not set"):
        hf_work.main({RUN_VARIABLE: json.dumps({"output_dir": str(tmp_path)})})


def the_fields(tmp_path: Path, machine: str, steps: int) -> dict[str, Any]:
    recipe = write_recipe(tmp_path, max_steps=steps, save_total_limit=1)
    return {**read_fields(["--config", str(recipe)]), "output_dir": str(tmp_path / machine / "run")}


def a_job(tmp_path: Path, machine: str, steps: int) -> subprocess.Popen[bytes]:
    fields = the_fields(tmp_path, machine, steps)
    variables = {RUN_VARIABLE: json.dumps(fields), MIRROR_VARIABLE: str(tmp_path / "bucket" / "grid" / "run")}
    return subprocess.Popen(
        [sys.executable, "-c", JOB], env={**os.environ, "OMP_NUM_THREADS": "1", **variables}
    )


@pytest.mark.slow
def test_a_job_goes_on_from_the_bucket_on_another_machine(tmp_path: Path) -> None:
    make_run(the_fields(tmp_path, "whole", 40))
    mirror = tmp_path / "bucket" / "grid" / "run"
    for machine, end in (("first", signal.SIGKILL), ("second", signal.SIGTERM)):
        before = {path.name for path in mirror.glob("checkpoint-*")}
        process = a_job(tmp_path, machine, 40)
        while not {path.parent.name for path in mirror.glob("checkpoint-*/trainer_state.json")} - before:
            assert process.poll() is None, "it ended before"
            time.sleep(0.05)
        process.send_signal(end)
        assert process.wait() == (-signal.SIGKILL if end == signal.SIGKILL else 1)
        assert not (mirror / "run.json").exists()
        shutil.rmtree(tmp_path / machine)
    assert a_job(tmp_path, "third", 40).wait() == 0
    other = tmp_path / "whole" / "run"
    assert (mirror / "run.json").is_file()
    assert (mirror / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    assert len(list(mirror.glob("checkpoint-*"))) == 1
    steps = [json.loads(line)["step"] for line in (mirror / "metrics.jsonl").read_text().splitlines()]
    assert steps[:40] == list(range(1, 41))
