"""Grids on a Slurm cluster: a job per run, submitted by submitit from a machine of the cluster.

The grid's folder must be on a file system that all machines of the cluster share. It has, beside the runs,

    slurm/JOB/JOB_submission.sh     what sbatch was given
    slurm/JOB/JOB_0_log.out         what the job printed, over all its starts
    slurm/JOB/JOB_submitted.pkl     the run's fields, as submitit keeps them
"""

import json
import math
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.grids.runner import GridRun, JobReport, JobState
from maxrl.experiments.grids.slurm_work import SlurmWork
from maxrl.experiments.recipe import Fields

LOOK_SECONDS = 10.0
"""Between two questions to Slurm while a log is followed."""

_STATES: dict[str, JobState] = {
    **dict.fromkeys(
        (
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_FED",
            "REQUEUE_HOLD",
            "RESV_DEL_HOLD",
            "SPECIAL_EXIT",
        ),
        "queued",
    ),
    **dict.fromkeys(
        ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"), "running"
    ),
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
    # What the cluster did to the job: its run goes on.
    **dict.fromkeys(
        ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "REVOKED"), "unknown"
    ),
}
_NEVER = ("array", "output", "error", "open-mode", "signal", "job-name", "ntasks", "ntasks-per-node", "nodes")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """How jobs of a Slurm cluster are made; each becomes an option of sbatch.

    Raises:
        InputError: a value that sbatch would refuse, or that would break how runs are made.
    """

    partition: str | None = field(default=None, metadata={"help": "partition(s) of the cluster"})
    account: str | None = field(default=None, metadata={"help": "account that is charged"})
    qos: str | None = field(default=None, metadata={"help": "quality of service"})
    time: str = field(
        default="4:00:00",
        metadata={
            "help": "longest that a job may take at a stretch: minutes, H:MM:SS or D-H, as sbatch reads it"
        },
    )
    gpus_per_node: int | None = field(
        default=None, metadata={"help": "GPUs of a run: 0 or 1; by default 0 for tiny models, else 1"}
    )
    cpus_per_task: int | None = field(default=None, metadata={"help": "CPU cores of a run"})
    mem_gb: float | None = field(default=None, metadata={"help": "memory of a run in GB"})
    constraint: str | None = field(
        default=None, metadata={"help": "features that a node must have, as a100|h100"}
    )
    setup: list[str] = field(
        default_factory=list,
        metadata={"help": "shell lines that go before the run, as `module load cuda`"},
    )
    additional: dict[str, str] | None = field(
        default=None,
        metadata={"help": "further options of sbatch, without their dashes: {gres: 'gpu:a100:1'}"},
    )
    warning_seconds: int = field(
        default=300,
        metadata={
            "help": "seconds before the time limit at which a run is told to finish its step, save and be queued again"
        },
    )
    max_timeouts: int = field(
        default=10, metadata={"help": "times that a run that reaches its time limit is queued again"}
    )

    def __post_init__(self) -> None:
        allowed = minutes(self.time)
        if self.gpus_per_node not in (None, 0, 1):
            raise InputError(
                f"gpus_per_node must be 0 or 1, but is {self.gpus_per_node}: a run of a grid is one process, which would "
                "leave the other GPUs idle"
            )
        for name in ("cpus_per_task", "mem_gb", "warning_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} must be positive, but is {value}")
        if self.max_timeouts < 0:
            raise InputError(f"max_timeouts must not be negative, but is {self.max_timeouts}")
        if self.warning_seconds >= 60 * allowed:
            raise InputError(
                f"warning_seconds ({self.warning_seconds}) leaves a run of {self.time} no time to train; choose less, "
                "or a longer time"
            )
        for name in self.additional or {}:
            if name.replace("_", "-") in _NEVER:
                raise InputError(f"{name} in additional is set for each run; leave it out")


