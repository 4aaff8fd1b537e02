"""The outer half of a sandbox: starts a program, moves its input and output, watches it, ends it.

Both modes of `maxrl.tasks.sandbox` start the program behind `START`, a line of shell that reports itself and then waits
for its go. Thus whatever fails before the report is a failure of the sandbox, and whatever comes after is the program's;
and the supervisor has all it needs in its hands before the first instruction of the program runs.
"""

import os
import re
import select
import selectors
import signal
import stat
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO

from maxrl.tasks.sandbox.terms import Limits, Outcome, SandboxError, Status


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A program that waits for its go."""

    process: Popen[bytes]
    """What to reap: the program's shell, or the sandbox around it."""
    folder: int
    """File descriptor of the working folder. Keeps it readable after the program's namespaces are gone."""
    proc: int
    """File descriptor of a /proc in which its processes are listed …"""
    session: int | None
    """… all of this session; None: nothing else is listed there."""
    kill: Callable[[], None]
    """Ends every process that can be found; harmless when none is left."""


# The shell stays between sandbox and program: as process 1 of the sandbox it reaps orphans, and when it ends the kernel
# kills whatever is left. Process 1 gets no signal from inside but those it has a handler for, and a shell has one for
# SIGINT; so it ignores what is sent by hand, and takes that back for the program, as what is ignored stays so. All the
# same a program can end its shell (a limit of no CPU time, a debugger's system calls); it ends itself by that, and is
# judged as killed. Nothing else is to be gained there: the shell has the program's limits, rights and pipes.
# Its own remarks ("Segmentation fault") go nowhere.
START = (
    "exec 3>&2 2>/dev/null; trap '' HUP INT QUIT TERM; echo; read -r _ || exit; "
    '(trap - HUP INT QUIT TERM; exec "$@" 2>&3 3>&-); exit $?'
)
_GO = b"\n"
_START_SECONDS = 30.0  # a sandbox takes some 5 ms to start; a machine on its knees is no reason to fail

_LOOK_EVERY = 0.025
_CHUNK = 65536
_TRIES = 8
_RESIDENT = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap|HugetlbPages):\s*(\d+) kB", re.MULTILINE)


