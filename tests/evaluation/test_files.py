"""A file under its final name is whole."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from maxrl.evaluation.files import atomic_text, remove_stale_partials


def test_the_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "rows.jsonl"
    for text in ("first é\n", "second\n"):
        with atomic_text(path) as sink:
            sink.write(text)
            sink.flush()
            assert not path.exists() or path.read_text(encoding="utf-8") == "first é\n"
        assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]


def test_an_error_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")

    def write_half() -> None:
        with atomic_text(path) as sink:
            sink.write("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with atomic_text(path) as first, atomic_text(path, durable=False) as second:
        first.write("first\n")
        second.write("second\n")
        assert len(list(tmp_path.glob("rows.jsonl.*.partial"))) == 2
    assert path.read_text() == "first\n"  # the last to end
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        what = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(what.st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_text(path) as sink:
        sink.write("new\n")
    assert synced == [(False, False), (True, True)]
    with atomic_text(path, durable=False) as sink:
        sink.write("newer\n")
    assert len(synced) == 2


def test_partial_files_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with atomic_text(path):
        (own,) = tmp_path.glob("*.partial")
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    left = tmp_path / own.name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    process.wait()
    left.touch()
    elsewhere = tmp_path / "rows.jsonl.abcdef-1-00000000.partial"
    elsewhere.touch()
    old = tmp_path / "old.abcdef-1-00000000.partial"
    old.touch()
    os.utime(old, (0, 0))
    with atomic_text(path) as sink:
        sink.write("own")
        remove_stale_partials(tmp_path)
        assert not left.exists()
        assert not old.exists()
        assert elsewhere.exists()  # its writer cannot be seen, and may be at work
    assert path.read_text() == "own"


def test_a_number_given_out_again_is_no_writer(tmp_path: Path) -> None:
    with atomic_text(tmp_path / "rows.jsonl"):
        (partial,) = tmp_path.glob("*.partial")
        name = partial.name
    mine = tmp_path / name
    mine.touch()
    remove_stale_partials(tmp_path)
    assert mine.exists()
    os.utime(mine, (10, 10))  # written before this process was started
    remove_stale_partials(tmp_path)
    assert not mine.exists()
