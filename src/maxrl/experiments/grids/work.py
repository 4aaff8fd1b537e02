"""One run of a grid, in the process that was started for it, wherever that is."""

import json
import os
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from maxrl.errors import InputError
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.folders import FREE_ON_RESUME, LENGTH, differing_fields, last_checkpoint
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import Fields, Recipe, make_recipe
from maxrl.experiments.runs import train_run
from maxrl.experiments.stages import make_stages, train_stages
from maxrl.experiments.store import ERROR_FILE

RUN_VARIABLE = "MAXRL_RUN"
"""Environment variable that holds the fields of a run as JSON, for a machine that has nothing else of the grid."""


def make_run(fields: Fields, *, console: Console | None = None) -> None:
    """Make a run, or go on with what a process that died has left of it; nothing is done where it is done.

    Whatever ends it, other than Ctrl-C or a kill, is recorded in the run's folder (`error.txt`), and raised.

    Raises:
        InputError: the folder holds another run that is done.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    folder = Path(fields["output_dir"])
    if (folder / "run.json").is_file():
        refuse_other_run(fields)
        return
    (folder / ERROR_FILE).unlink(missing_ok=True)
    fields = {**fields, **_how(fields, folder)}
    try:
        if "stages" in fields:
            train_stages(make_stages(fields), console=console)
        else:
            train_run(make_recipe(fields), console=console)
    except Interrupted:
        raise
    except Exception as error:
        summary = f"{type(error).__name__}: {' '.join(str(error).split())}"
        record_error(folder, f"{traceback.format_exc()}\n{summary}")
        raise


def record_error(folder: Path, text: str) -> None:
    """Leave in a run's folder what ended it; the last line is the error."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_text(folder / ERROR_FILE) as sink:
        sink.write(f"{text}\n")


def recipes_of(fields: Fields) -> Sequence[Recipe]:
    """The recipe of a run, or those of its stages.

    Raises:
        InputError: a field or value that there is not.
    """
    return make_stages(fields).recipes if "stages" in fields else (make_recipe(fields),)


def refuse_other_run(fields: Fields) -> None:
    """Refuse a folder that holds a run with other settings, be it done or not.

    Raises:
        InputError: it does; says which settings.
    """
    for recipe in recipes_of(fields):
        folder = Path(recipe.training.output_dir)
        different = differing_fields(recipe, folder, free=FREE_ON_RESUME - LENGTH)
        if different:
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(different)}); give the grid another output_dir, or "
                "remove that folder (on Hugging Face also the one of that name in the bucket)"
            )


def make_logged_run(fields: Fields, log: str) -> None:
    """`make_run` in a process that belongs to the run, with all that it prints in a file.

    Interrupted by Ctrl-C it returns, with a checkpoint saved.
    """
    log_to(Path(log))
    quiet_libraries()
    with suppress(Interrupted):
        make_run(fields, console=Console(width=120, highlight=False))


def log_to(path: Path) -> None:
    """Send what this process prints, and what C code prints in it, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:  # what a process before this one printed stays
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _how(fields: Fields, folder: Path) -> Fields:
    begun = any(folder.glob("stage-*")) if "stages" in fields else last_checkpoint(folder) is not None
    return {"resume_from_checkpoint": "true"} if begun else {"overwrite_output_dir": True}


def run_from_environment(environment: Mapping[str, str] = os.environ) -> Fields:
    """The fields that `RUN_VARIABLE` holds.

    Raises:
        InputError: it is not set, or holds something else.
    """
    text = environment.get(RUN_VARIABLE)
    if not text:
        raise InputError(
            f"{RUN_VARIABLE} is not set: it holds the fields of a run as JSON (`maxrl grid run --on hf-jobs` sets it)"
        )
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise InputError(f"{RUN_VARIABLE} is no JSON: {error}") from error
    if not isinstance(fields, dict) or "output_dir" not in fields:
        raise InputError(f"{RUN_VARIABLE} must be an object of a run's fields with output_dir")
    return fields
