"""The sandbox from the inside of this process: what it takes and refuses, how it ends, what it leaves behind."""

import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EAFNOSUPPORT, ENOSPC, ENOSYS
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.adversarial import attacks
from tests.adversarial.users import listed, missing, sandbox_command, tool

from maxrl.errors import InputError
from maxrl.tasks.sandbox import Limits, Outcome, Sandbox, SandboxError, make_sandbox, sandbox_reason
from maxrl.tasks.sandbox import bubblewrap as sandbox_bubblewrap
from maxrl.tasks.sandbox import limits_only as sandbox_limits_only
from maxrl.tasks.sandbox import supervisor as sandbox_supervisor
from maxrl.tasks.sandbox.bubblewrap import Bubblewrap, command_line
from maxrl.tasks.sandbox.filter import FAMILIES, MACHINES, system_call_filter
from maxrl.tasks.sandbox.limits_only import LimitsOnly, kill_session
from maxrl.tasks.sandbox.supervisor import Exchange, Ready, started, supervise, usage
from maxrl.tasks.sandbox.terms import checked_readable

MODES = ["bubblewrap", "limits_only"]

WORK = os.path.join("/tmp", "work")
"""Where programs work, as they see it: inside the sandbox."""


@pytest.fixture(params=MODES)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """One of each mode."""
    if reason := sandbox_reason(request.param):
        missing(f"what the sandbox needs ({reason})", "bubblewrap")
    return make_sandbox(request.param)


@pytest.fixture
def isolated() -> Bubblewrap:
    """The isolating one."""
    if reason := sandbox_reason():
        missing(f"what the sandbox needs ({reason})", "bubblewrap")
    return Bubblewrap()


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test: no child, no open file, no folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = _open_files(), _children()
    yield
    assert (_open_files(), _children()) == before
    assert list(folder.iterdir()) == []


def _children() -> set[int]:
    """Of this process, zombies among them."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (entry / "stat").read_bytes().rpartition(b")")[2].split()[1] == str(os.getpid()).encode():
                found.add(int(entry.name))
    return found


@pytest.fixture
def host() -> Iterator[int]:
    """This machine's /proc."""
    proc = os.open("/proc", os.O_RDONLY)
    yield proc
    os.close(proc)


def _open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


# --- What comes back.


def test_a_program_that_ends_well(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        ["sh", "-c", "cat; cat in/here; echo no >&2"], files={"in/here": b"file"}, stdin=b"in "
    )
    assert outcome.ok
    assert (outcome.status, outcome.exit_code, outcome.signal) == ("exited", 0, None)
    assert (outcome.stdout, outcome.stderr) == (b"in file", b"no\n")
    assert 0 < outcome.seconds < 10


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("exit 128", 128), ("nonesuch-command", 127)])
def test_exit_codes(sandbox: Sandbox, command: str, code: int) -> None:
    outcome = sandbox.run(["sh", "-c", command])
    assert (outcome.ok, outcome.status, outcome.exit_code, outcome.signal) == (False, "exited", code, None)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM])
def test_signals(sandbox: Sandbox, number: signal.Signals) -> None:
    outcome = sandbox.run(["sh", "-c", f"kill -{int(number)} $$"])
    assert (outcome.ok, outcome.status, outcome.exit_code, outcome.signal) == (
        False,
        "signalled",
        None,
        number,
    )
    assert outcome.stderr == b""  # no remark of any shell


def test_missing_commands_and_files_given_as_commands(sandbox: Sandbox) -> None:
    assert sandbox.run(["nonesuch-command"]).exit_code == 127
    assert sandbox.run(["./program"], files={"program": b"#!/bin/sh\necho ran\n"}).stdout == b"ran\n"


