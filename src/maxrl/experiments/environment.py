"""Where and with what a run was made: versions, code, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("maxrl", "torch", "transformers", "trl", "peft", "datasets", "accelerate")


def describe_environment() -> dict[str, str]:
    """Library versions, Python, the commit of the code (and whether it was changed since), the machine's class."""
    facts = {"python": platform.python_version()}
    facts.update({name: installed_version(name) or "not installed" for name in LIBRARIES})
    facts["code"] = code_version()
    facts["machine"] = machine_class()
    return facts


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
