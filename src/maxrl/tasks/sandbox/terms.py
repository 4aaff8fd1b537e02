"""What goes into a sandbox and what comes out: the words that its two modes and their callers share."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal

from maxrl.errors import InputError, MaxRLError

Status = Literal["exited", "signalled", "cpu time", "wall time", "memory", "processes", "output"]
"""How a program ended: by itself (`exited`, `signalled`), or because it used more of something than it may."""

_OWN = ("/proc", "/dev", "/tmp", "/tmp/work")
_PAGE = 4096


class SandboxError(MaxRLError):
    """The sandbox itself failed. Says nothing about the program that should have run in it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one call may use. A megabyte is 2²⁰ bytes, a kilobyte 2¹⁰."""

    cpu_seconds: float = 5.0
    """CPU time of all its processes together; beyond it they are killed (`cpu time`)."""
    wall_seconds: float = 10.0
    """Time on the clock, from the program's start; beyond it everything is killed (`wall time`)."""
    memory_mb: int = 1024
    """Memory. One process: address space, exactly; beyond it allocations fail. All together: what is resident
    or swapped out, and in isolation a kilobyte for each file, looked at 40 times a second; beyond it they are killed
    (`memory`). rustc needs 512."""
    processes: int = 64
    """Processes and threads at one time. Beyond it none can be started; without isolation (`limits_only`) processes
    alone are counted, 40 times a second, and beyond it they are killed (`processes`)."""
    file_mb: int = 16
    """The largest file; beyond it a write ends the writer with SIGXFSZ. Also the most that is collected of one."""
    disk_mb: int = 64
    """All files together; beyond it writes fail. Without isolation only those given are held to it."""
    output_kb: int = 64
    """Standard output and error together; beyond it everything is killed (`output`) and what came before is kept."""

    def __post_init__(self) -> None:
        for name in (limit.name for limit in fields(self)):
            value: Any = getattr(self, name)
            kind, called = (int | float, "number") if name.endswith("_seconds") else (int, "whole number")
            if isinstance(value, bool) or not isinstance(value, kind) or not isfinite(value) or value <= 0:
                raise InputError(f"the sandbox's limit {name} must be a {called} above 0, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended, and what it left."""

    status: Status
    exit_code: int | None = None
    """Set when `exited`. 127: the command was not found; 126: it could not be executed."""
    signal: int | None = None
    """Set when `signalled`. As in a shell, exit codes above 128 stand for signals and are read as such."""
    stdout: bytes
    stderr: bytes
    seconds: float
    """On the clock, from the program's start to its end."""
    collected: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """The files asked for that are there: regular, reached through no link, no larger than `file_mb`."""

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with exit code 0."""
        return self.status == "exited" and self.exit_code == 0


def check_arguments(
    command: Sequence[str], files: Mapping[str, bytes], collect: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Raises InputError unless all of it can be handed to a program."""
    if isinstance(command, str) or not command or any("\0" in word for word in command):
        raise InputError(f"a command must be a list of at least one string, without NUL; got {command!r}")
    for name in (*files, *collect):
        parts = name.split("/")
        if not all(parts) or "\0" in name or not {".", ".."}.isdisjoint(parts):
            raise InputError(
                f"a file of the working folder needs a plain relative name, like 'src/main.rs'; got {name!r}"
            )
        folders = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if name in files and (taken := next(filter(files.__contains__, folders), None)):
            raise InputError(f"'{taken}' cannot be a file and the folder of '{name}'")
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise InputError(f"no environment variable can be named {name!r} and hold {value!r}")


def check_room(files: Mapping[str, bytes], limits: Limits) -> None:
    """Raises InputError unless the files fit in `disk_mb`."""
    # Every file fills its last page; 16 pages for the folders.
    needed = sum(-(-len(content) // _PAGE) for content in files.values()) * _PAGE + 16 * _PAGE
    if needed > limits.disk_mb << 20:
        raise InputError(f"files of {needed} bytes do not fit in disk_mb={limits.disk_mb}; raise the limit")


def checked_readable(path: str) -> str:
    """The path without detours. Raises InputError unless it can be shown to a program."""
    if not os.path.isabs(path) or not os.path.exists(path):
        raise InputError(f"a readable path must be absolute and exist; got {path!r}")
    path = os.path.normpath(path)
    if path in ("/", *_OWN) or path.startswith(("/proc/", "/dev/", "/tmp/work/")):
        raise InputError(
            f"{path} cannot be made readable: the sandbox has its own; name what is needed below it"
        )
    return path
