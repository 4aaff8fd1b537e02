"""What a grid asks of a place where runs are made: this machine, Ray, Slurm, Hugging Face Jobs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from maxrl.experiments.recipe import Fields

JobState = Literal["queued", "running", "done", "failed", "cancelled", "unknown"]
"""`failed`: with an exit status of its own, be it an error of the run (which its folder has recorded) or not.
`unknown`: ended by something else (killed, out of time or memory), or no longer known to the place. A run whose folder says
neither that it is done nor why it failed is started again."""


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of a grid, to be made."""

    name: str
    """Unique in the grid; the name of its folder."""
    fields: Fields
    """Of its recipe, `output_dir` among them."""
    point: Mapping[str, Any]
    """Axis → what it has there: a value, or the label of several."""

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        return Path(self.fields["output_dir"])


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """How a job stands, as its place says."""

    state: JobState
    message: str = ""
    """Why, where the place says so: its own word for the state, a reason, an exit status."""


class Runner(Protocol):
    """A place where runs are made. What a run leaves in its folder decides whether it is done, not the place."""

    name: str
    """As `--on` names it."""
    detached: bool
    """Whether its jobs go on when the command that started them ends."""

    def slots(self) -> int | None:
        """How many jobs are started at a time; None where the place keeps the queue."""
        ...

    def device(self, run: GridRun) -> str | None:
        """What the run computes on there (`cpu`, a GPU's or a machine's name); None where the place alone knows."""
        ...

    def start(self, run: GridRun) -> str:
        """Start a run, or go on with what an earlier job left of it; the job's id, as the place names it.

        Raises:
            MaxRLError: the place refuses.
        """
        ...

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        """How jobs stand: name of the run → id of its job, to name of the run → report."""
        ...

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        """Name of a run → id of its newest job, for runs that the place can say it of without being told an id."""
        ...

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines that a job has printed, and with `follow` those it prints until it ends."""
        ...

    def cancel(self, run: GridRun, job: str) -> None:
        """Ask a job to end; one that can save a checkpoint does. Nothing happens to one that has ended."""
        ...

    def collect(self, run: GridRun, job: str) -> None:
        """Bring what the run has left so far into its folder here, where it is not there already."""
        ...

    def request(self, run: GridRun) -> str:
        """What `start` would send, for people to read: nothing is sent."""
        ...
