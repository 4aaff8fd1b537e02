"""`maxrl doctor`."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import get_token
from rich.console import Console
from rich.table import Table

from maxrl.engine import available_cores
from maxrl.errors import InputError
from maxrl.experiments.environment import LIBRARIES, code_version, installed_version
from maxrl.training.warm_starts import cache_folder

TESTED = {"trl": "1.16", "transformers": "5.23", "torch": "2.13"}
"""What the tests run with (constraints.txt). The trainer overrides methods of TRL that are no public interface."""

HELP = """\
usage: maxrl doctor

Says what this machine has, and what is missing for what. Secrets are looked for, never shown.
Exit status 1 if something that training needs is missing."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    note: str = ""
    fatal: bool = False


def run(argv: Sequence[str]) -> int:
    """Print the findings."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    if argv:
        raise InputError(f"maxrl doctor takes no options, but got '{argv[0]}'")
    table = Table(show_header=True)
    for title in ("what", "found", "note"):
        table.add_column(title)
    findings = [*_software(), *_hardware(), *_access(), *_programs()]
    for finding in findings:
        table.add_row(finding.what, finding.found, finding.note)
    Console().print(table)
    return 1 if any(finding.fatal for finding in findings) else 0


def _software() -> list[Finding]:
    findings = [Finding("Python", platform.python_version(), "", fatal=sys.version_info < (3, 11))]
    for name in LIBRARIES:
        found = installed_version(name)
        tested = TESTED.get(name)
        note = ""
        if found is None:
            note = f"needed: pip install {name}"
        elif tested and not found.startswith(tested):
            note = f"tested with {tested}; `make test` shows whether this one works"
        findings.append(Finding(name, found or "missing", note, fatal=found is None))
    findings.append(Finding("code", code_version()))
    return findings


def _hardware() -> list[Finding]:
    cores = available_cores()
    findings = [
        Finding("processor", f"{platform.machine()}, {cores} cores, {torch.get_num_threads()} torch threads")
    ]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        findings.append(Finding("GPU", ", ".join(names), f"CUDA {torch.version.cuda}"))
    else:
        findings.append(
            Finding("GPU", "none", "tiny models train on the processor; 0.5B and more want a GPU")
        )
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    findings.append(Finding("cache", str(cache), f"{free:.0f} GiB free; MAXRL_CACHE moves it"))
    return findings


def _access() -> list[Finding]:
    hub = get_token() is not None
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    wandb_key = bool(os.environ.get("WANDB_API_KEY")) or "api.wandb.ai" in _netrc()
    wandb = importlib.util.find_spec("wandb") is not None
    return [
        Finding(
            "Hugging Face login",
            "present" if hub else "absent",
            "" if hub else "`hf auth login` for gated models and uploads; public models need none",
        ),
        Finding("Hugging Face Hub", "offline by HF_HUB_OFFLINE" if offline else "allowed"),
        Finding(
            "wandb",
            installed_version("wandb") or "missing",
            "" if wandb else "only for report_to=wandb: pip install wandb",
        ),
        Finding(
            "wandb key",
            "present" if wandb_key else "absent",
            "" if wandb_key else "only for report_to=wandb: `wandb login` or WANDB_API_KEY",
        ),
    ]


def _netrc() -> str:
    path = Path.home() / ".netrc"
    try:
        return path.read_text()
    except OSError:
        return ""


def _programs() -> list[Finding]:
    findings = [
        Finding(
            "vllm",
            installed_version("vllm") or "missing",
            "" if installed_version("vllm") else "only for use_vllm: pip install vllm",
        )
    ]
    for program, use in {
        "git": "records the code version of runs",
        "chromium": "renders reports in the slow tests",
    }.items():
        path = shutil.which(program)
        findings.append(Finding(program, path or "missing", "" if path else use))
    return findings
