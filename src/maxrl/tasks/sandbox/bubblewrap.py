"""The isolating sandbox: a program in namespaces of its own, made by bubblewrap.

What it covers, and what not, stands in `maxrl.tasks.sandbox`; here is how.

Root is no way to run it: the kernel counts no processes of root's. So as root everything starts as user 65534, and the
user namespace that bubblewrap makes for each call gives each call a count of its own.
"""

import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen

from maxrl.tasks.sandbox.base import Sandbox
from maxrl.tasks.sandbox.filter import MACHINES, system_call_filter
from maxrl.tasks.sandbox.supervisor import Ready, limited, started
from maxrl.tasks.sandbox.terms import Limits, SandboxError

_FOLDER = "/tmp/work"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
_OWN_FOLDER = str(Path(__file__).resolve().parents[2])
"""Of this package, which holds problems with their answers: hidden in whatever is shown."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Debian's `cc` and `ld` are links through the first; without the second the loader knows the standard folders only.
_NEEDED_OF_ETC = ("/etc/alternatives", "/etc/ld.so.cache")

_TOOLS = {"bwrap": "bubblewrap", "prlimit": "util-linux"}
_TOOLS_OF_ROOT = {"setpriv": "util-linux", "unshare": "util-linux", "mount": "mount"}
_SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

_NOBODY = 65534
# User 65534 may not walk to a toolchain below /root. In a mount namespace of root's own it need not: $1 is a folder there
# that is covered, then come paths up to `--`, each mounted in it under its number.
_BRING_NEAR = """
near=$1; shift
mount -t tmpfs -o size=64k,mode=755 tmpfs "$near" || exit
number=0
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir "$near/$number"; else : > "$near/$number"; fi
  mount --rbind "$1" "$near/$number" || exit
  number=$((number + 1)); shift
done
shift
exec "$@"
"""
_FOLDERS_TO_COVER = ("/mnt", "/media", "/srv", "/opt", "/home")


class Bubblewrap(Sandbox):
    """Runs programs in bubblewrap."""

    name = "bubblewrap"

    @contextmanager
    def _begun(
        self,
        command: Sequence[str],
        files: Mapping[str, bytes],
        limits: Limits,
        readable: Sequence[str],
        environment: Mapping[str, str],
    ) -> Generator[Ready, None, None]:
        prlimit = shutil.which("prlimit", path=_SYSTEM_PATH) or "prlimit"
        inside = limited(prlimit, limits, command, count_processes=True)
        with ExitStack() as stack:
            told, tell = _pipe(stack)
            fds = {"info": tell, "filter": _memory_file(stack, system_call_filter(platform.machine()))}
            contents = {name: _memory_file(stack, content) for name, content in files.items()}
            arguments = command_line(
                inside, contents, readable, environment, limits, fds, as_root=os.geteuid() == 0
            )
            process = stack.enter_context(
                started(arguments, environment={}, pass_fds=(*fds.values(), *contents.values()))
            )
            yield stack.enter_context(_taken_in_hand(process, told))


def unavailable() -> str | None:
    """Why bubblewrap cannot be used here, or None."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"needs Linux on {' or '.join(sorted(MACHINES))}"
    tools = _TOOLS | (_TOOLS_OF_ROOT if os.geteuid() == 0 else {})
    for tool, package in tools.items():
        if shutil.which(tool, path=None if tool == "bwrap" else _SYSTEM_PATH) is None:
            return f"{tool} is missing; install the package {package}"
    try:
        tried = Bubblewrap().run(["true"], readable=["/usr"])
    except SandboxError as error:
        return (
            f"{error}. bubblewrap 0.8 or newer is needed, on a kernel (or in a container) that lets ordinary users make "
            "user namespaces"
        )
    return None if tried.ok else f"a trial run of `true` failed: {tried}"


