"""Grids on this machine: a process per run, as many at a time as fit, which end with the command that started them."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from maxrl.engine import available_cores
from maxrl.errors import InputError
from maxrl.evaluation.files import this_machine
from maxrl.experiments.environment import read_environment
from maxrl.experiments.grids.runner import GridRun, JobReport, JobState
from maxrl.experiments.store.processes import RunProcess
from maxrl.experiments.workers import INTERRUPTED, Job, start_worker

LOG_FILE = "log.txt"
"""What a run's process prints, in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """Options of `--on local`."""

    jobs: int | None = field(
        default=None,
        metadata={
            "help": "Runs at a time; by default one per processor core, or just one where there is a GPU."
        },
    )
    threads: int | None = field(
        default=None,
        metadata={
            "help": "Threads of each run; by default the recipe's cpu_threads, else OMP_NUM_THREADS, else one. A run "
            "that goes on keeps those it began with."
        },
    )

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, but is {value}")


class LocalRunner:
    """Processes of this machine; see `Runner`. A job's id is its process's number and when it was started."""

    name = "local"
    detached = False

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self._jobs: dict[str, Job] = {}

    def slots(self) -> int:
        """Runs at a time."""
        if self.options.jobs is not None:
            return self.options.jobs
        return 1 if torch.accelerator.is_available() else available_cores()

    def device(self, run: GridRun) -> str:
        """This machine's GPU where it has one."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"

    def threads(self, run: GridRun) -> int:
        """Threads of a run's process; a sum over two threads is rounded otherwise than over one."""
        begun_with = read_environment(run.folder).get("threads")
        chosen = (
            self.options.threads,
            run.fields.get("cpu_threads"),
            begun_with,
            os.environ.get("OMP_NUM_THREADS"),
        )
        return next((int(number) for number in chosen if number), 1)

    def start(self, run: GridRun) -> str:
        """Start the run's process."""
        job = start_worker(Job(run.fields, run.folder, log=run.folder / LOG_FILE), self.threads(run))
        assert job.process is not None
        assert job.process.pid is not None
        started = psutil.Process(job.process.pid).create_time()
        identity = f"{this_machine()}:{job.process.pid}:{started:.2f}"
        self._jobs[identity] = job
        return identity

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        """Of processes of this command their exit status, of others whether they are alive."""
        return {name: self._state(job) for name, job in jobs.items()}

    def _state(self, identity: str) -> JobReport:
        own = self._jobs.get(identity)
        if own is None or own.process is None:
            process = _process(identity)
            return JobReport(state="running" if process is not None and process.alive else "unknown")
        status = own.process.exitcode
        if status is None:
            return JobReport(state="running")
        if status < 0:
            return JobReport(
                state="unknown", message=f"its process was killed by {signal.Signals(-status).name}"
            )
        # A process that ends with an error of its own has recorded it.
        states: dict[int, JobState] = {0: "done", INTERRUPTED: "cancelled"}
        return JobReport(state=states.get(status, "failed"), message=f"exit status {status}")

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        """None: these jobs end with the command that started them."""
        return {}

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines of the run's `log.txt`."""
        return follow_file(run.folder / LOG_FILE, lambda: follow and self._state(job).state == "running")

    def cancel(self, run: GridRun, job: str) -> None:
        """Ctrl-C for its process: it finishes the step and saves."""
        process = _process(job)
        if process is not None and process.alive:
            os.kill(process.pid, signal.SIGINT)

    def collect(self, run: GridRun, job: str) -> None:
        """Nothing to do: the folder is here."""

    def request(self, run: GridRun) -> str:
        """What would be started."""
        threads = self.threads(run)
        return f"a process of this machine, {threads} thread{'s' if threads > 1 else ''}, into {Path(run.folder)}"


def follow_file(path: Path, goes_on: Callable[[], bool]) -> Iterator[str]:
    """Lines of a file, and those that are added to it while its job goes on; none where there is no file."""
    while not path.is_file():
        if not goes_on():
            return
        time.sleep(0.2)
    with path.open(encoding="utf-8", errors="replace") as file:
        begun = ""  # of a line that is being written
        while True:
            more = goes_on()  # asked first: what a job prints before it ends is read after it
            for line in file:
                begun += line
                if begun.endswith("\n"):
                    yield begun[:-1]
                    begun = ""
            if not more:
                if begun:
                    yield begun
                return
            time.sleep(0.2)


def _process(identity: str) -> RunProcess | None:
    machine, pid, created = identity.split(":")
    return RunProcess(pid=int(pid), created=float(created), machine=machine)
