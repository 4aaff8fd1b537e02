"""Which process makes a run: recorded in the run's folder, so that others can see whether it is at work.

A file lock would be simpler, but not every shared file system has one, and it would not say which process to end.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from maxrl.evaluation.files import atomic_text, this_machine

PROCESS_FILE = "process.json"

RECENT = 600.0
"""Seconds for which files that changed on another machine let a run there count as running."""


@dataclass(frozen=True, kw_only=True)
class RunProcess:
    """A process that makes a run, or made it: a number alone may be another process by now."""

    pid: int
    created: float
    """Seconds since 1970 at which the process was started, as the operating system has it."""
    machine: str
    """Checksum of the machine's name and of the process namespace; no name."""

    @classmethod
    def this(cls) -> "RunProcess":
        """The process that calls."""
        pid = os.getpid()
        return cls(pid=pid, created=psutil.Process(pid).create_time(), machine=this_machine())

    @property
    def here(self) -> bool:
        """Whether it is of this machine, so that `alive` can be known."""
        return self.machine == this_machine()

    @property
    def alive(self) -> bool:
        """Whether it still runs; False for one of another machine."""
        if not self.here:
            return False
        try:
            process = psutil.Process(self.pid)
            # The clock that start times are computed from may be set meanwhile; a number is not reused within a second.
            same = abs(process.create_time() - self.created) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def record_process(folder: Path) -> None:
    """Note in a run's folder that this process makes it."""
    with atomic_text(folder / PROCESS_FILE) as sink:
        json.dump(asdict(RunProcess.this()), sink)


def recorded_process(folder: Path) -> RunProcess | None:
    """The process that makes a run, or made it; None where none was noted."""
    path = folder / PROCESS_FILE
    try:
        return RunProcess(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def at_work(folder: Path) -> bool:
    """Whether a process makes the run in this folder now.

    Of a process of another machine (a cluster's, with a shared folder) only its files can be seen: it counts as long as one
    of them has changed within `RECENT` seconds.
    """
    process = recorded_process(folder)
    if process is None:
        return False
    if process.here:
        return process.alive
    changes = file_times(folder)
    return bool(changes) and time.time() - max(changes) < RECENT


def file_times(folder: Path) -> list[float]:
    """When each of the files right in a folder changed last, in seconds since 1970."""
    found: list[float] = []
    for path in folder.iterdir():
        # A partial file is gone as soon as it is complete.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append(path.stat().st_mtime)
    return found
