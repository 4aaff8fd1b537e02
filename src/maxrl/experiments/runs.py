"""One training run: recipe in, folder out.

output_dir/
    config.yaml          the resolved recipe; `maxrl train --config` repeats the run
    environment.json     versions, commit, machine class, threads, processes, back-ends; written when the trainer is made
    eval_before.json     the model before training, and samples_before.jsonl
    metrics.jsonl        one row per log
    diagnostics.jsonl    one row per generation: live and dead groups, K histogram, weights, pass@k, r̂ of each prompt
    evals.jsonl          one row per evaluation while training (eval_every)
    latest_samples.json  a few of the rollouts drawn last for training
    checkpoint-N/        from which `--resume_from_checkpoint true` goes on
    eval.json            the model after training, and samples.jsonl; of several tasks also eval.{task}.json for each
    process.json         the process that makes it
    run.json             written last: the run is done
    tensorboard/, wandb.json     where such a logger was asked for

What is written whole appears whole; what is appended to is on the disk before `run.json` is.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from peft import PeftModel
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation import Evaluation, evaluate
from maxrl.evaluation.files import atomic_text, sync_file
from maxrl.experiments.callbacks import (
    DiagnosticsFile,
    LatestSamples,
    MetricsFile,
    ProgressBar,
    StopOnInterrupt,
)
from maxrl.experiments.data import Data, load_data
from maxrl.experiments.environment import device_name, read_environment, write_environment
from maxrl.experiments.folders import claim_folder, run_record, write_recipe
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.loggers import Loggers, check_loggers
from maxrl.experiments.mixtures import by_task
from maxrl.experiments.pages import new_progress
from maxrl.experiments.patience import Patience
from maxrl.experiments.periodic import EvaluatesWhileTraining
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import Recipe
from maxrl.experiments.records import RunRecord
from maxrl.experiments.sharded import check_sharding, is_spread, loading_whole
from maxrl.experiments.store import EVALS_FILE, LATEST_FILE
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.experiments.store.processes import record_process, recorded_process
from maxrl.experiments.store.pruning import prune_checkpoints
from maxrl.tasks.mixture import Mixture
from maxrl.training import MaxRLTrainer


def train_run(recipe: Recipe, *, console: Console | None = None) -> RunRecord:
    """Train as the recipe says, evaluate before and after, and leave everything in `output_dir`.

    With several processes every one of them calls this; the first one writes the files and evaluates.

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
    check_loggers(recipe)
    data = load_data(recipe)
    checkpoint = _claim_on_first(recipe, folder)
    with Loggers(recipe, folder, resumed=checkpoint is not None) as loggers:
        policy = prepare_policy(recipe, progress=announce_warm_start(recipe, console))
        patience = Patience()
        trainer = _trainer(recipe, policy, folder, data, loggers, patience)
        if trainer.is_world_process_zero():
            _record_environment(recipe, trainer, folder, checkpoint, console)
        if recipe.run.eval_before_training:
            _evaluate_on_first(recipe, policy, trainer, folder, console, "_before", patience)
        if checkpoint:
            console.print(f"resuming from {checkpoint}")
        with StopOnInterrupt() as stop, ProgressBar(console) as bar:
            trainer.add_callback(stop)
            trainer.add_callback(bar)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            # A launcher ends the others with the first process that fails, whatever they have still to upload.
            trainer.accelerator.wait_for_everyone()
        if stop.interrupted:
            raise Interrupted(
                f"interrupted at step {trainer.state.global_step}; go on with the same command and "
                "--resume_from_checkpoint true"
            )
        trainer.save_model(str(folder))
        after = _evaluate_on_first(recipe, policy, trainer, folder, console, "", patience)
        loggers.finish(after, trainer.state.global_step)
    return _finish(recipe, folder, trainer, after)


