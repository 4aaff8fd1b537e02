"""One training run: recipe in, folder out.

output_dir/
    config.yaml          the resolved recipe; `maxrl train --config` repeats the run
    environment.json     versions, commit, machine class
    eval_before.json     the model before training, and samples_before.jsonl
    metrics.jsonl        one row per log
    checkpoint-N/        from which `--resume_from_checkpoint true` goes on
    eval.json            the model after training, and samples.jsonl
    run.json             written last: the run is done
"""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import load_dataset
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback
from trl import get_dataset
from trl import rewards as trl_rewards

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation import Evaluation, evaluate
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.callbacks import (
    MetricsFile,
    ProgressBar,
    StopOnInterrupt,
    new_progress,
    read_metrics,
)
from maxrl.experiments.environment import describe_environment
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import Recipe, resolved_fields, to_yaml
from maxrl.experiments.records import RunRecord
from maxrl.training import MaxRLTrainer, TaskReward, task_dataset

RUN_FILES = (
    "config.yaml",
    "environment.json",
    "eval_before.json",
    "samples_before.jsonl",
    "metrics.jsonl",
    "eval.json",
    "samples.jsonl",
    "run.json",
)


class Interrupted(MaxRLError):
    """Training was stopped by Ctrl-C; a checkpoint was saved."""


def train_run(recipe: Recipe, *, console: Console | None = None) -> RunRecord:
    """Train as the recipe says, evaluate before and after, and leave everything in `output_dir`.

    Args:
        recipe: the run.
        console: where progress goes; None for silence.

    Raises:
        InputError: the folder already holds a run and neither resuming nor overwriting was asked for, or the
            model, data or reward functions cannot be used.
        Interrupted: Ctrl-C.
    """
    console = console or Console(quiet=True)
    folder = Path(recipe.training.output_dir)
    checkpoint = _claim_folder(recipe, folder)
    _write_header(recipe, folder)
    policy = prepare_policy(recipe, progress=_announce_warm_start(recipe, console))
    if recipe.task and recipe.run.eval_before_training and not (folder / "eval_before.json").is_file():
        evaluate_policy(recipe, policy, folder, console, label="_before")
    trainer = _trainer(recipe, policy, folder)
    if checkpoint:
        console.print(f"resuming from {checkpoint}")
    with StopOnInterrupt() as stop, ProgressBar(console) as bar:
        trainer.add_callback(stop)
        trainer.add_callback(bar)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.interrupted:
        raise Interrupted(
            f"interrupted at step {trainer.state.global_step}; go on with the same command and "
            "--resume_from_checkpoint true"
        )
    trainer.save_model(str(folder))
    policy.tokenizer.save_pretrained(folder)
    after = None
    if recipe.task:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        after = evaluate_policy(recipe, policy, folder, console, trained=trained)
    return _finish(recipe, folder, trainer, after)


