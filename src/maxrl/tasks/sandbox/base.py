"""What the modes of the sandbox have in common: what they are asked, what they refuse, and what they promise."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from maxrl.tasks.sandbox.supervisor import Ready, supervise
from maxrl.tasks.sandbox.terms import (
    Limits,
    Outcome,
    SandboxError,
    check_arguments,
    check_room,
    checked_readable,
)


class Sandbox(ABC):
    """Runs programs, one per call; calls may come from several threads at once.

    Made by `maxrl.tasks.sandbox.make_sandbox`.
    """

    name: ClassVar[str]
    """The mode."""

    def run(
        self,
        command: Sequence[str],
        *,
        files: Mapping[str, bytes] = {},
        stdin: bytes = b"",
        limits: Limits = Limits(),  # noqa: B008 — frozen
        readable: Sequence[str] = (),
        collect: Sequence[str] = (),
        environment: Mapping[str, str] = {},
    ) -> Outcome:
        """Runs `command` in a fresh working folder, and returns when none of its processes is left.

        Args:
            command: the program, looked up in /usr/bin and /bin unless it is a path, and its arguments.
            files: put into the working folder before, under relative names; readable and executable.
            stdin: what the program finds on its standard input.
            limits: what it may use.
            readable: absolute paths of this machine that it may read (a compiler's folder), at the same place. This
                package, which holds problems with their answers, is hidden in them. A socket or a named pipe that lies
                there can be connected to and written to: name folders without.
            collect: files of the working folder to hand back, by relative name. One that is missing, no regular file, a
                link, reached through a link, or larger than `file_mb`, is left out.
            environment: its environment variables, beside PATH, HOME, TMPDIR and LANG.

        Raises:
            InputError: a command, name, path or variable that cannot be used, or files beyond `disk_mb`.
            SandboxError: the sandbox itself failed. Never for anything the program does.
        """
        check_arguments(command, files, collect, environment)
        check_room(files, limits)
        readable = [checked_readable(path) for path in readable]
        try:
            with self._begun(command, files, limits, readable, environment) as ready:
                return supervise(ready, stdin, limits, collect)
        except OSError as error:  # this process may open no more files, the disk is full, …
            raise SandboxError(f"the sandbox failed: {error}") from error

    @abstractmethod
    def _begun(
        self,
        command: Sequence[str],
        files: Mapping[str, bytes],
        limits: Limits,
        readable: Sequence[str],
        environment: Mapping[str, str],
    ) -> AbstractContextManager[Ready]:
        """The program in its place, waiting for its go; nothing is left of it afterwards."""
