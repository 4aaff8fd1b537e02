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

from maxrl.errors import InputError
from maxrl.experiments.store import StoredRun, find_runs
from maxrl.experiments.store.checkpoints import last_checkpoint
from maxrl.experiments.store.processes import RECENT, recorded_process
from maxrl.experiments.store.progress import (
    EVALUATES_MEANWHILE,
    figure,
    history,
    last_row,
    phase,
    recent,
    seconds_left,
    sparkline,
    unchanged_for,
)
from maxrl.experiments.store.tables import STYLES, age, distinct_names, last_change
from maxrl.experiments.wording import count, duration


def watch(
    path: Path,
    console: Console,
    *,
    interval: float = 2.0,
    once: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show how the run at `path` stands, or the runs below it, until it ends, none of them is at work, or Ctrl-C.

    Where the console is no terminal, or with `once`, one snapshot is printed. A file that cannot be read while a run goes
    on is told, and read again at the next look: half of it may have been written.

    Args:
        path: a run's folder, or one that holds runs.
        console: where it is shown.
        interval: seconds between two looks.
        once: one look only.
        sleep: waits between two looks.

    Raises:
        InputError: no run is there, or a file of a single one that does not go on is damaged.
    """
    if once or not console.is_terminal:
        console.print(screen(find_runs([path]), console.height))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                runs = find_runs([path])  # anew, since a run reads each of its files once
                going_on = any(_goes_on(run) for run in runs)
                live.update(_look(runs, console.height, going_on), refresh=True)
                if not going_on:
                    return
                sleep(interval)
        except KeyboardInterrupt:  # how people leave; the last screen stays
            return


def _goes_on(run: StoredRun) -> bool:
    """Whether there is more to come of a run: a process makes it, or none is on record though its files are fresh.

    Of the latter kind are one that has just begun, and the mirror of one at work elsewhere, which has no `process.json`.
    """
    state = run.state
    if state != "stopped":
        return state == "running"
    return recorded_process(run.folder) is None and time.time() - last_change(run.folder) < RECENT


def _look(runs: Sequence[StoredRun], height: int, going_on: bool) -> Group:
    try:
        return screen(runs, height)
    except InputError as error:
        if not going_on:
            raise
        return Group(Text(f"{error}", "red"), Text("It is read again at the next look.", "dim"))


def screen(runs: Sequence[StoredRun], height: int, *, now: float | None = None) -> Group:
    """One run in full, several as a table."""
    now = time.time() if now is None else now
    return run_screen(runs[0], now) if len(runs) == 1 else runs_screen(runs, height, now)


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
    lines: list[tuple[str, Any]] = []
    if last := last_row(run, "success_rate"):
        rates = history(run, "success_rate")
        span = f"{min(rates):.2f} … {max(rates):.2f}" if rates else ""
        rate = figure(last["success_rate"], ".3f")
        lines.append(
            ("success rate", Text.assemble(f"{rate}  ", (sparkline(rates), "cyan"), (f"  {span}", "dim")))
        )
    if last := last_row(run, "groups/live"):
        shares = [f"{figure(last.get(f'groups/{kind}'), '.0%')} {kind}" for kind in _KINDS]
        lines.append(("groups", ", ".join(shares)))
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


_KINDS = ("live", "dead", "mastered")
"""Of groups."""


def _times(run: StoredRun, now: float) -> list[tuple[str, str]]:
    elapsed = run.metrics[-1]["elapsed"] if run.metrics else None
    doing = phase(run)
    if run.state != "running":
        return [] if elapsed is None else [("trained for", duration(elapsed))]
    if elapsed is None:
        return []
    since = unchanged_for(run.folder / "metrics.jsonl", now)
    if doing == "evaluating":
        took = run.before.seconds if run.before else None
        return [("trained for", duration(elapsed)), _evaluating(since, took)]
    left = seconds_left(run)
    to_come = [] if left is None else [("left", f"about {duration(max(0.0, left - since))}")]
    if doing == EVALUATES_MEANWHILE:
        took = run.evals[-1]["seconds"] if run.evals else None
        at_it = _evaluating(unchanged_for(run.folder / "diagnostics.jsonl", now), took)
        return [("trained for", duration(elapsed)), at_it, *to_come]
    lines = [("trained for", duration(elapsed + since)), *to_come]
    step = recent(run).get("step_seconds", 0.0)
    if since > max(60.0, 10 * step):
        lines.append(("", f"no step was logged for {duration(since)}"))
    return lines


def _evaluating(since: float, took: float | None) -> tuple[str, str]:
    """For how long, and how long the last evaluation took."""
    return "evaluating", f"for {duration(since)}" + ("" if took is None else f", of some {duration(took)}")


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
    """A problem of an evaluation, one of the first that has both where there is one, with right and wrong completions.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return _telling_problem(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); measure the run anew with `maxrl eval`") from error


def _telling_problem(path: Path) -> dict[str, Any] | None:
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
    errors: list[Text] = []
    for run in shown:
        name, error = names[id(run)], run.error if states[id(run)] == "failed" else None
        try:
            cells = _cells(run, now)
        except InputError as damaged:  # the others can be read
            cells, error = _UNREADABLE, str(damaged)
        table.add_row(Text(name), *cells)
        if error:
            errors.append(Text(f"{name}: {error}", "red"))
    tally = ", ".join(
        f"{len([1 for state in states.values() if state == name])} {name}"
        for name in _ORDER
        if name in states.values()
    )
    hidden = f"; {len(runs) - len(shown)} more are not shown" if len(shown) < len(runs) else ""
    return Group(table, Text(f"{len(runs)} runs: {tally}{hidden}"), *errors[:5])


_UNREADABLE = (Text("unreadable", "red"), "—", "—", "—", "—")


def _cells(run: StoredRun, now: float) -> Sequence[Any]:
    doing, state = phase(run), run.state
    rate = last_row(run, "success_rate").get("success_rate")
    left = seconds_left(run) if doing in ("training", EVALUATES_MEANWHILE) else None
    if left is not None:
        left = max(0.0, left - unchanged_for(run.folder / "metrics.jsonl", now))
    return [
        Text("evaluating" if doing.startswith("evaluating") else doing, STYLES[state]),
        f"{run.step}/{run.max_steps or '?'}",
        f"{figure(rate, '.3f')} {sparkline(history(run, 'success_rate'), 12)}".rstrip(),
        figure(last_row(run, "groups/live").get("groups/live"), ".0%"),
        "—" if left is None else age(left),
    ]
