"""Where and with what a run was made: versions, code, machine."""

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from maxrl.engine import choose_threads
from maxrl.errors import InputError

LIBRARIES = ("maxrl", "torch", "transformers", "trl", "peft", "datasets", "accelerate")


def describe_environment() -> dict[str, str]:
    """Library versions, Python, the commit of the code (and whether it was changed since), the machine's class."""
    facts = {"python": platform.python_version()}
    facts.update({name: installed_version(name) or "not installed" for name in LIBRARIES})
    facts["code"] = code_version()
    facts["machine"] = machine_class()
    facts["threads"] = str(torch.get_num_threads())
    return facts


def settle_threads(asked: int | None, folder: Path | None = None) -> str | None:
    """Set the threads of this process, and say what was chosen.

    What was asked for wins, then `OMP_NUM_THREADS`, then what the run in `folder` was started with, since a sum over two
    threads is rounded otherwise than over one and a resumed run would leave its path. Else one or all, as measured.

    Args:
        asked: number of threads; None leaves the choice to the rest.
        folder: of a run to be resumed.

    Raises:
        InputError: fewer than one.
    """
    if asked is not None:
        if asked < 1:
            raise InputError(f"cpu_threads must be at least 1, but is {asked}")
        torch.set_num_threads(asked)
        return None
    if "OMP_NUM_THREADS" in os.environ or available_cores() == 1 or torch.accelerator.is_available():
        return None
    record = folder / "environment.json" if folder else None
    if record is not None and record.is_file():
        recorded = json.loads(record.read_text()).get("threads")
        if recorded is not None:
            torch.set_num_threads(int(recorded))
            return f"computing on {recorded} of {available_cores()} cores, as the run was started"
    threads = choose_threads(available_cores())
    torch.set_num_threads(threads)
    return (
        f"computing on {threads} of {available_cores()} cores, the faster as measured; --cpu_threads decides"
    )


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def code_version() -> str:
    """The commit this package runs from, with `+changes` where the folder differs; the release where there is none."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    # An installed wheel may lie inside somebody else's repository: the commit counts only where we are tracked.
    if not git("ls-files", "--error-unmatch", str(Path(__file__).name)):
        return f"release {installed_version('maxrl')}"
    return f"{git('rev-parse', '--short=12', 'HEAD')}{'+changes' if git('status', '--porcelain', '--', '.') else ''}"


def available_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_class() -> str:
    """What the machine can do, without naming it."""
    parts = [f"{platform.system()} {platform.machine()}", f"{available_cores()} cores"]
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    return ", ".join(parts)
