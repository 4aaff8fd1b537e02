"""Whether a folder holds the weights that are to be measured: what is missing must not be replaced by a base model's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from maxrl.errors import InputError
from maxrl.experiments.folders import stage_folders
from maxrl.experiments.store import StoredRun, is_run
from maxrl.experiments.store.checkpoints import checkpoints, last_checkpoint

ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
FULL = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def require_weights(folder: Path) -> None:
    """Refuse a run's folder, a checkpoint or a model's folder whose weights are not all there.

    Raises:
        InputError: names the folder, what is missing, and what can be measured instead.
    """
    if not folder.is_dir():
        raise InputError(_gone(folder))
    adapter = (folder / "adapter_config.json").is_file()
    if not adapter and not (folder / "config.json").is_file():
        raise InputError(_no_model(folder))
    names = ADAPTER if adapter else FULL
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        what = "an adapter's configuration, but not its weights" if adapter else "no weights"
        base = "; its base model alone would be measured" if adapter else ""
        raise InputError(f"{folder} holds {what} ({names[0]} is missing){base}. {_instead(folder)}")
    for path in _parts(found):
        _check_whole(path, folder)
    if adapter:
        _check_base(folder)


def require_adapter(model: Any, folder: Path) -> None:
    """Refuse a model whose adapter did not get all of its weights from the folder it was loaded from.

    Raises:
        InputError: the file lacks some of them: peft leaves those as they were made, which is to change nothing.
    """
    path = folder / ADAPTER[0]
    if not isinstance(model, PeftModel) or not path.is_file():
        return
    with safe_open(path, "pt") as file:
        stored = set(file.keys())
    missing = sorted(get_peft_model_state_dict(model).keys() - stored)
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the adapter's weights ({missing[0]} first): what they adapt would be "
            f"measured as the base model has it. {_instead(folder)}"
        )


def _gone(folder: Path) -> str:
    run = folder.parent
    if folder.name.startswith("checkpoint-") and is_run(run):
        left = [path.name for path in checkpoints(run)]
        has = f"it has {', '.join(left)}" if left else "it has none"
        return (
            f"{run} has no {folder.name} ({has}): save_total_limit, keep_checkpoints and `maxrl runs prune` remove "
            f"checkpoints. {_instead(folder)}"
        )
    return f"run folder {folder} does not exist; give a folder that `maxrl train` or save_pretrained wrote"


def _no_model(folder: Path) -> str:
    if stages := stage_folders(folder):
        return (
            f"{folder} is a run of stages, each with a model of its own: name the folder of one of them "
            f"({stages[-1]} is the last)"
        )
    if is_run(folder):
        return f"the run in {folder} ({StoredRun(folder).state}) holds no model. {_instead(folder)}"
    return (
        f"folder {folder} is no model: it has neither config.json nor adapter_config.json; give a folder written by "
        "save_pretrained (a run's own is its output_dir, or one of its checkpoint-… folders)"
    )


def _instead(folder: Path) -> str:
    """What can be measured in place of what this folder should hold."""
    run = folder if is_run(folder) else folder.parent
    if not is_run(run):
        return "Copy the folder anew, or save the model again"
    last = last_checkpoint(run)
    if last is not None and last != folder:
        finish = "make the run again"
        if StoredRun(run).state != "done":
            finish = "finish the run with --resume_from_checkpoint true"
        return f"Measure its last checkpoint ({last}), or {finish}"
    if folder != run and any((run / name).is_file() for name in (*ADAPTER, *FULL)):
        return f"Measure what the run ended with ({run})"
    return "Make the run again"


def _parts(found: Path) -> Sequence[Path]:
    """The files of weights: one, or those that an index lists."""
    if not found.name.endswith(".index.json"):
        return [found]
    try:
        names = set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError) as error:
        raise InputError(f"{found} is damaged ({error!r}). {_instead(found.parent)}") from error
    return [found.with_name(name) for name in sorted(names)]


def _check_whole(path: Path, folder: Path) -> None:
    if not path.is_file():
        raise InputError(f"{folder} lacks a part of the model's weights ({path.name}). {_instead(folder)}")
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, "pt") as file:
            empty = not file.keys()
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or was cut off ({error}). {_instead(folder)}") from error
    if empty:
        raise InputError(f"{path} holds no weights: nothing of it would be measured. {_instead(folder)}")


def _check_base(folder: Path) -> None:
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))[
            "base_model_name_or_path"
        ]
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{folder / 'adapter_config.json'} is damaged ({error!r}). {_instead(folder)}"
        ) from error
    if base and Path(base).is_absolute() and not Path(base).is_dir():
        raise InputError(
            f"{folder} holds an adapter of the model in {base}, which does not exist (any more): bring that folder back "
            "(one of warm starts is made anew by `maxrl train` with the run's config.yaml), or name where it is now as "
            f"base_model_name_or_path in {folder / 'adapter_config.json'}"
        )
