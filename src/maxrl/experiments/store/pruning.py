"""Checkpoints of runs that are done, removed by policy: nothing goes on from them any more."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maxrl.errors import unknown_name
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.checkpoints import KEPT, WEIGHTS, checkpoints, last_checkpoint


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed of a run, or would be."""

    run: StoredRun
    removed: tuple[Path, ...]
    """Checkpoints."""
    size: int
    """Their bytes."""
    reason: str | None = None
    """Why nothing of it may be removed; None where it may."""


def prune_runs(runs: Sequence[StoredRun], keep: str, *, dry_run: bool = False) -> list[Pruned]:
    """Prune the runs that are done. One that is not needs its checkpoints to go on, and is left as it is.

    Raises:
        InputError: `keep` is no policy.
    """
    _check(keep)
    found: list[Pruned] = []
    for run in runs:
        state = run.state
        # A finished run that is being made longer is claimed before its first step: its run.json goes first.
        if state != "done":
            found.append(Pruned(run=run, removed=(), size=0, reason=f"{state}: it can go on from them"))
            continue
        going = _to_remove(run.folder, keep)
        if going == checkpoints(run.folder) and going and not _has_model(run.folder):
            found.append(Pruned(run=run, removed=(), size=0, reason="it has no model beside them"))
            continue
        size = sum(folder_size(path) for path in going)
        found.append(Pruned(run=run, removed=tuple(going), size=size))
        if not dry_run:
            _remove(run.folder, going)
    return found


def prune_checkpoints(folder: Path, keep: str) -> None:
    """Remove the checkpoints of one run that is done, except those that the policy keeps: `all`, the `last`, or `none`."""
    _check(keep)
    _remove(folder, _to_remove(folder, keep))


def folder_size(folder: Path) -> int:
    """Bytes of the files at and below a folder."""
    return sum(os.lstat(Path(where) / name).st_size for where, _, names in os.walk(folder) for name in names)


def size_text(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the last unit is the largest")


def _check(keep: str) -> None:
    if keep not in KEPT:
        raise unknown_name("policy of checkpoints", keep, KEPT)


def _has_model(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS)


def _to_remove(folder: Path, keep: str) -> list[Path]:
    if keep == "all":
        return []
    last = last_checkpoint(folder) if keep == "last" else None
    return [path for path in checkpoints(folder) if path != last]


_DOOMED = "removing-"


def _remove(folder: Path, paths: Sequence[Path]) -> None:
    """Remove checkpoints of a run, and what an earlier call left that was killed."""
    for leftover in folder.glob(f"{_DOOMED}checkpoint-*"):
        _finish_removing(leftover)
    for path in paths:
        # Out of the way first: a checkpoint that is half removed must not look like a whole one.
        doomed = path.with_name(f"{_DOOMED}{path.name}")
        os.replace(path, doomed)
        _finish_removing(doomed)


def _finish_removing(doomed: Path) -> None:
    if (doomed / "evals").is_dir():  # what `maxrl eval` measured of it stays
        kept = doomed.parent / "evals" / doomed.name.removeprefix(_DOOMED)
        kept.parent.mkdir(exist_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        os.replace(doomed / "evals", kept)
    shutil.rmtree(doomed)
