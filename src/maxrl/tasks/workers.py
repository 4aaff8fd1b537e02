"""Worker processes for foreign code that may hang, eat the memory or crash: one item at a time, each with a limit.

`WorkerPool("module:function").map(items)` gives a result or a `WorkerFailure` per item. Items and results are JSON.
Plain subprocesses and pipes, and no `multiprocessing`, which would run the user's script again in every worker.

A worker is two processes. The outer one imports the function once and forks the inner one, which does the work; where
that dies, the outer one says how and forks the next in a few milliseconds, instead of another half second of imports.
The time limit is CPU time, kept by the kernel (`ITIMER_PROF`, whose signal ends the process even inside a call into C):
what counts as too slow does not depend on how busy the machine is.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

FailureKind = Literal["time", "memory", "raised", "crashed", "stalled", "unavailable"]

_ITEMS_PER_PROCESS = 1000
"""After so many items the inner process is forked anew, so that caches of the foreign code cannot fill its memory."""
_START_LIMIT = 60.0
"""Seconds that importing the function may take."""
_CLOSE_LIMIT = 1.0
"""Seconds that a worker gets to end by itself once its pipe is closed."""
_HEADER = struct.Struct(">I")
_MEMORY, _RETIRED = 3, 4  # exit statuses of the inner process

# The parent's path comes along, so that whatever the parent can import, the worker can.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from maxrl.tasks.workers import serve; serve(*json.loads(sys.argv[2]))"
)


@dataclass(frozen=True, kw_only=True)
class WorkerFailure:
    """What became of an item that has no result."""

    kind: FailureKind
    """`time` or `memory`: the limit was reached. `raised`: the function raised. `crashed`: its process died. `stalled`:
    no answer in ten times the CPU limit and 20 seconds more, for want of CPU time or because the function waits for
    something. `unavailable`: the function cannot be loaded; the items that follow in the same call get this, too."""
    detail: str


class WorkerPool:
    """Processes that call one function on JSON items.

    Processes start with the first items, end with the program (or with `close`), and are shared by all threads. After
    a fork the child starts processes of its own.

    Args:
        target: `module:function`; the function takes one JSON value and returns one.
        processes: how many items are worked on at once.
        time_limit: CPU seconds per item.
        memory_limit: bytes of address space per process (on Linux; elsewhere there is no such limit).
        warm_up: an item to call the function with before the first fork, so that imports and caches are in place.
    """

    def __init__(
        self,
        target: str,
        *,
        processes: int = 1,
        time_limit: float = 1.0,
        memory_limit: int = 1 << 30,
        warm_up: Any = None,
    ) -> None:
        self._settings = [target, time_limit, memory_limit, warm_up]
        self._processes = processes
        self._stall_limit = 10 * time_limit + 20
        self._own()
        _pools.add(self)

    def _own(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _close_all, self._workers)

    def map(self, items: Sequence[Any]) -> list[Any]:
        """A result or a `WorkerFailure` per item, in their order. Calls from several threads take turns."""
        with self._lock:
            return self._map(items)

    def _map(self, items: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(items)
        waiting = deque(range(len(items)))
        while len(self._workers) < min(self._processes, len(items)):
            self._workers.append(_Worker(self._settings))
        working: dict[_Worker, int] = {}
        try:
            while waiting or working:
                for worker in self._workers:
                    if waiting and worker not in working:
                        working[worker] = waiting.popleft()
                        worker.send(items[working[worker]], self._stall_limit)
                soonest = min(worker.deadline for worker in working)
                _await([worker.output() for worker in working], soonest - time.monotonic())
                for worker in list(working):
                    for result in worker.receive():
                        results[working.pop(worker)] = result
                        if isinstance(result, WorkerFailure) and result.kind == "unavailable":
                            while waiting:  # what cannot be started now is not started a hundred times
                                results[waiting.popleft()] = result
        except BaseException:  # interrupted: the answer to an old item must not be read as one to the next
            for worker in working:
                worker.close(0)
            raise
        return results

    def close(self) -> None:
        """End all processes; the next `map` starts new ones."""
        with self._lock:
            _close_all(self._workers)

    def disown(self) -> None:
        """Let go of the processes, which are the parent's, in a child that was forked; `map` starts new ones."""
        self._finalizer.detach()
        for worker in self._workers:
            worker.disown()
        self._own()


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def _disown_all() -> None:
    for pool in _pools:
        pool.disown()


os.register_at_fork(after_in_child=_disown_all)


