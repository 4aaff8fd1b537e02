"""What the sandbox claims, one attack per claim: it works outside and fails inside, as root and as an ordinary user."""

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.adversarial import attacks
from tests.adversarial.users import (
    NOBODY,
    SECRET,
    SECRET_NAME,
    User,
    copy_sandbox,
    listed,
    missing,
    need_root,
    public_folder,
    sandbox_command,
    tool,
)

from maxrl.tasks.sandbox import Limits, sandbox_reason

PYTHON = "/usr/bin/python3"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """Whoever runs the attack."""
    if sys.platform != "linux":
        pytest.skip("the sandbox is Linux's")
    tool("python3", "python3")
    tool("bwrap", "bubblewrap")
    if reason := sandbox_reason():
        missing(f"what the sandbox needs ({reason})", "bubblewrap")
    if request.param == "root":
        need_root()
    folder = public_folder()
    copy_sandbox(folder)
    other = os.geteuid() == 0 and request.param != "root"
    made = User(request.param, NOBODY if other else [], folder)
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder of this machine that every user can read and write; the working folder of what runs outside."""
    folder = public_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def secret(ground: Path) -> Path:
    """A file of this machine that everyone can read, as C can include it."""
    file = ground / "secret.txt"
    file.write_text(f'"{SECRET}"\n')
    return file


def test_a_file_of_the_machine_cannot_be_read(user: User, ground: Path, secret: Path) -> None:
    command = ["cat", str(secret)]
    assert SECRET in user.outside(command, folder=ground).stdout.decode()
    outcome = user.inside(command)
    assert outcome.status == "exited"
    assert outcome.exit_code == 1
    assert b"No such file" in outcome.stderr
    assert SECRET.encode() not in outcome.stdout + outcome.stderr


def test_what_is_readable_can_be_read_and_not_written(user: User, secret: Path, ground: Path) -> None:
    secret.chmod(0o666)
    attack = f"cat '{secret}'; echo x >> '{secret}'"
    before = secret.read_text()
    assert user.outside(["sh", "-c", attack], folder=ground).returncode == 0
    assert secret.read_text() == before + "x\n"
    outcome = user.inside(["sh", "-c", attack], readable=[str(secret)])
    assert SECRET in outcome.stdout.decode()
    assert b"Read-only" in outcome.stderr
    assert secret.read_text() == before + "x\n"


def test_this_package_cannot_be_read_where_it_lies_in_a_folder_that_can(user: User, ground: Path) -> None:
    (user.path / "beside").write_text("beside\n")
    attack = ["sh", "-c", f"cat '{user.path}/maxrl/errors.py'; cat '{user.path}/beside'"]
    assert b"class MaxRLError" in user.outside(attack, folder=ground).stdout
    outcome = user.inside(attack, readable=[str(user.path)])
    assert outcome.stdout == b"beside\n"
    assert b"No such file" in outcome.stderr


def test_folders_of_others_are_not_there(user: User, ground: Path) -> None:
    command = [
        "sh",
        "-c",
        "ls -d /etc/passwd /etc/hosts /home /root /var /run /sys /boot /opt /mnt /srv; true",
    ]
    assert b"/etc/passwd" in user.outside(command, folder=ground).stdout
    assert user.inside(command).stdout == b""


def test_a_file_cannot_be_read_by_the_rust_compiler(user: User, ground: Path, secret: Path) -> None:
    (ground / "theft.rs").write_text(attacks.RUST_INCLUDE.format(path=secret))
    for compiler in user.rust_compilers():
        command = [compiler.path, "-o", "theft", "theft.rs"]
        assert user.outside(command, folder=ground).returncode == 0, compiler
        assert SECRET in user.outside([str(ground / "theft")], folder=ground).stdout.decode()
        honest, theft = (
            user.inside(
                command, files={"theft.rs": source.encode()}, readable=compiler.readable, collect=["theft"]
            )
            for source in (attacks.RUST_HELLO, attacks.RUST_INCLUDE.format(path=secret))
        )
        assert honest.ok, honest
        assert user.inside(["./theft"], files=honest.collected).stdout == b"hello\n"
        assert theft.exit_code == 1
        assert b"couldn't read" in theft.stderr
        assert theft.collected == {}


@pytest.mark.parametrize("source", [attacks.C_INCLUDE, attacks.C_EMBED], ids=["include", "incbin"])
def test_a_file_cannot_be_read_by_the_c_compiler(user: User, ground: Path, secret: Path, source: str) -> None:
    command = [tool("gcc", "gcc"), "-o", "theft", "theft.c"]
    (ground / "theft.c").write_text(source.format(path=secret))
    assert user.outside(command, folder=ground).returncode == 0
    assert SECRET.encode() in (ground / "theft").read_bytes()
    honest = user.inside(command, files={"theft.c": attacks.C_HELLO.encode()}, collect=["theft"])
    assert honest.ok, honest
    assert user.inside(["./theft"], files=honest.collected).stdout == b"hello\n"
    theft = user.inside(command, files={"theft.c": source.format(path=secret).encode()}, collect=["theft"])
    assert theft.exit_code == 1
    assert theft.collected == {}


def test_the_environment_is_not_passed_on(user: User, ground: Path) -> None:
    command = ["sh", "-c", f"echo ${SECRET_NAME}; cat /proc/[0-9]*/environ; true"]
    assert SECRET.encode() in user.outside(command, folder=ground).stdout
    outcome = user.inside(command, environment={"GIVEN": "value"})
    assert SECRET.encode() not in outcome.stdout
    names = user.inside([PYTHON, "-c", "import os; print(*os.environ)"], environment={"GIVEN": "value"})
    assert set(names.stdout.decode().split()) <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "GIVEN",
        "PWD",
        "SHLVL",
        "_",
    }


@pytest.mark.parametrize("kind", ["tcp", "abstract", "file"])
def test_no_server_can_be_reached(user: User, ground: Path, kind: str) -> None:
    server = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
    if kind == "tcp":
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    else:
        address = f"maxrl-{uuid4()}" if kind == "abstract" else str(ground / "socket")
        server.bind(f"\0{address}" if kind == "abstract" else address)
        if kind == "file":
            os.chmod(address, 0o777)
    server.listen()

    def answer() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.sendall(b"welcome")
                connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        command = [PYTHON, "-c", attacks.CONNECT, kind, address]
        assert user.outside(command, folder=ground).stdout == b"welcome\n"
        outcome = user.inside(command)
        assert outcome.exit_code == 1
        assert outcome.stdout == b""
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        server.close()


def test_no_other_kind_of_socket_can_be_made(user: User, ground: Path) -> None:
    confined = {"1", "2", "10", "16"}  # unix, IPv4, IPv6, netlink
    families = set(user.outside([PYTHON, "-c", attacks.SOCKETS], folder=ground).stdout.decode().split())
    assert {"1", "2"} <= set(user.inside([PYTHON, "-c", attacks.SOCKETS]).stdout.decode().split()) <= confined
    if families <= confined:
        pytest.skip("this machine has no others")


def test_the_log_of_the_kernel_cannot_be_read(user: User, ground: Path) -> None:
    outside, inside = (
        run([PYTHON, "-c", attacks.READ_THE_LOG])
        for run in (lambda command: user.outside(command, folder=ground), user.inside)
    )
    # To others than root it can be closed anyway.
    assert outside.stdout == b"read\n" or user.name != "root"
    assert (inside.stdout, inside.stderr) == (b"", b"Function not implemented\n")


def test_no_message_queue_can_be_reached(user: User, ground: Path) -> None:
    libc = ctypes.CDLL(None)
    name = f"/maxrl-{uuid4()}"
    queue = libc.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    assert queue >= 0
    try:
        os.fchmod(queue, 0o666)
        for _ in range(2):
            libc.mq_send(queue, SECRET.encode(), len(SECRET), 0)
        command = [PYTHON, "-c", attacks.RECEIVE, name]
        assert user.outside(command, folder=ground).stdout.decode() == f"{SECRET}\n"
        outcome = user.inside(command)
        assert (outcome.exit_code, outcome.stdout) == (1, b"")
    finally:
        os.close(queue)
        libc.mq_unlink(name.encode())


def test_the_machine_is_not_named(user: User, ground: Path) -> None:
    assert user.outside(["uname", "-n"], folder=ground).stdout.decode() == f"{platform.node()}\n"
    assert user.inside(["uname", "-n"]).stdout == b"sandbox\n"


def test_processes_are_bounded(user: User, ground: Path) -> None:
    assert user.outside([PYTHON, "-c", attacks.FORK], folder=ground).stdout == b"40\n"
    assert user.inside([PYTHON, "-c", attacks.FORK], limits=Limits(processes=10)).stdout == b"9\n"
    assert user.inside([PYTHON, "-c", attacks.FORK], limits=Limits(processes=41)).stdout == b"40\n"
    assert user.outside([PYTHON, "-c", attacks.THREADS], folder=ground).stdout == b"40\n"
    assert user.inside([PYTHON, "-c", attacks.THREADS], limits=Limits(processes=10)).stdout == b"9\n"


def test_a_fork_bomb_is_ended(user: User) -> None:
    marker = str(uuid4())
    limits = Limits(processes=16, cpu_seconds=0.3, wall_seconds=20)
    outcome = user.inside([PYTHON, "-c", attacks.FORK_FOR_EVER, marker], limits=limits)
    assert outcome.status == "cpu time"
    assert listed(marker) == []


def test_memory_of_one_process_is_bounded(user: User, ground: Path) -> None:
    command = [PYTHON, "-c", attacks.ALLOCATE, "200"]
    assert user.outside(command, folder=ground).stdout == b"held 200\n"
    outcome = user.inside(command, limits=Limits(memory_mb=150))
    assert outcome.exit_code == 1
    assert b"MemoryError" in outcome.stderr


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_memory_of_all_processes_is_bounded(user: User, ground: Path, kind: str) -> None:
    command = [PYTHON, "-c", attacks.ALLOCATE_TOGETHER, kind, "4", "50"]
    assert user.outside(command, folder=ground).stdout == b"held 200\n"
    outcome = user.inside(command, limits=Limits(memory_mb=150))
    assert outcome.status == "memory"
    assert outcome.stdout == b""


@pytest.mark.parametrize("mode", ["bubblewrap", "limits_only"])
def test_memory_behind_ended_threads_is_bounded(user: User, ground: Path, mode: str) -> None:
    command = [PYTHON, "-c", attacks.ALLOCATE_BEHIND_ENDED_THREADS, "4", "50"]
    assert user.outside(command, folder=ground).stdout == b"held 200\n"
    outcome = user.inside(command, limits=Limits(memory_mb=150), mode=mode)
    assert outcome.status == "memory"
    assert outcome.stdout == b""


def test_memory_for_files_without_content_is_bounded(user: User, ground: Path) -> None:
    command = [PYTHON, "-c", attacks.MAKE_EMPTY_FILES]
    assert user.outside(command, folder=ground).stdout == b"made\n"
    outcome = user.inside(command, limits=Limits(memory_mb=20))
    assert (outcome.status, outcome.stdout) == ("memory", b"")


@pytest.mark.parametrize("kind", ["file", "segment"])
def test_memory_cannot_be_held_out_of_sight(user: User, ground: Path, kind: str) -> None:
    command = [PYTHON, "-c", attacks.ALLOCATE_OUT_OF_SIGHT, kind]
    assert user.outside(command, folder=ground).stdout == b"held 20\n"
    outcome = user.inside(command)
    assert outcome.exit_code == 1
    assert b"not implemented" in outcome.stderr


@pytest.mark.parametrize("kind", ["reaped", "not reaped", "behind"])
def test_cpu_time_of_all_processes_is_bounded(user: User, ground: Path, kind: str) -> None:
    command = [PYTHON, "-c", attacks.BURN_IN_TURN, kind]
    assert user.outside(command, folder=ground).stdout == b"burnt\n"
    outcome = user.inside(command, limits=Limits(cpu_seconds=0.3, wall_seconds=20))
    assert outcome.status == "cpu time"
    assert outcome.stdout == b""


def test_a_constant_whose_evaluation_never_ends_is_given_up(user: User, ground: Path) -> None:
    for compiler in user.rust_compilers():
        source = attacks.rust_endless(compiler.version)
        (ground / "endless.rs").write_text(source)
        command = [compiler.path, "--emit=metadata", "endless.rs"]
        with pytest.raises(subprocess.TimeoutExpired):
            user.outside(command, folder=ground, timeout=1)
        outcome = user.inside(
            command,
            files={"endless.rs": source.encode()},
            readable=compiler.readable,
            limits=Limits(cpu_seconds=0.4),
        )
        assert outcome.status == "cpu time"


def test_a_preprocessor_that_never_ends_is_given_up(user: User, ground: Path) -> None:
    command = [tool("gcc", "gcc"), "-c", "endless.c"]
    (ground / "endless.c").write_text(attacks.C_ENDLESS)
    with pytest.raises(subprocess.TimeoutExpired):
        user.outside(command, folder=ground, timeout=1)
    outcome = user.inside(
        command, files={"endless.c": attacks.C_ENDLESS.encode()}, limits=Limits(cpu_seconds=0.4)
    )
    assert outcome.status == "cpu time"


@pytest.mark.parametrize("where", ["1", "2"])
def test_endless_output_is_cut_off(user: User, ground: Path, where: str) -> None:
    bounded = user.outside(["sh", "-c", f"yes | head -c 1000000 >&{where}"], folder=ground)
    assert len(bounded.stdout + bounded.stderr) == 1000000
    outcome = user.inside(["sh", "-c", f"yes >&{where}"], limits=Limits(output_kb=100))
    assert outcome.status == "output"
    assert outcome.stdout + outcome.stderr == b"y\n" * 51200
    assert outcome.seconds < 5


def test_the_disk_cannot_be_filled(user: User, ground: Path) -> None:
    assert user.outside([PYTHON, "-c", attacks.FILL, "."], folder=ground).stdout == b"written 20\n"
    for folder in (".", "/tmp"):
        outcome = user.inside([PYTHON, "-c", attacks.FILL, folder], limits=Limits(disk_mb=10))
        assert outcome.exit_code == 1
        assert b"No space left" in outcome.stderr


def test_nothing_but_tmp_can_be_written(user: User, ground: Path) -> None:
    attack = (
        "for folder in /*/ / /dev/shm /usr/lib; do touch $folder/mine 2>/dev/null && echo $folder; done; true"
    )
    assert (
        b"/dev/shm"
        in user.outside(["sh", "-c", f"touch /dev/shm/{ground.name} && echo /dev/shm"], folder=ground).stdout
    )
    Path(f"/dev/shm/{ground.name}").unlink()
    assert user.inside(["sh", "-c", attack]).stdout == b"/tmp/\n"


def test_one_file_is_bounded(user: User, ground: Path) -> None:
    assert user.outside([PYTHON, "-c", attacks.WRITE_ONE], folder=ground).stdout == b"written 4\n"
    outcome = user.inside([PYTHON, "-c", attacks.WRITE_ONE], limits=Limits(file_mb=2), collect=["large"])
    assert outcome.status == "signalled"
    assert outcome.signal == signal.SIGXFSZ
    assert len(outcome.collected["large"]) == 2 * MEGABYTE


@pytest.mark.parametrize("output", ["open", "closed"])
def test_children_do_not_survive(user: User, ground: Path, output: str) -> None:
    marker = str(uuid4())
    # Output to a file: outside nobody would read a pipe that stays open to its end.
    user.outside(
        ["sh", "-c", '"$@" > said 2>&1', "sh", PYTHON, "-c", attacks.ESCAPE, marker, output], folder=ground
    )
    _wait_for(lambda: len(listed(marker)) == 1)  # its own parents may still be about to end
    os.kill(listed(marker)[0], signal.SIGKILL)
    _wait_for(lambda: listed(marker) == [])
    outcome = user.inside([PYTHON, "-c", attacks.ESCAPE, marker, output])
    assert outcome.stdout == b"escaped\n"
    assert outcome.seconds < 5
    assert listed(marker) == []


def test_children_do_not_survive_the_caller(user: User) -> None:
    marker = str(uuid4())
    program = attacks.ESCAPE + "os.execvp('sleep', ['sleep', '20'])"
    caller = user.start(["-c", sandbox_command({"command": [PYTHON, "-c", program, marker, "open"]})])
    _wait_for(lambda: len(listed(marker, first=True)) == 1)
    caller.kill()
    caller.wait()
    _wait_for(lambda: listed(marker) == [], within=10)


def _wait_for(condition: Callable[[], bool], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tmp_cannot_be_left(user: User, ground: Path) -> None:
    attack = f"mkdir -p deep && cd deep && echo mine > ../../../../../..{ground}/mine"
    assert user.outside(["sh", "-c", attack], folder=ground).returncode == 0
    (ground / "mine").unlink()
    assert user.inside(["sh", "-c", attack]).exit_code != 0
    assert not (ground / "mine").exists()


def test_nothing_is_left_for_the_next(user: User, ground: Path) -> None:
    leave, find = (
        ["sh", "-c", "echo x > /tmp/left-behind; echo x > left-behind"],
        ["sh", "-c", "find /tmp -name left-behind"],
    )
    user.outside(["sh", "-c", "echo x > left-behind"], folder=ground)
    assert user.outside(["find", ".", "-name", "left-behind"], folder=ground).stdout
    assert user.inside(leave, collect=["left-behind"]).collected == {"left-behind": b"x\n"}
    assert user.inside(find).stdout == b""


def test_a_link_leads_nowhere(user: User, ground: Path, secret: Path) -> None:
    attack = ["sh", "-c", f"ln -s '{secret}' link && cat link"]
    assert SECRET in user.outside(attack, folder=ground).stdout.decode()
    outcome = user.inside(attack)
    assert outcome.exit_code == 1
    assert outcome.stdout == b""


@pytest.mark.parametrize("mode", ["bubblewrap", "limits_only"])
def test_no_link_is_collected(user: User, ground: Path, secret: Path, mode: str) -> None:
    attack = f"ln -s '{secret}' link; ln -s '{ground}' folder; ln -s real/file own; "
    attack += "mkdir real; echo mine > real/file; mkfifo fifo"
    user.outside(["sh", "-c", attack], folder=ground)
    for name in ("link", "folder/secret.txt"):
        assert SECRET in (ground / name).read_text()  # a collector that opens names follows them
    names = ["link", "folder/secret.txt", "real/file", "fifo", "own", "real", "missing"]
    assert user.inside(["sh", "-c", attack], collect=names, mode=mode).collected == {"real/file": b"mine\n"}


def test_no_process_outside_can_be_signalled(user: User, ground: Path) -> None:
    marker = str(uuid4())
    attack = [PYTHON, "-c", attacks.KILL, marker]
    victim = [*user.prefix, "sleep", "30"]
    with subprocess.Popen(victim, env={"VICTIM": marker}) as first:
        _wait_for(lambda: b"sleep" in Path(f"/proc/{first.pid}/comm").read_bytes())
        assert user.outside(attack, folder=ground).stdout == b"killed\n"
        assert first.wait(10) == -signal.SIGKILL
    with subprocess.Popen(victim, env={"VICTIM": marker}) as second:
        _wait_for(lambda: b"sleep" in Path(f"/proc/{second.pid}/comm").read_bytes())
        outcome = user.inside(attack)
        assert (outcome.ok, outcome.stdout) == (True, b"")
        assert second.poll() is None
        second.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_parent_cannot_be_signalled(user: User, ground: Path, number: signal.Signals) -> None:
    attack = [PYTHON, "-c", attacks.SIGNAL_THE_PARENT, str(int(number))]
    parent = [PYTHON, "-c", attacks.PARENT]
    assert user.outside([*parent, *attack], folder=ground).returncode == -number
    outcome = user.inside(attack)
    assert outcome.ok
    assert outcome.stdout == b"sent\n"


def test_the_parent_has_no_more_than_the_program(user: User) -> None:
    # The program can take it over with a debugger's system calls.
    outcome = user.inside(["sh", "-c", "cat /proc/1/limits > parent; cmp parent /proc/self/limits"])
    assert outcome.ok, outcome


def test_who_ends_the_parent_is_killed_and_nothing_else_is(user: User) -> None:
    outcome = user.inside([PYTHON, "-c", attacks.END_THE_PARENT])
    assert (outcome.status, outcome.signal) == ("signalled", signal.SIGKILL)
    assert user.inside(["true"]).ok


def test_its_own_processes_cannot_stop_the_sandbox(user: User) -> None:
    outcome = user.inside([PYTHON, "-c", attacks.KILL_EVERYTHING])
    assert outcome.ok
    assert outcome.stdout.endswith(b"survived\n")


def test_no_privilege_can_be_gained(user: User, ground: Path) -> None:
    command = ["unshare", "--user", "--map-root-user", "id", "-u"]
    assert user.outside(command, folder=ground).stdout == b"0\n"
    assert user.inside(command).exit_code == 1
    outcome = user.inside(["sh", "-c", "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"])
    identity, *lines = outcome.stdout.decode().split("\n")
    status = dict(line.split(":\t") for line in lines if line)
    assert identity == "65534"
    assert (status.pop("NoNewPrivs"), status.pop("Seccomp")) == ("1", "2")
    assert set(status) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert set(status.values()) == {"0" * 16}


def test_no_file_of_the_supervisor_is_open(user: User) -> None:
    program = "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))"
    outcome = user.inside([PYTHON, "-c", program], files={"a": b"1", "b/c": b"2"}, readable=["/usr/lib"])
    assert outcome.stdout == b"0 1 2 3\n"  # 3: the listing itself


def test_a_megabyte_of_source_compiles(user: User, ground: Path) -> None:
    source = b"/*" + b"x" * MEGABYTE + b"*/\n" + attacks.C_HELLO.encode()
    command = ["sh", "-c", "gcc -o large large.c && ./large && wc -c"]
    tool("gcc", "gcc")
    (ground / "large.c").write_bytes(source)
    expected = user.outside(command, folder=ground, stdin=source).stdout
    assert expected == b"hello\n%d\n" % len(source)
    assert user.inside(command, files={"large.c": source}, stdin=source).stdout == expected


@pytest.mark.parametrize(
    "noise", [b"\0", b"\xff\xfe\x80", bytes(range(256))], ids=["NUL", "no UTF-8", "all bytes"]
)
def test_any_bytes_pass(user: User, ground: Path, noise: bytes) -> None:
    source = attacks.C_HELLO.encode() + b"//" + noise + b"\n" + noise
    command = ["sh", "-c", "cat; cat noise.c >&2; gcc -c noise.c 2>/dev/null"]
    tool("gcc", "gcc")
    (ground / "noise.c").write_bytes(source)
    expected = user.outside(command, folder=ground, stdin=noise)
    outcome = user.inside(command, files={"noise.c": source}, stdin=noise, collect=["noise.c"])
    assert (expected.stdout, expected.stderr) == (noise, source)
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (expected.returncode, noise, source)
    assert outcome.collected == {"noise.c": source}
