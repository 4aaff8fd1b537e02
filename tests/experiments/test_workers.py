"""What happens beside the workers: once, and their end when it fails. Small processes stand in for runs."""

import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.experiments.standins import linger, make_run

from maxrl.experiments import workers
from maxrl.experiments.workers import Job, run_jobs


def jobs_of(folder: Path, count: int) -> list[Job]:
    return [Job({}, folder / str(number)) for number in range(count)]


def stand_in(monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], None]) -> list[tuple[Path, int]]:
    """Workers do `work` instead; the list has the folder and the threads of each that was started."""
    started: list[tuple[Path, int]] = []

    def start(job: Job, threads: int) -> Job:
        started.append((job.folder, threads))
        job.process = multiprocessing.get_context("spawn").Process(target=work, args=(job.folder,))
        job.process.start()
        return job

    monkeypatch.setattr(workers, "start_worker", start)
    return started


def test_all_runs_are_made_and_what_is_done_meanwhile_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = stand_in(monkeypatch, make_run)
    seen: list[str] = []
    jobs = jobs_of(tmp_path, 3)
    run_jobs(
        jobs,
        at_once=2,
        threads=5,
        meanwhile=lambda: seen.append(f"meanwhile, {len(started)} started"),
        look=lambda: seen.append("look"),
    )
    assert all(job.done for job in jobs)
    assert started == [(job.folder, 5) for job in jobs]
    assert seen[0] == "meanwhile, 2 started"
    assert set(seen[1:]) == {"look"}


def test_without_anything_to_start_it_is_done_all_the_same(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, 1)
    make_run(job.folder)
    seen: list[str] = []
    run_jobs([job], at_once=1, threads=1, meanwhile=lambda: seen.append("meanwhile"), look=lambda: None)
    assert seen == ["meanwhile"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError("cannot be evaluated")])
@pytest.mark.parametrize("where", ["meanwhile", "look"])
def test_what_fails_beside_them_stops_the_workers_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, failure: type[BaseException] | BaseException
) -> None:
    stand_in(monkeypatch, linger)
    calls = {"meanwhile": 0, "look": 0}
    jobs = jobs_of(tmp_path, 2)

    def call(name: str) -> None:
        calls[name] += 1
        if name == where and calls[name] == 1:
            deadline = time.monotonic() + 60
            while not all((job.folder / "ready").exists() for job in jobs) and time.monotonic() < deadline:
                time.sleep(0.05)
            raise failure

    try:
        with pytest.raises(failure if isinstance(failure, type) else type(failure)):
            run_jobs(
                jobs, at_once=2, threads=1, meanwhile=lambda: call("meanwhile"), look=lambda: call("look")
            )
        assert [job.process.exitcode for job in jobs if job.process] == [-signal.SIGINT] * 2
        assert calls["meanwhile"] == 1
    finally:
        for job in jobs:
            if job.process:
                job.process.kill()
