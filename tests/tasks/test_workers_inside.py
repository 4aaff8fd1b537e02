"""What runs in a worker, run here: coverage does not follow into a process that is forked and ends by `os._exit`."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from maxrl.tasks import workers


class _Ended(BaseException):
    pass


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    ends = (*os.pipe(), *os.pipe())
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPROF)
    yield
    signal.signal(signal.SIGPROF, before)


def _messages(answers: int) -> list[Any]:
    received = bytearray(os.read(answers, 1 << 16))
    found: list[Any] = []
    while (message := workers._message(received)) is not None:
        found.append(message)
    assert not received
    return found


def _square(item: Any) -> Any:
    if item == "memory":
        raise MemoryError
    return item * item


def test_the_inner_process_answers_until_its_pipe_ends(pipes: tuple[int, int, int, int]) -> None:
    requests, ask, answers, answer = pipes
    for item in (3, "x", 5):
        workers._write(ask, [item])
    own, silent = os.pipe()
    os.close(silent)
    assert workers._work(_square, own, answer, 1.0) == 0
    os.close(own)
    workers._write(ask, ["memory"])
    assert workers._work(_square, requests, answer, 1.0) == workers._MEMORY
    first, second, third = _messages(answers)
    assert [first, third] == [["", 9], ["", 25]]
    assert second[0] == "raised"
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_the_inner_process_retires(pipes: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    requests, ask, answers, answer = pipes
    monkeypatch.setattr(workers, "_ITEMS_PER_PROCESS", 2)
    for number in (1, 2, 3):
        workers._write(ask, [number])
    assert workers._work(_square, requests, answer, 1.0) == workers._RETIRED
    assert _messages(answers) == [["", 1], ["", 4]]
    assert workers._message(bytearray(os.read(requests, 1 << 16))) == [3]  # left for the next one


@pytest.mark.usefixtures("_own_signals")
def test_the_inner_process_is_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits: list[Any] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *given: limits.append(given))
    workers._confine(1 << 30)
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
    monkeypatch.setattr(sys, "platform", "darwin")
    workers._confine(1 << 30)  # no such limit there
    assert limits == [(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))]


def _serve(
    monkeypatch: pytest.MonkeyPatch, answer: int, target: str, ends: list[int], warm_up: Any = None
) -> None:
    """The outer process, whose children end in these ways without having been there."""
    monkeypatch.setattr(os, "dup", lambda stream: answer)
    monkeypatch.setattr(os, "dup2", lambda *_: 0)
    monkeypatch.setattr(os, "fork", lambda: 1)
    monkeypatch.setattr(os, "waitpid", lambda *_: (1, ends.pop(0)))
    workers.serve(target, 1.0, 1 << 30, warm_up)


def test_the_outer_process_says_how_the_inner_one_ended(
    pipes: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, answers, answer = pipes
    exits = [workers._MEMORY << 8, workers._RETIRED << 8, int(signal.SIGPROF), int(signal.SIGSEGV), 7 << 8, 0]
    _serve(monkeypatch, answer, "builtins:len", exits, "warm")
    assert _messages(answers) == [
        ["memory", "memory used up"],
        ["time", "CPU time used up"],
        ["crashed", "its process ended with status -11"],
        ["crashed", "its process ended with status 7"],
    ]


def test_the_outer_process_says_what_it_cannot_load(
    pipes: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, pipes[3], "maxrl.tasks.workers:nothing", [])
    [[kind, detail]] = _messages(pipes[2])
    assert kind == "unavailable"
    assert detail.startswith("maxrl.tasks.workers:nothing: AttributeError")


def test_the_child_of_a_fork_confines_itself_works_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []

    def end(status: int) -> None:
        steps.append(status)
        raise _Ended

    monkeypatch.setattr(os, "dup", lambda stream: stream)
    monkeypatch.setattr(os, "dup2", lambda *_: 0)
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(workers, "_confine", steps.append)
    monkeypatch.setattr(workers, "_work", lambda function, *rest: steps.append(rest) or 4)
    with pytest.raises(_Ended):
        workers.serve("builtins:len", 2.5, 99, None)
    assert steps == [99, (0, 1, 2.5), 4]
