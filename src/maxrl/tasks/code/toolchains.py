"""Compilers and interpreters of this machine: found, and used inside a sandbox.

A program is built in one sandbox and run in another, which sees nothing but the program and its standard input.
Before tools judge anything they prove themselves on code that is known to be right (`check_toolchain`): what else would
look like code that does not compile may be a package that is not installed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from maxrl.errors import InputError
from maxrl.tasks.code.harness import case_input, harness, program, read_results
from maxrl.tasks.code.problems import Language, load_problems
from maxrl.tasks.sandbox import Limits, Outcome, Sandbox

SOURCES = {"rust": "solution.rs", "python": "solution.py", "c": "solution.c"}
PROGRAM = "program"
PACKAGES = {
    "rust": "rustc gcc libc6-dev binutils",
    "python": "python3",
    "c": "gcc libc6-dev binutils",
}
"""Debian's packages that a language takes. gcc comes without the last two where recommended packages are left out."""

NO_CODE = "no code"
TOO_LONG = "too long"
NOT_COMPILED = "does not compile"
COMPILER_STOPPED = "takes too much to compile"
WRONG = "wrong result"
CRASHED = "crashed"
OUT_OF_TIME = "ran out of time"
OUT_OF_MEMORY = "out of memory"
TOO_MUCH_OUTPUT = "too much output"
REASONS = (
    NO_CODE,
    TOO_LONG,
    NOT_COMPILED,
    COMPILER_STOPPED,
    WRONG,
    CRASHED,
    OUT_OF_TIME,
    OUT_OF_MEMORY,
    TOO_MUCH_OUTPUT,
)
"""Every reason a completion can be refused for."""

_ENDINGS = {
    "cpu time": OUT_OF_TIME,
    "wall time": OUT_OF_TIME,
    "memory": OUT_OF_MEMORY,
    "output": TOO_MUCH_OUTPUT,
}
# With less the tools themselves fail, and all code would seem wrong.
LEAST_MEMORY: Mapping[Language, int] = {"rust": 512, "python": 64, "c": 128}

# What the system brings, and what a sandbox shows without being asked: not a virtual environment's Python.
_SYSTEM_PATH = "/usr/bin:/bin:/usr/local/bin"
_ASK_SECONDS = 60
# No debugging information, one unit of code: half the time of the defaults. Static, so that it runs anywhere.
_RUST_PROGRAM = ("-C", "debuginfo=0", "-C", "strip=symbols", "-C", "codegen-units=1")
_RUST_LIBRARY = ("--crate-type=lib", "--emit=metadata", "--error-format=json", "--edition=2021")
_C_PROGRAM = ("-std=c17", "-O1", "-w")
_C_HARNESS = "harness.c", "harness.o"


class ToolchainError(InputError):
    """A compiler or an interpreter is missing, or does not work. Says nothing about any code."""


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
        ToolchainError: something is missing; the message names the Debian package.
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
        raise ToolchainError(
            f"{name} is missing; install the package {package} (Debian: apt install {package})"
        )
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
    raise ToolchainError(f"rustc is missing; install the package rustc (Debian: apt install rustc){without}")


def _on_path(name: str, path: str) -> Iterator[str]:
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder, name)
        if os.path.isabs(candidate) and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            yield candidate


# Once per process and kind of sandbox. Failures are not kept: it may have been the machine's bad moment.
_proven: set[tuple[Toolchain, str, Limits]] = set()
_harness_objects: dict[tuple[Toolchain, str, Limits, str], bytes] = {}


def check_toolchain(toolchain: Toolchain, sandbox: Sandbox, limits: Limits) -> None:
    """Proves that the tools make a program that runs within the limits and gives the right results, once per process.

    Raises:
        ToolchainError: they do not; the message names the Debian packages.
        SandboxError: the sandbox failed.
    """
    key = toolchain, sandbox.name, limits
    if key in _proven:
        return
    problem, language = load_problems()[0], toolchain.language
    units = program(problem, language, problem.solutions[language]), harness(problem, language)
    built = build(toolchain, units[0], sandbox, limits, harness=units[1])
    if not built.files:
        raise _broken(toolchain, built.outcome)
    outcome = run(toolchain, built, case_input(problem), sandbox, limits)
    if not outcome.ok or read_results(problem, outcome.stdout) < len(problem.tests):
        raise _broken(toolchain, outcome)
    _proven.add(key)


def _broken(toolchain: Toolchain, outcome: Outcome | None) -> ToolchainError:
    assert outcome is not None, "without a compiler there is always a program"
    lines = outcome.stderr.decode(errors="replace").strip().splitlines()
    # The first error is the cause; what comes before may be a warning.
    said = [line for line in lines if "error" in line] or lines[-1:] or [outcome.status]
    packages = PACKAGES[toolchain.language]
    return ToolchainError(
        f"{toolchain.program} makes no program that works, not even of a right solution ({said[0][:300]}); install what is "
        f"missing of the packages {packages} (Debian: apt install {packages}), or raise the limits"
    )