def test_input_larger_than_a_pipe_passes_both_ways(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 4096
    assert sandbox.run(["cat"], stdin=data, limits=Limits(output_kb=1024)).stdout == data


def test_input_need_not_be_read(sandbox: Sandbox) -> None:
    assert sandbox.run(["true"], stdin=b"x" * (1 << 20)).ok
    outcome = sandbox.run(["sh", "-c", "exec <&-; sleep .1; echo on"], stdin=b"x" * (1 << 20))
    assert outcome.stdout == b"on\n"


def test_input_that_the_program_filled_in_between_is_tried_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It can open its own input for writing, and fill it after it was seen to have room.
    write, refusals = os.write, [BlockingIOError(), BlockingIOError()]

    def often_full(fd: int, data: bytes) -> int:
        if refusals:
            raise refusals.pop()
        return write(fd, data)

    monkeypatch.setattr(os, "write", often_full)
    assert sandbox.run(["cat"], stdin=b"in").stdout == b"in"
    assert refusals == []


def test_outputs_may_be_closed_early(sandbox: Sandbox) -> None:
    outcome = sandbox.run(["sh", "-c", "echo out; echo err >&2; exec >&- 2>&-; sleep .1; exit 5"])
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (5, b"out\n", b"err\n")


def test_output_up_to_the_limit_passes(sandbox: Sandbox) -> None:
    limits = Limits(output_kb=2)
    exact = sandbox.run(["sh", "-c", "head -c 1024 /dev/zero; head -c 1024 /dev/zero >&2"], limits=limits)
    assert (exact.ok, len(exact.stdout), len(exact.stderr)) == (True, 1024, 1024)
    more = sandbox.run(["sh", "-c", "head -c 2049 /dev/zero"], limits=limits)
    assert (more.status, more.exit_code, len(more.stdout)) == ("output", None, 2048)


def test_output_beyond_the_limit_ends_a_program_that_would_go_on(sandbox: Sandbox) -> None:
    outcome = sandbox.run(["sh", "-c", "head -c 2049 /dev/zero; sleep 30"], limits=Limits(output_kb=2))
    assert (outcome.status, len(outcome.stdout)) == ("output", 2048)
    assert outcome.seconds < 5


def test_output_that_outlives_its_program_is_complete(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_supervisor, "_CHUNK", 8)  # so that the program ends long before all is read
    assert sandbox.run(["head", "-c", "60000", "/dev/zero"]).stdout == bytes(60000)


def test_collected_files(sandbox: Sandbox) -> None:
    script = "echo new > new; mkdir d; echo deep > d/deep; head -c 1048577 /dev/zero > large; "
    script += "head -c 1048576 large > d/edge"
    names = ["new", "d/deep", "old", "large", "d/edge", "d", "missing", "new/under"]
    collected = sandbox.run(
        ["sh", "-c", script], files={"old": b"\0\xff"}, collect=names, limits=Limits(file_mb=2)
    ).collected
    assert list(collected) == ["new", "d/deep", "old", "large", "d/edge"]
    assert collected["old"] == b"\0\xff"
    assert len(collected["large"]) == 1048577
    # What was there before can be larger than what a program may write.
    small = sandbox.run(
        ["true"],
        files={"large": b"x" * 1048577, "edge": b"x" * 1048576},
        collect=["large", "edge"],
        limits=Limits(file_mb=1),
    )
    assert list(small.collected) == ["edge"]


def test_no_signal_is_ignored_that_the_caller_does_not_ignore(sandbox: Sandbox) -> None:
    def ignored(status: str) -> int:
        return int(status.split("SigIgn:")[1].split()[0], 16)

    of_python = (
        1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    )  # its own, which its children do not inherit
    expected = ignored(Path("/proc/self/status").read_text()) & ~of_python
    assert ignored(sandbox.run(["grep", "SigIgn", "/proc/self/status"]).stdout.decode()) == expected


def test_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "secret")
    outcome = sandbox.run(["env"], environment={"GIVEN": "a=b c", "LANG": "C"})
    lines = outcome.stdout.decode().splitlines()
    assert {"GIVEN=a=b c", "LANG=C", "PATH=/usr/bin:/bin"} <= set(lines)
    assert "secret" not in outcome.stdout.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's")
