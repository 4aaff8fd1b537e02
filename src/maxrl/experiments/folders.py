"""A run's folder: who may write into it, from where a run goes on, what a finished one says."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import yaml

from maxrl.errors import InputError
from maxrl.evaluation.files import atomic_text, remove_stale_partials
from maxrl.experiments.recipe import Recipe, resolved_fields, to_yaml
from maxrl.experiments.records import RunRecord
from maxrl.experiments.store import ERROR_FILE, EVALS_FILE, LATEST_FILE, StoredRun
from maxrl.experiments.store.checkpoints import WEIGHTS, is_complete, last_checkpoint
from maxrl.experiments.store.processes import PROCESS_FILE

TENSORBOARD = "tensorboard"
"""Folder in a run's that TensorBoard reads."""

WANDB_FILE = "wandb.json"
"""The id under which Weights & Biases knows a run, so that a resumed one goes on there."""

RUN_FILES = (
    "config.yaml",
    "environment.json",
    "eval_before.json",
    "samples_before.jsonl",
    "metrics.jsonl",
    "diagnostics.jsonl",
    EVALS_FILE,
    LATEST_FILE,
    "eval.json",
    "samples.jsonl",
    "run.json",
    ERROR_FILE,
    PROCESS_FILE,
    WANDB_FILE,
)


def run_record(folder: Path, root: Path) -> RunRecord:
    """The record of a finished run from its folder, with paths relative to `root`.

    Raises:
        FileNotFoundError: the run is not done.
        InputError: a file of it is damaged.
    """
    run = StoredRun(folder)
    summary = run.summary
    if not summary:
        raise FileNotFoundError(f"{folder} holds no run.json: the run is not done")
    return RunRecord(
        estimator=summary["estimator"],
        seed=summary["seed"],
        folder=os.path.relpath(folder, root),
        status="done",
        metrics=tuple(run.metrics),
        evaluation=run.evaluation,
        training_seconds=summary["training_seconds"],
        rollouts=summary["rollouts"],
        completion_tokens=summary["completion_tokens"],
    )


def checkpoint_asked_for(recipe: Recipe, folder: Path) -> Path | None:
    """The checkpoint to resume from, if resuming was asked for and there is one."""
    asked = str(recipe.training.resume_from_checkpoint)
    if asked.lower() in ("none", "false"):
        return None
    if asked.lower() == "true":
        return last_checkpoint(folder)
    if not is_complete(Path(asked)):
        raise InputError(
            f"{asked} is no complete checkpoint; `--resume_from_checkpoint true` takes the last one in output_dir"
        )
    return Path(asked)


def claim_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Refuse to mix two runs in a folder; the checkpoint to resume from, if any.

    A model that the folder holds is not this run's until it ends, so that its weights go, and so do partial files that died
    with their writers.
    """
    checkpoint = checkpoint_asked_for(recipe, folder)
    if checkpoint is not None and checkpoint.parent.resolve() == folder.resolve():
        different = differing_fields(recipe, folder)
        if different:
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(different)}); resume it with its own "
                f"(--config {folder / 'config.yaml'}), or start anew in another --output_dir"
            )
        done = [folder / name for name in ("run.json", "eval.json", "samples.jsonl", ERROR_FILE)]
        for path in [*done, *folder.glob("eval.*.json")]:  # a run that goes on is not done
            path.unlink(missing_ok=True)
        remove_stale_partials(folder)
        _remove_weights(recipe, folder)
        return checkpoint
    clear_folder(folder, overwrite=recipe.run.overwrite_output_dir)
    remove_stale_partials(folder)
    _remove_weights(recipe, folder)
    return checkpoint


def _remove_weights(recipe: Recipe, folder: Path) -> None:
    if Path(recipe.model_name).resolve() == folder.resolve():
        return  # what the run starts from
    for pattern in WEIGHTS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def clear_folder(folder: Path, *, overwrite: bool) -> None:
    """Remove what an earlier run left, whether it was one or one of stages.

    Raises:
        InputError: it has trained, and is not to be overwritten.
    """
    trained = _trained(folder)
    if trained and not overwrite:
        raise InputError(
            f"{folder} already holds a run ({trained[0]}); continue it with --resume_from_checkpoint true, replace it "
            "with --overwrite_output_dir, or choose another --output_dir"
        )
    for path in [
        *(folder / name for name in RUN_FILES),
        *folder.glob("eval.*.json"),
        *folder.glob("eval_before.*.json"),
        *folder.glob("checkpoint-*"),
        folder / TENSORBOARD,
        *stage_folders(folder),
    ]:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


def _trained(folder: Path) -> list[str]:
    # A start that failed leaves its recipe and at most a first evaluation; nobody would miss them.
    found = [name for name in ("run.json", "eval.json") if (folder / name).exists()]
    found += [path.name for path in folder.glob("checkpoint-*")]
    return found + [stage.name for stage in stage_folders(folder) if _trained(stage)]


def stage_folders(folder: Path) -> list[Path]:
    """The runs that a run of stages consists of, as far as they have been started."""
    return sorted(
        path for path in folder.glob("stage-*") if path.is_dir() and path.name[len("stage-") :].isdigit()
    )


# What may change when a run goes on: how long it goes, how it is watched, where it lies, what is kept of it.
FREE_ON_RESUME = {
    "eval_every",
    "eval_every_samples",
    "log_keys",
    "run_name",
    "project",
    "keep_checkpoints",
    "max_steps",
    "num_train_epochs",
    "output_dir",
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "report_to",
    "eval_before_training",
    "num_train_problems",
}


LENGTH = frozenset({"max_steps", "num_train_epochs", "num_train_problems"})
"""Fields that say how long a run goes."""


def differing_fields(recipe: Recipe, folder: Path, *, free: Collection[str] = FREE_ON_RESUME) -> list[str]:
    """Fields in which a recipe differs from the one that a folder's run was started with, those in `free` left out.

    Raises:
        InputError: that one is damaged.
    """
    stored = StoredRun(folder).config
    if not stored:
        return []
    asked = yaml.safe_load(to_yaml(resolved_fields(recipe)))
    names = stored.keys() | asked.keys()
    return sorted(name for name in names.difference(free) if stored.get(name) != asked.get(name))


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the resolved recipe, from which the run can be repeated."""
    with atomic_text(folder / "config.yaml") as sink:
        sink.write(to_yaml(resolved_fields(recipe)))
