"""What a run trains on: a task's problems, or a data set, and the reward functions."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import load_dataset
from datasets.exceptions import DatasetsError
from trl import get_dataset
from trl import rewards as trl_rewards

from maxrl.errors import InputError, unknown_name
from maxrl.experiments.recipe import Recipe
from maxrl.tasks.registry import load_file, load_module
from maxrl.training import TaskReward, task_dataset

Data = tuple[Any, Any, list[Any]]
"""Training data, evaluation data for TRL's own `eval_strategy`, and reward functions."""

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def load_data(recipe: Recipe) -> Data:
    """The data of a run.

    Raises:
        InputError: data or reward functions cannot be used; nothing has been written or trained then.
    """
    extra = [_reward_function(name) for name in recipe.run.reward_funcs or []]
    if recipe.run.reward_model_name_or_path:
        extra.insert(0, recipe.run.reward_model_name_or_path)
    if recipe.task is not None:
        count = recipe.run.num_train_problems or _problems_of_a_run(recipe)
        train = task_dataset(recipe.task, "train", count, seed=recipe.task_seed)
        held_out = None
        if recipe.training.eval_strategy != "no":
            held_out = task_dataset(
                recipe.task, "eval", recipe.evaluation.eval_problems, seed=recipe.evaluation.eval_seed
            )
        return train, held_out, [TaskReward(recipe.task), *extra]
    if not extra:
        raise InputError(
            "a data set needs a reward: name --reward_funcs (TRL's, or module:function) or a reward model"
        )
    splits = _load_splits(recipe)
    train = _split(recipe, splits, "dataset_train_split")
    test = _split(recipe, splits, "dataset_test_split") if recipe.training.eval_strategy != "no" else None
    return train, test, extra


def _problems_of_a_run(recipe: Recipe) -> int:
    """A fresh problem for every group; with epochs instead of steps there must be a number of problems."""
    training = recipe.training
    if training.max_steps <= 0:
        raise InputError(
            "a task never ends: set --max_steps, or --num_train_problems together with num_train_epochs"
        )
    groups = training.groups_per_generation
    # A generation serves steps_per_generation × num_iterations micro-steps; an optimizer step takes
    # gradient_accumulation_steps of them.
    micro_steps = training.max_steps * training.gradient_accumulation_steps
    generations = -(-micro_steps // (training.steps_per_generation * training.num_iterations))
    return groups * generations


def _load_splits(recipe: Recipe) -> Any:
    run = recipe.run
    try:
        if recipe.datasets.datasets:
            return get_dataset(recipe.datasets)
        name = str(run.dataset_name)
        kind = _FORMATS.get(Path(name).suffix)
        if Path(name).is_file():  # a data file of one's own
            if kind is None:
                raise InputError(f"data file {name} must end in .jsonl, .json, .parquet or .csv")
            rows = load_dataset(kind, data_files=name, split="train")
            return {run.dataset_train_split: rows, run.dataset_test_split: rows}
        if kind is not None:
            raise InputError(f"data file {name} does not exist (looked for {Path(name).resolve()})")
        return load_dataset(name, name=run.dataset_config, streaming=run.dataset_streaming)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(recipe, error) from error


def _first_row(recipe: Recipe, rows: Any) -> Any:
    try:
        return next(iter(rows), None)  # a stream is not read before, and may not know its columns
    except _UNREADABLE as error:
        raise _unreadable(recipe, error) from error


# What a file holds is the user's: pyarrow and pandas, which read it, have errors of their own.
_UNREADABLE = (OSError, ValueError, DatasetsError, StopIteration)


def _unreadable(recipe: Recipe, error: BaseException) -> InputError:
    # The first error of the chain names the line; what `datasets` makes of it does not.
    cause: BaseException = error
    while isinstance(error, DatasetsError) and cause.__cause__ is not None:
        cause = cause.__cause__
    reason = " ".join((str(cause).strip() or type(cause).__name__).split("\n")[0].split())
    if isinstance(error, StopIteration) or "corresponds to no data" in reason:
        reason = "it holds no rows"
    return InputError(
        f"cannot load the data set '{recipe.run.dataset_name or 'of the recipe'}': {reason} (a local .jsonl, .json, "
        ".parquet or .csv file works without network; .jsonl holds one JSON object per line)"
    )


def _split(recipe: Recipe, splits: Any, field: str) -> Any:
    """A split of a data set, with the column that prompts come from."""
    named = f"data set '{recipe.run.dataset_name or 'of the recipe'}'"
    wanted = getattr(recipe.run, field)
    if wanted not in splits:
        known = ", ".join(map(str, splits))
        raise InputError(f"{named} has no split '{wanted}': name one of {known} with --{field}")
    rows = splits[wanted]
    first = _first_row(recipe, rows)
    if first is None:
        raise InputError(f"{named} has no rows in its split '{wanted}'; a run needs prompts to train on")
    if "prompt" not in first:
        raise InputError(
            f"{named} has no column 'prompt' (it has {', '.join(first)}); call the column with the questions so"
        )
    prompt = first["prompt"]
    messages = prompt if isinstance(prompt, list) else []
    if not isinstance(prompt, str) and not (messages and all(isinstance(m, Mapping) for m in messages)):
        raise InputError(
            f"{named} has a {type(prompt).__name__} as its first prompt; give a text, or messages like "
            '[{"role": "user", "content": "…"}]'
        )
    return rows


_OF_TRL = (
    "accuracy_reward",
    "get_soft_overlong_punishment",
    "reasoning_accuracy_reward",
    "think_format_reward",
)
"""What `trl grpo` knows by name; the module holds other things, too, as functions that make reward functions."""


def _reward_function(name: str) -> Any:
    """A reward function of TRL's by its name, or a user's own: `file.py:function`, `module:function`, `module.function`."""
    if name in _OF_TRL:
        found = getattr(trl_rewards, name)
        # As `trl grpo` sets it up; every other one is the function itself.
        return (
            found(max_completion_len=1280, soft_punish_cache=256)
            if name == "get_soft_overlong_punishment"
            else found
        )
    where, _, function = name.rpartition(":" if ":" in name else ".")
    if not where or not function or function == "py":
        raise InputError(
            f"unknown reward function '{name}'; name one of TRL's ({', '.join(_OF_TRL)}) or your own as "
            "my_rewards.py:function or module:function"
        )
    cannot = f"cannot load the reward function '{name}'"
    if where.endswith(".py"):
        found: Any = load_file(where, "reward")
    else:
        found = load_module(where, f"reward function '{name}'")
    for part in function.split("."):
        if not hasattr(found, part):
            known = [key for key in dir(found) if inspect.isroutine(getattr(found, key)) and key[0] != "_"]
            raise InputError(f"{cannot}: {unknown_name(f'function of {where}', part, known)}")
        found = getattr(found, part)
    if inspect.isclass(found):
        raise InputError(
            f"{cannot}: it is a class, whose call makes an object and no rewards; name a function, or an object made of "
            f"it (`judge = {function}()`, then {where}:judge)"
        )
    if not callable(found):
        raise InputError(f"{cannot}: it is a {type(found).__name__}, no function")
    return found