def test_readable_files_and_folders(isolated: Bubblewrap, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("inner")
    (tmp_path / "file").write_text("file")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    if os.geteuid() == 0:  # closed to everyone else, like a toolchain below /root
        tmp_path.chmod(0o700)
    paths = [f"{tmp_path}/{name}" for name in ("folder", "file", "link/", "link/../folder/inner")]
    outcome = isolated.run(
        ["cat", f"{tmp_path}/folder/inner", paths[1], f"{tmp_path}/link/inner"], readable=paths
    )
    assert outcome.stdout == b"innerfileinner"


# --- Limits.


def test_wall_time(sandbox: Sandbox) -> None:
    outcome = sandbox.run(["sh", "-c", "echo begun; sleep 30"], limits=Limits(wall_seconds=0.2))
    assert (outcome.status, outcome.exit_code, outcome.signal, outcome.stdout) == (
        "wall time",
        None,
        None,
        b"begun\n",
    )
    assert 0.2 <= outcome.seconds < 5


def test_cpu_time(sandbox: Sandbox) -> None:
    assert (
        sandbox.run(["sh", "-c", "while :; do :; done"], limits=Limits(cpu_seconds=0.1)).status == "cpu time"
    )


def test_cpu_time_by_the_kernel_alone(isolated: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_supervisor, "_LOOK_EVERY", 60.0)
    outcome = isolated.run(
        ["sh", "-c", "while :; do :; done"], limits=Limits(cpu_seconds=0.1, wall_seconds=30)
    )
    assert (outcome.status, outcome.signal) == ("cpu time", None)


def test_memory(sandbox: Sandbox) -> None:
    script = "a=$(head -c 40000000 /dev/zero | tr '\\0' x) && echo held"
    assert sandbox.run(["sh", "-c", script]).stdout == b"held\n"
    outcome = sandbox.run(["sh", "-c", script], limits=Limits(memory_mb=30))
    assert not outcome.ok
    assert outcome.stdout == b""


def test_memory_of_all_processes(sandbox: Sandbox) -> None:
    command = [tool("python3", "python3"), "-c", attacks.ALLOCATE_TOGETHER, "private", "4", "50"]
    assert sandbox.run(command).stdout == b"held 200\n"
    assert sandbox.run(command, limits=Limits(memory_mb=150)).status == "memory"


def test_processes(sandbox: Sandbox) -> None:
    limits = Limits(processes=5, wall_seconds=2)
    outcome = sandbox.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 10 & done; wait"], limits=limits)
    if sandbox.name == "bubblewrap":
        assert outcome.exit_code == 2
        assert b"fork" in outcome.stderr
    else:
        assert outcome.status == "processes"


def test_limits_above_those_of_the_caller(sandbox: Sandbox) -> None:
    run = sandbox_command({"command": ["true"]}).replace("make_sandbox()", f"make_sandbox('{sandbox.name}')")
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); {run}"
    called = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if sandbox.name == "limits_only" and "exit_code=0" in called.stdout:
        return  # without isolation root can raise them
    assert "Error: the sandbox" in called.stderr
    assert "failed to set the NOFILE resource limit" in called.stderr


def _process(
    proc: Path,
    number: int,
    *,
    state: str = "S",
    session: int = 7,
    cpu: tuple[int, ...] = (0, 0, 0, 0),
    threads: int = 1,
    status: str = "",
) -> Path:
    """One of a made-up /proc. After the session 7 fields, four times in ticks, 2 fields, the number of threads."""
    folder = proc / str(number)
    folder.mkdir()
    fields = [f"{number} (a) Z 1 1)", state, "1", "1", str(session), *"0123456", *map(str, cpu)]
    fields += ["20", "0", str(threads), "0"]
    (folder / "stat").write_text(" ".join(fields))
    (folder / "status").write_text(status)
    (folder / "task").mkdir()
    _thread(folder, number, status)
    return folder


def _thread(process: Path, number: int, status: str | None) -> None:
    (process / "task" / str(number)).mkdir()
    if status is not None:
        (process / "task" / str(number) / "status").write_text(status)


def _used(proc: Path, session: int | None = None) -> tuple[list[int], float, int]:
    fd = os.open(proc, os.O_RDONLY)
    try:
        used = usage(fd, session)
    finally:
        os.close(fd)
    return sorted(used.processes), used.cpu_seconds * os.sysconf("SC_CLK_TCK"), used.resident_kb