def _claim_on_first(recipe: Recipe, folder: Path) -> Path | None:
    """Have the first process claim the folder; every process learns what became of it, and the checkpoint."""
    answer: list[Any] = [None, None]
    if recipe.training.process_index == 0:
        try:
            _refuse_second_writer(folder)
            answer[0] = claim_folder(recipe, folder)
            write_recipe(recipe, folder)
            record_process(folder)
        except (InputError, OSError) as error:  # the others must not wait for an answer that never comes
            answer[1] = str(error)
    if recipe.training.world_size > 1:
        broadcast_object_list(answer)
    checkpoint, refusal = answer
    if refusal is not None:
        raise InputError(refusal)
    return checkpoint


def _refuse_second_writer(folder: Path) -> None:
    """Two processes must not make one run. Of another machine's process nothing is known for certain."""
    process = recorded_process(folder)
    if process is not None and process.alive and process.pid != os.getpid():
        raise InputError(
            f"{folder} is being made by process {process.pid}: wait for it, stop it, or give another output_dir"
        )


def _record_environment(
    recipe: Recipe, trainer: MaxRLTrainer, folder: Path, checkpoint: Path | None, console: Console
) -> None:
    """Write `environment.json`; say where a run goes on with other back-ends than before."""
    backends = {
        "rollout_backend": "vllm" if trainer.use_vllm else "engine" if trainer.engine else "transformers",
        "update_backend": "engine" if trainer.packed else "transformers",
    }
    before = read_environment(checkpoint.parent) if checkpoint else {}
    changes = [
        f"{name} was {before[name]} and is now {backend}"
        for name, backend in backends.items()
        if before.get(name, backend) != backend
    ]
    if changes:
        console.print(f"other back-ends than until {checkpoint}: {', '.join(changes)}")
    facts = {
        "device": device_name(trainer.accelerator.device),
        "precision": _precision(trainer),
        "processes": str(trainer.args.world_size),
        **backends,
        # The seed of the problems follows from that of the run where none is given, and the recipe does not say so.
        "seeds": f"run {trainer.args.seed}, problems {recipe.task_seed}, evaluation {recipe.evaluation.eval_seed}",
    }
    write_environment(folder, facts)


def _precision(trainer: MaxRLTrainer) -> str:
    weights = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    mixed = {"bf16": "bfloat16", "fp16": "float16"}.get(trainer.accelerator.mixed_precision)
    return f"{weights} weights, computed in {mixed}" if mixed else weights


def _evaluate_on_first(
    recipe: Recipe,
    policy: Policy,
    trainer: MaxRLTrainer,
    folder: Path,
    console: Console,
    label: str,
    patience: Patience,
) -> Evaluation | None:
    """Evaluate in the first process while the others wait; None there, and for a run on a data set.

    A run that is resumed keeps its evaluation before training. Only the first process looks whether there is one: it
    may have written it before the others come to look, and then they would not meet.
    """
    result = None
    kept = label == "_before" and (folder / "eval_before.json").is_file()
    if recipe.task is not None and trainer.is_world_process_zero() and not kept:
        # Without the mixed precision that training puts around it: before, after and `maxrl eval` measure alike.
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        if is_spread(model):  # its source before training, what was saved after it
            with loading_whole(trainer.accelerator):
                model = policy.load(recipe.model_name if label else str(folder))
        result = evaluate_policy(recipe, policy, folder, console, trained=model, label=label)
    patience.wait_for_everyone()
    return result


def announce_warm_start(recipe: Recipe, console: Console) -> Callable[[int, float], None]:
    """Prints how far the warm start of a tiny model is."""
    target = recipe.warm_start.warm_start_pass_rate

    def announce(step: int, pass_rate: float) -> None:
        console.print(f"warm start: step {step}, pass rate {pass_rate:.3f} of {target}")

    return announce


def evaluate_policy(
    recipe: Recipe, policy: Policy, folder: Path, console: Console, *, trained: Any = None, label: str = ""
) -> Evaluation:
    """Evaluate a policy on the recipe's task and leave `eval{label}.json` and `samples{label}.jsonl`.

    Of several tasks each leaves `eval{label}.{task}.json`, too.
    """
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
    parts = by_task(result, recipe.task) if isinstance(recipe.task, Mixture) else {}
    for name, evaluation in {"": result, **{f".{part}": own for part, own in parts.items()}}.items():
        with atomic_text(folder / f"eval{label}{name}.json") as sink:
            json.dump(evaluation.to_dict(), sink, indent=1)
    return result


