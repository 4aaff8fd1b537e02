"""A seccomp filter: system calls that a judged program does not have.

The supervisor bounds a program's memory by what its processes have resident and by the size of the working folder. These
calls make memory that is seen in neither (unattached shared segments, files without a folder, keys), outlive the process
that made it, or open parts of the kernel with a long record of flaws that no test program needs. They answer ENOSYS, as
on a kernel built without them, which programs are prepared for.
"""

import struct
from errno import ENOSYS

# Numbers from the kernel's tables: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_COMMON = {"io_uring_setup": 425, "memfd_secret": 447}
_X86_64 = {
    "shmget": 29,
    "semget": 64,
    "msgget": 68,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "perf_event_open": 298,
    "memfd_create": 319,
    "bpf": 321,
    "userfaultfd": 323,
}
_AARCH64 = {
    "msgget": 186,
    "semget": 190,
    "shmget": 194,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "perf_event_open": 241,
    "memfd_create": 279,
    "bpf": 280,
    "userfaultfd": 282,
}
# Per machine: the kernel's mark of the calling convention (linux/audit.h), and the calls refused.
MACHINES = {
    "x86_64": (0xC000003E, _X86_64 | _COMMON),
    "aarch64": (0xC00000B7, _AARCH64 | _COMMON),
}

# linux/bpf_common.h and linux/seccomp.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | ENOSYS
_NUMBER, _CONVENTION = 0, 4  # offsets in struct seccomp_data
# x86-64's second convention (x32) calls the same functions under other numbers, from this bit up.
_X32 = 0x40000000


def system_call_filter(machine: str) -> bytes:
    """The filter for `machine` (of `MACHINES`), an array of the kernel's struct sock_filter.

    Another calling convention than the machine's own (32-bit programs) is refused altogether: its numbers differ.
    """
    convention, refused = MACHINES[machine]
    tests = [(_IF_AT_LEAST, _X32), *((_IF_EQUAL, number) for number in refused.values())]
    program = [
        (_LOAD, 0, 0, _CONVENTION),
        (_IF_EQUAL, 0, len(tests) + 2, convention),
        (_LOAD, 0, 0, _NUMBER),
        # A jump counts from the next instruction; the last two are "allow" and "refuse".
        *((test, len(tests) - place, 0, value) for place, (test, value) in enumerate(tests)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
