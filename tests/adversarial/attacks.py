"""Programs that misbehave. All are bounded, so that they can be shown to work outside a sandbox."""

CONNECT = """
import socket, sys
kind, address = sys.argv[1:]
if kind == "tcp":
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
else:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(("\\0" if kind == "abstract" else "") + address)
print(connection.recv(100).decode())
"""

# Reads the first message of a queue of this machine's.
RECEIVE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
queue = libc.mq_open(sys.argv[1].encode(), os.O_RDONLY)
if queue < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
message = ctypes.create_string_buffer(8192)
libc.mq_receive(queue, message, 8192, None)
print(message.value.decode())
"""

# At most 40 processes; says how many there were at one time.
FORK = """
import os, signal, time
children = []
for _ in range(40):
    try:
        child = os.fork()
    except BlockingIOError:
        break
    if child == 0:
        time.sleep(30)
        os._exit(0)
    children.append(child)
print(len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
"""

# For the inside only.
FORK_FOR_EVER = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

THREADS = """
import threading, time
count = 0
try:
    for _ in range(40):
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
        count += 1
except RuntimeError:
    pass
print(count)
"""

ALLOCATE = """
import sys
block = bytearray(b"x") * (int(sys.argv[1]) << 20)
print("held", len(block) >> 20)
"""

# Each child below the limit for one process, all together above; all hold it at one time.
ALLOCATE_TOGETHER = """
import mmap, os, signal, sys, time
kind, children, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) << 20
holding, hold = os.pipe()
started = []
for _ in range(children):
    started.append(os.fork())
    if started[-1] == 0:
        if kind == "private":
            block = bytearray(b"x") * each
        else:
            block = mmap.mmap(-1, each)
            for _ in range(each >> 20):
                block.write(b"x" * 2**20)
        os.write(hold, b"x")
        time.sleep(30)
        os._exit(0)
for _ in range(children):
    os.read(holding, 1)
time.sleep(0.2)
for child in started:
    os.kill(child, signal.SIGKILL)
print("held", children * each >> 20)
"""

# Memory that no process has resident: seen by no look at them.
ALLOCATE_OUT_OF_SIGHT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "file":
    files = [os.memfd_create("hidden") for _ in range(20)]
    for file in files:
        os.write(file, b"x" * 2**20)
else:
    segment = libc.shmget(0, 20 << 20, 0o1600)
    if segment < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    address = libc.shmat(segment, None, 0)
    ctypes.memset(address, 1, 20 << 20)
    libc.shmdt(address)
    libc.shmctl(segment, 0, None)
print("held 20")
"""

# As above, in processes whose first thread has ended: they look like zombies, and have no memory that /proc shows.
ALLOCATE_BEHIND_ENDED_THREADS = """
import ctypes, os, signal, sys, threading, time
children, each = int(sys.argv[1]), int(sys.argv[2]) << 20
holding, hold = os.pipe()

def allocate():
    while b") Z " not in open("/proc/self/stat", "rb").read():
        time.sleep(0.01)
    block = bytearray(b"x") * each
    os.write(hold, b"x")
    time.sleep(30)

started = []
for _ in range(children):
    started.append(os.fork())
    if started[-1] == 0:
        threading.Thread(target=allocate).start()
        ctypes.CDLL(None).pthread_exit(None)
for _ in range(children):
    os.read(holding, 1)
time.sleep(0.2)
for child in started:
    os.kill(child, signal.SIGKILL)
print("held", children * each >> 20)
"""

# Some kilobyte of the kernel's each.
MAKE_EMPTY_FILES = """
import os, time
for number in range(25000):
    os.close(os.open(str(number), os.O_CREAT))
time.sleep(0.2)
print("made")
"""

# One after the other, each less than the limit, all together more: reaped, or ended and not
# reaped, or with their first thread ended.
BURN_IN_TURN = """
import ctypes, os, signal, sys, threading, time
kind = sys.argv[1]
burning, burnt = os.pipe()

def burn():
    while time.process_time() < 0.2:
        pass
    os.write(burnt, b"x")
    if kind == "behind":
        time.sleep(30)
    os._exit(0)

started = []
for _ in range(3):
    started.append(os.fork())
    if started[-1] == 0:
        if kind == "behind":
            threading.Thread(target=burn).start()
            ctypes.CDLL(None).pthread_exit(None)
        burn()
    os.read(burning, 1)
    if kind == "reaped":
        os.wait()
time.sleep(0.2)
if kind == "behind":
    for child in started:
        os.kill(child, signal.SIGKILL)
print("burnt")
"""

