"""Fair comparisons: the same warm start, problems, order and seeds for every estimator, evaluated alike.

output_dir/
    before/              the warm start's evaluation
    maxrl-seed0/ …       one run folder per estimator and seed; maxrl-order-16-seed0 for maxrl(order=16)
    comparison.json      everything the report shows
    report.html, report.md
"""

import json
import os
import shutil
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console

from maxrl.engine import available_cores
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.data import load_data
from maxrl.experiments.environment import computing_on, runs_environment
from maxrl.experiments.folders import differing_fields, run_record
from maxrl.experiments.pages import new_progress
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import Fields, Recipe, folder_name, make_recipe, resolved_fields, to_yaml
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.report import write_report
from maxrl.experiments.runs import announce_warm_start, evaluate_policy, training_cost
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.experiments.workers import Job, run_jobs
from maxrl.objectives import AnyEstimator


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """What a comparison compares."""

    estimators: list[str] = field(
        default_factory=lambda: ["maxrl", "grpo"],
        metadata={
            "help": "Estimators to compare, with options as maxrl(order=16), or your own as module:function; the first is "
            "compared with each of the others."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1], metadata={"help": "Every estimator is trained once with each seed."}
    )
    jobs: int | None = field(
        default=None,
        metadata={
            "help": "Runs at a time; by default one per processor core, or just one where there is a GPU."
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
        KeyboardInterrupt: Ctrl-C; the same command (without `overwrite_output_dir`) goes on.
    """
    console = console or Console(quiet=True)
    started = time.perf_counter()
    arguments, shared, jobs = plan_comparison(given)
    root = Path(shared.training.output_dir).parent
    _clear_or_keep(shared, jobs)
    spent = _seconds_spent(root) if any(job.done for job in jobs) else 0.0

    all_done = all(job.done for job in jobs)
    at_once = _at_once(arguments, len(jobs))
    threads = shared.run.cpu_threads or max(1, available_cores() // at_once)
    with computing_on(threads):
        before = _run_all(jobs, shared, at_once, threads, console)
        environment = runs_environment(job.folder for job in jobs)
    comparison = Comparison(
        title=f"{' and '.join(arguments.estimators)} on {shared.task.name}",
        command=command,
        settings=shared_settings(shared, given),
        arms=tuple(arguments.estimators),
        before=before,
        runs=tuple(_record(job, root) for job in jobs),
        seconds=spent if all_done and spent else spent + time.perf_counter() - started,
        environment=environment,
    )
    with atomic_text(root / "comparison.json") as sink:
        json.dump(comparison.to_dict(), sink)
    return comparison, write_report(comparison, root)[0]


def plan_comparison(given: Fields) -> tuple[CompareArguments, Recipe, list[Job]]:
    """What is compared, the recipe of the warm start's evaluation, and every run; all checked, nothing started.

    Seeds are the outer loop of the runs, so that an early look has all arms in it.

    Raises:
        InputError: the fields of any run cannot be used, or two estimators are one in two spellings.
    """
    if "stages" in given:
        raise InputError(
            "compare cannot train in stages yet: leave out stages, or make each run with `maxrl train`; where the stages "
            "differ in the estimator alone, the estimator hybrid(first=…, then=…, steps=…) can be an arm"
        )
    own = [
        str(entry.get("name") or entry.get("task"))
        for entry in given.get("tasks", [])
        if _OF_AN_ARM & entry.keys()
    ]
    if own:
        raise InputError(
            f"compare gives every task the arm's estimator, but {', '.join(own)} names its own: leave it out of tasks"
        )
    names = {item.name for item in fields(CompareArguments)}
    arguments = CompareArguments(**{name: value for name, value in given.items() if name in names})
    base = {name: value for name, value in given.items() if name not in names}
    base.setdefault("output_dir", "runs/compare")
    root = Path(base["output_dir"])
    _check_arms(arguments.estimators, base)
    jobs: list[Job] = []
    for seed in arguments.seeds:
        for estimator in arguments.estimators:
            folder = root / f"{folder_name(estimator)}-seed{seed}"
            run_fields = {
                **base,
                "advantage_estimator": estimator,
                "seed": seed,
                "output_dir": str(folder),
                "eval_before_training": False,
            }
            run_fields.pop("overwrite_output_dir", None)
            load_data(make_recipe(run_fields))
            jobs.append(Job(run_fields, folder))
    # The warm start knows no estimator, and the arms' options need not be those of the default one.
    without = {name: value for name, value in base.items() if name not in _OF_AN_ARM}
    shared = make_recipe({**without, "output_dir": str(root / "before")})
    if shared.task is None:
        raise InputError("compare evaluates on a task: name one with --task")
    return arguments, shared, jobs


_OF_AN_ARM = {"advantage_estimator", "advantage_estimator_kwargs"}


def _check_arms(estimators: list[str], base: Fields) -> None:
    """Refuse an estimator that cannot be trained with these fields, and one that is another in other words."""
    seen: dict[str, AnyEstimator] = {}
    for spec in estimators:
        estimator = _estimator(spec, base)
        for other, same in seen.items():
            if estimator == same:
                raise InputError(f"estimators names something twice: {other} and {spec} are the same")
        seen[spec] = estimator


def _estimator(spec: str, base: Fields) -> AnyEstimator:
    arm = {**base, "advantage_estimator": spec}
    try:
        return make_recipe(arm).training.estimator()
    except InputError as error:
        options = arm.pop("advantage_estimator_kwargs", None)
        if options is None:
            raise
        make_recipe(arm)  # raises here where the options are not to blame
        raise InputError(
            f"advantage_estimator_kwargs ({options}) go to every arm, which {spec} cannot take ({error}); give each arm its "
            "own, as maxrl(order=16)"
        ) from error


def _clear_or_keep(shared: Recipe, jobs: list[Job]) -> None:
    """With `overwrite_output_dir`, remove what an earlier comparison left; else refuse runs of other settings."""
    before = Path(shared.training.output_dir)
    if shared.run.overwrite_output_dir:
        for folder in [before, *(job.folder for job in jobs)]:
            if folder.is_dir():
                shutil.rmtree(folder)
        return
    planned = {job.folder: make_recipe(job.fields) for job in jobs} | {before: shared}
    for folder, recipe in planned.items():
        different = differing_fields(recipe, folder)
        if different:
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(different)}); replace it with "
                "--overwrite_output_dir, or choose another --output_dir"
            )


def _seconds_spent(root: Path) -> float:
    """Wall time of the earlier calls that made the runs that are kept."""
    path = root / "comparison.json"
    return json.loads(path.read_text())["seconds"] if path.is_file() else 0.0


def shared_settings(shared: Recipe, given: Fields) -> Fields:
    """What all runs have in common, of a plan and of the fields it was made from."""
    settings = resolved_fields(shared)
    for name in ("advantage_estimator", "seed", "output_dir", "eval_before_training"):
        settings.pop(name, None)
    if options := given.get("advantage_estimator_kwargs"):
        settings["advantage_estimator_kwargs"] = options
    return settings


def _at_once(arguments: CompareArguments, runs: int) -> int:
    if arguments.jobs is not None:
        return arguments.jobs
    if torch.cuda.is_available():
        return 1
    return max(1, min(runs, available_cores()))


def _run_all(jobs: list[Job], shared: Recipe, at_once: int, threads: int, console: Console) -> Evaluation:
    """Make every run; meanwhile, in this process, evaluate the warm start they all begin with."""
    policy = prepare_policy(shared, progress=announce_warm_start(shared, console))
    found: list[Evaluation] = []
    with _Watch(jobs, console) as watch:
        run_jobs(
            jobs,
            at_once=at_once,
            threads=threads,
            meanwhile=lambda: found.append(_evaluate_before(shared, policy)),
            look=watch.look,
        )
    return found[0]


def _evaluate_before(shared: Recipe, policy: Policy) -> Evaluation:
    folder = Path(shared.training.output_dir)
    if (folder / "eval.json").is_file():
        return Evaluation.load(folder / "eval.json")
    with atomic_text(folder / "config.yaml") as sink:
        sink.write(to_yaml(resolved_fields(shared)))
    return evaluate_policy(shared, policy, folder, Console(quiet=True))


def _record(job: Job, root: Path) -> RunRecord:
    """What a run left, or the row of a run that failed."""
    if job.done:
        return run_record(job.folder, root)
    metrics = read_metrics(job.folder / "metrics.jsonl")
    return RunRecord(
        estimator=job.fields["advantage_estimator"],
        seed=job.fields["seed"],
        folder=os.path.relpath(job.folder, root),
        status="failed",
        error=job.error(),
        metrics=tuple(metrics),
        **training_cost(metrics),  # pyright: ignore[reportArgumentType]
    )


class _Watch:
    """Shows how far every run is, from the metrics it writes."""

    def __init__(self, jobs: list[Job], console: Console) -> None:
        self.jobs = jobs
        self.console = console
        self.announced: set[Path] = set()
        self.progress = new_progress(console) if console.is_terminal else None
        self.bars: dict[Path, Any] = {}

    def __enter__(self) -> Self:
        if self.progress:
            for job in self.jobs:
                total = make_recipe(job.fields).training.max_steps
                self.bars[job.folder] = self.progress.add_task(
                    job.folder.name, total=total if total > 0 else None, note=""
                )
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def look(self) -> None:
        """Bring the display up to date."""
        for job in self.jobs:
            if self.progress:
                rows = read_metrics(job.folder / "metrics.jsonl")
                if rows:
                    note = "done" if job.done else f"success {rows[-1].get('success_rate', float('nan')):.3f}"
                    self.progress.update(self.bars[job.folder], completed=rows[-1]["step"], note=note)
            ended = job.done or (job.process is not None and job.process.exitcode is not None)
            if ended and job.folder not in self.announced:
                self.announced.add(job.folder)
                if not self.progress or not job.done:
                    self.console.print(
                        f"{job.folder.name}: {'done' if job.done else 'failed: ' + job.error()}"
                    )
