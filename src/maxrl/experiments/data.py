"""What a run trains on: a task's problems, or a data set, and the reward functions."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import get_dataset
from trl import rewards as trl_rewards

from maxrl.errors import InputError
from maxrl.experiments.recipe import Recipe
from maxrl.training import TaskReward, task_dataset

Data = tuple[Any, Any, list[Any]]
"""Training data, evaluation data for TRL's own `eval_strategy`, and reward functions."""


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
    test = splits[recipe.run.dataset_test_split] if recipe.training.eval_strategy != "no" else None
    return splits[recipe.run.dataset_train_split], test, extra


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
        if Path(name).is_file():  # a data file of one's own
            kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}.get(
                Path(name).suffix
            )
            if kind is None:
                raise InputError(f"data file {name} must end in .jsonl, .json, .parquet or .csv")
            rows = load_dataset(kind, data_files=name, split="train")
            return {run.dataset_train_split: rows, run.dataset_test_split: rows}
        return load_dataset(name, name=run.dataset_config, streaming=run.dataset_streaming)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"cannot load the data set '{run.dataset_name}': {reason} (a local .jsonl, .json, .parquet or .csv file works "
            "without network)"
        ) from error


def _reward_function(name: str) -> Any:
    """A reward function of TRL's by its name, or a user's own as `module:function` or `module.function`."""
    if hasattr(trl_rewards, name):
        found = getattr(trl_rewards, name)
        # As `trl grpo` sets it up; every other one is the function itself.
        return (
            found(max_completion_len=1280, soft_punish_cache=256)
            if name == "get_soft_overlong_punishment"
            else found
        )
    module_name, separator, function = name.replace(":", ".").rpartition(".")
    if not separator:
        raise InputError(
            f"unknown reward function '{name}'; name one of TRL's ({', '.join(sorted(trl_rewards.__all__))}) or your own as "
            "module:function"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(f"cannot load the reward function '{name}': {error}") from error
    if not callable(found):
        raise InputError(
            f"cannot load the reward function '{name}': it is a {type(found).__name__}, no function"
        )
    return found
