"""What a run says about where it was made."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from maxrl.experiments import environment
from maxrl.experiments.environment import (
    LIBRARIES,
    code_version,
    computing_on,
    describe_environment,
    installed_version,
    machine_class,
    runs_environment,
    settle_threads,
    write_environment,
)


def test_versions_code_and_machine_are_named() -> None:
    facts = describe_environment()
    assert list(facts) == ["python", *LIBRARIES, "code", "machine", "threads"]
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in LIBRARIES:
        assert facts[name] == version(name)
    assert facts["machine"] == machine_class()


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_threads_are_as_asked_as_the_environment_says_as_recorded_or_as_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "available_cores", lambda: 4)
    monkeypatch.setattr(environment, "choose_threads", lambda cores: cores - 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert settle_threads(2) is None
    assert torch.get_num_threads() == 2
    assert settle_threads(None, tmp_path) is None
    assert torch.get_num_threads() == 2, "OMP_NUM_THREADS has been heeded by torch itself"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "3 of 4 cores" in str(settle_threads(None, tmp_path))
    assert torch.get_num_threads() == 3
    (tmp_path / "environment.json").write_text('{"threads": "1"}')
    assert "1 of 4 cores, as the run was started" in str(settle_threads(None, tmp_path))
    assert torch.get_num_threads() == 1
    # On a smaller machine than it was started on.
    (tmp_path / "environment.json").write_text('{"threads": "8"}')
    chosen = str(settle_threads(None, tmp_path))
    assert "3 of 4 cores, the faster as measured" in chosen
    assert "the run was started on 8, so that it goes on with other rounding" in chosen
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_threads")
def test_threads_for_a_while() -> None:
    before = torch.get_num_threads()

    def compute() -> None:
        with computing_on(before + 2):
            assert torch.get_num_threads() == before + 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute()
    assert torch.get_num_threads() == before


def test_what_runs_recorded_is_shown_with_every_value(tmp_path: Path) -> None:
    for name, threads in {"a": "1", "b": "2", "c": "1"}.items():
        (tmp_path / name).mkdir()
        write_environment(tmp_path / name, {"threads": threads, "update_backend": "engine"})
    folders = [tmp_path / name for name in ("failed at once", "a", "b", "c")]
    assert runs_environment(folders) == {
        **describe_environment(),
        "threads": "1 or 2",
        "update_backend": "engine",
    }
    assert runs_environment(folders[:1]) == describe_environment()


def test_a_library_that_is_absent_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_version("no-such-distribution") is None
    monkeypatch.setattr(environment, "LIBRARIES", ("no-such-distribution",))
    assert describe_environment()["no-such-distribution"] == "not installed"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    run = subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a repository of its own, which `code_version` takes for ours."""
    folder = tmp_path / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "environment.py").write_text("first = 1\n")
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(environment, "__file__", str(folder / "environment.py"))
    return folder


def test_the_code_is_the_commit_and_whether_it_was_changed(package: Path) -> None:
    root = package.parents[1]
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    commit = git(root, "rev-parse", "HEAD")[:12]
    assert code_version() == commit
    (root / "notes.txt").write_text("outside the package")
    assert code_version() == commit
    (package / "environment.py").write_text("first = 2\n")
    assert code_version() == f"{commit}+changes"


def test_code_inside_somebody_elses_repository_is_the_release(package: Path) -> None:
    root = package.parents[1]
    (root / "notes.txt").write_text("theirs")
    git(root, "add", "notes.txt")
    git(root, "commit", "-q", "-m", "theirs")
    assert code_version() == f"release {version('maxrl')}"


def test_code_outside_of_any_repository_is_the_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert code_version() == f"release {version('maxrl')}"


def test_code_is_unknown_where_git_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version() == "unknown"


@pytest.mark.parametrize("slow", ["ls-files", "rev-parse", "status"])
def test_code_is_unknown_where_git_takes_too_long(
    package: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    git(package, "add", ".")
    git(package, "commit", "-q", "-m", "first")
    run = subprocess.run

    def stuck(words: list[str], **options: Any) -> Any:
        if slow in words:
            raise subprocess.TimeoutExpired(words, 10)
        return run(words, **options)

    monkeypatch.setattr(subprocess, "run", stuck)
    assert code_version() == "unknown"


def test_code_that_was_never_committed_is_unknown(package: Path) -> None:
    git(package, "add", ".")
    assert code_version() == "unknown"


def test_the_machine_is_a_class_and_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    monkeypatch.setattr("platform.machine", lambda: "mips")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine_class() == "Plan9 mips, 3 cores"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU X")
    assert machine_class() == "Plan9 mips, 3 cores, 2 × GPU X"
