"""Compilers: which one is taken, and what is said where there is none."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.code.programs import RUST_COMPILERS
from tests.tasks.code.tools import need

from maxrl.errors import InputError
from maxrl.tasks.code import Code
from maxrl.tasks.code import toolchains as code_toolchains
from maxrl.tasks.code.problems import LANGUAGES, Language
from maxrl.tasks.code.toolchains import (
    SOURCES,
    Toolchain,
    ToolchainError,
    build,
    check_rust,
    check_toolchain,
    find_toolchain,
    run,
)
from maxrl.tasks.sandbox import Limits, Outcome, make_sandbox


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
        if "harness.c" in command:
            return replace(self.outcome, exit_code=0, collected={"harness.o": b"ELF"})
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
        _executable(tmp_path / "unreadable/rustc", "echo /nowhere/toolchains/stable").parent,
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


def test_a_program_fits_into_the_sandbox_that_runs_it(gcc: str) -> None:
    sandbox, limits = Recording(collected={"program": b"ELF"}), Limits(disk_mb=10)
    build(find_toolchain("c"), "int x;", sandbox, limits)
    used = sandbox.asked[0][1]["limits"]
    assert isinstance(used, Limits)
    assert used.file_mb == 5
    assert used.disk_mb >= 4 * used.file_mb  # object and program, and what linker and assembler keep


def test_a_harness_is_compiled_once_and_its_failure_is_the_compilers(gcc: str) -> None:
    class Counting(Recording):
        name = "counting"
        harnesses = 0

        def run(self, command: list[str], **given: object) -> Outcome:
            self.harnesses += "harness.c" in command
            return super().run(command, **given)

    sandbox, toolchain = Counting(), find_toolchain("c")
    for source in ("int x;", "int y;"):
        build(toolchain, source, sandbox, Limits(), harness="int main(void);")
    assert sandbox.harnesses == 1
    build(toolchain, "int x;", sandbox, Limits(), harness="int main();")
    assert sandbox.harnesses == 2

    class Broken(Recording):
        name = "broken"

        def run(self, command: list[str], **given: object) -> Outcome:
            return replace(self.outcome, stderr=b"in file\nharness.c:1: fatal error: stdio.h: No such file\n")

    with pytest.raises(ToolchainError, match=r"of a right solution \(harness.c:1: fatal error: stdio.h"):
        build(toolchain, "int x;", Broken(exit_code=1), Limits(), harness="int main(void);")


# What Debian's gcc is without the packages that it only recommends, and others of the kind.
BROKEN: dict[str, tuple[Language, str, str, str]] = {
    "no headers": (
        "c",
        "gcc",
        'exec /usr/bin/gcc -nostdinc -isystem $(/usr/bin/gcc -print-file-name=include) "$@"',
        "stdio.h.*libc6-dev",
    ),
    "no linker": (
        "c",
        "gcc",
        'case "$*" in *" -c "*) exec /usr/bin/gcc "$@";; esac; echo "ld: cannot find crt1.o"; exit 1',
        "binutils",
    ),
    "no assembler": ("c", "gcc", "echo \"error: cannot execute 'as'\" >&2; exit 1", "execute 'as'.*binutils"),
    "programs that do not run": (
        "c",
        "gcc",
        'case "$*" in *" -c "*) : >harness.o;; *) printf "#!/bin/sh\\nexit 3" >program; chmod +x program;; esac',
        r"\(exited\).*libc6-dev",
    ),
    "a python of another kind": ("python", "python3", "echo '>>> hello'", r"\(exited\).*apt install python3"),
    "a rustc without its library": (
        "rust",
        "rustc",
        'if [ $1 = --print ]; then dirname $(dirname $0); exit; fi; echo "error[E0463]: no crate \\`std\\`" >&2; exit 1',
        "E0463.*rustc gcc libc6-dev",
    ),
}


@pytest.mark.parametrize(("language", "tool", "script", "message"), BROKEN.values(), ids=BROKEN)
def test_tools_that_do_not_work_are_errors_and_no_zeros(
    language: Language, tool: str, script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(Code(language="c"))
    _executable(tmp_path / "bin" / tool, script)
    monkeypatch.setattr(code_toolchains, "_SYSTEM_PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    rewards = ("binary", "components") if language == "rust" else ("binary",)
    for reward in rewards:
        task = Code(language=language, sandbox="limits_only", reward=reward)  # pyright: ignore[reportArgumentType]
        assert re.search(message, task.missing() or "", re.DOTALL)
        example = task.examples("train", 1)[0]
        for text in (task.demonstration(example), "no code of any kind"):
            verdict = task.score(example.truth, text)
            assert (verdict.success, verdict.reward) == (False, None)
            assert verdict.error == task.missing()


@pytest.mark.parametrize("language", LANGUAGES)
def test_tools_prove_themselves_once(language: Language) -> None:
    toolchain, calls = find_toolchain(need(Code(language=language)).language), list[list[str]]()

    class Counting:
        name = "bubblewrap, counting"

        def run(self, command: list[str], **given: Any) -> Outcome:
            calls.append(command)
            return make_sandbox().run(command, **given)

    check_toolchain(toolchain, Counting(), Limits())
    first = len(calls)
    assert first == {"rust": 2, "python": 1, "c": 3}[language]
    for _ in range(3):
        check_toolchain(toolchain, Counting(), Limits())
    assert len(calls) == first
    check_toolchain(toolchain, Counting(), Limits(memory_mb=1111))
    assert len(calls) == 2 * first


def test_a_bad_moment_is_not_remembered() -> None:
    toolchain, sandbox = Toolchain(language="python", program="/python3"), Recording(exit_code=1)
    for _ in range(2):
        with pytest.raises(ToolchainError, match=r"/python3 makes no program that works, .* \(exited\)"):
            check_toolchain(toolchain, sandbox, Limits())
    assert len(sandbox.asked) == 2


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
