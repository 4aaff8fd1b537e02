"""Compilers and interpreters of this machine: found, and used inside a sandbox.

A program is built in one sandbox and run in another, which sees nothing but the program and its standard input.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from maxrl.errors import InputError
from maxrl.tasks.code_problems import Language
from maxrl.tasks.sandbox import Limits, Outcome, Sandbox

SOURCES = {"rust": "solution.rs", "python": "solution.py", "c": "solution.c"}
PROGRAM = "program"

# What the system brings, and what a sandbox shows without being asked: not a virtual environment's Python.
_SYSTEM_PATH = "/usr/bin:/bin:/usr/local/bin"
_ASK_SECONDS = 60
# No debugging information, one unit of code: half the time of the defaults. Static, so that it runs anywhere.
_RUST_PROGRAM = ("-C", "debuginfo=0", "-C", "strip=symbols", "-C", "codegen-units=1")
_RUST_LIBRARY = ("--crate-type=lib", "--emit=metadata", "--error-format=json", "--edition=2021")
_C_PROGRAM = ("-std=c17", "-O1", "-w")


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What it takes to build and run programs in a language."""

    language: Language
    program: str
    """The compiler or interpreter, as an absolute path."""
    linker: str = ""
    """What rustc links with."""
    readable: tuple[str, ...] = ()
    """Folders beyond the system's that the sandbox must show for it to work."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """What became of a source."""

    outcome: Outcome | None
    """The compiler's; None where the language has none."""
    files: dict[str, bytes]
    """What running it takes; empty where there is no program."""


def find_toolchain(language: Language) -> Toolchain:
    """The language's tools on this machine.

    rustc is looked for in PATH, past shims of rustup: the compiler itself starts 0.1 s faster, and in the sandbox. gcc and
    python3 are the system's own.

    Raises:
        InputError: something is missing; the message names the Debian package.
    """
    if language == "python":
        return Toolchain(language=language, program=_system_tool("python3", "python3"))
    gcc = _system_tool("gcc", "gcc")
    if language == "c":
        return Toolchain(language=language, program=gcc)
    sysroot = _rust_sysroot(os.environ.get("PATH", os.defpath))
    return Toolchain(
        language=language,
        program=f"{sysroot}/bin/rustc",
        linker=gcc,
        readable=() if f"{sysroot}/".startswith("/usr/") else (sysroot,),
    )


def _system_tool(name: str, package: str) -> str:
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise InputError(f"{name} is missing; install the package {package} (Debian: apt install {package})")
    return found


@cache
def _rust_sysroot(path: str) -> str:
    tried = list[str]()
    for rustc in _on_path("rustc", path):
        tried.append(rustc)
        try:
            # A shim asks rustup for its default toolchain, which need not be there, nor readable for this user.
            asked = subprocess.run(
                [rustc, "--print", "sysroot"], capture_output=True, cwd="/", timeout=_ASK_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        sysroot = os.fsdecode(asked.stdout).strip()
        if asked.returncode == 0 and os.access(f"{sysroot}/bin/rustc", os.X_OK):
            return sysroot
    without = f" (tried without success: {', '.join(tried)})" if tried else ""
    raise InputError(f"rustc is missing; install the package rustc (Debian: apt install rustc){without}")


def _on_path(name: str, path: str) -> Iterator[str]:
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder, name)
        if os.path.isabs(candidate) and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            yield candidate


def build(toolchain: Toolchain, source: str, sandbox: Sandbox, limits: Limits) -> Build:
    """Compiles a whole program; of Python, which is compiled as it runs, the source is the program.

    Raises:
        SandboxError: the sandbox failed; it says nothing about the source.
    """
    data = source.encode("utf-8", "replace")
    name = SOURCES[toolchain.language]
    if toolchain.language == "python":
        return Build(outcome=None, files={name: data})
    if toolchain.language == "rust":
        options = ["--edition=2021", *_RUST_PROGRAM, "-C", f"linker={toolchain.linker}", "-o", PROGRAM, name]
    else:
        options = [*_C_PROGRAM, "-o", PROGRAM, name, "-lm"]
    outcome = sandbox.run(
        [toolchain.program, *options],
        files={name: data},
        limits=_for_compilers(limits),
        readable=toolchain.readable,
        collect=[PROGRAM],
    )
    return Build(outcome=outcome, files=dict(outcome.collected) if outcome.ok else {})


def check_rust(toolchain: Toolchain, code: str, sandbox: Sandbox, limits: Limits) -> Outcome:
    """Checks Rust code as a library, without making a program of it; messages stand on standard error as JSON.

    Raises:
        SandboxError: the sandbox failed; it says nothing about the code.
    """
    name = SOURCES["rust"]
    return sandbox.run(
        [toolchain.program, *_RUST_LIBRARY, "-o", "solution.rmeta", name],
        files={name: code.encode("utf-8", "replace")},
        limits=_for_compilers(limits),
        readable=toolchain.readable,
    )


def run(toolchain: Toolchain, built: Build, stdin: bytes, sandbox: Sandbox, limits: Limits) -> Outcome:
    """Runs what `build` made, in a sandbox of its own.

    Raises:
        SandboxError: the sandbox failed; it says nothing about the program.
    """
    python = [toolchain.program, "-I", "-S", SOURCES["python"]]
    command = python if toolchain.language == "python" else [f"./{PROGRAM}"]
    return sandbox.run(command, files=built.files, stdin=stdin, limits=limits)


def _for_compilers(limits: Limits) -> Limits:
    """Room for programs and for many messages; time and memory as for the program itself."""
    return replace(limits, file_mb=64, disk_mb=256, output_kb=4096)
