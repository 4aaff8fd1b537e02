"""Files that appear under their name only when they are complete, and are named where they are damaged all the same."""

import contextlib
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import psutil

from maxrl.errors import InputError

ABANDONED = 3600.0
"""Seconds after which a partial file of a process that cannot be seen from here counts as left behind."""


def this_machine() -> str:
    """What tells machines, and containers on one of them, apart without naming them."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not on Linux
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:12]


@contextmanager
def atomic_text(path: Path, *, durable: bool = True) -> Generator[TextIO, None, None]:
    """Open a text file for writing; it replaces `path` when the block ends without an error.

    Missing folders are made. A process killed in between leaves the old file, and a `….partial` beside it, whose name is no
    other writer's; `remove_stale_partials` knows which of them nobody writes any more. An error in the block removes it.

    Args:
        path: what is replaced.
        durable: whether the file is on the disk, under its name, when this returns, so that it outlives a power cut: some
            milliseconds on most disks. Without, a crash of the machine may bring the old file back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{this_machine()}-{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("w", encoding="utf-8") as sink:
            yield sink
            if durable:
                sink.flush()
                os.fsync(sink.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def read_mapping(path: Path, *, remedy: str) -> dict[str, Any] | None:
    """What a JSON file holds; None where there is no such file.

    Args:
        path: of the file.
        remedy: what to do about a damaged one, for the message.

    Raises:
        InputError: it is no JSON, or other JSON than an object.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (no JSON object); {remedy}")
    return cast("dict[str, Any]", content)


def sync_file(path: Path) -> None:
    """Wait until what was written to a file is on the disk; nothing where there is no such file."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def remove_stale_partials(folder: Path) -> None:
    """Remove the partial files right in a folder whose writers are gone."""
    for path in folder.glob("*.partial"):
        if _abandoned(path):
            path.unlink(missing_ok=True)


def _abandoned(partial: Path) -> bool:
    try:
        written = partial.stat().st_mtime
    except FileNotFoundError:  # finished meanwhile
        return False
    machine, _, rest = partial.name.removesuffix(".partial").rpartition(".")[2].partition("-")
    pid = rest.partition("-")[0]
    if machine != this_machine() or not pid.isdigit():  # of another machine with a shared disk
        return time.time() - written > ABANDONED
    try:
        # A number that is given out again belongs to a process that was started after the file was written.
        return psutil.Process(int(pid)).create_time() > written + 1.0
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; the file itself is on the disk by now.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