def limited(prlimit: str, limits: Limits, command: Sequence[str], *, count_processes: bool) -> list[str]:
    """`START` and the command behind it, under the kernel's own limits, which all descendants inherit.

    Limits that cannot be set, since the caller has lower ones, are thus a failure of the sandbox.
    """
    cpu = int(-(-limits.cpu_seconds // 1))  # whole seconds, rounded up: the kernel counts no others
    return [
        prlimit,
        "--core=0",
        "--nofile=512",
        f"--cpu={cpu}:{cpu + 1}",
        f"--as={limits.memory_mb << 20}",
        f"--fsize={limits.file_mb << 20}",
        *([f"--nproc={limits.processes + 1}"] if count_processes else []),  # one more: the shell
        *("--", "/bin/sh", "-c", START, "sh"),
        *command,
    ]


@contextmanager
def started(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Generator[Popen[bytes], None, None]:
    """Starts a sandbox around `START` and yields when it has reported itself; leaves no process behind.

    Raises:
        SandboxError: when it cannot be started, or reports nothing.
    """
    try:
        # No preexec_fn and no user: either would make Python fork, and copy the page tables of a training run.
        process = Popen(
            arguments,
            bufsize=0,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            cwd=folder,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"the sandbox cannot be started: {error}") from error
    try:
        _await_report(process)
        yield process
    finally:
        # Without its go the shell ends by itself once its input is closed, and the sandbox around it in good order.
        for pipe in _pipes(process):
            pipe.close()
        try:
            process.wait(_START_SECONDS)
        except TimeoutExpired:
            process.kill()
            process.wait()


def _pipes(process: Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr


def _await_report(process: Popen[bytes]) -> None:
    _, stdout, stderr = _pipes(process)
    report = select.poll()
    report.register(stdout, select.POLLIN)
    if not report.poll(_START_SECONDS * 1000):
        process.kill()
        raise SandboxError(f"the sandbox has not started within {_START_SECONDS:g} s")
    if stdout.read(1) != b"\n":
        os.set_blocking(stderr.fileno(), False)
        said = (stderr.read(4096) or b"").decode(errors="replace").strip()
        raise SandboxError(f"the sandbox could not start: {said or 'it said nothing'}")


def supervise(ready: Ready, stdin: bytes, limits: Limits, collect: Sequence[str]) -> Outcome:
    """Gives the go, and returns when no process of the program is left."""
    exceeded: Status | None = None
    start = time.monotonic()
    with Exchange(ready.process, _GO + stdin, limits.output_kb << 10) as exchange:
        try:
            exceeded = _watch(ready, exchange, limits, start)
        finally:
            ready.kill()
            code = ready.process.wait()
        seconds = time.monotonic() - start
        exchange.drain()
    if code < 0 and exceeded is None and ready.session is None:
        raise SandboxError(f"the sandbox was killed from outside, by signal {-code}")
    if exchange.over:
        exceeded = "output"
    # The shell says 128 + n for signal n; without isolation the program can also kill the shell itself.
    number = code - 128 if code > 128 else -code if code < 0 else None
    if number == signal.SIGXCPU:
        exceeded = exceeded or "cpu time"
    ended: Status = "exited" if number is None else "signalled"
    return Outcome(
        status=exceeded or ended,
        exit_code=code if exceeded is None and number is None else None,
        signal=number if exceeded is None else None,
        stdout=bytes(exchange.stdout),
        stderr=bytes(exchange.stderr),
        seconds=seconds,
        collected=_collected(ready.folder, collect, limits.file_mb << 20),
    )


def _watch(ready: Ready, exchange: "Exchange", limits: Limits, start: float) -> Status | None:
    """Waits for the program's end; returns what it used too much of, or None."""
    deadline = start + limits.wall_seconds
    look = start + _LOOK_EVERY
    while True:
        exchange.step(max(0.0, min(deadline, look) - time.monotonic()))
        if exchange.over:
            return "output"
        if exchange.ended:
            return None
        now = time.monotonic()
        if now >= deadline:
            return "wall time"
        if now >= look:
            look = now + _LOOK_EVERY
            used = usage(ready.proc, ready.session)
            if ready.session is None:
                used.resident_kb += _held_by_names(ready.folder)
            if exceeded := _excess(used, limits):
                return exceeded


@dataclass
class Usage:
    """What a program's processes use together."""

    processes: list[int] = field(default_factory=list[int])
    """Their ids, in the /proc looked at; those that have ended but are not reaped are left out."""
    cpu_seconds: float = 0.0
    """Of those alive or not reaped, and of the descendants that they have reaped."""
    resident_kb: int = 0
    """Anonymous and shared memory, swapped out or not; pages that forked processes still share count once for each."""


def usage(proc: int, session: int | None) -> Usage:
    """Adds up what is listed in `proc`, a file descriptor of a /proc, or what of it belongs to `session`."""
    total = Usage()
    ticks = os.sysconf("SC_CLK_TCK")
    for name in filter(str.isdigit, os.listdir(proc)):
        # A process that is reaped between two reads has no more to tell.
        with suppress(FileNotFoundError, ProcessLookupError):
            # After the name, which may hold blanks and brackets: state, parent, group, session, …
            state, _, _, its_session, *more = _read(proc, f"{name}/stat").rpartition(b")")[2].split()
            if session is not None and int(its_session) != session:
                continue
            total.cpu_seconds += sum(map(int, more[7:11])) / ticks
            if state == b"Z" and more[13] == b"1":  # ended with all its threads
                continue
            if memory := _RESIDENT.findall(_read(proc, f"{name}/status")) or _of_other_threads(proc, name):
                total.processes.append(int(name))
                total.resident_kb += sum(map(int, memory))
    return total


def _of_other_threads(proc: int, name: str) -> list[bytes]:
    """The memory of a process whose first thread has ended: it looks like a zombie, while others may run on.

    Several tries, since a thread can hand on to the next and end before it is looked at.
    """
    for _ in range(_TRIES):
        threads = sorted(map(int, _listed(proc, f"{name}/task")), reverse=True)  # the youngest first
        if threads == [int(name)]:
            break
        for thread in threads:
            with suppress(FileNotFoundError, ProcessLookupError):
                if memory := _RESIDENT.findall(_read(proc, f"{name}/task/{thread}/status")):
                    return memory
    return []


def _listed(proc: int, path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _held_by_names(folder: int) -> int:
    """Kilobytes that the kernel holds for files beside their content, on a file system of the program's own.

    A tmpfs counts one for each file and link, and as many as they take for extended attributes.
    """
    state = os.fstatvfs(folder)
    return state.f_files - state.f_ffree


def _read(proc: int, path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY, dir_fd=proc)
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def _excess(used: Usage, limits: Limits) -> Status | None:
    if used.cpu_seconds > limits.cpu_seconds:
        return "cpu time"
    if used.resident_kb > limits.memory_mb << 10:
        return "memory"
    if len(used.processes) > limits.processes + 1:
        return "processes"
    return None


class Exchange:
    """Feeds standard input and reads both outputs, without blocking and without keeping more than the limit."""

    def __init__(self, process: Popen[bytes], stdin: bytes, limit: int) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.over = False
        self.ended = False
        self._room = limit
        self._input = memoryview(stdin)
        self._stdin, stdout, stderr = _pipes(process)
        self._outputs = {stdout.fileno(): self.stdout, stderr.fileno(): self.stderr}
        self._end = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        for fd in (self._end, *self._outputs):
            self._selector.register(fd, selectors.EVENT_READ)
        self._selector.register(self._stdin.fileno(), selectors.EVENT_WRITE)
        for fd in (self._stdin.fileno(), *self._outputs):
            os.set_blocking(fd, False)

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        os.close(self._end)

    def step(self, timeout: float) -> None:
        """Moves what can be moved within `timeout` seconds."""
        for key, _ in self._selector.select(timeout):
            if key.fd == self._end:
                self.ended = True
            elif key.fd in self._outputs:
                self._take(key.fd)
            else:
                self._feed()

    def drain(self) -> None:
        """Takes what is left in the pipes once the program has ended. A process that got away may hold them open."""
        for fd in self._outputs:
            while not self.over and fd in self._selector.get_map() and self._take(fd):
                pass

    def _take(self, fd: int) -> bool:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(fd)
        self._outputs[fd] += chunk[: self._room]
        self.over = self.over or len(chunk) > self._room
        self._room -= min(len(chunk), self._room)
        return bool(chunk)

    def _feed(self) -> None:
        try:
            self._input = self._input[os.write(self._stdin.fileno(), self._input[:_CHUNK]) :]
        except BlockingIOError:  # filled meanwhile by the program, which can open it for writing
            return
        except BrokenPipeError:  # closed by the program, which need not read
            self._input = self._input[:0]
        if not self._input:
            self._selector.unregister(self._stdin.fileno())
            self._stdin.close()


def _collected(folder: int, names: Sequence[str], limit: int) -> dict[str, bytes]:
    contents = {name: _content(folder, name, limit) for name in names}
    return {name: content for name, content in contents.items() if content is not None}


def _content(folder: int, name: str, limit: int) -> bytes | None:
    """The file's bytes; None where there is no regular file of that size, or a link lies on the way to it."""
    *folders, last = name.split("/")
    opened = [folder]
    try:
        for step in folders:
            opened.append(os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        # Without O_NONBLOCK a FIFO would wait for a writer for ever.
        opened.append(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1]))
        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            return None
        with open(opened.pop(), "rb") as file:
            content = file.read(limit + 1)
        return content if len(content) <= limit else None
    except OSError:
        return None
    finally:
        for fd in opened[1:]:
            os.close(fd)
