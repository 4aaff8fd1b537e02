"""A recipe with `stages`: runs one after the other, each going on from the weights of the one before.

output_dir/
    config.yaml          the recipe with its stages; `maxrl train --config` repeats them
    stage-1/, stage-2/…  the folder of a run each, as `maxrl train` leaves it; the last one holds the model
    run.json             written last: what all stages together came to
"""

import dataclasses
import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.markup import escape

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.data import load_data
from maxrl.experiments.folders import (
    FREE_ON_RESUME,
    LENGTH,
    clear_folder,
    differing_fields,
    last_checkpoint,
    run_record,
    stage_folders,
)
from maxrl.experiments.recipe import (
    Fields,
    Recipe,
    RunArguments,
    default_output_dir,
    make_recipe,
    recipe_classes,
    resolved_fields,
    to_yaml,
    unknown_field,
)
from maxrl.experiments.records import RunRecord
from maxrl.experiments.runs import train_run
from maxrl.training import MaxRLConfig

SEED_STRIDE = 1_000_000
"""Added to the seeds with each stage: equal ones would repeat the first stage's problems, order and draws, and seeds next to
each other are those of other runs."""

_OF_THE_WHOLE = {
    "task",
    "dataset_name",
    "dataset_config",
    "dataset_train_split",
    "dataset_test_split",
    "dataset_streaming",
    "output_dir",
    "overwrite_output_dir",
    "resume_from_checkpoint",
    "cpu_threads",
}
STAGE_FIELDS = {
    item.name for cls in (RunArguments, MaxRLConfig) for item in dataclasses.fields(cls)
} - _OF_THE_WHOLE
"""What a stage may set. Model, task and evaluation are those of the whole recipe."""


@dataclass(frozen=True)
class Stages:
    """A recipe with stages, resolved: a recipe for each."""

    recipes: tuple[Recipe, ...]
    own: tuple[Fields, ...]
    """What each stage sets itself."""
    base: Fields
    """What was given for all of them."""
    folder: Path

    @property
    def resume(self) -> bool:
        """Whether to go on with what the folder holds."""
        return str(self.base.get("resume_from_checkpoint")).lower() not in ("none", "false")


def make_stages(given: Mapping[str, Any]) -> Stages:
    """The recipes of every stage, and their data, checked.

    Each stage overrides fields of the recipe. The first starts from the recipe's model, the others from the folder of the
    one before; an adapter goes on being trained. Optimizer and learning-rate schedule begin anew. Seeds are the first
    stage's plus `SEED_STRIDE` per stage; a fixed set of problems (`num_train_problems`) stays the same and comes in another
    order. The model before training is evaluated once, before the first stage.

    Raises:
        InputError: `stages` is no list of mappings of fields that a stage may set, or a stage cannot be run; says which.
    """
    base = {name: value for name, value in given.items() if name != "stages"}
    listed = given["stages"]
    if not isinstance(listed, list) or not listed or not all(isinstance(own, Mapping) for own in listed):
        raise InputError(
            f"stages must be a list of mappings of fields to values, one per stage, but is {listed!r}"
        )
    resume = str(base.get("resume_from_checkpoint")).lower()
    if resume not in ("none", "false", "true"):
        raise InputError(
            f"stages go on with --resume_from_checkpoint true, which finds the checkpoint itself, but it is {resume!r}"
        )
    estimators = [{**base, **own}.get("advantage_estimator", "maxrl") for own in listed]
    folder = Path(base.get("output_dir") or default_output_dir(base, estimators))
    recipes: list[Recipe] = []
    for number, own in enumerate(listed, 1):
        try:
            _check_names(own, base)
            recipes.append(_stage(base, own, number, folder, recipes))
            load_data(recipes[-1])
        except InputError as error:
            raise InputError(f"stage {number}: {error}") from error
    return Stages(recipes=tuple(recipes), own=tuple(map(dict, listed)), base=base, folder=folder)


def resolved_stages(stages: Stages) -> Fields:
    """Every field, given or default, such that `make_stages` of them are the same stages."""
    shared = resolved_fields(stages.recipes[0])
    for name in stages.own[0]:
        shared.pop(name, None)
        if name in stages.base:
            shared[name] = stages.base[name]
    if "shuffle_dataset" not in stages.base:
        shared.pop("shuffle_dataset", None)  # follows from num_train_problems, which a stage may set
    return {**shared, "output_dir": str(stages.folder), "stages": [dict(own) for own in stages.own]}


def train_stages(stages: Stages, *, console: Console | None = None) -> RunRecord:
    """Train one stage after the other, each into `output_dir/stage-N`, and sum them up in `output_dir/run.json`.

    With `resume_from_checkpoint` stages that are done are not done again, and the one that was interrupted goes on from its
    last checkpoint. With several processes every one of them calls this.

    Args:
        stages: from `make_stages`.
        console: where progress goes; None for silence.

    Returns:
        The record of the whole: costs summed over stages, the evaluation of the last.

    Raises:
        InputError: the folder already holds a run and neither resuming nor overwriting was asked for, or one with other
            settings; or what `train_run` raises, with the number of the stage.
        Interrupted: Ctrl-C.
    """
    console = console or Console(quiet=True)
    records: list[RunRecord] = []
    for number, (recipe, done) in enumerate(zip(stages.recipes, _claim_on_first(stages), strict=True), 1):
        folder = Path(recipe.training.output_dir)
        about = f"stage {number} of {len(stages.recipes)}, {escape(recipe.training.advantage_estimator)}"
        if done:
            console.print(f"{about}: done already")
            records.append(run_record(folder, folder.parent))
            continue
        console.print(about)
        how = (
            {"resume_from_checkpoint": "true"} if last_checkpoint(folder) else {"overwrite_output_dir": True}
        )
        try:
            # Made anew: a configuration sets up the process it is made in, and the last one made was another stage's.
            records.append(train_run(make_recipe({**recipe.given, **how}), console=console))
        except MaxRLError as error:
            error.args = (f"stage {number}: {error}",)
            raise
        gc.collect()  # a trainer refers to itself; its model must be gone before the next one is loaded
    return _finish(stages, records)


