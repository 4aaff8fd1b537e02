"""Bringing a grid to its end: what is done stays, what died goes on, what failed stays as a row.

The same loop for every place. A run's folder says whether it is done; the place says whether a job of it is at work.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from maxrl.errors import InputError
from maxrl.experiments.data import load_data
from maxrl.experiments.grids.ledger import note_job, read_jobs
from maxrl.experiments.grids.runner import GridRun, JobReport, Runner
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.grids.standing import Others, RunStatus, run_state, status, stored_run
from maxrl.experiments.grids.work import recipes_of, record_error, refuse_other_run
from maxrl.experiments.loggers import check_logger_names

DEATHS = 3
"""Times that a run's process may be killed in one command before the run is left as it is: something kills it each time."""

Event = Literal["started", "resumed", "done", "failed", "died", "cancelled", "left"]
Tell = Callable[[GridRun, Event, str], None]
"""Told of what happens to a run, with a remark."""


def check_runs(grid: Grid) -> None:
    """Check every run before any is started, and that none is another run than the one its folder holds.

    Raises:
        InputError: a run cannot be made as the spec says; says which.
    """
    checked: set[str] = set()
    for run in grid.runs:
        try:
            recipes = recipes_of(run.fields)
            # Data sets and tasks are the same for most runs, and take seconds to make.
            data = str([value for name, value in run.fields.items() if name in _OF_THE_DATA])
            if "stages" not in run.fields and data not in checked:
                load_data(recipes[0])
                checked.add(data)
            for recipe in recipes:
                check_logger_names(recipe)
            refuse_other_run(run.fields)
        except InputError as error:
            raise InputError(f"run {run.name}: {error}") from error


_OF_THE_DATA = (
    "task",
    "tasks",
    "dataset_name",
    "dataset_config",
    "datasets",
    "reward_funcs",
    "language",
    "problems",
    "size",
)


def submit(
    grid: Grid, place: Runner, tell: Tell, *, retry_failed: bool = False, others: Others | None = None
) -> None:
    """Give every run that is neither done nor at work to a place that keeps its own queue.

    What a job that is over has left there is brought here first: a run may be done, or have failed, without our knowing.
    """
    found = status(grid, place, others)
    ended = [row for row in found if row.standing == "stopped" and row.job and row.job.place == place.name]
    for row in ended:
        collect(place, row)
    for row in status(grid, place, others) if ended else found:
        if _to_start(row, place, retry_failed=retry_failed):
            _start(grid, row.run, place, tell)
        else:
            tell(row.run, "left", _why_left(row, place))


def collect(place: Runner, row: RunStatus) -> None:
    """Bring what a run's job has left at its place.

    Raises:
        InputError: that is of a run with other settings, of which the place has kept the folder.
    """
    assert row.job is not None
    place.collect(row.run, row.job.job)
    refuse_other_run(row.run.fields)


def drive(
    grid: Grid,
    place: Runner,
    tell: Tell,
    *,
    retry_failed: bool = False,
    look: Callable[[], object] = lambda: None,
    every: float = 0.5,
    others: Others | None = None,
) -> None:
    """Make every run that is not done, as many at a time as the place has room for, and return when none is left.

    A run whose process was killed is started again, up to `DEATHS` times; one that ended with an error of its own is not.
    What an earlier command left at work is waited for, and goes on where it dies.

    Args:
        grid: whose runs have been checked.
        place: where they are made.
        tell: told of starts and ends.
        retry_failed: start runs again that failed in an earlier command.
        look: called with every turn of the loop.
        every: seconds between two turns.
        others: see `status`.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the running ones have saved a checkpoint; a second one does not wait for them.
    """
    found = status(grid, place, others)
    waiting = [row.run for row in found if _to_start(row, place, retry_failed=retry_failed)]
    flying = {row.run.name: row.run for row in found if _at_work_there(row, place)}
    left = [row for row in found if row.run not in waiting and row.run.name not in flying]
    lingering = [
        row.run for row in left if row.standing == "running" and row.job and row.job.place == place.name
    ]
    for row in left:
        tell(row.run, "left", _why_left(row, place))
    deaths: dict[str, int] = {}
    try:
        while waiting or flying or lingering:
            while waiting and len(flying) < (place.slots() or len(grid.runs)):
                run = waiting.pop(0)
                _start(grid, run, place, tell)
                flying[run.name] = run
            time.sleep(every)
            look()
            for run, report in _ended(grid, place, flying):
                del flying[run.name]
                if _settle(run, report, deaths, tell):
                    waiting.insert(0, run)
            over = [run for run in lingering if run_state(run.folder) != "running"]
            lingering = [run for run in lingering if run not in over]
            waiting += [run for run in over if run_state(run.folder) == "stopped"]
    except KeyboardInterrupt:
        _stop(grid, place, flying)
        raise
    finally:
        look()