def command_line(
    inside: Sequence[str],
    files: Mapping[str, int],
    readable: Sequence[str],
    environment: Mapping[str, str],
    limits: Limits,
    fds: Mapping[str, int],
    *,
    as_root: bool,
) -> list[str]:
    """bubblewrap's command line, and what must come before it when root calls.

    `files` and `fds` hold file descriptors: of each file's content, of the system call filter (`filter`), and of the
    pipe (`info`) that bubblewrap writes the process id of the sandbox's first process to.
    """
    sources = [os.path.realpath(path) for path in readable]
    near = next(
        (folder for folder in _FOLDERS_TO_COVER if os.path.isdir(folder) and not _below(folder, sources)),
        "/tmp",
    )
    shown = [f"{near}/{number}" for number in range(len(sources))] if as_root else sources
    words = ["bwrap", "--info-fd", str(fds["info"]), "--seccomp", str(fds["filter"]), *_isolation()]
    words += _system()
    words += ["--size", str(limits.disk_mb << 20), "--tmpfs", "/tmp", "--dir", _FOLDER]
    for source, path in zip(shown, readable, strict=True):
        words += ["--ro-bind", source, path, *_hidden(path)]
    for name, fd in files.items():
        words += ["--perms", "0755", "--file", str(fd), f"{_FOLDER}/{name}"]
    for name, value in (_ENVIRONMENT | dict(environment)).items():
        words += ["--setenv", name, value]
    # bubblewrap's root and /dev are memory without a limit: they must not be writable.
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _FOLDER, "--", *inside]
    if not as_root:
        return words
    identity = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--"]
    if not sources:
        return [*identity, *words]
    return [
        "unshare",
        "--mount",
        "--",
        "sh",
        "-c",
        _BRING_NEAR,
        "sh",
        near,
        *sources,
        "--",
        *identity,
        *words,
    ]


def _below(folder: str, paths: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for path in paths)


def _isolation() -> list[str]:
    return [
        *("--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--disable-userns"),
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-cgroup"),
        *("--unshare-uts", "--hostname", "sandbox"),
        *("--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv"),
        # Without it bubblewrap's own process 1 outlives the program, and becomes a zombie of ours where we are process 1.
        "--as-pid-1",
    ]


def _system() -> list[str]:
    words: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path, *_hidden(path)]
    for path in filter(os.path.exists, _NEEDED_OF_ETC):
        words += ["--ro-bind", path, path]
    return [*words, "--proc", "/proc", "--dev", "/dev"]


def _hidden(shown: str) -> list[str]:
    """What covers this package in a path that is shown, in case it holds it: under its own name or another, or mounted."""
    own = Path(os.path.realpath(_OWN_FOLDER))
    for above in (own, *own.parents):
        if os.path.samefile(above, shown):
            # Below the folder itself there are no more links: `own` is without.
            place = os.path.normpath(os.path.join(shown, own.relative_to(above)))
            return ["--tmpfs", place, "--remount-ro", place]
    return []


@contextmanager
def _taken_in_hand(process: Popen[bytes], told: int) -> Generator[Ready, None, None]:
    """All that is needed of a sandbox that has reported itself, before its program's first instruction."""
    with ExitStack() as stack:
        try:
            first = int(json.loads(os.read(told, 4096))["child-pid"])
            handle = _kept(stack, os.pidfd_open(first))
            root = f"/proc/{first}/root"
            folder = _kept(stack, os.open(root + _FOLDER, os.O_RDONLY | os.O_DIRECTORY))
            proc = _kept(stack, os.open(f"{root}/proc", os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            raise SandboxError(f"the sandbox cannot be watched: {error}") from error

        def kill() -> None:
            # Ending a process namespace's first process ends the namespace, and all of it before bubblewrap's own end.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

        yield Ready(process=process, folder=folder, proc=proc, session=None, kill=kill)


def _kept(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _pipe(stack: ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    return _kept(stack, read), _kept(stack, write)


def _memory_file(stack: ExitStack, content: bytes) -> int:
    fd = _kept(stack, os.memfd_create("file"))
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
