"""Where and with what a run was made: versions, code, machine."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from maxrl.engine import available_cores, choose_threads
from maxrl.evaluation.files import atomic_text, read_mapping

ENVIRONMENT_FILE = "environment.json"
UNKNOWN = "unknown"

LIBRARIES = ("maxrl", "torch", "transformers", "trl", "peft", "datasets", "accelerate")


def describe_environment() -> dict[str, str]:
    """Library versions, Python, the commit of the code (and whether it was changed since), the machine's class."""
    facts = {"python": platform.python_version()}
    facts.update({name: installed_version(name) or "not installed" for name in LIBRARIES})
    facts["code"] = code_version()
    facts["machine"] = machine_class()
    facts["threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        facts["cuda"] = str(torch.version.cuda or torch.version.hip)
        facts["driver"] = _driver() or UNKNOWN
    return facts


def device_name(device: torch.device) -> str:
    """What a run computes on: `cpu`, or the accelerator's kind and model."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


_DRIVER_FILE = Path("/proc/driver/nvidia/version")


def _driver() -> str | None:
    """Version of NVIDIA's driver; None where the system does not say."""
    if not _DRIVER_FILE.is_file():
        return None
    found = re.search(r"\s(\d+(?:\.\d+)+)\s", _DRIVER_FILE.read_text())
    return found[1] if found else None


def write_environment(folder: Path, facts: dict[str, str]) -> None:
    """Record in a run's folder where and with what it is made: `describe_environment()`, and `facts` of the run."""
    with atomic_text(folder / ENVIRONMENT_FILE) as sink:
        json.dump({**describe_environment(), **facts}, sink, indent=2)


def read_environment(folder: Path) -> dict[str, str]:
    """What a run recorded; nothing where it has not come so far.

    Raises:
        InputError: the record is damaged.
    """
    remedy = "remove it: the run is then shown without, and a resumed one writes it anew"
    return read_mapping(folder / ENVIRONMENT_FILE, remedy=remedy) or {}


def runs_environment(folders: Iterable[Path]) -> dict[str, str]:
    """What several runs recorded, every value where they differ; this process's where none of them came so far."""
    records = [record for record in map(read_environment, folders) if record]
    names = dict.fromkeys(name for record in records for name in record)
    return {
        name: " or ".join(dict.fromkeys(record[name] for record in records if name in record))
        for name in names
    } or describe_environment()


@contextmanager
def computing_on(threads: int) -> Generator[None]:
    """That many threads of torch's, here; outside as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settle_threads(asked: int | None, folder: Path | None = None) -> str | None:
    """Set the threads of this process, and say what was chosen.

    What was asked for wins, then `OMP_NUM_THREADS`, then what the run in `folder` was started with, since a sum over two
    threads is rounded otherwise than over one and a resumed run would leave its path. Else one or all, as measured.

    Args:
        asked: number of threads; None leaves the choice to the rest.
        folder: of a run to be resumed.
    """
    if asked is not None:
        torch.set_num_threads(asked)
        return None
    if "OMP_NUM_THREADS" in os.environ or available_cores() == 1 or torch.accelerator.is_available():
        return None
    cores = available_cores()
    recorded = int(read_environment(folder).get("threads", 0)) if folder else 0
    if 0 < recorded <= cores:
        torch.set_num_threads(recorded)
        return f"computing on {recorded} of {cores} cores, as the run was started"
    threads = choose_threads(cores)
    torch.set_num_threads(threads)
    told = "--cpu_threads decides"
    if recorded:
        told = f"the run was started on {recorded}, so that it goes on with other rounding"
    return f"computing on {threads} of {cores} cores, the faster as measured; {told}"


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def code_version() -> str:
    """The commit this package runs from, with `+changes` where the folder differs; the release where there is none.

    `unknown` where git is missing, takes too long, or fails: that is no release.
    """
    try:
        # An installed wheel may lie inside somebody else's repository: the commit counts only where we are tracked.
        if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
            return f"release {installed_version('maxrl')}"
        commit, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    if commit is None or changes is None:
        return UNKNOWN
    return f"{commit}+changes" if changes else commit


def _git(*words: str) -> str | None:
    """What git prints in this folder; None where it refuses."""
    answer = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), *words],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else None


def machine_class() -> str:
    """What the machine can do, without naming it."""
    parts = [f"{platform.system()} {platform.machine()}", f"{available_cores()} cores"]
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    return ", ".join(parts)
