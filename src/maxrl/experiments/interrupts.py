"""Ctrl-C while training: the first one lets the step finish, the second one stops at once."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from maxrl.errors import MaxRLError


class Interrupted(MaxRLError):
    """Training was stopped by Ctrl-C; a checkpoint was saved."""


class InterruptWatch:
    """Notes the first Ctrl-C in `pressed`, for the loop to finish its step, save and stop; a second one stops at once.

    Use as a context manager around the loop. Processes forked inside it, as those that load data, leave Ctrl-C to this one:
    the step that is to be finished needs their batches.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._process = os.getpid()
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> Self:
        self._process = os.getpid()
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        # None stands for a handler that was not installed from Python, and cannot be from there.
        signal.signal(signal.SIGINT, signal.SIG_DFL if self._previous is None else self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        sys.stderr.write("\nfinishing this step, then saving a checkpoint; Ctrl-C again stops at once\n")
