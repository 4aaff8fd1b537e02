"""Whether a run is at work, told from its folder."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from maxrl.evaluation.files import atomic_text
from maxrl.experiments.store.processes import (
    PROCESS_FILE,
    RECENT,
    RunProcess,
    at_work,
    file_times,
    record_process,
    recorded_process,
)


def noted(folder: Path, process: RunProcess) -> Path:
    (folder / PROCESS_FILE).write_text(json.dumps(dataclasses.asdict(process)))
    return folder


def test_this_process_is_at_work(tmp_path: Path) -> None:
    assert not at_work(tmp_path)
    record_process(tmp_path)
    assert recorded_process(tmp_path) == RunProcess.this()
    assert at_work(tmp_path)


def test_a_process_that_ended_is_not_nor_is_another_of_its_number(tmp_path: Path) -> None:
    mine = RunProcess.this()
    assert not at_work(noted(tmp_path, dataclasses.replace(mine, created=mine.created - 60)))
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    assert not at_work(noted(tmp_path, dataclasses.replace(mine, pid=ended.pid)))


def test_one_that_was_killed_and_not_yet_waited_for_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "print(); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        mine = RunProcess.this()
        created = psutil.Process(child.pid).create_time()
        process = dataclasses.replace(mine, pid=child.pid, created=created)
        assert at_work(noted(tmp_path, process))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        assert not at_work(tmp_path)


def test_of_another_machine_the_files_tell(tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(RunProcess.this(), machine="another")
    assert not elsewhere.alive
    assert at_work(noted(tmp_path, elsewhere))
    old = (tmp_path / PROCESS_FILE).stat().st_mtime - RECENT - 1
    os.utime(tmp_path / PROCESS_FILE, (old, old))
    assert not at_work(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    assert at_work(tmp_path)


def test_partial_files_name_the_machine_as_processes_do(tmp_path: Path) -> None:
    with atomic_text(tmp_path / "file"):
        (partial,) = tmp_path.glob("*.partial")
    assert partial.name.startswith(f"file.{RunProcess.this().machine}-{os.getpid()}-")


def test_a_note_that_says_nothing(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]"):
        (tmp_path / PROCESS_FILE).write_text(text)
        assert recorded_process(tmp_path) is None
        assert not at_work(tmp_path)


def test_files_that_are_gone_meanwhile_have_no_time(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    assert len(file_times(tmp_path)) == 1
