"""Bringing a grid to its end: what is done stays, what died goes on, what failed stays as a row.

The same loop for every place. A run's folder says whether it is done; the place says whether a job of it is at work.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maxrl.errors import InputError
from maxrl.experiments.data import load_data
from maxrl.experiments.folders import FREE_ON_RESUME, LENGTH, differing_fields
from maxrl.experiments.grids.ledger import StartedJob, adopt_job, note_job, read_jobs
from maxrl.experiments.grids.runner import GridRun, JobReport, Runner
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.stages import make_stages
from maxrl.experiments.store import StoredRun

Standing = Literal["done", "running", "queued", "failed", "stopped", "waiting"]
"""`stopped`: it was begun, and goes on with the next `maxrl grid run`. `waiting`: it was not begun."""

DEATHS = 3
"""Times that a run's process may be killed in one command before the run is left as it is: something kills it each time."""

Event = Literal["started", "resumed", "done", "failed", "died", "cancelled", "left"]
Tell = Callable[[GridRun, Event, str], None]
"""Told of what happens to a run, with a remark."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How one run of a grid stands."""

    run: GridRun
    standing: Standing
    message: str = ""
    """Its last error, or what its place says."""
    job: StartedJob | None = None

    @property
    def stored(self) -> StoredRun:
        """What the run has left here so far."""
        return StoredRun(self.run.folder)


def check_runs(grid: Grid) -> None:
    """Check every run before any is started, and that none is another run than the one its folder holds.

    Raises:
        InputError: a run cannot be made as the spec says; says which.
    """
    checked: set[str] = set()
    for run in grid.runs:
        try:
            if "stages" in run.fields:
                recipes = make_stages(run.fields).recipes
            else:
                recipes = (make_recipe(run.fields),)
                # Data sets and tasks are the same for most runs, and take seconds to make.
                data = str([value for name, value in run.fields.items() if name in _OF_THE_DATA])
                if data not in checked:
                    load_data(recipes[0])
                    checked.add(data)
            for recipe in recipes:
                recipe.training.estimator()
                folder = Path(recipe.training.output_dir)
                different = differing_fields(recipe, folder, free=FREE_ON_RESUME - LENGTH)
                if different:
                    raise InputError(
                        f"{folder} holds a run with other settings ({', '.join(different)}); give the grid another "
                        "output_dir, or remove that folder"
                    )
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


def status(grid: Grid, place: Runner | None) -> list[RunStatus]:
    """How every run stands, asking its place (where it is given) about jobs whose folder does not say."""
    if place is not None and place.detached:
        _adopt_lost_jobs(grid, place)
    jobs = read_jobs(grid.folder)
    asked = {
        run.name: jobs[run.name].job
        for run in grid.runs
        if place is not None and run.name in jobs and jobs[run.name].place == place.name
    }
    reports = place.states(asked) if place is not None and asked else {}
    return [_standing(run, jobs.get(run.name), reports.get(run.name)) for run in grid.runs]


def _adopt_lost_jobs(grid: Grid, place: Runner) -> None:
    """Find jobs that are at work without our knowing: of a record that was lost, or a command that died too early."""
    jobs = read_jobs(grid.folder)
    unknown = [run for run in grid.runs if run.name not in jobs and StoredRun(run.folder).state != "done"]
    if unknown:
        for name, job in place.find(unknown).items():
            adopt_job(grid.folder, name, place.name, job)


def _standing(run: GridRun, job: StartedJob | None, report: JobReport | None) -> RunStatus:
    stored = StoredRun(run.folder)
    state = stored.state if run.folder.is_dir() else "stopped"
    begun = any(run.folder.iterdir()) if run.folder.is_dir() else False
    standing: Standing
    message = ""
    if state in ("done", "running"):
        standing = state
    elif report is not None and report.state in ("queued", "running"):
        standing, message = report.state, report.message
    elif report is not None and report.state == "done" and not begun:
        standing, message = "stopped", "its job is done; `maxrl grid collect` brings what it left"
    elif state == "failed":
        standing, message = "failed", stored.error or ""
    elif report is not None and report.state == "failed":
        standing, message = "failed", report.message
    elif begun or job is not None:
        standing, message = "stopped", report.message if report else ""
    else:
        standing = "waiting"
    return RunStatus(run=run, standing=standing, message=message, job=job)


def submit(grid: Grid, place: Runner, tell: Tell, *, retry_failed: bool = False) -> None:
    """Give every run that is neither done nor at work to a place that keeps its own queue."""
    for found in status(grid, place):
        if _to_start(found, retry_failed=retry_failed):
            _start(grid, found.run, place, tell)
        else:
            tell(found.run, "left", found.standing)


def drive(
    grid: Grid,
    place: Runner,
    tell: Tell,
    *,
    retry_failed: bool = False,
    look: Callable[[], object] = lambda: None,
    every: float = 0.5,
) -> None:
    """Make every run that is not done, as many at a time as the place has room for, and return when none is left.

    A run whose process was killed is started again, up to `DEATHS` times; one that ended with an error of its own is not.

    Args:
        grid: whose runs have been checked.
        place: where they are made.
        tell: told of starts and ends.
        retry_failed: start runs again that failed in an earlier command.
        look: called with every turn of the loop.
        every: seconds between two turns.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the running ones have saved a checkpoint; a second one does not wait for them.
    """
    found = status(grid, place)
    waiting = [entry.run for entry in found if _to_start(entry, retry_failed=retry_failed)]
    flying = {
        entry.run.name: entry.run for entry in found if entry.standing == "running" and entry.job is not None
    }
    for entry in found:
        if entry.run not in waiting and entry.run.name not in flying:
            tell(entry.run, "left", entry.standing)
    deaths: dict[str, int] = {}
    try:
        while waiting or flying:
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
    except KeyboardInterrupt:
        _stop(grid, place, flying)
        raise
    finally:
        look()


def _to_start(found: RunStatus, *, retry_failed: bool) -> bool:
    return found.standing in ("waiting", "stopped") or (retry_failed and found.standing == "failed")


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
    stored = StoredRun(run.folder)
    if stored.state == "done":
        tell(run, "done", "")
    elif stored.error is not None:
        tell(run, "failed", stored.error)
    elif report.state == "cancelled":
        tell(run, "cancelled", report.message)
    else:
        deaths[run.name] = deaths.get(run.name, 0) + 1
        tell(run, "died", report.message)
        return deaths[run.name] < DEATHS
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
