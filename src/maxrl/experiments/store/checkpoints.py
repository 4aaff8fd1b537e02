"""A run's checkpoints: which there are, and which were written to their end."""

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from maxrl.experiments.environment import read_environment

KEPT = ("all", "last", "none")
"""Which of them stay when a run is done (`keep_checkpoints`)."""

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "adapter_model.bin")
"""Files that hold a model's weights, right in its folder."""


def checkpoints(folder: Path) -> list[Path]:
    """Every checkpoint of a run, the newest last, whether it was written to its end or not."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda path: int(path.name.split("-")[-1]))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a process may have died in the middle of a later one."""
    return next((path for path in reversed(checkpoints(folder)) if is_complete(path)), None)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end, by every process of its run."""
    # The trainer writes its state last, so that what parses is preceded by everything else; the other files are
    # looked at because disks fill up and copies break off.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        for weights in checkpoint.glob("*.safetensors"):
            with safe_open(weights, "pt") as file:
                file.keys()
    except (OSError, ValueError, SafetensorError):
        return False
    saved_by_torch = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
    return all(zipfile.is_zipfile(path) for path in saved_by_torch) and _has_random_states(checkpoint)


def _has_random_states(checkpoint: Path) -> bool:
    # Each process writes its own, and the first one does not wait for the others before it writes the trainer's state.
    if (checkpoint / "rng_state.pth").is_file():  # a run of one process
        return True
    found = len(list(checkpoint.glob("rng_state_*.pth")))
    if not found and not (checkpoint / "optimizer.pt").is_file():  # save_only_model leaves neither
        return True
    return found >= max(2, int(read_environment(checkpoint.parent).get("processes", 0)))
