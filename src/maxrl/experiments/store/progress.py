"""How far a run is: its phase, speed and time left, and its figures as they went, from its folder alone."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from maxrl.experiments.store.stored import StoredRun

RECENT_ROWS = 20
"""Rows of metrics over which speed is measured: long enough to be steady, short enough to be of now."""

SPARK_WIDTH = 40

EVALUATES_MEANWHILE = "evaluating while training"
"""A phase."""

_BARS = "▁▂▃▄▅▆▇█"


def phase(run: StoredRun) -> str:
    """What a run is at: its state, and of one that is running what it does."""
    state = run.state
    if state != "running":
        return state
    if _evaluates_meanwhile(run):
        return EVALUATES_MEANWHILE
    if not run.metrics:
        if not run.environment:
            return "starting"
        wanted = run.config.get("eval_before_training", True) and "task" in run.config
        return "evaluating before training" if wanted and run.before is None else "training"
    return "evaluating" if run.max_steps and run.step >= run.max_steps else "training"


def _evaluates_meanwhile(run: StoredRun) -> bool:
    # A step's generation is recorded when the step ends and its figures when the evaluation (`eval_every`) is over.
    every = run.config.get("eval_every")
    if not every or not run.diagnostics:
        return False
    step = run.diagnostics[-1]["step"]
    return step % every == 0 and step > max(run.step, run.evals[-1]["step"] if run.evals else 0)


def recent(run: StoredRun) -> dict[str, float]:
    """Speed over the last rows: `step_seconds`, `rollouts` and `completion_tokens` a second; only what is known."""
    rows = [row for row in run.metrics if "rollouts" in row][-RECENT_ROWS:]
    if len(rows) < 2:
        return {}
    first, last = rows[0], rows[-1]
    seconds, steps = last["elapsed"] - first["elapsed"], last["step"] - first["step"]
    if seconds <= 0 or steps <= 0:
        return {}
    found = {"step_seconds": seconds / steps}
    for name in ("rollouts", "completion_tokens"):
        if name in first and name in last:
            found[name] = (last[name] - first[name]) / seconds
    return found


def seconds_left(run: StoredRun) -> float | None:
    """Until a run is done, at its recent speed: steps, and the evaluations that are to come, as long as the last ones took.

    None where the speed or the number of steps is not known; without an evaluation before training the last one is left out.
    """
    speed = recent(run)
    if not speed or run.max_steps is None:
        return None
    steps = max(0, run.max_steps - run.step)
    left = steps * speed["step_seconds"]
    every = run.config.get("eval_every")
    if every and run.evals:
        to_come = run.max_steps // every - run.step // every
        left += to_come * run.evals[-1]["seconds"]
    if run.before is not None:
        left += run.before.seconds
    return left


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """A history in at most `width` characters, each the mean of its share; lowest to highest value.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    if not values:
        return ""
    cells = min(width, len(values))
    edges = [round(cell * len(values) / cells) for cell in range(cells + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def history(run: StoredRun, name: str) -> list[float]:
    """A figure over the run, where it was logged and is finite: a step of which every verdict failed has NaN."""
    return [row[name] for row in run.metrics if row.get(name) is not None and math.isfinite(row[name])]


def last_row(run: StoredRun, name: str) -> Mapping[str, float]:
    """The last row of metrics that has a figure, be it NaN; empty where none has."""
    return next((row for row in reversed(run.metrics) if row.get(name) is not None), {})


def figure(value: float | None, form: str) -> str:
    return "—" if value is None or math.isnan(value) else format(value, form)


def unchanged_for(path: Path, now: float) -> float:
    return max(0.0, now - path.stat().st_mtime)
