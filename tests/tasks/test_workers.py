"""Worker processes: results, every kind of failure, and what is left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maxrl.tasks import workers
from maxrl.tasks.workers import WorkerFailure, WorkerPool

FUNCTION = """
import ctypes, os, sys, time

def work(item):
    kind, value = item
    if kind == "double":
        return 2 * value
    if kind == "print":
        print("noise " * value); sys.stdout.flush(); os.write(1, b"noise")
        return "quiet"
    if kind == "loop":
        while True:
            pass
    if kind == "power":
        return len(str(value ** (value ** value)))
    if kind == "memory":
        return len(bytearray(value))
    if kind == "raise":
        raise KeyError(value)
    if kind == "exit":
        sys.exit(value)
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "kill":
        os.kill(os.getpid(), value)
    if kind == "sleep":
        time.sleep(value)
        return "awake"
    if kind == "pid":
        return os.getpid()
    if kind == "outer":
        return os.getppid()
    if kind == "slow":
        end = time.process_time() + value
        while time.process_time() < end:
            pass
        return value
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "foreign_code.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "foreign_code:work"


@pytest.fixture
def pool(module: str) -> Iterator[WorkerPool]:
    pool = WorkerPool(module, processes=2, time_limit=0.3, warm_up=["double", 1])
    yield pool
    pool.close()


def _kinds(results: list[Any]) -> list[Any]:
    return [result.kind if isinstance(result, WorkerFailure) else result for result in results]


def test_results_come_in_the_order_of_the_items(pool: WorkerPool) -> None:
    assert pool.map([["double", n] for n in range(50)]) == [2 * n for n in range(50)]
    assert pool.map([]) == []


def test_each_failure_costs_its_own_item_and_names_its_cause(pool: WorkerPool) -> None:
    items = [
        ["double", 1],
        ["loop", 0],
        ["power", 12],  # one call into C
        ["memory", 1 << 40],
        ["raise", "no"],
        ["exit", 0],
        ["crash", 0],
        ["kill", signal.SIGKILL],
        ["print", 10_000],
        ["double", "x" * 300_000],  # more than a pipe holds
        ["double", 5],
    ]
    results = pool.map(items)
    assert _kinds(results) == [
        2, "time", "time", "memory", "raised", "raised", "crashed", "crashed", "quiet", "x" * 600_000, 10
    ]  # fmt: skip
    details = [result.detail for result in results if isinstance(result, WorkerFailure)]
    assert details[3:5] == ["KeyError: 'no'", "SystemExit: 0"]
    assert details[-2:] == ["its process ended with status -11", "its process ended with status -9"]
    assert _kinds(pool.map(items[:2])) == [2, "time"]


def test_cpu_time_counts_and_not_waiting(pool: WorkerPool) -> None:
    assert pool.map([["sleep", 0.6]]) == ["awake"]


def test_each_item_has_the_whole_limit(pool: WorkerPool) -> None:
    assert pool.map([["slow", 0.1]] * 8) == [0.1] * 8


def test_a_limit_does_not_cost_another_start(module: str) -> None:
    pool = WorkerPool(module, time_limit=0.3)
    [before] = pool.map([["outer", 0]])
    assert _kinds(pool.map([["loop", 0], ["memory", 1 << 40], ["outer", 0]])) == ["time", "memory", before]
    pool.close()


def test_what_never_answers_is_given_up(module: str) -> None:
    pool = WorkerPool(module, time_limit=0.1)
    pool._stall_limit = 0.3
    [inner] = pool.map([["pid", 0]])  # starting has a limit of its own
    assert _kinds(pool.map([["sleep", 60], ["double", 2]])) == ["stalled", 4]
    assert _gone([inner])
    pool.close()


def test_a_function_that_cannot_be_loaded_is_tried_once_per_call(module: str) -> None:
    for target in ("no_such_module:work", "foreign_code:no_such_function"):
        pool = WorkerPool(target)
        started = time.monotonic()
        results = pool.map([1] * 100)
        assert _kinds(results) == ["unavailable"] * 100
        assert "no_such" in results[0].detail
        assert time.monotonic() - started < 50
        assert _kinds(pool.map([1])) == ["unavailable"]
        pool.close()


def test_a_worker_that_was_killed_starts_again(pool: WorkerPool) -> None:
    [outer] = pool.map([["outer", 0]])
    os.killpg(outer, signal.SIGKILL)
    assert _gone([outer])
    assert pool.map([["double", 4]]) == [8]


