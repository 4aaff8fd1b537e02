"""Compiles and runs programs of the code task with the plain tools of the machine.

For code of our own only: there is no sandbox here.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from maxrl.tasks.code.harness import case_input, harness, program, read_results
from maxrl.tasks.code.problems import Case, Language, Problem


def _compilers_of_rust() -> tuple[str, ...]:
    """Every rustc in the usual places: rustup's may shadow Debian's, which is far older. `rustc` where there is none."""
    places = ("rustc", "/usr/bin/rustc", str(Path.home() / ".cargo/bin/rustc"))
    found = {os.path.realpath(path): path for path in map(shutil.which, places) if path}
    return tuple(found.values()) or ("rustc",)


RUST_COMPILERS = _compilers_of_rust()
TOOLS: tuple[tuple[Language, str], ...] = (
    ("python", sys.executable),
    ("c", "gcc"),
    *(("rust", compiler) for compiler in RUST_COMPILERS),
)
TOOL: dict[Language, str] = dict(reversed(TOOLS))
"""One per language, where the compiler's version does not matter."""

Parameters = tuple[tuple[str, str], ...]
"""Name and type of each."""
Codes = Mapping[str, tuple[Problem, str]]
"""A problem and a solution of it, per name (of letters and underscores)."""
Programs = Mapping[str, list[str]]
"""The command that runs each."""


def find(language: Language, tool: str) -> str:
    """The tool, if it is there: else the test is skipped, or fails in CI or with MAXRL_REQUIRE_TOOLS=1."""
    packages = {tool: "rustc", "cc": "gcc"} if language == "rust" else {tool: "gcc"}  # rustc links with cc
    for name, package in packages.items():
        if shutil.which(name) is None:
            message = f"{name} is missing; on Debian the package '{package}' brings it"
            if os.environ.get("CI") or os.environ.get("MAXRL_REQUIRE_TOOLS") == "1":
                pytest.fail(message)
            pytest.skip(message)
    return tool


def build(language: Language, tool: str, codes: Codes, folder: Path) -> tuple[Programs, str]:
    """Programs of all codes, and what the compiler said."""
    path = find(language, tool)
    if language == "rust":
        return _build_rust(path, codes, folder)
    programs: dict[str, list[str]] = {}
    said = ""
    for name, (problem, code) in codes.items():
        source = folder / f"{name}.{'c' if language == 'c' else 'py'}"
        source.write_text(program(problem, language, code))
        if language == "python":
            programs[name] = [path, "-I", "-S", str(source)]
        else:
            binary, other = str(folder / name), folder / f"{name}_harness.c"
            other.write_text(harness(problem, language))
            units = str(source), str(other)
            said += _compile(path, "-std=c11", "-Wall", "-Wextra", "-pedantic", "-o", binary, *units)
            programs[name] = [binary]
    return programs, said


def _build_rust(rustc: str, codes: Codes, folder: Path) -> tuple[Programs, str]:
    """One crate, each program in a module of its own: linking costs more than compiling."""
    source, binary = folder / "all.rs", str(folder / "all")
    modules = [
        f"mod {name} {{\n{program(problem, 'rust', code)}\n}}\n" for name, (problem, code) in codes.items()
    ]
    arms = "".join(f'"{name}" => {name}::main(),\n' for name in codes)
    main = f"fn main() {{ match std::env::args().nth(1).unwrap().as_str() {{\n{arms}_ => panic!() }} }}\n"
    source.write_text("".join([*modules, main]))
    said = _compile(rustc, "--edition=2021", "-Cdebuginfo=0", "-o", binary, str(source))
    return {name: [binary, name] for name in codes}, said


def _compile(*command: str) -> str:
    """What the compiler said: nothing, or warnings. Errors fail the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} fails:\n{done.stderr}")
    return done.stderr


def output(command: list[str], problem: Problem) -> bytes:
    """What the program prints on the problem's cases."""
    return subprocess.run(command, input=case_input(problem), capture_output=True, timeout=120).stdout


def right(command: list[str], problem: Problem) -> int:
    """How many of the problem's cases the program gets right."""
    return read_results(problem, output(command, problem))


def problem_of(parameters: Parameters, returns: str, tests: tuple[Case, ...]) -> Problem:
    """A problem whose function is `solve`, with what matters to the harness."""
    return Problem(
        id="solve",
        level="easy",
        statement="Solve.",
        function="solve",
        parameters=parameters,
        returns=returns,
        tests=tests,
        solutions={},
        wrong={},
    )


DOUBLE = problem_of(
    (("n", "int"),), "int", tuple(Case(arguments=(n,), expected=2 * n) for n in (1, 0, -4, 50))
)
EVEN = problem_of(
    (("n", "int"),), "bool", tuple(Case(arguments=(n,), expected=n % 2 == 0) for n in (1, 0, -4, 5))
)
COPY = problem_of(
    (("xs", "list[int]"),), "list[int]", tuple(Case(arguments=(x,), expected=x) for x in ((), (0, 0), (5,)))
)
ECHO = problem_of(
    (("text", "str"),), "str", tuple(Case(arguments=(x,), expected=x) for x in ("", "a\\n", "?"))
)
