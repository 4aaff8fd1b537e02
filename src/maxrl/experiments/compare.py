"""Fair comparisons: the same warm start, problems, order and seeds for every estimator, evaluated alike.

output_dir/
    before/              the warm start's evaluation
    maxrl-seed0/ …       one run folder per estimator and seed
    comparison.json      everything the report shows
    report.html, report.md
"""

import json
import multiprocessing
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.progress import Progress

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.callbacks import new_progress, read_metrics
from maxrl.experiments.environment import describe_environment
from maxrl.experiments.policies import prepare_policy
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import Fields, Recipe, make_recipe, resolved_fields, to_yaml
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.report import write_report
from maxrl.experiments.runs import evaluate_policy, last_checkpoint, run_record, train_run, training_cost


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """What a comparison compares."""

    estimators: list[str] = field(
        default_factory=lambda: ["maxrl", "grpo"],
        metadata={"help": "Estimators to compare; the first is compared with each of the others."},
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1], metadata={"help": "Every estimator is trained once with each seed."}
    )
    jobs: int | None = field(
        default=None,
        metadata={
            "help": "Runs at a time; by default one per processor core, or per GPU where there is one."
        },
    )

    def __post_init__(self) -> None:
        for name in ("estimators", "seeds"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} must name at least one")
            if len(set(values)) < len(values):
                raise InputError(f"{name} names something twice: {', '.join(map(str, values))}")
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"jobs must be at least 1, but is {self.jobs}")


@dataclass(frozen=True)
class _Arm:
    """One run to be made."""

    estimator: str
    seed: int
    folder: Path
    fields: Fields


def compare(given: Fields, *, command: str, console: Console | None = None) -> tuple[Comparison, Path]:
    """Train and evaluate every estimator with every seed, and write the report.

    Idempotent: runs that are done are not done again, runs that died are resumed from their checkpoint. A run that
    fails stays as a row with its error; the others go on.

    Args:
        given: fields of a recipe, and of `CompareArguments`.
        command: how to repeat it, for the report.
        console: where progress goes; None for silence.

    Returns:
        The comparison, and the path of `report.html`.

    Raises:
        InputError: the fields of any run cannot be used; nothing has been started then.
    """
    console = console or Console(quiet=True)
    started = time.perf_counter()
    names = {item.name for item in fields(CompareArguments)}
    arguments = CompareArguments(**{name: value for name, value in given.items() if name in names})
    base = {name: value for name, value in given.items() if name not in names}
    base.setdefault("output_dir", "runs/compare")
    root = Path(base["output_dir"])
    arms = _plan(arguments, base, root)
    shared = make_recipe({**base, "output_dir": str(root / "before")})
    if shared.task is None:
        raise InputError("compare evaluates on a task: name one with --task")
    _clear_or_keep(shared, arms)

    before, runs = _run_all(arms, shared, _jobs(arguments, len(arms)), console)
    comparison = Comparison(
        title=f"{' and '.join(arguments.estimators)} on {shared.task.name}",
        command=command,
        settings=_shared_settings(shared),
        arms=tuple(arguments.estimators),
        before=before,
        runs=tuple(runs),
        seconds=time.perf_counter() - started,
        environment=describe_environment(),
    )
    with atomic_text(root / "comparison.json") as sink:
        json.dump(comparison.to_dict(), sink)
    return comparison, write_report(comparison, root)[0]


def _plan(arguments: CompareArguments, base: Fields, root: Path) -> list[_Arm]:
    """Every run, its recipe checked. Seeds are the outer loop, so that an early look has all arms in it."""
    arms: list[_Arm] = []
    for seed in arguments.seeds:
        for estimator in arguments.estimators:
            folder = root / f"{estimator}-seed{seed}"
            run_fields = {
                **base,
                "advantage_estimator": estimator,
                "seed": seed,
                "output_dir": str(folder),
                "eval_before_training": False,
            }
            run_fields.pop("overwrite_output_dir", None)
            make_recipe(run_fields)
            arms.append(_Arm(estimator, seed, folder, run_fields))
    return arms


def _clear_or_keep(shared: Recipe, arms: list[_Arm]) -> None:
    """With `overwrite_output_dir`, remove what an earlier comparison left; else refuse runs of other settings."""
    before = Path(shared.training.output_dir)
    if shared.run.overwrite_output_dir:
        for folder in [before, *(arm.folder for arm in arms)]:
            shutil.rmtree(folder, ignore_errors=True)
        return
    planned = {arm.folder: make_recipe(arm.fields) for arm in arms} | {before: shared}
    for folder, recipe in planned.items():
        config = folder / "config.yaml"
        if config.is_file() and yaml.safe_load(config.read_text()) != _plain(resolved_fields(recipe)):
            raise InputError(
                f"{folder} holds a run with other settings; replace it with --overwrite_output_dir, or choose another "
                "--output_dir"
            )


