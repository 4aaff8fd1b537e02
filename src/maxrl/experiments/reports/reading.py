"""A run's files as the page needs them: small arrays, so that hundreds of runs fit into memory.

Array suffixes: `T` logged rows, `P` problems, `C` classes of pass rates.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxrl.errors import InputError
from maxrl.evaluation.records import Evaluation
from maxrl.experiments.intervals import Array
from maxrl.experiments.store import State, StoredRun
from maxrl.experiments.store.metrics_file import read_metrics

METRICS = (
    "success_rate",
    "reward",
    "groups/dead",
    "groups/live",
    "groups/mastered",
    "frac_reward_zero_mean",
    "frac_reward_all_success",
    "entropy",
)
"""What is read of `metrics.jsonl`, besides the axes."""

AXES = {
    "step": "training step",
    "rollouts": "rollouts",
    "completion_tokens": "completion tokens",
    "elapsed": "seconds of training",
}
"""Budgets: keys of `metrics.jsonl`, and their names."""

CLASSES = ("none", "up to 20 %", "20–40 %", "40–60 %", "60–80 %", "80 % and more", "all")
"""Groups by K/N: no rollout succeeded (dead), five classes open at 0 and closed at their upper end, all (mastered)."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Verdicts of an evaluation."""

    ids: tuple[str, ...]
    """Of the problems, sorted; the arrays are in their order."""
    scored_P: NDArray[np.int64]
    correct_P: NDArray[np.int64]
    greedy_P: Array
    """1 or 0; NaN where unknown."""
    ks: tuple[int, ...]
    confidence: float
    errors: int
    truncated: int
    seconds: float
    measured: str
    """Task, sampling and seed, as canonical JSON: what has to agree besides the ids for problems to be the same."""

    @property
    def same_problems(self) -> tuple[str, tuple[str, ...]]:
        """Equal for two evaluations exactly where they may be paired."""
        return self.measured, self.ids


@dataclass(frozen=True, kw_only=True)
class RunData:
    """One run."""

    name: str
    """Of its folder, below what all runs have in common."""
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    state: State
    error: str | None
    columns: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Columns of `metrics.jsonl`, (T,) each, NaN where a row has no such figure; `step` is always there."""
    class_steps_T: Array = field(default_factory=lambda: np.empty(0))
    classes_TC: Array = field(default_factory=lambda: np.empty((0, len(CLASSES))))
    """Groups of each generation in each of `CLASSES`."""
    after: Counts | None = None
    before: Counts | None = None

    def last(self, column: str) -> float:
        """The largest value of a column, as of what a run has used; 0 where there is none."""
        values = self.columns.get(column, np.empty(0))
        known = values[np.isfinite(values)]
        return float(known.max()) if len(known) else 0.0


def read_runs(runs: Sequence[StoredRun]) -> list[RunData]:
    """Read what the page needs of each run.

    Raises:
        InputError: a file is damaged; the message names it.
    """
    warm_starts: dict[Path, Counts | None] = {}
    names = short_names([run.folder for run in runs])
    return [_read_run(run, name, warm_starts) for run, name in zip(runs, names, strict=True)]


def _read_run(run: StoredRun, name: str, warm_starts: dict[Path, Counts | None]) -> RunData:
    steps_T, classes_TC = _classes(run.folder / "diagnostics.jsonl")
    before = _counts(run.before, run.folder / "eval_before.json")
    if before is None:  # a comparison evaluates the warm start once for all its runs
        shared = run.folder.parent / "before"
        if shared not in warm_starts:
            warm_starts[shared] = _counts(StoredRun(shared).evaluation, shared / "eval.json")
        before = warm_starts[shared]
    return RunData(
        name=name,
        config=run.config,
        environment=_environment(run),
        state=run.state,
        error=run.error,
        columns=_columns(run.folder / "metrics.jsonl"),
        class_steps_T=steps_T,
        classes_TC=classes_TC,
        after=_counts(run.evaluation, run.folder / "eval.json"),
        before=before,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = read_metrics(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int | float):
            raise InputError(f"{path}, line {number} is damaged (it names no step); mend or remove the file")
    return rows


def _columns(path: Path) -> dict[str, Array]:
    rows = _rows(path)
    found = {name: _numbers([row.get(name) for row in rows]) for name in (*AXES, *METRICS)}
    return {name: values for name, values in found.items() if name == "step" or np.isfinite(values).any()}


def _numbers(values: list[Any]) -> Array:
    """NaN for what is none, or not finite."""
    try:
        numbers = np.array(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        numbers = np.array([v if isinstance(v, int | float) else np.nan for v in values], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


_HISTOGRAM = re.compile(
    r'^\{"step": (\d+), .*?"k_histogram": \[(\d+(?:, \d+)*)\], "pass_rates": \{.*\}\}$', re.MULTILINE
)
"""A row of `diagnostics.jsonl` as runs write it: of the rest, which is long, nothing is needed here."""


def _classes(path: Path) -> tuple[Array, Array]:
    """Steps, and groups per class of each generation; N may change from row to row."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = _HISTOGRAM.findall(text)
    if found and len(found) == text.count("\n"):
        steps_T = np.array([step for step, _ in found], dtype=np.float64)
        widths_T = np.array([counts.count(",") + 1 for _, counts in found])
        numbers = np.fromstring(",".join(counts for _, counts in found), dtype=np.int64, sep=",")
    else:
        rows = [row for row in _rows(path) if row.get("k_histogram")]
        if not rows:
            return np.empty(0), np.empty((0, len(CLASSES)))
        steps_T = np.array([row["step"] for row in rows], dtype=np.float64)
        try:
            widths_T = np.array([len(row["k_histogram"]) for row in rows])
            numbers = np.concatenate([np.array(row["k_histogram"], dtype=np.float64) for row in rows])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged (a k_histogram is no list of numbers: {error})") from error
    starts_T = np.cumsum(widths_T) - widths_T
    classes_TC = np.empty((len(steps_T), len(CLASSES)))
    for width in np.unique(widths_T):
        own = widths_T == width
        classes_TC[own] = numbers[starts_T[own][:, None] + np.arange(width)] @ _class_of(int(width) - 1)
    return steps_T, classes_TC


