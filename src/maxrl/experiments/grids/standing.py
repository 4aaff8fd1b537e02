"""How the runs of a grid stand: their folders say, and where they do not, the places that they were given to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maxrl.experiments.grids.ledger import StartedJob, adopt_job, holder, read_jobs
from maxrl.experiments.grids.runner import GridRun, JobReport, Runner
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.store import State, StoredRun
from maxrl.experiments.store.processes import RunProcess

Standing = Literal["done", "running", "queued", "failed", "stopped", "waiting"]
"""`stopped`: it was begun, and goes on with the next `maxrl grid run`. `waiting`: it was not begun."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How one run of a grid stands."""

    run: GridRun
    standing: Standing
    message: str = ""
    """Its last error, or what its place says."""
    job: StartedJob | None = None
    report: JobReport | None = None
    """What its place says, where that was asked."""

    @property
    def stored(self) -> StoredRun:
        """What the run has left here so far; of one in stages the last that was begun."""
        return stored_run(self.run.folder)


def stored_run(folder: Path) -> StoredRun:
    """A run; of one in stages the last that was begun."""
    stages = sorted(folder.glob("stage-*"), key=lambda path: (len(path.name), path.name))
    return StoredRun(stages[-1] if stages else folder)


def run_state(folder: Path) -> State:
    """How a run stands; one in stages is done when all of them are, and else as the last that was begun."""
    whole, last = StoredRun(folder), stored_run(folder)
    if whole.state != "stopped" or last.folder == folder:
        return whole.state
    return "stopped" if last.state == "done" else last.state


Others = Callable[[str], Runner]
"""A place by its name: of a grid whose runs were given to several."""


def status(grid: Grid, place: Runner | None, others: Others | None = None) -> list[RunStatus]:
    """How every run stands, asking places about their jobs where a folder does not say.

    Args:
        grid: whose runs are looked at.
        place: asked about its jobs; None looks at folders alone.
        others: makes the other places that runs were given to; without it they are not asked.
    """
    if place is not None and place.detached:
        _adopt_lost_jobs(grid, place)
    jobs = read_jobs(grid.folder)
    reports: dict[str, JobReport] = {}
    if place is not None:
        for name in sorted({job.place for job in jobs.values()}):
            asked = {
                r.name: jobs[r.name].job for r in grid.runs if r.name in jobs and jobs[r.name].place == name
            }
            where = place if name == place.name else others(name) if others is not None else None
            if asked and where is not None:
                reports |= where.states(asked)
    driven = holder(grid.folder)
    queued = driven is not None and driven != RunProcess.this() and place is not None and not place.detached
    return [_standing(run, jobs.get(run.name), reports.get(run.name), queued=queued) for run in grid.runs]


def _adopt_lost_jobs(grid: Grid, place: Runner) -> None:
    """Find jobs that are at work without our knowing: of a record that was lost, or a command that died too early."""
    jobs = read_jobs(grid.folder)
    unknown = [run for run in grid.runs if run.name not in jobs and StoredRun(run.folder).state != "done"]
    if unknown:
        for name, job in place.find(unknown).items():
            adopt_job(grid.folder, name, place.name, job)


def _standing(run: GridRun, job: StartedJob | None, report: JobReport | None, *, queued: bool) -> RunStatus:
    """What a run's folder says wins; then its place. `queued`: another command drives the grid now."""
    state = run_state(run.folder) if run.folder.is_dir() else "stopped"
    begun = run.folder.is_dir() and any(run.folder.iterdir())
    standing: Standing
    message = report.message if report is not None else ""
    if state in ("done", "running"):
        standing, message = state, ""
    elif report is not None and report.state in ("queued", "running"):
        standing = report.state
    elif state == "failed":
        standing, message = "failed", stored_run(run.folder).error or ""
    elif queued:
        standing = "queued"
    elif begun or job is not None:
        # Whatever its place calls it, a job that recorded no error of its own died, and its run goes on.
        standing = "stopped"
        if report is not None and report.state in ("done", "failed") and not begun:
            message = f"{message or report.state}; `maxrl grid collect` brings what its job left"
    else:
        standing = "waiting"
    return RunStatus(run=run, standing=standing, message=message, job=job, report=report)
