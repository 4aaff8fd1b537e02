"""The loop that brings a grid to its end, with a place whose jobs do as a script says: no process is started here."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.grids import ledger
from maxrl.experiments.grids.drive import DEATHS, cancel, drive, submit
from maxrl.experiments.grids.ledger import note_job, only_one, open_grid, read_jobs, write_plan
from maxrl.experiments.grids.runner import GridRun, JobReport
from maxrl.experiments.grids.spec import Grid
from maxrl.experiments.grids.standing import status
from maxrl.experiments.store.processes import RunProcess, record_process


class ScriptedPlace:
    """Each start of a run takes the next word of its script: what becomes of the job.

    done, error (recorded by the run), refused (the place says failed), killed, cancelled; or running, for ever.
    """

    name = "scripted"

    def __init__(
        self, script: Mapping[str, list[str]], *, slots: int | None = 1, detached: bool = False
    ) -> None:
        self.script = {name: list(words) for name, words in script.items()}
        self.room = slots
        self.detached = detached
        self.started: list[str] = []
        self.most = 0
        self.jobs: dict[str, tuple[GridRun, str]] = {}
        self.cancelled: list[str] = []
        self.asked: list[int] = []
        self.over: set[str] = set()

    def slots(self) -> int | None:
        return self.room

    def start(self, run: GridRun) -> str:
        job = f"job{len(self.started)}"
        self.started.append(run.name)
        self.jobs[job] = (run, self.script[run.name].pop(0))
        self.most = max(self.most, len(self.jobs.keys() - self.over))
        return job

    def states(self, jobs: Mapping[str, str]) -> dict[str, JobReport]:
        self.asked.append(len(jobs))
        return {name: self._state(job) for name, job in jobs.items()}

    def _state(self, job: str) -> JobReport:
        if job not in self.jobs:
            return JobReport(state="unknown")
        run, word = self.jobs[job]
        run.folder.mkdir(parents=True, exist_ok=True)
        if word == "running":
            return JobReport(state="running")
        self.over.add(job)
        if word == "done":
            (run.folder / "run.json").write_text("{}")
            return JobReport(state="done")
        if word == "error":
            (run.folder / "error.txt").write_text("Traceback\nValueError: its own\n")
            return JobReport(state="done", message="exit status 1")
        states = {"refused": "failed", "cancelled": "cancelled", "killed": "unknown"}
        return JobReport(state=states.get(word, "unknown"), message=word)  # pyright: ignore[reportArgumentType]

    def find(self, runs: Iterable[GridRun]) -> dict[str, str]:
        wanted = {run.name for run in runs}
        return {run.name: job for job, (run, _) in self.jobs.items() if run.name in wanted}

    def logs(self, run: GridRun, job: str, *, follow: bool = False) -> Iterator[str]:
        yield job

    def cancel(self, run: GridRun, job: str) -> None:
        self.cancelled.append(run.name)
        self.jobs[job] = (run, "cancelled")

    def collect(self, run: GridRun, job: str) -> None: ...

    def request(self, run: GridRun) -> str:
        return run.name


def grid_of(folder: Path, *names: str) -> Grid:
    runs = tuple(
        GridRun(
            name=n, fields={"output_dir": str(folder / n), "task": "subset_sum", "seed": 1}, point={"run": n}
        )
        for n in names
    )
    return Grid(name="grid", folder=folder, runs=runs, runners={})


class Told(list[tuple[str, str, str]]):
    """What happened, in order."""

    def __call__(self, run: GridRun, event: str, remark: str) -> None:
        self.append((run.name, event, remark))

    def of(self, name: str) -> list[str]:
        return [event for run, event, _ in self if run == name]


def standings(grid: Grid, place: ScriptedPlace | None = None) -> dict[str, str]:
    return {row.run.name: row.standing for row in status(grid, place)}


def test_every_run_is_made_and_no_more_at_a_time_than_there_is_room(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b", "c", "d"), Told()
    place = ScriptedPlace({name: ["done"] for name in "abcd"}, slots=2)
    looks: list[int] = []
    drive(grid, place, told, every=0, look=lambda: looks.append(1))
    assert place.started == ["a", "b", "c", "d"]
    assert place.most == 2
    assert looks
    assert standings(grid) == dict.fromkeys("abcd", "done")
    assert told.of("d") == ["started", "done"]
    assert {name: job.attempts for name, job in read_jobs(tmp_path).items()} == dict.fromkeys("abcd", 1)


def test_what_is_done_is_not_done_again_and_what_failed_stays(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a", "b", "c")
    drive(grid, ScriptedPlace({"a": ["done"], "b": ["error"], "c": ["done"]}), Told(), every=0)
    again, told = ScriptedPlace({"b": ["done"]}), Told()
    drive(grid, again, told, every=0)
    assert again.started == []
    assert told == [("a", "left", "done"), ("b", "left", "failed"), ("c", "left", "done")]
    (row,) = [row for row in status(grid, again) if row.run.name == "b"]
    assert (row.standing, row.message) == ("failed", "ValueError: its own")
    drive(grid, again, told, retry_failed=True, every=0)
    assert again.started == ["b"]
    assert read_jobs(tmp_path)["b"].attempts == 2


def test_a_killed_run_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    place = ScriptedPlace({"a": ["killed", "killed", "done"], "b": ["killed"] * 9}, slots=None)
    drive(grid, place, told, every=0)
    assert told.of("a") == ["started", "died", "started", "died", "started", "done"]
    assert told.of("b").count("started") == DEATHS
    assert told.of("b")[-1] == "failed"
    (row,) = [row for row in status(grid, place) if row.run.name == "b"]
    assert (row.standing, row.message) == (
        "failed",
        f"its process died {DEATHS} times in one command: killed",
    )


def test_what_died_goes_on_before_others_are_begun(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    place = ScriptedPlace({"a": ["killed", "done"], "b": ["done"]}, slots=1)

    def look() -> None:
        (tmp_path / "a" / "checkpoint-1").mkdir(parents=True, exist_ok=True)

    drive(grid, place, told, every=0, look=look)
    assert place.started == ["a", "a", "b"]
    assert told.of("a") == ["started", "died", "resumed", "done"]


def test_one_that_failed_or_was_cancelled_is_not_started_again(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    place = ScriptedPlace({"a": ["error"], "b": ["cancelled"]})
    drive(grid, place, told, every=0)
    assert place.started == ["a", "b"]
    assert [event for _, event, _ in told] == ["started", "failed", "started", "cancelled"]
    assert standings(grid) == {"a": "failed", "b": "stopped"}


def test_a_run_at_work_elsewhere_is_left_alone(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a"), Told()
    (tmp_path / "a").mkdir()
    record_process(tmp_path / "a")  # this process, as if it trained
    place = ScriptedPlace({"a": ["done"]})
    drive(grid, place, told, every=0)
    assert place.started == []
    assert told == [("a", "left", "running")]


def test_jobs_of_an_earlier_command_are_waited_for(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a"), Told()
    place = ScriptedPlace({"a": ["done", "done"]})
    place.start(grid.runs[0])
    note_job(tmp_path, "a", "scripted", "job0")
    place.jobs["job0"] = (grid.runs[0], "running")
    first = [True]

    def look() -> None:
        if first.pop() if first else False:
            return
        place.jobs["job0"] = (grid.runs[0], "killed")

    drive(grid, place, told, every=0, look=look)
    assert told.of("a") == ["died", "started", "done"]
    assert place.started == ["a", "a"]


def test_ctrl_c_stops_what_is_at_work_and_starts_nothing_more(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    place = ScriptedPlace({"a": ["running"], "b": ["running"]}, slots=1)

    def look() -> None:
        if not place.cancelled:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(grid, place, told, every=0, look=look)
    assert place.cancelled == ["a"]
    assert place.started == ["a"]


def test_what_an_earlier_command_left_at_work_goes_on_when_it_dies(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    note_job(tmp_path, "a", "scripted", "long gone")
    (tmp_path / "a").mkdir()
    record_process(tmp_path / "a")  # the place knows nothing of it, as Ray of another command's tasks
    place = ScriptedPlace({"a": ["done"], "b": ["done"]})
    looks = [0]

    def look() -> None:
        looks[0] += 1
        assert looks[0] < 100
        if looks[0] < 5:
            assert "a" not in place.started
        else:
            (tmp_path / "a" / "process.json").unlink(missing_ok=True)

    drive(grid, place, told, every=0, look=look)
    assert place.started == ["b", "a"]
    assert told.of("a") == ["left", "started", "done"]


def test_a_run_that_another_process_took_over_is_not_started_again(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a"), Told()
    place = ScriptedPlace({"a": ["running", "done"]})

    def look() -> None:
        (tmp_path / "a").mkdir(exist_ok=True)
        record_process(tmp_path / "a")
        place.jobs["job0"] = (grid.runs[0], "killed")

    drive(grid, place, told, every=0, look=look)
    assert place.started == ["a"]
    assert told[-1] == ("a", "left", "another process makes it")


def test_a_run_that_was_given_to_another_place_is_started_here_only_when_that_says_it_is_over(
    tmp_path: Path,
) -> None:
    grid, told = grid_of(tmp_path, "a", "b"), Told()
    other = ScriptedPlace({"a": ["running"], "b": ["killed"]}, detached=True)
    other.name = "other"
    submit(grid, other, Told())
    place = ScriptedPlace({"a": ["done"], "b": ["done"]})
    drive(grid, place, told, every=0)
    assert place.started == []
    assert told == [("a", "left", "given to other"), ("b", "left", "given to other")]
    assert {row.run.name: row.standing for row in status(grid, place, lambda name: other)} == {
        "a": "running",
        "b": "stopped",
    }
    drive(grid, place, told, every=0, others=lambda name: other)
    assert place.started == ["b"]
    record_process(tmp_path / "a")
    assert cancel(grid, place, []) == []
    assert not place.cancelled


def test_what_waits_for_another_command_is_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(tmp_path, "a", "b")
    note_job(tmp_path, "a", "scripted", "of that command")
    with only_one(tmp_path):
        assert standings(grid, ScriptedPlace({})) == {"a": "stopped", "b": "waiting"}, "no other command"
    driver = RunProcess(pid=1, created=0.0, machine="elsewhere")
    monkeypatch.setattr("maxrl.experiments.grids.standing.holder", lambda folder: driver)
    assert standings(grid, ScriptedPlace({})) == {"a": "queued", "b": "queued"}
    assert standings(grid, ScriptedPlace({}, detached=True)) == {"a": "stopped", "b": "waiting"}


def test_a_run_in_stages_stands_as_its_last_one(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a")
    for stage in ("stage-1", "stage-2", "stage-10"):
        (tmp_path / "a" / stage).mkdir(parents=True)
        (tmp_path / "a" / stage / "metrics.jsonl").write_text(f'{{"step": {stage[6:]}, "elapsed": 1}}\n')
        (tmp_path / "a" / stage / "run.json").write_text("{}")
    (tmp_path / "a" / "stage-10" / "run.json").unlink()
    (row,) = status(grid, None)
    assert (row.standing, row.stored.step) == ("stopped", 10)
    record_process(tmp_path / "a" / "stage-10")
    assert standings(grid) == {"a": "running"}
    (tmp_path / "a" / "stage-10" / "process.json").unlink()
    (tmp_path / "a" / "stage-10" / "error.txt").write_text("ValueError: its own\n")
    (row,) = status(grid, None)
    assert (row.standing, row.message) == ("failed", "ValueError: its own")
    (tmp_path / "a" / "stage-10" / "error.txt").unlink()
    (tmp_path / "a" / "stage-10" / "run.json").write_text("{}")
    assert standings(grid) == {"a": "stopped"}, "between two stages"
    (tmp_path / "a" / "run.json").write_text("{}")
    assert standings(grid) == {"a": "done"}


def test_a_second_ctrl_c_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(tmp_path, "a")
    place = ScriptedPlace({"a": ["running"]})
    interrupts = iter([None, KeyboardInterrupt, KeyboardInterrupt])

    def sleep(seconds: float) -> None:
        if interrupt := next(interrupts):
            raise interrupt

    def cancel_in_vain(run: GridRun, job: str) -> None:
        place.cancelled.append(run.name)

    place.cancel = cancel_in_vain  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr("maxrl.experiments.grids.drive.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        drive(grid, place, Told(), every=0)
    assert place.cancelled == ["a", "a"]


def test_a_place_with_its_own_queue_gets_everything_that_is_not_there_yet(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b", "c"), Told()
    place = ScriptedPlace({"a": ["done"], "b": ["running"], "c": ["error", "done"]}, detached=True)
    submit(grid, place, told)
    assert place.started == ["a", "b", "c"]
    assert standings(grid, place) == {"a": "done", "b": "running", "c": "failed"}
    submit(grid, place, told)
    assert place.started == ["a", "b", "c"]
    place.jobs["job2"] = (grid.runs[2], "refused")
    submit(grid, place, told, retry_failed=True)
    assert place.started == ["a", "b", "c", "c"]
    place.asked.clear()
    standings(grid, place)
    assert place.asked == [3], "one question for all jobs"


def test_jobs_that_their_place_ended_go_on_after_what_they_left_was_brought_here(tmp_path: Path) -> None:
    grid, told = grid_of(tmp_path, "a", "b", "c"), Told()
    place = ScriptedPlace({name: ["refused", "running"] for name in "abc"}, detached=True)
    submit(grid, place, told)
    left = {"a": "run.json", "b": "error.txt"}  # c ran out of time

    def collect(run: GridRun, job: str) -> None:
        run.folder.mkdir(exist_ok=True)
        if run.name in left:
            (run.folder / left[run.name]).write_text("{}")

    place.collect = collect  # pyright: ignore[reportAttributeAccessIssue]
    assert {(row.standing, row.message) for row in status(grid, place)} == {
        ("stopped", "refused; `maxrl grid collect` brings what its job left")
    }
    told.clear()
    submit(grid, place, told)
    assert told == [("a", "left", "done"), ("b", "left", "failed"), ("c", "started", "job3")]


def test_what_a_place_kept_of_another_run_is_refused(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a")
    place = ScriptedPlace({"a": ["refused"]}, detached=True)
    submit(grid, place, Told())

    def collect(run: GridRun, job: str) -> None:
        run.folder.mkdir(exist_ok=True)
        (run.folder / "config.yaml").write_text("task: subset_sum\nseed: 2\n")

    place.collect = collect  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match=r"holds a run with other settings .*seed"):
        submit(grid, place, Told())


def test_jobs_that_a_place_has_forgotten_are_started_again(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a")
    place = ScriptedPlace({"a": ["running", "running"]}, detached=True)
    submit(grid, place, Told())
    place.jobs.clear()
    assert standings(grid, place) == {"a": "stopped"}
    submit(grid, place, Told())
    assert place.started == ["a", "a"]


def test_jobs_whose_record_is_lost_are_found_again(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a", "b")
    place = ScriptedPlace({"a": ["running"], "b": ["running"]}, detached=True)
    submit(grid, place, Told())
    (tmp_path / "jobs.json").unlink()
    told = Told()
    submit(grid, place, told)
    assert place.started == ["a", "b"]
    assert told == [("a", "left", "running"), ("b", "left", "running")]
    assert read_jobs(tmp_path)["b"].job == "job1"


def test_cancel_asks_those_at_work(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "a", "b", "c")
    place = ScriptedPlace({"a": ["running"], "b": ["done"], "c": ["running"]}, detached=True)
    submit(grid, place, Told())
    standings(grid, place)
    assert cancel(grid, place, ["c", "b"]) == ["c"]
    assert cancel(grid, place, []) == ["a"]


def _pid(process: RunProcess | None) -> int | None:
    return process.pid if process is not None and process.alive else None


def test_two_commands_do_not_run_one_grid(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from maxrl.experiments.grids.ledger import only_one\n"
        "with only_one(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert _pid(ledger.holder(tmp_path)) == process.pid
        with pytest.raises(MaxRLError, match=f"process {process.pid}"), only_one(tmp_path):
            pass
        process.kill()
        process.wait()
        assert ledger.holder(tmp_path) is None
        with only_one(tmp_path):  # a killed one leaves nothing behind that would be in the way
            assert _pid(ledger.holder(tmp_path)) == os.getpid()
    finally:
        process.kill()
        process.communicate()
    assert ledger.holder(tmp_path) is None


def test_a_grids_folder_is_opened_without_its_spec_wherever_it_is_now(tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "was", "a", "b")
    write_plan(grid)
    (tmp_path / "was").rename(tmp_path / "is")
    found = open_grid(tmp_path / "is")
    assert [run.name for run in found.runs] == ["a", "b"]
    assert [run.folder for run in found.runs] == [tmp_path / "is" / "a", tmp_path / "is" / "b"]
    assert found.runs[0].point == {"run": "a"}
    with pytest.raises(InputError, match="holds no grid"):
        open_grid(tmp_path)


@pytest.mark.parametrize("content", ['{"a": ', "[]", "null", '{"a": {"place": "x"}}'])
def test_a_damaged_record_of_jobs_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "jobs.json").write_text(content)
    with pytest.raises(InputError, match=r"jobs\.json is damaged"):
        read_jobs(tmp_path)


@pytest.mark.parametrize("content", ['{"runs": ', "[]", "{}", '{"runs": [{}]}'])
def test_a_damaged_plan_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "grid.json").write_text(content)
    with pytest.raises(InputError, match=r"grid\.json is damaged .*give the spec"):
        open_grid(tmp_path)
