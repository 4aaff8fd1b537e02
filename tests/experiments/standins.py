"""What small processes do that stand in for workers; apart, because they import it."""

import signal
import time
from pathlib import Path


def make_run(folder: Path) -> None:
    """A run that is made at once."""
    folder.mkdir()
    (folder / "run.json").write_text("{}")


def linger(folder: Path) -> None:
    """A run that goes on until it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # dies of it without a page about it
    folder.mkdir()
    (folder / "ready").touch()
    time.sleep(60)
