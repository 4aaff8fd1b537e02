"""The users that attacks are run as: root where the tests are root's, and an ordinary user in any case.

Called by root, the ordinary user's sandbox is made in a process of its own (`serve` below), on a copy of the few modules
that it takes: neither this folder nor the virtual environment need be readable to everyone.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
SYSTEM_PATH = "/usr/bin:/bin"
SECRET_NAME, SECRET = "MAXRL_TEST_SECRET", "xyzzy-7241"
ENVIRONMENT = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", SECRET_NAME: SECRET}

_SERVE = """
import pickle, sys
from maxrl.tasks.sandbox import make_sandbox
while True:
    try:
        mode, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    pickle.dump(make_sandbox(mode).run(**arguments), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


def missing(what: str, package: str) -> NoReturn:
    """Skips; fails where every tool must be there."""
    lacking(f"{what} is missing; install the package {package}")


def need_root() -> None:
    """Skips unless the tests are run by root; fails where nothing may be left out."""
    if os.geteuid() != 0:
        lacking(
            "the half of the attacks that root makes needs root: run the tests as root too (sudo make test)"
        )


def lacking(reason: str) -> NoReturn:
    """Skips; fails where nothing may be left out."""
    if os.environ.get("CI") or os.environ.get("MAXRL_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def tool(name: str, package: str) -> str:
    """A program of the system's."""
    path = shutil.which(name, path=SYSTEM_PATH)
    return path if path else missing(name, package)


@dataclass(frozen=True)
class Compiler:
    """A Rust compiler, and what of it must be made readable."""

    path: str
    readable: tuple[str, ...]
    version: tuple[int, ...]


@cache
def _compiler(path: str) -> Compiler:
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    root = subprocess.run(
        [path, "--print", "sysroot"], capture_output=True, text=True, check=True
    ).stdout.strip()
    numbers = tuple(map(int, version.split("-")[0].split(".")))
    if root == "/usr":
        return Compiler(path, (), numbers)
    return Compiler(f"{root}/bin/rustc", (root,), numbers)


class User:
    """Someone who runs programs: outside, and in a sandbox."""

    def __init__(self, name: str, prefix: Sequence[str] = (), copy: Path | None = None) -> None:
        self.name = name
        self.prefix = list(prefix)
        self.python = tool("python3", "python3") if prefix else sys.executable
        self.path = copy if copy else Path(__file__).parents[2] / "src"
        self._server = self.start(["-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A Python process of this user's that can import the sandbox."""
        environment = ENVIRONMENT | {"PYTHONPATH": str(self.path)}
        return subprocess.Popen([*self.prefix, self.python, "-B", *arguments], env=environment, **options)

    def inside(self, command: Sequence[str], *, mode: str = "bubblewrap", **arguments: Any) -> Any:
        """The outcome of a program in a sandbox of this user's."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        pickle.dump((mode, {"command": command, **arguments}), self._server.stdin)
        self._server.stdin.flush()
        return pickle.load(self._server.stdout)

    def outside(
        self, command: Sequence[str], *, folder: Path, timeout: float = 20, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """What the same program does without a sandbox."""
        return subprocess.run(
            [*self.prefix, *command],
            cwd=folder,
            env=ENVIRONMENT,
            timeout=timeout,
            input=stdin,
            capture_output=True,
            check=False,
        )

    def rust_compilers(self) -> list[Compiler]:
        """Those that this user can run: Debian's, and for whom may read it the caller's own."""
        paths = [shutil.which("rustc", path=SYSTEM_PATH), None if self.prefix else shutil.which("rustc")]
        found = [_compiler(path) for path in dict.fromkeys(paths) if path]
        return found if found else missing("rustc", "rustc")

    def close(self) -> None:
        """Ends the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()


def public_folder() -> Path:
    """A folder that every user can read and write; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="maxrl-test-"))
    folder.chmod(0o777)
    return folder


def copy_sandbox(folder: Path) -> None:
    """The sandbox's modules alone, in packages that import nothing."""
    source = Path(__file__).parents[2] / "src" / "maxrl"
    (folder / "maxrl" / "tasks").mkdir(parents=True)
    for package in ("maxrl", "maxrl/tasks"):
        (folder / package / "__init__.py").touch()
    shutil.copy(source / "errors.py", folder / "maxrl")
    shutil.copytree(source / "tasks" / "sandbox", folder / "maxrl" / "tasks" / "sandbox")


def listed(marker: str, *, first: bool = False) -> list[int]:
    """Processes of this machine with the marker among their arguments, or as the first of them."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if marker.encode() in (words[:1] if first else words) and state != b"Z":
            found.append(int(entry.name))
    return found


def sandbox_command(arguments: Mapping[str, Any]) -> str:
    """A Python program that runs one command in a sandbox and prints the outcome."""
    return f"from maxrl.tasks.sandbox import *; print(make_sandbox().run(**{dict(arguments)!r}))"
