"""Grids on Ray: an existing cluster, or one of this machine for as long as the command runs.

On a cluster of several machines the runs' folders must lie where all of them see them under the same path.
"""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.grids.local import LOG_FILE, follow_file
from maxrl.experiments.grids.runner import GridRun, JobReport
from maxrl.experiments.grids.work import make_logged_run
from maxrl.experiments.store.processes import at_work, recorded_process


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Options of `--on ray`."""

    address: str | None = field(
        default=None,
        metadata={
            "help": "Of a running cluster: auto, HOST:PORT or ray://HOST:PORT; by default one is started on this machine, "
            "for as long as the command runs."
        },
    )
    workers: int | None = field(
        default=None,
        metadata={"help": "Runs at a time on the cluster started here; by default one per core or GPU."},
    )
    cpus: float = field(default=1, metadata={"help": "Cores that each run takes, and its threads."})
    gpus: float = field(default=0, metadata={"help": "GPUs that each run takes."})
    resources: dict[str, float] | None = field(
        default=None, metadata={"help": "Other resources of the cluster that each run takes, by name."}
    )

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus == 0:
            raise InputError(f"a run needs cores or GPUs, but cpus is {self.cpus} and gpus is {self.gpus}")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers must be at least 1, but is {self.workers}")
        if self.workers is not None and self.address is not None:
            raise InputError("workers is for a cluster that is started here; the one at address has its own")


class RayRunner:
    """Tasks of Ray; see `Runner`. A job's id is its task's, which means something to this command alone."""

    name = "ray"
    detached = False

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self._ray: Any = None
        self._references: dict[str, Any] = {}
        self._asked_to_end: set[str] = set()

    def slots(self) -> None:
        """Ray keeps the queue."""
        return

    def device(self, run: GridRun) -> str | None:
        """Which GPUs the cluster has is not known here."""
        return None if self.options.gpus else "cpu"

    def start(self, run: GridRun) -> str:
        """Hand the run to Ray; a task of its own process, which Ray starts where there is room.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        ray = self._connected()
        options = self.options
        threads = str(max(1, int(options.cpus)))
        # What one run leaves in a process is not for the next one.
        task = ray.remote(max_calls=1)(make_logged_run).options(
            name=run.name,
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            resources=options.resources,
            max_retries=0,  # the grid starts a run again whose process died, as everywhere, and says so
            runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "HF_HUB_DISABLE_TELEMETRY": "1"}},
        )
        fields = {**run.fields, "output_dir": str(run.folder.resolve())}
        reference = task.remote(fields, str(run.folder.resolve() / LOG_FILE))
        identity = reference.task_id().hex()
        self._references[identity] = reference
        return identity

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        """How tasks stand; one of an earlier command is unknown, since it ended with it."""
        return {name: self._state(job) for name, job in jobs.items()}

    def _state(self, identity: str) -> JobReport:
        reference = self._references.get(identity)
        if reference is None:
            return JobReport(state="unknown", message="of an earlier command")
        ray = self._ray
        ready, _ = ray.wait([reference], timeout=0)
        if not ready:
            return JobReport(state="running")
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            return JobReport(state="failed", message=" ".join(str(error.cause).split()))
        except ray.exceptions.TaskCancelledError:
            return JobReport(state="cancelled")
        except ray.exceptions.RayError as error:  # its process or its machine is gone
            return JobReport(state="unknown", message=str(error).strip().splitlines()[0])
        return JobReport(state="cancelled" if identity in self._asked_to_end else "done")

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        """None: these jobs end with the command that started them."""
        return {}

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines of the run's `log.txt`."""
        return follow_file(run.folder / LOG_FILE, lambda: follow and at_work(run.folder))

    def cancel(self, run: GridRun, job: str) -> None:
        """Ctrl-C for its task, which finishes the step and saves; at the second time its process is ended.

        Raises:
            MaxRLError: the task is another command's, and its process is on another machine.
        """
        reference = self._references.get(job)
        if reference is not None:
            self._ray.cancel(reference, force=job in self._asked_to_end)
            self._asked_to_end.add(job)
            return
        process = recorded_process(run.folder)
        if process is not None and process.alive:
            os.kill(process.pid, signal.SIGINT)
        elif at_work(run.folder):
            raise MaxRLError(
                f"{run.name} is at work on another machine of the cluster: end the command that runs the grid (Ctrl-C), "
                "which ends all of its runs"
            )

    def collect(self, run: GridRun, job: str) -> None:
        """Nothing to do: the folder is shared."""

    def request(self, run: GridRun) -> str:
        """What would be handed to Ray."""
        options = self.options
        where = options.address or "a cluster started on this machine"
        takes = {"cpus": options.cpus, "gpus": options.gpus, **(options.resources or {})}
        needs = ", ".join(f"{amount:g} {name}" for name, amount in takes.items() if amount)
        return f"a task of {where}, {needs}, into {run.folder.resolve()}"

    def _connected(self) -> Any:
        if self._ray is not None:
            return self._ray
        try:
            import ray
        except ImportError as error:
            raise InputError("grids on Ray need ray: pip install 'maxrl[ray]'") from error
        here: dict[str, Any] = {}
        if self.options.address is None:
            here["include_dashboard"] = False
            if self.options.workers is not None:
                per_run = self.options.gpus if self.options.cpus == 0 else self.options.cpus
                here["num_cpus"] = max(1, round(self.options.workers * per_run))
        try:
            if not ray.is_initialized():
                ray.init(address=self.options.address, log_to_driver=False, logging_level="error", **here)
        except (ConnectionError, ValueError) as error:
            raise MaxRLError(
                f"no Ray at {self.options.address or 'this machine'}: {' '.join(str(error).split())}"
            ) from error
        self._ray = ray
        return ray
