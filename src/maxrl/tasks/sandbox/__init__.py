"""A sandbox: runs a program that a model wrote, and comes back with what it did.

Two modes, chosen by name; one never stands in for the other.

`bubblewrap` isolates. Each claim has an attack in the tests that works outside:

- Files: the program sees the system's programs and libraries (/usr and its kin, /etc/alternatives, the loader's cache) and
  what the caller names in `readable`, all read-only, without this package and the answers in it; nothing else of the
  machine, at compile time as at run time. It can write in /tmp alone, which is its own memory of `disk_mb` and gone
  afterwards.
- Network: none; not even sockets of this machine's other programs, or of the machine around a virtual one.
- Environment: what the caller names, and PATH, HOME, TMPDIR, LANG (and PWD) with values that say nothing of the machine.
- Other processes: it sees none and can signal none. Its own all end with the call, whatever they did to get away, and
  also when the caller is killed. The shell that waits for it has no more rights than the program, and no other limits: a
  program that ends it has ended itself.
- Privileges: user 65534 without capabilities, no way to gain any, no further user namespaces, none of the system calls
  in `maxrl.tasks.sandbox.filter`. Root is not used: called by root, it runs as user 65534 from the start.
- `Limits`: CPU time, wall time, memory, processes, size of files and of all files, output.

It does not hide the kernel: its version, command line, load and memory, the processor and the file system of what is shown
can be read in /proc, and time be measured. A flaw in the kernel that an unprivileged program can use leads out. Between two
looks (25 ms) a tree of processes can take more memory or CPU time than allowed, each process at most what it may alone. Not
seen are: memory of the kernel for sockets and pipes; shared anonymous memory that its owner has told the kernel to unmap
from it (bounded per process only). Where that matters, give the whole training run a container with a memory limit. CPU
time of processes whose parent has told the kernel to forget them (it ignores SIGCHLD) is lost; wall time bounds them. What
the kernel counts per user (inotify, pages of pipes, message queues) a program shares with the user it runs as, and can use
up while it runs. A socket or a named pipe below a `readable` path can be connected to and written to. Whoever may write in
/usr on this machine writes what judged programs read. A caller killed within the millisecond in which bubblewrap starts can
leave a bubblewrap process behind that waits for ever, before any program has begun.

`limits_only` is no isolation: the program runs as the caller and can read, write, send and signal whatever the caller can;
as root, everything. Kept are: an environment of its own, a private folder, the limits on CPU time, wall time, memory and
output, the size of a single file; processes are counted 40 times a second. Its processes end with the call unless they leave
the session (`setsid`). What the program writes is not held to `disk_mb`. For programs that are trusted, or inside a
container made for the purpose.
"""

from typing import Literal

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.sandbox import bubblewrap, limits_only
from maxrl.tasks.sandbox.base import Sandbox
from maxrl.tasks.sandbox.bubblewrap import Bubblewrap
from maxrl.tasks.sandbox.limits_only import LimitsOnly
from maxrl.tasks.sandbox.terms import Limits, Outcome, SandboxError, Status

__all__ = [
    "Limits",
    "Mode",
    "Outcome",
    "Sandbox",
    "SandboxError",
    "Status",
    "make_sandbox",
    "sandbox_reason",
]

Mode = Literal["bubblewrap", "limits_only"]

_MODES = {
    "bubblewrap": (Bubblewrap, bubblewrap.unavailable),
    "limits_only": (LimitsOnly, limits_only.unavailable),
}


def make_sandbox(mode: Mode = "bubblewrap") -> Sandbox:
    """The sandbox of that mode.

    Raises:
        InputError: an unknown mode, or one that cannot be used here; the message says what is missing.
    """
    if reason := sandbox_reason(mode):
        weaker = (
            ". The weaker mode 'limits_only' needs no isolation and gives none: the program could read and write "
            "whatever you can"
            if mode == "bubblewrap"
            else ""
        )
        raise InputError(f"the sandbox '{mode}' cannot be used here: {reason}{weaker}")
    return _MODES[mode][0]()


def sandbox_reason(mode: Mode = "bubblewrap") -> str | None:
    """Why the sandbox of that mode cannot be used here, or None where it can (found out by a trial run).

    Raises:
        InputError: an unknown mode.
    """
    if mode not in _MODES:
        raise unknown_name("sandbox", mode, _MODES)
    return _MODES[mode][1]()