def _plain(values: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(values, default=str))


def _shared_settings(shared: Recipe) -> Fields:
    settings = resolved_fields(shared)
    for name in ("advantage_estimator", "seed", "output_dir", "eval_before_training"):
        settings.pop(name, None)
    return settings


def _jobs(arguments: CompareArguments, runs: int) -> int:
    if arguments.jobs is not None:
        return arguments.jobs
    if torch.cuda.is_available():
        return 1
    return max(1, min(runs, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))


def _run_all(
    arms: list[_Arm], shared: Recipe, jobs: int, console: Console
) -> tuple[Evaluation, list[RunRecord]]:
    """The warm start's evaluation and the record of every run, made by `jobs` processes."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Workers read it when they import torch. More threads than cores stall all of them.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    root = Path(shared.training.output_dir).parent
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_start_worker, initargs=(threads,)
    ) as pool:
        for _ in range(jobs):
            pool.submit(os.getpid)  # the workers import while the warm start is made
        _make_warm_start(shared, console)
        evaluating = pool.submit(_evaluate_before, dict(shared.given))
        training = {pool.submit(_train, arm): arm for arm in arms}
        try:
            _watch({evaluating, *training}, training, console)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # each worker finishes its step and saves
            raise
    before = evaluating.result()
    return before, [_record(future, arm, root) for future, arm in training.items()]


def _start_worker(threads: int) -> None:
    quiet_libraries()
    torch.set_num_threads(threads)


def _make_warm_start(shared: Recipe, console: Console) -> None:
    """In this process, so that the workers find it in the cache."""
    target = shared.warm_start.warm_start_pass_rate
    prepare_policy(
        shared,
        progress=lambda step, rate: console.print(
            f"warm start: step {step}, pass rate {rate:.3f} of {target}"
        ),
    )


def _evaluate_before(given: Fields) -> Evaluation:
    recipe = make_recipe(given)
    folder = Path(recipe.training.output_dir)
    path = folder / "eval.json"
    if path.is_file():
        return Evaluation.load(path)
    with atomic_text(folder / "config.yaml") as sink:
        sink.write(to_yaml(resolved_fields(recipe)))
    return evaluate_policy(recipe, prepare_policy(recipe), folder, Console(quiet=True))


def _train(arm: _Arm) -> RunRecord:
    """In a worker: make a run, or finish it, or read it."""
    if (arm.folder / "run.json").is_file():
        return run_record(arm.folder, arm.folder.parent)
    run_fields = dict(arm.fields)
    if last_checkpoint(arm.folder) is not None:
        run_fields["resume_from_checkpoint"] = "true"
    else:
        run_fields["overwrite_output_dir"] = True  # what a killed process left before its first checkpoint
    try:
        return train_run(make_recipe(run_fields))
    except Exception:
        arm.folder.mkdir(parents=True, exist_ok=True)
        (arm.folder / "error.txt").write_text(traceback.format_exc())
        raise


def _record(future: Future[RunRecord], arm: _Arm, root: Path) -> RunRecord:
    """What a run left, or the row of a run that failed."""
    error = future.exception()
    if error is None:
        return future.result()
    metrics = read_metrics(arm.folder / "metrics.jsonl")
    steps = int(metrics[-1]["step"]) if metrics else 0
    return RunRecord(
        estimator=arm.estimator,
        seed=arm.seed,
        folder=os.path.relpath(arm.folder, root),
        status="failed",
        error=f"{type(error).__name__}: {error}",
        metrics=tuple(metrics),
        **training_cost(make_recipe(arm.fields), steps, metrics),  # pyright: ignore[reportArgumentType]
    )


def _watch(pending: set[Future[Any]], training: dict[Future[RunRecord], _Arm], console: Console) -> None:
    """Show how far every run is, from the metrics it writes, until all are done."""
    if not console.is_terminal:
        announced: set[Future[Any]] = set()
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when="FIRST_COMPLETED")
            for future in (done & training.keys()) - announced:
                announced.add(future)
                state = "failed" if future.exception() else "done"
                console.print(f"{training[future].folder.name}: {state}", soft_wrap=True)
        return
    with new_progress(console) as progress:
        bars = {future: _bar(progress, arm) for future, arm in training.items()}
        while pending:
            _, pending = wait(pending, timeout=0.5)
            for future, arm in training.items():
                _update(progress, bars[future], arm)


def _bar(progress: Progress, arm: _Arm) -> Any:
    total = make_recipe(arm.fields).training.max_steps
    return progress.add_task(arm.folder.name, total=total if total > 0 else None, note="")


def _update(progress: Progress, bar: Any, arm: _Arm) -> None:
    rows = read_metrics(arm.folder / "metrics.jsonl")
    if rows:
        row = rows[-1]
        note = f"success {row.get('success_rate', float('nan')):.3f}"
        progress.update(bar, completed=row["step"], note=note)
