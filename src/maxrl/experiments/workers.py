"""A process per run, as many at a time as asked for: one that dies takes no other with it.

Workers are out of the terminal's reach: Ctrl-C goes to the parent, which passes it on, so that each of them finishes
its step and saves. They end when the parent does, however it ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console

from maxrl.experiments.grids.work import log_to, make_run
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import Fields
from maxrl.experiments.store import ERROR_FILE

INTERRUPTED = 130
"""Exit status of a worker that Ctrl-C ended: 128 and the signal's number, as of shells."""


@dataclass
class Job:
    """One run to be made: its fields, and what became of it."""

    fields: Fields
    folder: Path
    process: BaseProcess | None = field(default=None, compare=False)
    log: Path | None = None
    """File for what its process prints; None for nowhere."""

    @property
    def done(self) -> bool:
        """Whether the run has reached its end, in this process's time or before."""
        return (self.folder / "run.json").is_file()

    def error(self) -> str:
        """Why a job that is over is not done."""
        path = self.folder / ERROR_FILE
        if path.is_file():
            return path.read_text().strip().splitlines()[-1]
        code = self.process.exitcode if self.process else None
        if code is not None and code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with status {code}"


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int,
    threads: int,
    meanwhile: Callable[[], object],
    look: Callable[[], object],
) -> None:
    """Make every run that is not done yet.

    Args:
        jobs: the runs, in the order in which they start.
        at_once: runs at a time.
        threads: of each run.
        meanwhile: called once, when the first ones have been started and import.
        look: called twice a second, and at the end, whatever it is.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the running ones have saved a checkpoint; a second one ends them at once.
            Whatever else is raised here stops them like Ctrl-C.
    """
    waiting = [job for job in jobs if not job.done]
    running: list[Job] = []
    try:
        _fill(running, waiting, at_once, threads)
        meanwhile()
        while running:
            time.sleep(0.5)
            running = [job for job in running if job.process and job.process.is_alive()]
            look()
            _fill(running, waiting, at_once, threads)
    except BaseException:
        _interrupt(jobs)
        raise
    finally:
        look()


def _fill(running: list[Job], waiting: list[Job], at_once: int, threads: int) -> None:
    while waiting and len(running) < at_once:
        running.append(start_worker(waiting.pop(0), threads))


def start_worker(job: Job, threads: int) -> Job:
    """Start a process for a run, which ends when this one does."""
    arguments = (job.fields, job.log, os.getpid(), threads)
    job.process = multiprocessing.get_context("spawn").Process(target=_work, args=arguments)
    # A new process inherits both: Ctrl-C waits until it can act on it, and torch reads its threads on import.
    resource_tracker.ensure_running()  # which start() would do, letting Ctrl-C through again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    omp = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        job.process.start()
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if omp is not None:
            os.environ["OMP_NUM_THREADS"] = omp
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return job


def _interrupt(jobs: Sequence[Job]) -> None:
    """Pass Ctrl-C on and wait; at the second, end the workers."""
    processes = [job.process for job in jobs if job.process and job.process.pid is not None]
    try:
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()


def _work(fields: Fields, log: Path | None, parent: int, threads: int) -> None:
    """In the worker: make the run, or go on with what a died process left."""
    os.setsid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    quiet_libraries()
    console = None
    if log is not None:
        log_to(log)
        console = Console(width=120, highlight=False)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have had ignored
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        make_run(fields, console=console)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:  # before or after training
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001 — whatever it is, the run's folder says it, and the parent makes a row of it
        sys.exit(1)


def _end_with(parent: int) -> None:
    """A worker whose parent is gone would train on unseen, and in the way of the next attempt."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