def _check_names(own: Mapping[str, Any], base: Fields) -> None:
    known = {item.name for cls in recipe_classes(base.get("task")) for item in dataclasses.fields(cls)}
    for name in own:
        if name not in known:
            raise unknown_field(str(name), STAGE_FIELDS)
        if name not in STAGE_FIELDS:
            raise InputError(f"{name} belongs to the recipe, not to a stage: give it above stages")


def _stage(base: Fields, own: Mapping[str, Any], number: int, folder: Path, before: list[Recipe]) -> Recipe:
    """The recipe of one stage, given those of the stages before it."""
    started = ("resume_from_checkpoint", "overwrite_output_dir")
    fields = {name: value for name, value in base.items() if name not in started}
    fields["output_dir"] = str(folder / f"stage-{number}")
    if before:
        first, shift = before[0], SEED_STRIDE * (number - 1)
        # How the model is made, and which adapter it gets, is the first stage's business; the folder holds both.
        made = ("tiny_", "warm_start_", "lora_", "use_peft", "use_rslora", "use_dora", "model_revision")
        fields = {name: value for name, value in fields.items() if not name.startswith(made)}
        # Their parameters may follow from the model that was named.
        if "tasks" in first.given:
            fields["tasks"] = first.given["tasks"]
        elif first.task is not None:
            fields |= {item.name: getattr(first.task, item.name) for item in dataclasses.fields(first.task)}
        fields |= {
            "model_name_or_path": before[-1].training.output_dir,
            "eval_before_training": False,
            "seed": first.training.seed + shift,
            "task_seed": first.task_seed + (0 if fields.get("num_train_problems") else shift),
        }
    return make_recipe({**fields, **own})


def _claim_on_first(stages: Stages) -> list[bool]:
    """Have the first process claim the folder; every process learns which stages are done."""
    training = stages.recipes[0].training
    answer: list[Any] = [None, None]
    if training.process_index == 0:
        try:
            answer[0] = _claim(stages)
        except (InputError, OSError) as error:  # the others must not wait for an answer that never comes
            answer[1] = str(error)
    if training.world_size > 1:
        broadcast_object_list(answer)
    done, refusal = answer
    if refusal is not None:
        raise InputError(refusal)
    return done


def _claim(stages: Stages) -> list[bool]:
    """Refuse to mix two runs in a folder, clear it if need be, and write the recipe; which stages are done."""
    done = [False] * len(stages.recipes)
    if stages.resume and stage_folders(stages.folder):
        done = _done(stages)
        (stages.folder / "run.json").unlink(missing_ok=True)
    else:
        clear_folder(stages.folder, overwrite=bool(stages.base.get("overwrite_output_dir")))
    with atomic_text(stages.folder / "config.yaml") as sink:
        sink.write(to_yaml(resolved_stages(stages)))
    return done


def _done(stages: Stages) -> list[bool]:
    """Which stages have come to the end asked for.

    Raises:
        InputError: what the folder holds was made with other settings, or a stage that is not done has successors.
    """
    folders = [Path(recipe.training.output_dir) for recipe in stages.recipes]
    done: list[bool] = []
    for recipe, folder in zip(stages.recipes, folders, strict=True):
        different = differing_fields(recipe, folder, free=FREE_ON_RESUME - LENGTH)
        if fixed := [name for name in different if name not in LENGTH]:
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(fixed)}); resume it with its own (--config "
                f"{stages.folder / 'config.yaml'}), or start anew in another --output_dir"
            )
        done.append((folder / "run.json").is_file() and not different)
    current = done.index(False) if False in done else len(done) - 1
    if later := [folder for folder in stage_folders(stages.folder) if folder not in folders[: current + 1]]:
        raise InputError(
            f"{later[0]} has begun, but {folders[current].name} is not done, has now another length, or is the last that is "
            "asked for: make all stages anew with --overwrite_output_dir, or choose another --output_dir"
        )
    return done


def _finish(stages: Stages, records: list[RunRecord]) -> RunRecord:
    """Write `run.json`, by which the whole counts as done."""
    summaries = [json.loads((Path(r.training.output_dir) / "run.json").read_text()) for r in stages.recipes]
    cost: Fields = {
        name: sum(summary[name] for summary in summaries)
        for name in ("training_seconds", "rollouts", "completion_tokens")
    }
    who: Fields = {
        "estimator": ", then ".join(summary["estimator"] for summary in summaries),
        "seed": summaries[0]["seed"],
    }
    if stages.recipes[0].training.process_index == 0:
        steps = sum(summary["steps"] for summary in summaries)
        whole = {**who, "steps": steps, **cost, "pass_at_k": summaries[-1]["pass_at_k"], "stages": summaries}
        with atomic_text(stages.folder / "run.json") as sink:
            json.dump(whole, sink, indent=2)
    return RunRecord(
        **who, **cost, folder=stages.folder.name, status="done", evaluation=records[-1].evaluation
    )