def test_a_worker_that_dies_just_before_it_is_asked(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    [outer] = pool.map([["outer", 0]])
    os.killpg(outer, signal.SIGKILL)
    assert _gone([outer])
    monkeypatch.setattr(pool._workers[0]._process, "poll", lambda: None)
    assert _kinds(pool.map([["double", 4], ["double", 5]])) in (["crashed", 10], [8, 10])
    assert pool.map([["double", 4]]) == [8]


def test_a_worker_killed_in_the_middle_of_its_work(pool: WorkerPool) -> None:
    [outer] = pool.map([["outer", 0]])
    killer = threading.Timer(0.3, os.killpg, (outer, signal.SIGKILL))
    killer.start()
    assert _kinds(pool.map([["sleep", 20]])) == ["crashed"]
    killer.join()
    assert pool.map([["double", 4]]) == [8]


def test_an_inner_process_that_dies_while_idle_does_not_mix_up_answers(pool: WorkerPool) -> None:
    [inner] = pool.map([["pid", 0]])
    os.kill(inner, signal.SIGKILL)
    kinds = [_kinds(pool.map([["double", n]]))[0] for n in range(5)]
    assert kinds == ["crashed", 2, 4, 6, 8]


def test_an_interrupt_leaves_no_answer_for_the_next_call(pool: WorkerPool) -> None:
    pool.map([["double", 0]] * 2)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.map([["sleep", 30], ["double", 1]])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pool.map([["double", 7], ["double", 8]]) == [14, 16]


def test_threads_share_a_pool(pool: WorkerPool) -> None:
    found: dict[int, list[Any]] = {}

    def ask(thread: int) -> None:
        found[thread] = pool.map([["double", 100 * thread + n] for n in range(20)])

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {thread: [2 * (100 * thread + n) for n in range(20)] for thread in range(8)}


def test_processes_are_forked_anew_after_many_items(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(module)
    pids = pool.map([["pid", 0]] * (2 * workers._ITEMS_PER_PROCESS + 10))
    assert len(set(pids)) == 3
    assert len(set(pids[: workers._ITEMS_PER_PROCESS])) == 1
    pool.close()


def _gone(pids: list[int]) -> bool:
    """Whether all processes end in good time (one that nobody has waited for yet has ended)."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if all(_state(pid) in "ZX" for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def test_closing_and_collecting_end_the_processes(module: str) -> None:
    for end in (lambda pool: pool.close(), lambda pool: None):
        pool = WorkerPool(module)
        pids = pool.map([["pid", 0], ["outer", 0]])
        end(pool)
        del pool
        gc.collect()
        assert _gone(pids)


SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
from maxrl.tasks.workers import WorkerPool

pool = WorkerPool("foreign_code:work", processes=2)
{body}
"""


def _run(module_folder: Path, body: str, **options: Any) -> subprocess.CompletedProcess[str]:
    script = module_folder / "script.py"
    script.write_text(SCRIPT.format(folder=str(module_folder), body=body))
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=100, **options
    )


@pytest.mark.usefixtures("module")
def test_the_end_of_the_program_ends_the_processes(tmp_path: Path) -> None:
    for ending in ("", "os.kill(os.getpid(), 9)", "raise SystemExit(1)"):
        done = _run(tmp_path, f"print(*pool.map([['pid', 0], ['outer', 0]]), flush=True)\n{ending}")
        pids = list(map(int, done.stdout.split()))
        assert len(pids) == 2
        assert done.stderr == ""
        assert _gone(pids)


@pytest.mark.usefixtures("module")
def test_a_script_without_main_guard_and_without_standard_streams(tmp_path: Path) -> None:
    body = """
for stream in (0, 1, 2):
    os.close(stream)
result = pool.map([["double", 4], ["print", 3]])
pool.close()
os._exit(0 if result == [8, "quiet"] else 1)
"""
    assert _run(tmp_path, body).returncode == 0


@pytest.mark.usefixtures("module")
def test_a_forked_child_has_processes_of_its_own(tmp_path: Path) -> None:
    body = """
import signal, threading, time, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
before = pool.map([["outer", 0], ["outer", 0]])
busy = threading.Thread(target=pool.map, args=([["sleep", 1]],))
busy.start()
time.sleep(0.3)
for used in (True, False):  # while a thread of the parent has the pool
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        if used:
            own = pool.map([["outer", 0], ["double", 3]])
            assert own[0] not in before and own[1] == 6, own
        os._exit(0) if used else sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
busy.join()
assert set(pool.map([["outer", 0]] * 4)) <= set(before)
print("done")
"""
    done = _run(tmp_path, body)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_disowned_processes_end_once_their_pipes_are_closed(module: str) -> None:
    pool = WorkerPool(module)
    assert _kinds(pool.map([["crash", 0]])) == ["crashed"]
    pool.disown()  # where nothing runs there is nothing to let go
    [outer] = pool.map([["outer", 0]])
    workers._disown_all()
    assert _gone([outer])
    assert os.waitpid(outer, 0)[0] == outer  # nobody else has
    assert pool.map([["outer", 0]]) != [outer]
    pool.close()