def test_what_counts_as_memory(tmp_path: Path) -> None:
    lines = ["Name:\tRssAnon: 9 kB", "VmRSS:\t 999 kB", "RssAnon:\t    1 kB", "RssFile:\t  999 kB"]
    lines += ["RssShmem:\t   20 kB", "VmSwap:\t     300 kB", "HugetlbPages:\t  4000 kB", ""]
    _process(tmp_path, 2, cpu=(1, 20, 300, 4000), status="\n".join(lines))
    (tmp_path / "meminfo").touch()
    assert _used(tmp_path) == ([2], 4321, 4321)


def test_a_process_whose_first_thread_has_ended(tmp_path: Path) -> None:
    process = _process(tmp_path, 2, state="Z", cpu=(5, 0, 0, 0), threads=4, status="State: Z\n")
    _thread(process, 30, "RssAnon: 70 kB\n")
    _thread(process, 31, "State: Z\n")  # ended, and held by a tracer
    _thread(process, 32, None)  # gone since it was listed
    assert _used(tmp_path) == ([2], 5, 70)


def test_a_process_whose_threads_end_faster_than_they_are_looked_at(tmp_path: Path) -> None:
    _thread(_process(tmp_path, 2, state="Z", cpu=(5, 0, 0, 0), threads=2), 30, None)
    assert _used(tmp_path) == ([], 5, 0)


def test_processes_that_have_ended_or_are_gone(tmp_path: Path) -> None:
    (_process(tmp_path, 2, state="Z", cpu=(5, 0, 0, 0)) / "status").unlink()  # there is no need to look
    _process(tmp_path, 3, cpu=(6, 0, 0, 0), status="State: Z\n")  # ended between the two looks
    (tmp_path / "4").mkdir()
    assert _used(tmp_path) == ([], 11, 0)


def test_processes_of_other_sessions(tmp_path: Path) -> None:
    for number, session in ((2, 7), (3, 8), (4, 7)):
        _process(tmp_path, number, session=session, cpu=(1, 0, 0, 0), status="RssAnon: 10 kB\n")
    assert _used(tmp_path, 7) == ([2, 4], 2, 20)
    assert _used(tmp_path) == ([2, 3, 4], 3, 30)


NUMBERS = ["cpu_seconds", "wall_seconds"]
WHOLE_NUMBERS = ["memory_mb", "processes", "file_mb", "disk_mb", "output_kb"]


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "5", None, 0.5])
@pytest.mark.parametrize("name", [*NUMBERS, *WHOLE_NUMBERS])
def test_limits_must_be_limits(name: str, value: Any) -> None:
    if name in NUMBERS and value == 0.5:
        assert getattr(Limits(**{name: value}), name) == value
    else:
        kind = "number" if name in NUMBERS else "whole number"
        with pytest.raises(InputError, match=f"{name} must be a {kind} above 0, not"):
            Limits(**{name: value})


