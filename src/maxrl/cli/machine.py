"""What this machine has, and what is missing for what: `maxrl doctor`."""

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

import torch
from huggingface_hub import get_token

from maxrl.engine import available_cores
from maxrl.experiments.environment import LIBRARIES, code_version, installed_version
from maxrl.integrations.seen import Finding
from maxrl.training.warm_starts import cache_folder

TESTED = {"trl": "1.16", "transformers": "5.23", "torch": "2.13"}
"""What the tests run with (constraints.txt). The trainer overrides methods of TRL that are no public interface."""


def findings() -> list[Finding]:
    """Versions, devices, logins, programs."""
    return [*_software(), *_hardware(), *_access(), *_programs()]


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