def run_record(folder: Path, root: Path) -> RunRecord:
    """The record of a finished run from its folder, with paths relative to `root`.

    Raises:
        FileNotFoundError: the run is not done.
    """
    summary = json.loads((folder / "run.json").read_text())
    evaluation = folder / "eval.json"
    return RunRecord(
        estimator=summary["estimator"],
        seed=summary["seed"],
        folder=os.path.relpath(folder, root),
        status="done",
        metrics=tuple(read_metrics(folder / "metrics.jsonl")),
        evaluation=Evaluation.load(evaluation) if evaluation.is_file() else None,
        training_seconds=summary["training_seconds"],
        rollouts=summary["rollouts"],
        completion_tokens=summary["completion_tokens"],
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a process may have died in the middle of a later one."""
    candidates = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    for path in sorted(candidates, key=lambda path: int(path.name.split("-")[-1]), reverse=True):
        if _is_complete(path):
            return path
    return None


def _is_complete(checkpoint: Path) -> bool:
    # The trainer writes its state last, so that what parses is preceded by everything else.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return True


def _claim_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Refuse to mix two runs in a folder; the checkpoint to resume from, if any."""
    asked = recipe.training.resume_from_checkpoint
    resume = str(asked).lower() not in ("none", "false")
    if resume and str(asked).lower() != "true":
        checkpoint = Path(str(asked))
        if not _is_complete(checkpoint):
            raise InputError(
                f"{checkpoint} is no complete checkpoint; `--resume_from_checkpoint true` takes the last one"
            )
        return checkpoint
    if resume:
        return last_checkpoint(folder)
    leftovers = [name for name in RUN_FILES if (folder / name).exists()] + [
        path.name for path in folder.glob("checkpoint-*")
    ]
    if leftovers and not recipe.run.overwrite_output_dir:
        raise InputError(
            f"{folder} already holds a run ({leftovers[0]}); continue it with --resume_from_checkpoint true, replace it "
            "with --overwrite_output_dir, or choose another --output_dir"
        )
    for name in leftovers:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _write_header(recipe: Recipe, folder: Path) -> None:
    if recipe.training.process_index != 0:
        return
    with atomic_text(folder / "config.yaml") as sink:
        sink.write(to_yaml(resolved_fields(recipe)))
    with atomic_text(folder / "environment.json") as sink:
        json.dump(describe_environment(), sink, indent=2)


def _announce_warm_start(recipe: Recipe, console: Console) -> Callable[[int, float], None]:
    target = recipe.warm_start.warm_start_pass_rate

    def announce(step: int, pass_rate: float) -> None:
        console.print(f"warm start: step {step}, pass rate {pass_rate:.3f} of {target}")

    return announce


def evaluate_policy(
    recipe: Recipe, policy: Policy, folder: Path, console: Console, *, trained: Any = None, label: str = ""
) -> Evaluation:
    """Evaluate a policy on the recipe's task and leave `eval{label}.json` and `samples{label}.jsonl`."""
    assert recipe.task is not None, "only tasks can be evaluated"
    total = recipe.evaluation.eval_problems
    progress = new_progress(console) if console.is_terminal else None
    bar = progress.add_task("evaluating", total=total, note="") if progress else None

    def advance(done: int) -> None:
        if progress is not None and bar is not None:
            progress.update(bar, completed=done)

    if progress:
        progress.start()
    try:
        result = evaluate(
            policy.generator(trained),
            policy.tokenizer,
            recipe.task,
            recipe.evaluation,
            max_completion_length=recipe.training.max_completion_length or 256,
            samples_file=folder / f"samples{label}.jsonl",
            progress=advance,
        )
    finally:
        if progress:
            progress.stop()
    with atomic_text(folder / f"eval{label}.json") as sink:
        json.dump(result.to_dict(), sink, indent=1)
    return result


def _trainer(recipe: Recipe, policy: Policy, folder: Path) -> MaxRLTrainer:
    train_dataset, eval_dataset, rewards = _data(recipe)
    # The policy is made already; handing its options on would only draw a warning that they are not used.
    recipe.training.model_init_kwargs = None
    try:
        trainer = MaxRLTrainer(
            model=policy.model,
            reward_funcs=rewards,
            args=recipe.training,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=policy.tokenizer,
            peft_config=policy.peft_config,
            callbacks=[MetricsFile(folder / "metrics.jsonl")],
        )
    except InputError:
        raise
    except ValueError as error:  # TRL checks here what options mean together
        raise InputError(str(error).strip().splitlines()[0]) from error
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _data(recipe: Recipe) -> tuple[Any, Any, list[Any]]:
    """Training data, evaluation data for TRL's own `eval_strategy`, and reward functions."""
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
    groups = training.generation_batch_size // training.num_generations
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
        return getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot load the reward function '{name}': {error}") from error


def training_cost(recipe: Recipe, steps: int, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What `steps` optimizer steps cost: `training_seconds`, `rollouts` and `completion_tokens`.

    Tokens are the logged mean lengths times the rollouts between two logs, exact where every step is logged.
    """
    training = recipe.training
    # A generation serves steps_per_generation × num_iterations micro-steps.
    per_step = (training.generation_batch_size * training.gradient_accumulation_steps) / (
        training.steps_per_generation * training.num_iterations
    )
    logged = [0, *(row["step"] for row in metrics)]
    tokens = sum(
        (step - before) * per_step * row.get("completions/mean_length", 0.0)
        for before, step, row in zip(logged, logged[1:], metrics, strict=False)
    )
    return {
        "training_seconds": metrics[-1]["elapsed"] if metrics else 0.0,
        "rollouts": round(steps * per_step),
        "completion_tokens": round(tokens),
    }


def _finish(recipe: Recipe, folder: Path, trainer: MaxRLTrainer, after: Evaluation | None) -> RunRecord:
    """Write `run.json`, by which the run counts as done, and read the record back from the folder."""
    if trainer.is_world_process_zero():
        steps = trainer.state.global_step
        summary = {
            "estimator": recipe.training.advantage_estimator,
            "seed": recipe.training.seed,
            "steps": steps,
            **training_cost(recipe, steps, read_metrics(folder / "metrics.jsonl")),
            "pass_at_k": {entry.k: entry.estimate for entry in after.pass_at_k} if after else None,
        }
        with atomic_text(folder / "run.json") as sink:
            json.dump(summary, sink, indent=2)
    return run_record(folder, folder.parent)