def _to_start(row: RunStatus, place: Runner, *, retry_failed: bool) -> bool:
    if _elsewhere(row, place):
        return False
    return row.standing in ("waiting", "stopped") or (retry_failed and row.standing == "failed")


def _elsewhere(row: RunStatus, place: Runner) -> bool:
    """Whether another place has the run, which does not say, or was not asked, whether the job is over."""
    return (
        row.standing != "failed"
        and row.job is not None
        and row.job.place != place.name
        and row.report is None
    )


def _at_work_there(row: RunStatus, place: Runner) -> bool:
    """Whether the place itself says so: what a folder says may be another process's doing."""
    return (
        row.job is not None
        and row.job.place == place.name
        and row.report is not None
        and row.report.state in ("queued", "running")
    )


def _why_left(row: RunStatus, place: Runner) -> str:
    return f"given to {row.job.place}" if row.job and _elsewhere(row, place) else row.standing


def _start(grid: Grid, run: GridRun, place: Runner, tell: Tell) -> None:
    begun = run.folder.is_dir() and any(run.folder.glob("**/checkpoint-*"))
    job = place.start(run)
    note_job(grid.folder, run.name, place.name, job)
    tell(run, "resumed" if begun else "started", job)


def _ended(grid: Grid, place: Runner, flying: Mapping[str, GridRun]) -> Sequence[tuple[GridRun, JobReport]]:
    jobs = read_jobs(grid.folder)
    reports = place.states({name: jobs[name].job for name in flying})
    return [
        (run, reports[name])
        for name, run in flying.items()
        if reports[name].state not in ("queued", "running")
    ]


def _settle(run: GridRun, report: JobReport, deaths: dict[str, int], tell: Tell) -> bool:
    """What became of a job that ended; whether its run is to be started again."""
    state, error = run_state(run.folder), stored_run(run.folder).error
    if state == "done":
        tell(run, "done", "")
    elif error is not None:
        tell(run, "failed", error)
    elif state == "running":
        tell(run, "left", "another process makes it")
    elif report.state == "cancelled":
        tell(run, "cancelled", report.message)
    else:
        deaths[run.name] = deaths.get(run.name, 0) + 1
        tell(run, "died", report.message)
        if deaths[run.name] < DEATHS:
            return True
        error = f"its process died {DEATHS} times in one command: {report.message or 'nothing says why'}"
        record_error(run.folder, error)
        tell(run, "failed", error)
    return False


def _stop(grid: Grid, place: Runner, flying: Mapping[str, GridRun]) -> None:
    """Ask the jobs at work to end, and wait until they have; a second Ctrl-C asks again, which they take more seriously."""
    jobs = read_jobs(grid.folder)
    for name, run in flying.items():
        place.cancel(run, jobs[name].job)
    left = dict(flying)
    try:
        while left:
            time.sleep(0.2)
            reports = place.states({name: jobs[name].job for name in left})
            left = {name: run for name, run in left.items() if reports[name].state in ("queued", "running")}
    except KeyboardInterrupt:
        for name, run in left.items():
            place.cancel(run, jobs[name].job)
        raise


def cancel(grid: Grid, place: Runner, names: Sequence[str]) -> list[str]:
    """Ask the jobs of runs of the grid (of all, where none is named) to end; the names of those that were at work."""
    found = {entry.run.name: entry for entry in status(grid, place)}
    asked: list[str] = []
    for name in names or found:
        entry = found[name]
        if (
            entry.standing in ("running", "queued")
            and entry.job is not None
            and entry.job.place == place.name
        ):
            place.cancel(entry.run, entry.job.job)
            asked.append(name)
    return asked