# --- What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": []}, "a list of at least one string"),
        ({"command": "true"}, "a list of at least one string"),
        ({"command": ["echo", "a\0b"]}, "without NUL"),
        ({"files": {"": b""}}, "plain relative name"),
        ({"files": {"/etc/passwd": b""}}, "plain relative name"),
        ({"files": {"../up": b""}}, "plain relative name"),
        ({"files": {"a/../../up": b""}}, "plain relative name"),
        ({"files": {"./a": b""}}, "plain relative name"),
        ({"files": {"a//b": b""}}, "plain relative name"),
        ({"files": {"a/": b""}}, "plain relative name"),
        ({"files": {"a\0": b""}}, "plain relative name"),
        ({"files": {"a": b"", "a/b/c": b""}}, "'a' cannot be a file and the folder of 'a/b/c'"),
        ({"files": {"a/b/c": b"", "a/b": b""}}, "'a/b' cannot be a file and the folder"),
        ({"collect": ["../up"]}, "plain relative name"),
        ({"collect": ["/etc/passwd"]}, "plain relative name"),
        ({"environment": {"": "x"}}, "no environment variable"),
        ({"environment": {"A=B": "x"}}, "no environment variable"),
        ({"environment": {"A": "\0"}}, "no environment variable"),
    ],
)
def test_arguments_refused(sandbox: Sandbox, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sandbox.run(**{"command": ["true"], **arguments})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("relative", "absolute and exist"),
        ("/nonesuch-folder", "absolute and exist"),
        ("/", "has its own"),
        ("/tmp/", "has its own"),
        ("/usr/../tmp", "has its own"),
        ("/proc", "has its own"),
        ("/proc/self", "has its own"),
        ("/dev/null", "has its own"),
    ],
)
def test_paths_that_cannot_be_made_readable(sandbox: Sandbox, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sandbox.run(["true"], readable=[path])


@pytest.mark.parametrize("path", [WORK, f"{WORK}/below"])
def test_the_working_folder_is_its_own(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    with pytest.raises(InputError, match="has its own"):
        checked_readable(path)


def test_files_beyond_the_disk_are_refused(sandbox: Sandbox) -> None:
    room = (1 << 20) - 16 * 4096
    limits = Limits(disk_mb=1)
    assert sandbox.run(["true"], files={"a": b"x" * (room - 4096), "b/c/d": b"x"}, limits=limits).ok
    with pytest.raises(InputError, match="do not fit in disk_mb=1"):
        sandbox.run(["true"], files={"a": b"x" * (room - 4096), "b": b"x", "c": b"x"}, limits=limits)


# --- Which modes there are, and where they cannot be used.


def test_modes() -> None:
    misspelt: Any = "bubblewrp"
    for ask in (make_sandbox, sandbox_reason):
        with pytest.raises(InputError, match="unknown sandbox 'bubblewrp'; did you mean 'bubblewrap'"):
            ask(misspelt)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", ["bwrap", "prlimit", "setpriv", "mount"])
def test_a_missing_tool_is_named_with_its_package(
    mode: Any, tool: str, isolated: Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: None if name == tool else which(name, path=path)
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if mode == "limits_only" and tool != "prlimit":
        assert sandbox_reason(mode) is None
        return
    with pytest.raises(InputError) as caught:
        make_sandbox(mode)
    package = {"bwrap": "bubblewrap", "mount": "mount"}.get(tool, "util-linux")
    assert f"{tool} is missing; install the package {package}" in str(caught.value)
    # The weaker mode is named and not taken.
    assert ("'limits_only' needs no isolation and gives none" in str(caught.value)) == (mode == "bubblewrap")


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "sparc64")
        assert sandbox_reason() == "needs Linux on aarch64 or x86_64"
        assert sandbox_reason("limits_only") is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert sandbox_reason() == "needs Linux on aarch64 or x86_64"
    assert sandbox_reason("limits_only") == "needs Linux"


def _fake_bubblewrap(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_bubblewrap, "command_line", lambda *_, **__: ["/bin/sh", "-c", script])


def test_no_user_namespaces(isolated: Bubblewrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_bubblewrap(
        tmp_path, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1", monkeypatch
    )
    reason = sandbox_reason()
    assert reason is not None
    assert "could not start: bwrap: No permissions to create new namespace" in reason
    assert "0.8 or newer" in reason
    with pytest.raises(SandboxError, match="No permissions"):
        isolated.run(["true"])


def test_a_trial_run_that_fails(isolated: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sandbox_bubblewrap.limited
    monkeypatch.setattr(
        sandbox_bubblewrap,
        "limited",
        lambda prlimit, limits, _, **more: real(prlimit, limits, ["false"], **more),
    )
    assert "a trial run of `true` failed" in str(sandbox_reason())


def test_a_sandbox_that_says_nothing(
    isolated: Bubblewrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_bubblewrap(tmp_path, "exit 0", monkeypatch)
    with pytest.raises(SandboxError, match="it said nothing"):
        isolated.run(["true"])


def test_a_sandbox_that_hangs(isolated: Bubblewrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_supervisor, "_START_SECONDS", 0.2)
    _fake_bubblewrap(tmp_path, "exec sleep 30", monkeypatch)
    with pytest.raises(SandboxError, match=r"has not started within 0\.2 s"):
        isolated.run(["true"])


def test_a_sandbox_that_does_not_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_supervisor, "_START_SECONDS", 0.2)
    with started(["/bin/sh", "-c", "echo; exec sleep 30"], environment={}) as process:
        pass
    assert process.returncode == -signal.SIGKILL


def test_a_sandbox_that_cannot_be_started() -> None:
    with (
        pytest.raises(SandboxError, match=r"cannot be started: .*nonesuch"),
        started(["/nonesuch"], environment={}),
    ):
        pass


def test_a_sandbox_that_cannot_be_watched(isolated: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(SandboxError, match="cannot be watched: not yours"):
        isolated.run(["true"])


def test_what_the_machine_refuses_is_a_failure_of_the_sandbox(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SandboxError, match=r"the sandbox failed: .*No space left"):
        sandbox.run(["true"], files={"a": b""})


def _supervised(script: str, proc: int) -> Outcome:
    with started(["/bin/sh", "-c", f"echo; read -r _; {script}"], environment={}) as process:
        ready = Ready(process=process, folder=proc, proc=proc, session=None, kill=lambda: None)
        return supervise(ready, b"", Limits(), [])


def test_a_sandbox_killed_from_outside(host: int) -> None:
    with pytest.raises(SandboxError, match="killed from outside, by signal 9"):
        _supervised("kill -9 $$", host)


def test_what_is_left_in_the_pipes_is_taken() -> None:
    with started(["/bin/sh", "-c", "echo; echo out; echo err >&2"], environment={}) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with Exchange(process, b"", 1024) as exchange:
            exchange.drain()
    assert (exchange.stdout, exchange.stderr, exchange.over) == (b"out\n", b"err\n", False)


def test_pipes_held_open_by_what_got_away_are_not_waited_for() -> None:
    # The weaker mode's weakness: what leaves the session survives.
    seconds = f"25.{uuid4().int % 10**9}"
    escape = (
        f"setsid sh -c 'mkdir away; exec sleep {seconds}' & until [ -e away ]; do sleep .01; done; echo begun"
    )
    outcome = LimitsOnly().run(["sh", "-c", escape])
    assert outcome.stdout == b"begun\n"
    assert outcome.seconds < 5
    (survivor,) = listed(seconds)
    os.kill(survivor, signal.SIGKILL)


def test_without_isolation_a_program_can_kill_its_shell() -> None:
    outcome = LimitsOnly().run(["sh", "-c", "kill -9 $PPID; sleep 30"])
    assert (outcome.status, outcome.signal) == ("signalled", signal.SIGKILL)
    assert outcome.seconds < 5


def test_a_program_that_ends_its_sandbox_ends_itself_alone(
    isolated: Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_supervisor, "_LOOK_EVERY", 0.0)  # its processes are looked at to the last
    for _ in range(5):
        outcome = isolated.run([tool("python3", "python3"), "-c", attacks.END_THE_PARENT])
        assert (outcome.status, outcome.signal) == ("signalled", signal.SIGKILL)


# --- How it ends.


@pytest.mark.parametrize("place", ["start", "middle"])
def test_an_interruption_leaves_nothing(
    place: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    if place == "start":
        monkeypatch.setattr(sandbox_supervisor, "_await_report", interrupt)
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sandbox.run(["sleep", "30"], limits=Limits(wall_seconds=20))
    signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - begin < 10


def test_several_at_once_do_not_meet(sandbox: Sandbox) -> None:
    def one(number: int) -> bytes:
        command = ["sh", "-c", "ls; cat mine; cat > copy; sleep .05; cat copy"]
        name = f"own-{number}"
        outcome = sandbox.run(command, files={"mine": name.encode(), name: b""}, stdin=b"!", collect=["copy"])
        assert outcome.collected == {"copy": b"!"}
        return outcome.stdout

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(one, range(16)))
    assert outputs == [f"mine\nown-{number}\nown-{number}!".encode() for number in range(16)]


def test_runs_in_threads_that_end(sandbox: Sandbox) -> None:
    outcomes: list[bool] = []
    thread = threading.Thread(target=lambda: outcomes.append(sandbox.run(["true"]).ok))
    thread.start()
    thread.join()
    assert outcomes == [True]


def test_children_in_the_background_end_with_their_parent(sandbox: Sandbox) -> None:
    outcome = sandbox.run(["sh", "-c", "sleep 30 & echo parent"])
    assert outcome.stdout == b"parent\n"
    assert outcome.seconds < 5


def test_processes_in_groups_of_their_own_are_killed() -> None:
    # `set -m` gives every background job its own group in the same session.
    seconds = f"25.{uuid4().int % 10**9}"
    assert LimitsOnly().run(["bash", "-c", f"set -m; sleep {seconds} & sleep {seconds} & true"]).ok
    assert listed(seconds) == []


def test_processes_whose_first_thread_has_ended_are_killed() -> None:
    leave = """
import ctypes, os, threading, time
if os.fork() == 0:
    os.setpgid(0, 0)
    def stay():
        while b") Z " not in open("/proc/self/stat", "rb").read():
            time.sleep(0.01)
        print(os.getpid(), flush=True)
        os.close(1), os.close(2)
        time.sleep(25)
    threading.Thread(target=stay).start()
    ctypes.CDLL(None).pthread_exit(None)
time.sleep(0.5)
"""
    left = int(LimitsOnly().run([tool("python3", "python3"), "-c", leave]).stdout)
    threads = Path(f"/proc/{left}/task").glob("*/status")
    assert [thread for thread in threads if "RssAnon" in thread.read_text()] == []


def test_killing_gives_up_on_what_multiplies(host: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_limits_only, "_KILLING_SECONDS", 0.05)
    gone = 2**22 + 1  # above the kernel's largest process id
    endless = sandbox_supervisor.Usage(processes=[gone])
    monkeypatch.setattr(sandbox_limits_only, "usage", lambda *_: endless)
    kill_session(host, gone)


def test_folders_that_resist_removal_are_removed() -> None:
    nest = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    lock = "mkdir locked; touch locked/x; chmod 0 locked"
    assert LimitsOnly().run(["sh", "-c", f'{lock}; "$@"', "sh", sys.executable, "-c", nest]).ok


def test_a_folder_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    removal = sandbox_limits_only.run
    monkeypatch.setattr(sandbox_limits_only, "run", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="cannot be removed") as caught:
        LimitsOnly().run(["true"])
    folder = next(word for word in str(caught.value).split() if word.startswith("/"))
    monkeypatch.setattr(sandbox_limits_only, "run", removal)
    shutil.rmtree(folder)


# --- The command line, as root and not.


@pytest.mark.parametrize("as_root", [False, True])
@pytest.mark.parametrize("readable", [[], ["/usr/lib", "/mnt"]])
def test_command_line(as_root: bool, readable: list[str]) -> None:
    line = command_line(
        ["inside"], {"a": 7}, readable, {"K": "v"}, Limits(), {"info": 3, "filter": 4}, as_root=as_root
    )
    first = line.index("bwrap")
    own, before = line[first:], line[:first]
    assert own[-2:] == ["--", "inside"]
    assert own[own.index("--file") :][:3] == ["--file", "7", f"{WORK}/a"]
    if not as_root:
        assert before == []
    elif not readable:
        assert before[0] == "setpriv"
    else:
        assert before[:2] == ["unshare", "--mount"]
        assert before[-5:-1] == ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for number, path in enumerate(readable):
        place = len(own) - own[::-1].index(path) - 2
        # As root from a folder that covers none of the paths.
        assert own[place : place + 2] == [f"/media/{number}" if as_root else os.path.realpath(path), path]


def test_system_folders_that_are_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "islink", lambda _: False)
    monkeypatch.setattr(os.path, "isdir", {"/usr", "/bin"}.__contains__)
    line = command_line(["x"], {}, [], {}, Limits(), {"info": 3, "filter": 4}, as_root=False)
    assert line[line.index("/bin") - 1 :][:3] == ["--ro-bind", "/bin", "/bin"]
    assert "--symlink" not in line
    assert "/libx32" not in line


@pytest.mark.parametrize(
    ("own", "readable", "covered"),
    [
        ("prefix/lib/own", "prefix", "prefix/lib/own"),
        ("prefix/lib/own", "prefix/lib/own", "prefix/lib/own"),
        ("prefix/lib/own", "link", "link/lib/own"),
        ("link/lib/own", "prefix", "prefix/lib/own"),
        ("prefix/lib/link", "prefix", None),  # the package proper lies elsewhere, and is not shown
        ("prefix/lib/link", "elsewhere", "elsewhere/own"),
        ("prefix/lib/own", "prefix/other", None),
        ("prefix/lib/own", "prefix/lib/own/file", None),
    ],
)
def test_this_package_is_covered_wherever_it_would_be_shown(
    own: str, readable: str, covered: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("prefix/lib/own", "prefix/other", "elsewhere/own"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "prefix/lib/own/file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "prefix")
    (tmp_path / "prefix/lib/link").symlink_to(tmp_path / "elsewhere/own")
    monkeypatch.setattr(sandbox_bubblewrap, "_OWN_FOLDER", f"{tmp_path}/{own}")
    path = f"{tmp_path}/{readable}"
    fds = {"info": 3, "filter": 4}
    line = command_line(["inside"], {}, [path], {}, Limits(), fds, as_root=False)
    bound = next(at for at, word in enumerate(line) if word == "--ro-bind" and line[at + 2] == path)
    after = line[bound + 3 :]
    if covered is None:
        assert "--tmpfs" not in after
    else:
        place = f"{tmp_path}/{covered}"
        assert after[:4] == ["--tmpfs", place, "--remount-ro", place]


def test_this_package_is_hidden_in_a_readable_folder(
    isolated: Bubblewrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "prefix" / "lib" / "own"
    package.mkdir(parents=True)
    (package / "answers").write_text("secret")
    (package.parent / "beside").write_text("beside")
    (tmp_path / "link").symlink_to(tmp_path / "prefix")
    monkeypatch.setattr(sandbox_bubblewrap, "_OWN_FOLDER", str(package))
    for shown in ("prefix", "link"):
        folder = f"{tmp_path}/{shown}"
        own = f"{folder}/lib/own"
        show = f"cat {folder}/lib/beside; ls -A {own}; touch {own}/mine 2>&1; grep -r secret {folder}"
        for readable in ([folder], [f"{folder}/lib", folder], [folder, f"{folder}/lib"]):
            outcome = isolated.run(["sh", "-c", show], readable=readable)
            assert outcome.stdout.startswith(b"beside")
            assert b"Read-only" in outcome.stdout
            assert b"secret" not in outcome.stdout


def test_this_package_is_hidden_among_the_systems_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = "/usr/share/doc"  # as good as a folder of packages below /usr
    assert os.listdir(installed)
    monkeypatch.setattr(sandbox_bubblewrap, "_OWN_FOLDER", installed)
    outcome = make_sandbox().run(["sh", "-c", f"ls -A {installed} && ! touch {installed}/mine 2> /dev/null"])
    assert (outcome.stdout[:100], outcome.exit_code) == (b"", 0)


# --- The filter of system calls, run here instruction by instruction.


def _verdict(program: bytes, convention: int, number: int, first: int = 0) -> int:
    instructions = list(struct.iter_unpack("=HBBI", program))
    data = struct.pack("=iIQQ", number, convention, 0, first)
    place = loaded = 0
    while True:
        code, yes, no, value = instructions[place]
        place += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, value)
            case 0x15:
                place += yes if loaded == value else no
            case 0x35:
                place += yes if loaded >= value else no
            case 0x06:
                return value
            case _:
                raise AssertionError(code)


ALLOWED, REFUSED = 0x7FFF0000, 0x50000 | ENOSYS


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_filter(machine: str) -> None:
    program = system_call_filter(machine)
    convention, calls = MACHINES[machine]
    sockets = {calls["socket"], calls["socketpair"]}
    refused = set(calls.values()) - sockets
    verdicts = {number: _verdict(program, convention, number, first=1) for number in range(600)}
    assert {number for number, verdict in verdicts.items() if verdict == REFUSED} == refused
    assert {verdicts[number] for number in set(verdicts) - refused} == {ALLOWED}
    assert _verdict(program, 0x40000003, 1) == REFUSED  # 32-bit programs
    assert _verdict(program, convention, 0x40000001) == REFUSED  # x32
    for call in sockets:
        families = {family: _verdict(program, convention, call, first=family) for family in range(64)}
        assert {family for family, verdict in families.items() if verdict == ALLOWED} == set(FAMILIES)
        assert {families[family] for family in set(families) - set(FAMILIES)} == {0x50000 | EAFNOSUPPORT}
        # The kernel looks at the lower half alone.
        assert _verdict(program, convention, call, first=40 + (1 << 32)) == 0x50000 | EAFNOSUPPORT