def _trainer(
    recipe: Recipe, policy: Policy, folder: Path, data: Data, loggers: Loggers, patience: Patience
) -> MaxRLTrainer:
    train_dataset, eval_dataset, rewards = data
    if policy.peft_config is not None and isinstance(policy.model, PeftModel):
        raise InputError(
            f"{recipe.model_name} holds an adapter already, which would go on being trained; leave out use_peft "
            "(--use_peft false), or name the base model for a new adapter"
        )
    # The policy is made already; handing its options on would only draw a warning that they are not used.
    recipe.training.model_init_kwargs = None
    metrics = MetricsFile(folder / "metrics.jsonl")
    try:
        trainer = MaxRLTrainer(
            model=policy.model,
            reward_funcs=rewards,
            args=recipe.training,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=policy.tokenizer,
            peft_config=policy.peft_config,
            callbacks=[metrics],
        )
    except InputError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:  # here TRL checks what options mean and need
        raise InputError(str(error).strip().splitlines()[0]) from error
    check_sharding(trainer.accelerator, recipe)
    trainer.add_callback(DiagnosticsFile(folder / "diagnostics.jsonl", trainer))
    trainer.add_callback(LatestSamples(folder / LATEST_FILE, trainer))
    if recipe.run.eval_every is not None:
        trainer.add_callback(
            EvaluatesWhileTraining(folder / EVALS_FILE, recipe, policy, trainer, metrics, patience)
        )
    loggers.watch(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def training_cost(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a run has cost: `training_seconds`, and the `rollouts` and `completion_tokens` that the trainer counted.

    The trainer counts everything that it samples, whether it trains on it or not.
    """
    return {
        "training_seconds": metrics[-1]["elapsed"] if metrics else 0.0,
        **{
            name: int(max((row.get(name, 0) for row in metrics), default=0))  # evaluations log no counts
            for name in ("rollouts", "completion_tokens")
        },
    }


def complete_metrics(folder: Path, steps: int) -> list[dict[str, Any]]:
    """The metrics of a run that has come to its last step, on the disk for good, with everything else that was appended.

    Raises:
        MaxRLError: they end before that step: what the run says of itself would not be true.
    """
    for name in ("metrics.jsonl", "diagnostics.jsonl", EVALS_FILE):
        sync_file(folder / name)
    metrics = read_metrics(folder / "metrics.jsonl")
    last = max((row["step"] for row in metrics), default=0)
    if last < steps:
        raise MaxRLError(
            f"{folder / 'metrics.jsonl'} ends at step {last}, but the run at step {steps}: it does not count as done. "
            "Was the file changed, or is the disk full? Go on from the last checkpoint with --resume_from_checkpoint true"
        )
    return metrics


def _finish(recipe: Recipe, folder: Path, trainer: MaxRLTrainer, after: Evaluation | None) -> RunRecord:
    """Write `run.json`, by which the run counts as done, and read the record back from the folder.

    Raises:
        MaxRLError: the metrics on the disk do not reach the last step.
    """
    if trainer.is_world_process_zero():
        steps = trainer.state.global_step
        metrics = complete_metrics(folder, steps)
        summary = {
            "estimator": recipe.training.advantage_estimator,
            "seed": recipe.training.seed,
            "steps": steps,
            **training_cost(metrics),
            "pass_at_k": {entry.k: entry.estimate for entry in after.pass_at_k} if after else None,
        }
        with atomic_text(folder / "run.json") as sink:
            json.dump(summary, sink, indent=2)
        prune_checkpoints(folder, recipe.run.keep_checkpoints)
    trainer.accelerator.wait_for_everyone()
    return run_record(folder, folder.parent)