class _Worker:
    """The parent's end of one worker, whose processes start with the first item and anew after they have died."""

    def __init__(self, settings: Sequence[Any]) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._received = bytearray()
        self.deadline = 0.0

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), json.dumps(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # so that it can be killed with what it forked, and Ctrl-C is the parent's alone
        )

    def send(self, item: Any, limit: float) -> None:
        """Hand over an item; where that cannot be done, `receive` says so."""
        if self._process is not None and self._process.poll() is not None:
            self.close(0)
        self.deadline = time.monotonic() + limit
        if self._process is None:
            self._process, self._received = self._start(), bytearray()
            self.deadline += _START_LIMIT
        assert self._process.stdin is not None, "stdin is a pipe"
        with contextlib.suppress(BrokenPipeError):  # it has just died
            _write(self._process.stdin.fileno(), [item])

    def output(self) -> int:
        """The file descriptor on which the answer comes."""
        assert self._process is not None, "an item was sent"
        assert self._process.stdout is not None, "stdout is a pipe"
        return self._process.stdout.fileno()

    def receive(self) -> tuple[Any, ...]:
        """The result of the item last sent, in a tuple; an empty one while there is none."""
        output = self.output()
        while _await([output], 0):
            chunk = os.read(output, 1 << 16)
            if not chunk:
                return (self._ended(),)
            self._received += chunk
            message = _message(self._received)
            if message is not None:
                kind, value = message
                if kind in ("unavailable", "crashed"):  # killed from outside, it may have read half an item
                    self.close(0)
                return (WorkerFailure(kind=kind, detail=value) if kind else value,)
        if time.monotonic() < self.deadline:
            return ()
        self.close(0)
        return (WorkerFailure(kind="stalled", detail="no answer in time"),)

    def _ended(self) -> WorkerFailure:
        process = self._process
        assert process is not None, "only a process that was started can end"
        self.close(_CLOSE_LIMIT)
        return WorkerFailure(kind="crashed", detail=f"the worker ended with status {process.returncode}")

    def close(self, limit: float) -> None:
        """Let the worker end by itself within `limit` seconds, else kill it and what it forked."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None, "both are pipes"
            pipe.close()
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def disown(self) -> None:
        """Close the copies of the pipes of a process that is the parent's, and never wait for it."""
        if self._process is not None:
            self._process.returncode = 0
            self.close(0)


def _close_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().close(_CLOSE_LIMIT)


def _await(outputs: Sequence[int], seconds: float) -> bool:
    """Wait until one of the file descriptors can be read; whether one can. (`select` knows none above 1023.)"""
    poll = select.poll()
    for output in outputs:
        poll.register(output, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _write(pipe: int, message: Any) -> None:
    text = json.dumps(message).encode()
    left = memoryview(_HEADER.pack(len(text)) + text)
    while left:
        left = left[os.write(pipe, left) :]


def _message(received: bytearray) -> Any | None:
    """The first whole message, taken out of what was received; None where there is none."""
    if len(received) < _HEADER.size:
        return None
    end = _HEADER.size + _HEADER.unpack_from(received)[0]
    if len(received) < end:
        return None
    text = bytes(received[_HEADER.size : end])
    del received[:end]
    return json.loads(text)


# What follows runs in the worker.


def serve(target: str, time_limit: float, memory_limit: int, warm_up: Any) -> None:
    """The outer process: load the function, fork the process that works, say how it died, fork the next."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # whatever the function prints is no answer
    try:
        module, _, name = target.partition(":")
        function = cast("Callable[[Any], Any]", getattr(importlib.import_module(module), name))
        if warm_up is not None:
            function(warm_up)
    except Exception as error:  # noqa: BLE001 — foreign code may fail in any way
        _write(answers, ["unavailable", f"{target}: {type(error).__name__}: {error}"])
        return
    while True:
        child = os.fork()
        if child == 0:
            _confine(memory_limit)
            os._exit(_work(function, requests, answers, time_limit))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return
        if status != _RETIRED:
            _write(answers, _death(status))


def _death(status: int) -> tuple[FailureKind, str]:
    if status == -signal.SIGPROF:
        return "time", "CPU time used up"
    if status == _MEMORY:
        return "memory", "memory used up"
    return "crashed", f"its process ended with status {status}"


def _confine(memory_limit: int) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # by default the signal ends the process
    if sys.platform == "linux":  # elsewhere the limit cannot be set, or counts something else
        import resource  # only where there is one

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, hard))


def _work(function: Callable[[Any], Any], requests: int, answers: int, time_limit: float) -> int:
    """The inner process: answer items until there are no more, or enough; its exit status."""
    received = bytearray()
    for _ in range(_ITEMS_PER_PROCESS):
        while (message := _message(received)) is None:
            # Never more than this item's bytes: what follows may be for the next process.
            chunk = os.read(requests, _missing_bytes(received))
            if not chunk:
                return 0
            received += chunk
        [item] = message
        try:
            signal.setitimer(signal.ITIMER_PROF, time_limit)
            try:
                answer = ["", function(item)]
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except MemoryError:
            return _MEMORY
        except BaseException as error:  # noqa: BLE001 — foreign code may fail in any way, SystemExit included
            answer = ["raised", f"{type(error).__name__}: {error}"]
        _write(answers, answer)
    return _RETIRED


def _missing_bytes(received: bytearray) -> int:
    if len(received) < _HEADER.size:
        return _HEADER.size - len(received)
    return _HEADER.size + _HEADER.unpack_from(received)[0] - len(received)