def minutes(limit: str) -> int:
    """Minutes of a time limit as sbatch reads it, rounded up: `90`, `90:30`, `4:00:00`, `1-12`, `1-12:30`, `1-12:30:00`.

    Raises:
        InputError: it is none, or not positive.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(limit).strip())
    if match:
        days, *rest = match.groups()
        first, second, third = (int(part or 0) for part in rest)
        if days is not None:
            found = int(days) * 1440 + first * 60 + second + third / 60
        elif match[4] is not None:
            found = first * 60 + second + third / 60
        else:
            found = first + second / 60
        if days is None and rest == [rest[0], None, None] and found >= 1440:
            raise InputError(
                f"time is {limit}, which sbatch reads as minutes, {found / 1440:.1f} days; write a day or more as D-H:MM, "
                "and in YAML put 4:00:00 in quotes, which is a number there otherwise"
            )
        if found > 0:
            return math.ceil(found)
    raise InputError(
        f"time must be a time limit of sbatch, as 240 (minutes), 4:00:00 or 1-12, but is {limit!r}"
    )


class SlurmRunner:
    """Runs of a grid as jobs of a Slurm cluster.

    Args:
        options: of the jobs.
        folder: of the grid, on the file system that the cluster shares.
    """

    name = "slurm"
    detached = True

    def __init__(self, options: SlurmOptions, folder: Path) -> None:
        self.options = options
        self.folder = folder.absolute() / "slurm"

    def slots(self) -> int | None:
        """None: Slurm keeps the queue."""
        return None

    def device(self, run: GridRun) -> str | None:
        """Which GPUs the cluster has is not known here."""
        return None if self._gpus(run) else "cpu"

    def start(self, run: GridRun) -> str:
        """Submit a run; the job's number.

        Raises:
            InputError: submitit is not installed, or this machine has no sbatch.
            MaxRLError: sbatch refuses.
        """
        for command in ("sbatch", "squeue", "scancel"):
            _require(command)
        executor = self._executor(run)
        try:
            job = executor.submit(SlurmWork(_absolute(run.fields)))
        except RuntimeError as error:  # submitit's, with what sbatch printed
            raise MaxRLError(f"sbatch refused {run.name}: {' '.join(str(error).split())}") from error
        return str(job.job_id)

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        """How jobs stand: by one call of squeue and, for those that have left the queue, one of sacct.

        Raises:
            InputError: this machine has no squeue.
            MaxRLError: squeue fails, so that nothing is known.
        """
        if not jobs:
            return {}
        found = _queued()
        gone = [job for job in jobs.values() if job not in found]
        missing = "not in the queue"
        if gone:
            ended, complaint = _ended(gone)
            found.update(ended)
            missing = f"{missing}; {complaint}" if complaint else f"{missing} and not in the accounts"
        return {
            name: found.get(job, JobReport(state="unknown", message=missing)) for name, job in jobs.items()
        }

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        """Name of the run → number of its newest job, for runs that have one: by what was submitted."""
        newest: dict[str, str] = {}
        scripts = self.folder.glob("*/*_submission.sh")
        for script in sorted(scripts, key=lambda path: (len(path.parent.name), path.parent.name)):
            name = re.search(r"^#SBATCH --job-name=(.*)$", script.read_text(), re.MULTILINE)
            if name:
                newest[shlex.split(name[1])[0]] = script.parent.name
        return {run.name: newest[run.name] for run in runs if run.name in newest}

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines that a job has printed, and with `follow` those it prints until it ends."""
        path = self.folder / job / f"{job}_0_log.out"
        position, rest, looked = 0, "", -math.inf
        while True:
            over = not follow
            if not over and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                over = self.states({run.name: job})[run.name].state not in ("queued", "running")
            if path.is_file():
                with path.open(encoding="utf-8", errors="replace", newline="") as log:
                    log.seek(position)
                    *lines, rest = (rest + log.read()).split("\n")
                    position = log.tell()
                yield from (line.rstrip("\r") for line in lines)
            if over:
                if rest:
                    yield rest
                return
            time.sleep(0.5)

    def cancel(self, run: GridRun, job: str) -> None:
        """Have a running job save a checkpoint and end, and take a waiting one out of the queue.

        Raises:
            MaxRLError: Slurm refuses.
        """
        report = _queued().get(job)
        if report is None or report.state not in ("queued", "running"):
            return
        at_work = report.message.startswith("RUNNING")
        _call("scancel", *(["--signal=INT"] if at_work else []), job)

    def collect(self, run: GridRun, job: str) -> None:
        """Nothing: the run's folder is on the shared file system already."""

    def request(self, run: GridRun) -> str:
        """The script that `start` would give to sbatch, and the fields that are pickled beside it."""
        fields = json.dumps(_absolute(run.fields), indent=2, ensure_ascii=False)
        return f"sbatch {self.folder}/JOB/JOB_submission.sh\n{self.script(run)}\nthe run\n{fields}"

    def script(self, run: GridRun) -> str:
        """The text of the script that `start` gives to sbatch."""
        executor = self._executor(run)
        return executor._make_submission_file_text(executor._submitit_command_str, "")

    def _executor(self, run: GridRun) -> Any:
        try:
            from submitit import SlurmExecutor
        except ImportError as error:
            raise InputError(
                "grids on Slurm need submitit, which is not installed: pip install 'maxrl[slurm]'"
            ) from error

        class Executor(SlurmExecutor):
            """Without submitit's look for `srun`, so that scripts can be shown where there is no Slurm."""

            @classmethod
            def affinity(cls) -> int:
                return 2

        executor = Executor(self.folder / "%j", max_num_timeout=self.options.max_timeouts)
        executor.update_parameters(**self._parameters(run))
        return executor

    def _gpus(self, run: GridRun) -> int:
        if self.options.gpus_per_node is not None:
            return self.options.gpus_per_node
        return int((run.fields.get("model_name_or_path") or "tiny") != "tiny")

    def _parameters(self, run: GridRun) -> dict[str, Any]:
        options = self.options
        mem = None if options.mem_gb is None else f"{math.ceil(options.mem_gb * 1024)}MB"
        cpus = options.cpus_per_task
        return {
            "job_name": run.name,
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "time": minutes(options.time),
            "gpus_per_node": self._gpus(run) or None,
            "cpus_per_task": cpus,
            "mem": mem,
            "constraint": options.constraint,
            "setup": list(options.setup) or None,
            "signal_delay_s": options.warning_seconds,
            "stderr_to_stdout": True,
            "wckey": None,  # submitit's own; clusters that track such keys refuse unknown ones
            # Since Slurm 22.05 srun does not take this over from sbatch.
            "srun_args": None if cpus is None else [f"--cpus-per-task={cpus}"],
            # A job that is preempted, or whose node fails, goes on; some clusters have it otherwise by default.
            "additional_parameters": {"requeue": True, **(options.additional or {})},
        }


