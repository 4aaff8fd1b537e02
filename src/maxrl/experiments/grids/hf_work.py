"""What a job on Hugging Face runs: one run on the job's own disk, mirrored into a bucket that outlives the job.

The bucket is mounted, but runs do not write to it directly: such a mount may refuse to append to a file, or keep what is
written in memory until the file is closed. Whole files, written once from start to end, are safe on every kind of mount.

    python -m maxrl.experiments.grids.hf_work      with MAXRL_RUN and MAXRL_MIRROR set
"""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console

from maxrl.errors import InputError
from maxrl.experiments.grids.work import make_run, run_from_environment
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.store.processes import PROCESS_FILE

MIRROR_VARIABLE = "MAXRL_MIRROR"
"""Environment variable that names the folder, on the mount, that a run is mirrored to and restored from."""

MIRROR_SECONDS = 60.0
"""Between two passes: a job that is killed loses its records of so long, and its training since the last checkpoint."""

# A checkpoint without its state is not resumed from, and a run without its record is not done: these come after the rest.
_LAST = {"trainer_state.json": 1, "run.json": 2}


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Go on from what the mirror has, make the run, mirror the rest; the job's exit status."""
    fields = run_from_environment(environment)
    if not environment.get(MIRROR_VARIABLE):
        raise InputError(f"{MIRROR_VARIABLE} is not set: the folder that the run is mirrored to")
    quiet_libraries()
    signal.signal(signal.SIGTERM, _as_interrupt)
    with Mirror(Path(fields["output_dir"]), Path(environment[MIRROR_VARIABLE]), seconds=MIRROR_SECONDS):
        try:
            make_run(fields, console=Console(highlight=False, soft_wrap=True))
        except (Interrupted, KeyboardInterrupt) as interrupted:
            print(f"stopped: {interrupted}", file=sys.stderr)
            return 1
    return 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # which finishes the step and saves


class Mirror:
    """Keeps a copy of a folder up to date while its block runs, and at its end; restores the folder from it first.

    Args:
        folder: the run's, on a disk of the job's own.
        target: on the mount. Files that `folder` no longer has (checkpoints, by the recipe's policy) go there, too.
        seconds: between two passes.
    """

    def __init__(self, folder: Path, target: Path, *, seconds: float) -> None:
        self.folder, self.target, self.seconds = folder, target, seconds
        self._copied: dict[Path, tuple[int, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        if self.target.is_dir():
            shutil.copytree(self.target, self.folder, dirs_exist_ok=True)
            self._copied = self._state()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.copy()

    def copy(self) -> None:
        """One pass: what is new or has changed, then what is gone.

        Raises:
            OSError: the mount refuses.
        """
        now = self._state()
        for path in sorted(now, key=lambda path: (_LAST.get(path.name, 0), -len(path.parts), path)):
            if self._copied.get(path) == now[path]:
                continue
            (self.target / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(self.folder / path, self.target / path)
            except FileNotFoundError:  # pruned meanwhile; what was copied of it goes with the next pass
                self._leave_no_empty_folder(path)
                continue
            self._copied[path] = now[path]
        for path in [path for path in self._copied if path not in now]:
            (self.target / path).unlink(missing_ok=True)
            del self._copied[path]
            self._leave_no_empty_folder(path)

    def _leave_no_empty_folder(self, path: Path) -> None:
        folder = (self.target / path).parent
        if not any(folder.iterdir()):
            folder.rmdir()

    def _state(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for path in self.folder.rglob("*"):
            try:
                if path.is_file() and path.name != PROCESS_FILE and path.suffix != ".partial":
                    stat = path.stat()
                    found[path.relative_to(self.folder)] = (stat.st_size, stat.st_mtime_ns)
            except FileNotFoundError:
                continue
        return found

    def _keep(self) -> None:
        while not self._over.wait(self.seconds):
            try:
                self.copy()
            except (
                OSError
            ) as error:  # a mount over a network: the next pass tries again, and the last one must succeed
                print(f"the mirror is behind: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
