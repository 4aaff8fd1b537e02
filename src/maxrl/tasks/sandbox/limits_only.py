"""The weaker mode: limits, and nothing between the program and the machine.

What it covers, and what not, stands in `maxrl.tasks.sandbox`.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen, run

from maxrl.tasks.sandbox.base import Sandbox
from maxrl.tasks.sandbox.supervisor import Ready, limited, started, usage
from maxrl.tasks.sandbox.terms import Limits, SandboxError

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
_KILLING_SECONDS = 5.0


class LimitsOnly(Sandbox):
    """Runs programs under limits, without isolation."""

    name = "limits_only"

    @contextmanager
    def _begun(
        self,
        command: Sequence[str],
        files: Mapping[str, bytes],
        limits: Limits,
        readable: Sequence[str],
        environment: Mapping[str, str],
    ) -> Generator[Ready, None, None]:
        arguments = limited(shutil.which("prlimit") or "prlimit", limits, command, count_processes=False)
        with _private_folder() as private:
            work = private / "work"
            for name, content in files.items():
                file = work / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(0o755)
            own = _ENVIRONMENT | {"HOME": f"{private}/tmp", "TMPDIR": f"{private}/tmp"} | dict(environment)
            with (
                started(arguments, environment=own, folder=str(work)) as process,
                _taken_in_hand(process, work) as ready,
            ):
                yield ready


def unavailable() -> str | None:
    """Why limits cannot be set here, or None."""
    if sys.platform != "linux":
        return "needs Linux"
    return None if shutil.which("prlimit") else "prlimit is missing; install the package util-linux"


@contextmanager
def _private_folder() -> Generator[Path, None, None]:
    folder = Path(tempfile.mkdtemp(prefix="maxrl-sandbox-"))
    try:
        (folder / "work").mkdir()
        (folder / "tmp").mkdir()
        yield folder
    finally:
        # Programs, and not shutil: a judged program can nest folders deeper than Python's stack, and lock them.
        for tool in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            run([*tool, "--", str(folder)], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, check=False)
    if folder.exists():
        raise SandboxError(f"the program's folder {folder} cannot be removed; something of it still runs")


@contextmanager
def _taken_in_hand(process: Popen[bytes], work: Path) -> Generator[Ready, None, None]:
    folder = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        session = process.pid
        yield Ready(
            process=process,
            folder=folder,
            proc=proc,
            session=session,
            kill=lambda: kill_session(proc, session),
        )
    finally:
        os.close(folder)
        os.close(proc)


def kill_session(proc: int, session: int) -> None:
    """Kills every process of the session; gives up on one that multiplies faster than it is killed."""
    # The group first, at one stroke: nothing in it can start another in the meantime.
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)
    deadline = time.monotonic() + _KILLING_SECONDS
    while (alive := usage(proc, session).processes) and time.monotonic() < deadline:
        for process in alive:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