def _absolute(fields: Fields) -> Fields:
    return {**fields, "output_dir": str(Path(fields["output_dir"]).absolute())}


def _queued() -> dict[str, JobReport]:
    """The user's jobs that Slurm has in memory: those that wait or run, and those that ended minutes ago."""
    found = {}
    for line in _call("squeue", "--me", "--states=all", "--noheader", "--format=%i|%T|%r").splitlines():
        job, state, reason = line.strip().split("|", 2)
        found[job] = _report(state, "" if reason in ("", "None") else reason)
    return found


def _ended(jobs: Sequence[str]) -> tuple[dict[str, JobReport], str]:
    """Jobs that the accounts know, and what sacct had to complain of: a cluster may keep no accounts."""
    words = [
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobIDRaw,State,ExitCode",
        "--jobs",
        ",".join(jobs),
    ]
    try:
        text = _call("sacct", *words)
    except MaxRLError as error:
        return {}, str(error)
    found = {}
    for line in text.splitlines():
        job, state, code = line.strip().split("|", 2)
        found[job] = _report(state, "" if code in ("", "0:0") else f"exit code {code}")
    return found, ""


def _report(state: str, more: str) -> JobReport:
    word = state.split()[0]  # sacct adds who cancelled
    # A state of another version of Slurm: starting the run once more beside it would be worse than waiting.
    return JobReport(state=_STATES.get(word, "running"), message=f"{word}: {more}" if more else word)


def _require(command: str) -> None:
    if shutil.which(command) is None:
        raise InputError(
            f"there is no {command} on this machine; give the command on a login node of the cluster"
        )


def _call(command: str, *words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        InputError: this machine does not have it.
        MaxRLError: it fails.
    """
    _require(command)
    done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise MaxRLError(f"{command} ended with status {done.returncode}: {said}")
    return done.stdout