# Twenty megabytes, in files small enough each.
FILL = """
import sys
for number in range(20):
    with open(f"{sys.argv[1]}/fill-{number}", "wb") as file:
        file.write(b"x" * 2**20)
print("written 20")
"""

WRITE_ONE = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("large", "wb", buffering=0) as file:
    for _ in range(4):
        file.write(b"x" * 2**20)
print("written 4")
"""

# Leaves its parent, session and group; keeps standard output open or not.
ESCAPE = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if sys.argv[2] == "closed":
            os.close(0), os.close(1), os.close(2)
        os.execvp("sleep", [sys.argv[1], "20"])
    os._exit(0)
os.wait()
print("escaped")
"""

# Kills whatever on the machine has the marker in its environment.
KILL = """
import os, signal, sys
for entry in filter(str.isdigit, os.listdir("/proc")):
    try:
        environment = open(f"/proc/{entry}/environ", "rb").read()
    except OSError:
        continue
    if f"VICTIM={sys.argv[1]}".encode() in environment:
        os.kill(int(entry), signal.SIGKILL)
        print("killed")
"""

# Outside the attack's own; with no handler for SIGINT, unlike Python and the shells.
PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
subprocess.run(sys.argv[1:])
"""

SIGNAL_THE_PARENT = """
import os, sys, time
os.kill(os.getppid(), int(sys.argv[1]))
time.sleep(0.2)
print("sent")
"""

# A shell that has no CPU time left is killed by the kernel once it takes some: to reap what has ended.
END_THE_PARENT = """
import os, resource, time
resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))
while True:
    if (child := os.fork()) == 0:
        os._exit(os.fork() == 0)  # both are the shell's to reap, one as an orphan
    os.waitpid(child, 0)
"""

READ_THE_LOG = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.klogctl(3, ctypes.create_string_buffer(4096), 4096) < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("read")
"""

SOCKETS = """
import socket
for family in range(1, 46):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
        except OSError:
            continue
        print(family)
"""

# For the inside only: everything that can be signalled.
KILL_EVERYTHING = """
import os, signal
for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    for target in (-1, 1, os.getppid()):
        try:
            os.kill(target, number)
        except OSError as error:
            print(error.strerror)
print("survived")
"""

RUST_INCLUDE = 'const STOLEN: &str = include_str!("{path}");\nfn main() {{ println!("{{}}", STOLEN); }}\n'
RUST_HELLO = 'fn main() { println!("hello"); }\n'
C_INCLUDE = '#include <stdio.h>\nint main(void) {{ puts(\n#include "{path}"\n); return 0; }}\n'
C_EMBED = """__asm__(".section .rodata\\nstolen: .incbin \\"{path}\\"\\n.byte 0\\n.text\\n");
int main(void) {{ return 0; }}
"""
C_HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'

RUST_ENDLESS = """#![allow(long_running_const_eval)]
const fn forever() -> u64 { let mut n = 0u64; loop { n = n.wrapping_add(1); if n == u64::MAX { return n; } } }
const N: u64 = forever();
fn main() { println!("{}", N); }
"""


def rust_endless(version: tuple[int, ...]) -> str:
    """A constant whose evaluation takes for ever.

    Before 1.72 one constant may take a million steps and no more; there it is thousands of constants.
    """
    if version >= (1, 72):
        return RUST_ENDLESS
    constants = "".join(f"const C{n}: u64 = long({n});\n" for n in range(3000))
    loop = "let mut n = s; let mut i = 0; while i < 150000 { n ^= i; i += 1; } n"
    return f"#![allow(warnings)]\nconst fn long(s: u64) -> u64 {{ {loop} }}\n{constants}fn main() {{}}\n"


# Includes itself twice, sixty times over.
C_ENDLESS = """#if __INCLUDE_LEVEL__ < 60
#include __FILE__
#include __FILE__
#endif
#if __INCLUDE_LEVEL__ == 0
int main(void) { return 0; }
#endif
"""