def build(toolchain: Toolchain, source: str, sandbox: Sandbox, limits: Limits, *, harness: str = "") -> Build:
    """Compiles a whole program; of Python, which is compiled as it runs, the source is the program.

    A program is at most half as large as what fits in the sandbox that runs it: a larger one is none.

    Args:
        harness: for C, the program's other unit.

    Raises:
        ToolchainError: the harness does not compile; it says nothing about the source.
        SandboxError: the sandbox failed; it says nothing about the source.
    """
    data = source.encode("utf-8", "replace")
    name = SOURCES[toolchain.language]
    if toolchain.language == "python":
        return Build(outcome=None, files={name: data})
    sources = {name: data}
    if toolchain.language == "rust":
        options = ["--edition=2021", *_RUST_PROGRAM, "-C", f"linker={toolchain.linker}", "-o", PROGRAM, name]
    else:
        compiled = _C_HARNESS[1]
        sources[compiled] = _harness_object(toolchain, harness, sandbox, limits)
        options = [*_C_PROGRAM, "-o", PROGRAM, name, compiled, "-lm"]
    outcome = _compile(toolchain, options, sources, sandbox, limits, collect=[PROGRAM])
    return Build(outcome=outcome, files=dict(outcome.collected) if outcome.ok else {})


def _harness_object(toolchain: Toolchain, source: str, sandbox: Sandbox, limits: Limits) -> bytes:
    """The compiled harness: one per kind of function, that is types of parameters and result."""
    key = toolchain, sandbox.name, limits, source
    if key in _harness_objects:
        return _harness_objects[key]
    name, compiled = _C_HARNESS
    options = [*_C_PROGRAM, "-c", "-o", compiled, name]
    outcome = _compile(toolchain, options, {name: source.encode()}, sandbox, limits, collect=[compiled])
    if not outcome.ok or compiled not in outcome.collected:
        raise _broken(toolchain, outcome)
    _harness_objects[key] = outcome.collected[compiled]
    return _harness_objects[key]


def _compile(
    toolchain: Toolchain,
    options: Sequence[str],
    sources: Mapping[str, bytes],
    sandbox: Sandbox,
    limits: Limits,
    *,
    collect: Sequence[str] = (),
) -> Outcome:
    return sandbox.run(
        [toolchain.program, *options],
        files=sources,
        limits=_for_compilers(limits),
        readable=toolchain.readable,
        collect=collect,
    )


def check_rust(toolchain: Toolchain, code: str, sandbox: Sandbox, limits: Limits) -> Outcome:
    """Checks Rust code as a library, without making a program of it; messages stand on standard error as JSON.

    Raises:
        SandboxError: the sandbox failed; it says nothing about the code.
    """
    name = SOURCES["rust"]
    options = [*_RUST_LIBRARY, "-o", "solution.rmeta", name]
    return _compile(toolchain, options, {name: code.encode("utf-8", "replace")}, sandbox, limits)


def run(toolchain: Toolchain, built: Build, stdin: bytes, sandbox: Sandbox, limits: Limits) -> Outcome:
    """Runs what `build` made, in a sandbox of its own.

    Raises:
        SandboxError: the sandbox failed; it says nothing about the program.
    """
    python = [toolchain.program, "-I", "-S", SOURCES["python"]]
    command = python if toolchain.language == "python" else [f"./{PROGRAM}"]
    return sandbox.run(command, files=built.files, stdin=stdin, limits=limits)


def _for_compilers(limits: Limits) -> Limits:
    """Room for programs and for many messages; time and memory as for the program itself.

    Half of what the sandbox holds that is to run the program: one that does not fit there would be an error of the
    verifier, and a way out of the group.
    """
    return replace(limits, file_mb=max(1, limits.disk_mb // 2), disk_mb=256, output_kb=4096)


def compiler_reason(outcome: Outcome | None) -> str:
    """Why there is no program."""
    stopped = outcome is not None and outcome.status in _ENDINGS
    return COMPILER_STOPPED if stopped else NOT_COMPILED


def ending(outcome: Outcome, language: Language) -> str:
    """Why a program did not end well."""
    if outcome.status == "exited" and language == "python":
        # Python compiles as it runs. A program may say this itself; it is refused all the same.
        last = outcome.stderr.rstrip().rpartition(b"\n")[2]
        if last.startswith((b"SyntaxError:", b"IndentationError:", b"TabError:")):
            return NOT_COMPILED
    return _ENDINGS.get(outcome.status, CRASHED)
