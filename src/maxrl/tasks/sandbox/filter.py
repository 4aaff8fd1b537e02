"""A seccomp filter: system calls that a judged program does not have.

The supervisor bounds a program's memory by what its processes have resident and by the size of the working folder. These
calls make memory that is seen in neither (unattached shared segments, files without a folder, keys), outlive the process
that made it, read the kernel's log, or open parts of the kernel with a long record of flaws that no test program needs.
They answer ENOSYS, as on a kernel built without them, which programs are prepared for.

Of the families of sockets those are left that a network namespace confines. Others it does not: vsock reaches the machine
around a virtual one, and its other guests, from any namespace.
"""

import struct
from errno import EAFNOSUPPORT, ENOSYS

# Numbers from the kernel's tables: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_COMMON = {"io_uring_setup": 425, "memfd_secret": 447}
_X86_64 = {
    "socket": 41,
    "socketpair": 53,
    "shmget": 29,
    "semget": 64,
    "msgget": 68,
    "syslog": 103,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "perf_event_open": 298,
    "memfd_create": 319,
    "bpf": 321,
    "userfaultfd": 323,
}
_AARCH64 = {
    "syslog": 116,
    "msgget": 186,
    "semget": 190,
    "shmget": 194,
    "socket": 198,
    "socketpair": 199,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "perf_event_open": 241,
    "memfd_create": 279,
    "bpf": 280,
    "userfaultfd": 282,
}
# Per machine: the kernel's mark of the calling convention (linux/audit.h), and the calls refused; those that make sockets
# are allowed for these families (linux/socket.h): unix, IPv4, IPv6, netlink.
_SOCKETS = ("socket", "socketpair")
FAMILIES = (1, 2, 10, 16)
MACHINES = {
    "x86_64": (0xC000003E, _X86_64 | _COMMON),
    "aarch64": (0xC00000B7, _AARCH64 | _COMMON),
}

# linux/bpf_common.h and linux/seccomp.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _NO_FAMILY = 0x7FFF0000, 0x00050000 | ENOSYS, 0x00050000 | EAFNOSUPPORT
_NUMBER, _CONVENTION, _FAMILY = (
    0,
    4,
    16,
)  # offsets in struct seccomp_data; of the first argument its lower half
# x86-64's second convention (x32) calls the same functions under other numbers, from this bit up.
_X32 = 0x40000000


def system_call_filter(machine: str) -> bytes:
    """The filter for `machine` (of `MACHINES`), an array of the kernel's struct sock_filter.

    Another calling convention than the machine's own (32-bit programs) is refused altogether: its numbers differ.
    """
    convention, calls = MACHINES[machine]
    # Each: code, value, and for tests the places to go on at, if so and if not; without one, at the next instruction.
    program: list[tuple[int, int, str, str]] = [
        (_LOAD, _CONVENTION, "", ""),
        (_IF_EQUAL, convention, "", "refuse"),
        (_LOAD, _NUMBER, "", ""),
        (_IF_AT_LEAST, _X32, "refuse", ""),
        *((_IF_EQUAL, calls[name], "family", "") for name in _SOCKETS),
        *((_IF_EQUAL, number, "refuse", "") for name, number in calls.items() if name not in _SOCKETS),
        (_RETURN, _ALLOW, "", ""),
        (_LOAD, _FAMILY, "", ""),
        *((_IF_EQUAL, family, "allow", "") for family in FAMILIES),
        (_RETURN, _NO_FAMILY, "", ""),
        (_RETURN, _ALLOW, "", ""),
        (_RETURN, _REFUSE, "", ""),
    ]
    end = len(program)
    places = {"refuse": end - 1, "allow": end - 2, "family": end - 4 - len(FAMILIES)}

    def jump(place: int, target: str) -> int:
        return places[target] - place - 1 if target else 0  # counted from the next instruction

    return b"".join(
        struct.pack("=HBBI", code, jump(place, yes), jump(place, no), value)
        for place, (code, value, yes, no) in enumerate(program)
    )
