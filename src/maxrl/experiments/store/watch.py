"""How runs stand, for those who watch: read from their folders alone, which are left as they are."""

import itertools
import json
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from maxrl.experiments.store import StoredRun, find_runs
from maxrl.experiments.store.checkpoints import last_checkpoint
from maxrl.experiments.store.tables import STYLES, age, distinct_names
from maxrl.experiments.wording import count, duration

RECENT_ROWS = 20
"""Rows of metrics over which speed is measured: long enough to be steady, short enough to be of now."""

SPARK_WIDTH = 40

_BARS = "▁▂▃▄▅▆▇█"


def watch(
    path: Path,
    console: Console,
    *,
    interval: float = 2.0,
    once: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show how the run at `path` stands, or the runs below it, until it ends, all of them are done, or Ctrl-C.

    Where the console is no terminal, or with `once`, one snapshot is printed.

    Args:
        path: a run's folder, or one that holds runs.
        console: where it is shown.
        interval: seconds between two looks.
        once: one look only.
        sleep: waits between two looks.

    Raises:
        InputError: no run is there, or a file of one is damaged.
    """
    if once or not console.is_terminal:
        console.print(screen(find_runs([path]), console.height))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                runs = find_runs([path])  # anew, since a run reads each of its files once
                live.update(screen(runs, console.height), refresh=True)
                if not _any_left(runs):
                    return
                sleep(interval)
        except KeyboardInterrupt:  # how people leave; the last screen stays
            return


def _any_left(runs: Sequence[StoredRun]) -> bool:
    # Of several runs, one that nobody makes now may be the next of its grid.
    if len(runs) == 1:
        return runs[0].state == "running"
    return any(run.state in ("running", "stopped") for run in runs)


def screen(runs: Sequence[StoredRun], height: int, *, now: float | None = None) -> Group:
    """One run in full, several as a table."""
    now = time.time() if now is None else now
    return run_screen(runs[0], now) if len(runs) == 1 else runs_screen(runs, height, now)


# ---------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------


def phase(run: StoredRun) -> str:
    """What a run is at: its state, and of one that is running what it does."""
    state = run.state
    if state != "running":
        return state
    if not run.metrics:
        if not run.environment:
            return "starting"
        wanted = run.config.get("eval_before_training", True) and "task" in run.config
        return "evaluating before training" if wanted and run.before is None else "training"
    return "evaluating" if run.max_steps and run.step >= run.max_steps else "training"


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
    """A figure over the run, where it was logged."""
    return [row[name] for row in run.metrics if row.get(name) is not None]


# ---------------------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------------------


def run_screen(run: StoredRun, now: float) -> Group:
    """A run in full."""
    state = run.state
    doing = phase(run)
    what = ", ".join(
        str(value)
        for value in (run.estimator, run.config.get("task"), run.config.get("model_name_or_path"))
        if value
    )
    parts: list[Any] = [
        Text.assemble((run.name, "bold"), "  ", (doing, STYLES[state]), f"  {what}, seed {run.seed}"),
        _bar(run),
    ]
    if state == "failed" and run.error:
        parts.append(Text(run.error, "red"))
    if state == "stopped":
        parts.append(Text(_how_to_go_on(run), "yellow"))
    parts.append(_figures(run, now))
    parts += _samples(run)
    return Group(*(part for part in parts if part is not None))


def _bar(run: StoredRun, width: int = 40) -> Table:
    line = Table.grid(padding=(0, 2, 0, 0))
    total = run.max_steps or run.summary.get("steps")
    bar = ProgressBar(total=total or 1, completed=min(run.step, total or 0), width=width)
    line.add_row(bar, f"step {run.step}/{total or '?'}")
    return line


def _how_to_go_on(run: StoredRun) -> str:
    last = last_checkpoint(run.folder)
    if last is None:
        return "nobody makes it now, and it has no checkpoint yet: start it again"
    return f"nobody makes it now; it can go on from {last.name} (--resume_from_checkpoint true)"


def _figures(run: StoredRun, now: float) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(run, now):
        table.add_row(name, value)
    return table


def _lines(run: StoredRun, now: float) -> list[tuple[str, Any]]:
    last = run.metrics[-1] if run.metrics else {}
    lines: list[tuple[str, Any]] = []
    rates = history(run, "success_rate")
    if rates:
        span = f"{min(rates):.2f} … {max(rates):.2f}"
        lines.append(
            (
                "success rate",
                Text.assemble(f"{rates[-1]:.3f}  ", (sparkline(rates), "cyan"), (f"  {span}", "dim")),
            )
        )
    if last.get("groups/live") is not None:
        dead, mastered = last.get("groups/dead") or 0.0, last.get("groups/mastered") or 0.0
        lines.append(("groups", f"{last['groups/live']:.0%} live, {dead:.0%} dead, {mastered:.0%} mastered"))
    speed = recent(run)
    if speed:
        words = [f"{speed['step_seconds']:.3g} s a step"]
        words += [
            f"{count(round(speed[name]))} {word}/s"
            for name, word in (("rollouts", "rollouts"), ("completion_tokens", "tokens"))
            if name in speed
        ]
        lines.append(("speed", ", ".join(words)))
    lines += _times(run, now)
    if run.evals:
        shown = [
            f"{row['step']}: {row['greedy_accuracy']:.3f}"
            for row in run.evals
            if row["greedy_accuracy"] is not None
        ]
        lines.append(("greedy accuracy", "  ".join(shown[-6:])))
    lines += [
        (f"pass@k {when}", "  ".join(f"@{entry.k} {entry.estimate:.3f}" for entry in evaluation.pass_at_k))
        for when, evaluation in (("before", run.before), ("after", run.evaluation))
        if evaluation is not None
    ]
    return lines


def _times(run: StoredRun, now: float) -> list[tuple[str, str]]:
    elapsed = run.metrics[-1]["elapsed"] if run.metrics else None
    doing = phase(run)
    if run.state != "running":
        return [] if elapsed is None else [("trained for", duration(elapsed))]
    if elapsed is None:
        return []
    since = max(0.0, now - (run.folder / "metrics.jsonl").stat().st_mtime)
    if doing == "evaluating":
        took = f", of some {duration(run.before.seconds)}" if run.before else ""
        return [("trained for", duration(elapsed)), ("evaluating", f"for {duration(since)}{took}")]
    lines = [("trained for", duration(elapsed + since))]
    left = seconds_left(run)
    if left is not None:
        lines.append(("left", f"about {duration(max(0.0, left - since))}"))
    step = recent(run).get("step_seconds", 0.0)
    if since > max(60.0, 10 * step):
        lines.append(("", f"no step was logged for {duration(since)}"))
    return lines


# ---------------------------------------------------------------------------------------------------------
# Samples
# ---------------------------------------------------------------------------------------------------------


def _samples(run: StoredRun) -> list[Text]:
    """A problem and what the model said: of the evaluation where the run is done, else what training drew last."""
    done = run.state == "done"
    found = _evaluated(run.folder / "samples.jsonl") if done else run.latest_samples
    if not found:
        return []
    title = "evaluated after training" if done else f"drawn at step {found['step']}"
    lines = [Text(f"\n{title}", "dim"), Text(_short(_prompt(found["prompt"]), 240))]
    for row in found["completions"]:
        mark, style = _verdict(row["reward"])
        extra = "" if row["reward"] in (0, 1, None) else f"  (reward {row['reward']:.3g})"
        said = _short(_prompt(row["completion"]), 160) or "(nothing)"
        lines.append(Text.assemble((f"  {mark} ", style), said, (extra, "dim")))
    return lines


def _verdict(reward: float | None) -> tuple[str, str]:
    if reward is None:
        return "?", "yellow"
    return ("✓", "green") if reward >= 1 else ("✗", "red")


def _evaluated(path: Path) -> dict[str, Any] | None:
    """A problem of an evaluation, one of the first that has both where there is one, with right and wrong completions."""
    if not path.is_file():
        return None
    found: dict[str, Any] | None = None
    with path.open(encoding="utf-8") as lines:  # the file may be large, and one problem is asked for
        problems = itertools.groupby(map(json.loads, lines), key=lambda row: row["id"])
        for _, rows in itertools.islice(problems, _PROBLEMS_TO_CHOOSE_FROM):
            problem = list(rows)
            alike = {row["completion"]: bool(row["success"]) for row in problem}
            shown = [
                text for wanted in (True, False) for text in [t for t in alike if alike[t] is wanted][:2]
            ]
            found = {
                "prompt": problem[0]["prompt"],
                "completions": [{"completion": text, "reward": float(alike[text])} for text in shown],
            }
            if len(set(alike.values())) == 2:
                break
    return found


_PROBLEMS_TO_CHOOSE_FROM = 10


def _prompt(given: Any) -> str:
    """Text of a prompt or completion: of a chat the last message."""
    if isinstance(given, list) and given and isinstance(given[-1], Mapping):
        given = given[-1].get("content", "")
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _short(text: str, most: int) -> str:
    return textwrap.shorten(text, most, placeholder=" …") if text.strip() else ""


# ---------------------------------------------------------------------------------------------------------
# Several runs
# ---------------------------------------------------------------------------------------------------------

_ORDER = ("running", "failed", "stopped", "done")


def runs_screen(runs: Sequence[StoredRun], height: int, now: float) -> Group:
    """A line per run; where they are more than the screen has lines, those at work first, and the rest is counted."""
    states = {id(run): run.state for run in runs}
    names = dict(zip(map(id, runs), distinct_names([run.folder for run in runs]), strict=True))
    most = max(5, height - 8)
    shown = list(runs)
    if len(runs) > most:
        shown = sorted(runs, key=lambda run: _ORDER.index(states[id(run)]))[:most]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("run", overflow="fold", ratio=1)
    table.add_column("state", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("success", no_wrap=True)
    table.add_column("live", justify="right", no_wrap=True)
    table.add_column("left", justify="right", no_wrap=True)
    for run in shown:
        table.add_row(Text(names[id(run)]), *_cells(run, now))
    tally = ", ".join(
        f"{len([1 for state in states.values() if state == name])} {name}"
        for name in _ORDER
        if name in states.values()
    )
    hidden = f"; {len(runs) - len(shown)} more are not shown" if len(shown) < len(runs) else ""
    errors = [
        Text(f"{names[id(run)]}: {run.error}", "red")
        for run in shown
        if states[id(run)] == "failed" and run.error
    ]
    return Group(table, Text(f"{len(runs)} runs: {tally}{hidden}"), *errors[:5])


def _cells(run: StoredRun, now: float) -> list[Any]:
    doing, state = phase(run), run.state
    rates = history(run, "success_rate")
    success = f"{rates[-1]:.3f} {sparkline(rates, 12)}" if rates else "—"
    live = run.metrics[-1].get("groups/live") if run.metrics else None
    left = seconds_left(run) if doing == "training" else None
    times = "—"
    if left is not None:
        since = max(0.0, now - (run.folder / "metrics.jsonl").stat().st_mtime)
        times = age(max(0.0, left - since))
    return [
        Text({"evaluating before training": "evaluating"}.get(doing, doing), STYLES[state]),
        f"{run.step}/{run.max_steps or '?'}",
        success,
        "—" if live is None else f"{live:.0%}",
        times,
    ]
