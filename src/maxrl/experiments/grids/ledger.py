"""What a grid's folder knows beside its runs: the plan, and which job of which place each run was given to.

output_dir/
    grid.json            every run with its fields: what `status`, `logs`, `cancel` and `collect` read
    jobs.json            name of a run → the jobs started for it last
    RUN/                 one run folder each
    report.html, .md     by `maxrl grid collect`
"""

import fcntl
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.grids.spec import Grid, load_grid
from maxrl.experiments.store.processes import RunProcess

GRID_FILE = "grid.json"
JOBS_FILE = "jobs.json"
LOCK_FILE = ".lock"


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """The last job that was started for a run."""

    place: str
    """Name of the runner."""
    job: str
    """Its id there."""
    started: str
    """When, UTC."""
    attempts: int
    """How often a job was started for the run."""


def open_grid(path: Path, *, output_dir: str | None = None) -> Grid:
    """A grid from its spec, or from the folder that its runs are in.

    Raises:
        InputError: it is neither.
    """
    if not path.is_dir():
        return load_grid(path, output_dir=output_dir)
    plan = path / GRID_FILE
    if not plan.is_file():
        raise InputError(
            f"{path} holds no {GRID_FILE}: give a grid's spec, or the folder that its runs are in"
        )
    try:
        data = json.loads(plan.read_text(encoding="utf-8"))
        runs = tuple(
            # The folder may have been moved since.
            GridRun(
                name=run["name"],
                fields={**run["fields"], "output_dir": str(path / run["name"])},
                point=run["point"],
            )
            for run in data["runs"]
        )
        return Grid(name=data["name"], folder=path, runs=runs, runners=data["runners"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{plan} is damaged ({error!r}); give the spec, from which it is written anew"
        ) from error


def write_plan(grid: Grid) -> None:
    """Leave the plan in the grid's folder; runs of an earlier plan that are no part of this one keep their folders."""
    runs = [{"name": run.name, "point": dict(run.point), "fields": run.fields} for run in grid.runs]
    with atomic_text(grid.folder / GRID_FILE) as sink:
        json.dump({"name": grid.name, "runners": grid.runners, "runs": runs}, sink, indent=1, default=str)


def read_jobs(folder: Path) -> dict[str, StartedJob]:
    """The jobs that were started last."""
    path = folder / JOBS_FILE
    if not path.is_file():
        return {}
    try:
        return {name: StartedJob(**row) for name, row in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); without it runs are started that may be at work already"
        ) from error


def note_job(folder: Path, run: str, place: str, job: str) -> None:
    """Record at once that a run was given to a job: a command that dies must not leave one that nobody knows."""
    jobs = read_jobs(folder)
    attempts = jobs[run].attempts + 1 if run in jobs else 1
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _write(folder, {**jobs, run: StartedJob(place=place, job=job, started=now, attempts=attempts)})


def adopt_job(folder: Path, run: str, place: str, job: str) -> None:
    """Record a job that a place has and the record has lost."""
    _write(folder, {**read_jobs(folder), run: StartedJob(place=place, job=job, started="", attempts=1)})


def _write(folder: Path, jobs: Mapping[str, StartedJob]) -> None:
    rows: Mapping[str, Any] = {name: asdict(job) for name, job in jobs.items()}
    with atomic_text(folder / JOBS_FILE) as sink:
        json.dump(rows, sink, indent=1)


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold the grid's folder: two commands that start its runs would start them twice.

    Raises:
        MaxRLError: another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            driver = holder(folder)
            raise MaxRLError(
                f"{folder} is being run by process {driver.pid if driver else 'unknown'}; `maxrl grid status` shows how far "
                "it is, `maxrl grid cancel` stops it"
            ) from None
        file.truncate(0)
        json.dump(asdict(RunProcess.this()), file)
        file.flush()
        yield


def holder(folder: Path) -> RunProcess | None:
    """The process that holds the grid's folder now; it may be one of another machine that shares the disk."""
    path = folder / LOCK_FILE
    if not path.is_file():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return RunProcess(**json.load(file))
            except (ValueError, TypeError):  # it is about to write it
                return None
    return None
