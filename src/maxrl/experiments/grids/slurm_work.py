"""What a job of a Slurm cluster runs: one run, which ends between two steps and goes on when the job is started again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from rich.console import Console

from maxrl.errors import MaxRLError
from maxrl.experiments.grids.work import make_run
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import Fields

GRACE_SECONDS = 600.0
"""How long a job that was told to end, and has saved, waits for Slurm to end it."""


class SlurmWork:
    """One run inside a Slurm job: what submitit pickles, and calls on a machine of the cluster.

    Training ends between two steps, with a checkpoint, whatever it is ended by:

    - the signal that Slurm sends `warning_seconds` before the time limit (USR2, submitit's): the job is queued again, and
      goes on from the checkpoint when it is started;
    - SIGTERM, by which Slurm announces that it will end the job (preemption, `scancel`): the job waits for that, so that a
      cluster that queues what it preempts again can do so;
    - SIGINT, which `cancel` sends: the job cancels itself.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._told: str | None = None

    def __call__(self) -> None:
        """Make the run, or go on with what there is of it."""
        warning = _warning_signal()
        requeue: Any = signal.getsignal(warning)  # submitit's, installed just before
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have had ignored
            signal.signal(warning, self._tell("requeue"))
            signal.signal(signal.SIGTERM, self._tell("wait"))
            quiet_libraries()
            make_run(self.fields, console=Console(highlight=False, soft_wrap=True))
        except (Interrupted, KeyboardInterrupt) as interrupted:
            if self._told is None:
                self._told = "cancel"
                subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
            until = time.monotonic() + GRACE_SECONDS
            while self._told != "requeue" and time.monotonic() < until:
                time.sleep(0.5)
            if self._told == "requeue":
                requeue(warning, None)  # has `checkpoint` called, the job queued again, and leaves
            raise MaxRLError(f"stopped: {interrupted}") from interrupted

    def checkpoint(self) -> Any:
        """What submitit calls a job with when it starts it again: the same, since runs go on from their checkpoints."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(SlurmWork(self.fields))

    def _tell(self, what: str) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            first = self._told is None
            if self._told != "requeue":
                self._told = what
            if first:  # a second interrupt would not let the step finish
                signal.raise_signal(signal.SIGINT)

        return handle


def _warning_signal() -> signal.Signals:
    from submitit.core.job_environment import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