@cache
def _class_of(rollouts: int) -> Array:
    """(N + 1, C): 1 where K successes of N fall into the class."""
    successes = np.arange(rollouts + 1)
    places = np.where(successes == rollouts, len(CLASSES) - 1, -((-5 * successes) // max(1, rollouts)))
    return np.eye(len(CLASSES))[places]


def _environment(run: StoredRun) -> Mapping[str, str]:
    """Without the seeds, which are the run's and not its surroundings'."""
    try:
        return {name: value for name, value in run.environment.items() if name != "seeds"}
    except ValueError as error:
        raise InputError(
            f"{run.folder / 'environment.json'} is damaged ({error}); remove it to go on without"
        ) from error


_COUNTS_NOT_PROBLEMS = {"eval_samples", "eval_ks", "eval_greedy", "eval_problems"}


def _counts(evaluation: Evaluation | None, path: Path) -> Counts | None:
    if evaluation is None:
        return None
    problems = sorted(evaluation.problems, key=lambda problem: problem.id)
    ids = tuple(problem.id for problem in problems)
    if len(set(ids)) != len(ids):
        raise InputError(f"{path} names a problem twice; measure the run anew with `maxrl eval`")
    settings = {
        name: value for name, value in evaluation.settings.items() if name not in _COUNTS_NOT_PROBLEMS
    }
    return Counts(
        ids=ids,
        scored_P=np.array([problem.scored for problem in problems], dtype=np.int64),
        correct_P=np.array([problem.correct for problem in problems], dtype=np.int64),
        greedy_P=np.array(
            [np.nan if p.greedy_success is None else float(p.greedy_success) for p in problems]
        ),
        ks=tuple(sorted(entry.k for entry in evaluation.pass_at_k)),
        confidence=evaluation.confidence,
        errors=sum(problem.errors for problem in problems),
        truncated=sum(problem.truncated for problem in problems),
        seconds=evaluation.seconds,
        measured=json.dumps(settings, sort_keys=True, default=str),
    )


def short_names(folders: Iterable[Path]) -> list[str]:
    """Each folder's path below the deepest folder that holds them all; the name alone of a single one."""
    paths = [folder.resolve() for folder in folders]
    if len(paths) == 1:
        return [paths[0].name]
    common = common_folder(paths)
    return [path.relative_to(common).as_posix() for path in paths]


def common_folder(folders: Sequence[Path]) -> Path:
    """The deepest folder that all of them lie in."""
    paths = [folder.resolve() for folder in folders]
    parents = [path.parent for path in paths]
    common = parents[0]
    while not all(parent.is_relative_to(common) for parent in parents):
        common = common.parent
    return common
