"""Compilers: which one is taken, and what is said where there is none."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.tasks.code_programs import RUST_COMPILERS
from tests.tasks.code_tools import need

from maxrl.errors import InputError
from maxrl.tasks import code_toolchains
from maxrl.tasks.code import Code
from maxrl.tasks.code_toolchains import SOURCES, build, check_rust, find_toolchain, run
from maxrl.tasks.sandbox import Limits, Outcome


class Recording:
    """A sandbox that runs nothing and notes what it was asked for."""

    name = "recording"

    def __init__(self, exit_code: int = 0, collected: Mapping[str, bytes] | None = None) -> None:
        self.outcome = Outcome(
            status="exited",
            exit_code=exit_code,
            stdout=b"",
            stderr=b"",
            seconds=0.0,
            collected=collected or {},
        )
        self.asked: list[tuple[list[str], dict[str, object]]] = []

    def run(self, command: list[str], **given: object) -> Outcome:
        self.asked.append((list(command), given))
        return self.outcome


def _executable(file: Path, script: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def _toolchain(folder: Path) -> Path:
    """A rustup toolchain as far as it matters here."""
    return _executable(folder / "bin/rustc", "exit 0").parent.parent


@pytest.fixture
def gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system with gcc and python3, whatever this machine has."""
    for tool in ("gcc", "python3"):
        _executable(tmp_path / "system" / tool, "exit 0")
    monkeypatch.setattr(code_toolchains, "_SYSTEM_PATH", str(tmp_path / "system"))
    return str(tmp_path / "system/gcc")


def test_rustc_behind_a_shim_is_taken_itself(
    tmp_path: Path, gcc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysroot = _toolchain(tmp_path / "toolchains/stable")
    shim = _executable(tmp_path / "shims/rustc", f"[ $1 = --print ] && echo {sysroot}")
    monkeypatch.setenv("PATH", f"{tmp_path}/nothing:relative:{shim.parent}")
    found = find_toolchain("rust")
    assert found.program == f"{sysroot}/bin/rustc"
    assert found.linker == gcc
    assert found.readable == (str(sysroot),)


def test_a_rustc_that_cannot_be_used_is_passed_over(
    tmp_path: Path, gcc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysroot = _toolchain(tmp_path / "good")
    folders = [
        _executable(tmp_path / "no default/rustc", "echo 'error: no default toolchain' >&2; exit 1").parent,
        _executable(tmp_path / "unreadable/rustc", "echo /root/.rustup/toolchains/nowhere").parent,
        _executable(tmp_path / "hanging/rustc", "sleep 20").parent,
        (tmp_path / "broken"),
        _executable(tmp_path / "right/rustc", f"echo {sysroot}").parent,
    ]
    folders[3].mkdir()
    (folders[3] / "rustc").write_bytes(b"\x7fELF")  # executable, of no machine
    (folders[3] / "rustc").chmod(0o755)
    monkeypatch.setattr(code_toolchains, "_ASK_SECONDS", 0.2)
    path = os.pathsep.join(map(str, folders))
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    assert find_toolchain("rust").program == f"{sysroot}/bin/rustc"
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders[:2])))
    with pytest.raises(
        InputError, match=r"apt install rustc\) \(tried without success: .*no default/rustc, "
    ):
        find_toolchain("rust")


def test_what_is_missing_is_named_with_its_package(
    tmp_path: Path, gcc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^rustc is missing; .*\(Debian: apt install rustc\)$"):
        find_toolchain("rust")
    os.remove(gcc)
    for language in ("c", "rust"):
        with pytest.raises(InputError, match="gcc is missing; install the package gcc"):
            find_toolchain(language)
    assert find_toolchain("python").program == str(tmp_path / "system/python3")
    os.remove(tmp_path / "system/python3")
    with pytest.raises(InputError, match="python3 is missing"):
        find_toolchain("python")


def test_the_tasks_says_what_is_missing(tmp_path: Path, gcc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = Code().missing()
    assert missing is not None
    assert "rustc is missing" in missing
    example = Code().examples("train", 1)[0]
    verdict = Code(sandbox="limits_only").score(example.truth, Code().demonstration(example))
    assert verdict.reward is None
    assert verdict.error is not None
    assert "rustc is missing" in verdict.error


def test_the_system_rustc_needs_nothing_more_to_be_readable(
    gcc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _executable(tmp_path / "rustc", "echo /usr")
    monkeypatch.setattr(code_toolchains.os, "access", lambda path, _mode: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_toolchain("rust")
    assert (found.program, found.readable) == ("/usr/bin/rustc", ())


def test_compilers_get_room_and_the_programs_limits_of_time(
    gcc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysroot = _toolchain(tmp_path / "stable")
    _executable(tmp_path / "rustc", f"echo {sysroot}")
    monkeypatch.setenv("PATH", str(tmp_path))
    limits = Limits(cpu_seconds=3, wall_seconds=4, memory_mb=700)
    sandbox = Recording(collected={"program": b"ELF"})
    built = build(find_toolchain("rust"), "fn main() {}", sandbox, limits)
    check_rust(find_toolchain("rust"), "fn f() {}", sandbox, limits)
    for command, given in sandbox.asked:
        assert command[0] == f"{sysroot}/bin/rustc"
        assert "--edition=2021" in command
        assert given["readable"] == (str(sysroot),)
        used = given["limits"]
        assert isinstance(used, Limits)
        assert (used.cpu_seconds, used.wall_seconds, used.memory_mb) == (3, 4, 700)
        assert used.output_kb >= 4096
    assert sandbox.asked[0][1]["files"] == {"solution.rs": b"fn main() {}"}
    run(find_toolchain("rust"), built, b"1\n", sandbox, limits)
    command, given = sandbox.asked[2]
    assert command == ["./program"]
    assert given == {
        "files": {"program": b"ELF"},
        "stdin": b"1\n",
        "limits": limits,
    }  # the toolchain is not there


def test_a_compiler_that_fails_leaves_no_program(gcc: str) -> None:
    sandbox = Recording(exit_code=1, collected={"program": b"half of it"})
    built = build(find_toolchain("c"), "int", sandbox, Limits())
    assert built.files == {}
    assert built.outcome is not None


def test_python_runs_as_it_is(gcc: str) -> None:
    sandbox, toolchain = Recording(), find_toolchain("python")
    built = build(toolchain, "print('\udc80')", sandbox, Limits())
    assert built.files == {SOURCES["python"]: b"print('?')"}
    assert sandbox.asked == []
    run(toolchain, built, b"", sandbox, Limits())
    assert sandbox.asked[0][0] == [toolchain.program, "-I", "-S", "solution.py"]


@pytest.mark.parametrize("rustc", RUST_COMPILERS)
def test_every_rustc_of_this_machine_works_in_the_sandbox(
    rustc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which(rustc)
    if found:
        monkeypatch.setenv("PATH", f"{os.path.dirname(found)}:/usr/bin:/bin")
    task = need(Code(problems="templates"))
    example = task.examples("train", 1)[0]
    assert task.score(example.truth, task.demonstration(example)).success
    graded = Code(problems="templates", reward="components")
    assert graded.score(example.truth, task.demonstration(example)).success
    verdict = graded.score(example.truth, 'fn f() -> i64 { "text" }')
    assert verdict.components["errors"] == -4.0  # the error and rustc's "aborting due to …"
