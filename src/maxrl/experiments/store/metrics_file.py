"""Figures of a run on disk, a row of JSON per line: `metrics.jsonl`, `diagnostics.jsonl`."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from maxrl.errors import InputError
from maxrl.evaluation.files import atomic_text


def read_metrics(path: Path, *, needs: Collection[str] = ()) -> list[dict[str, Any]]:
    """The rows of such a file; a last line that a killed process left half written is dropped.

    Args:
        path: of the file.
        needs: what every row has.

    Raises:
        InputError: another line is no object of JSON, or lacks what it needs.
    """
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = _row(line)
        except ValueError as error:
            if number < len(lines):
                raise _damaged(path, number, str(error)) from error
            continue
        if not isinstance(row, dict):
            raise _damaged(path, number, "no JSON object")
        if missing := [name for name in needs if name not in row]:
            raise _damaged(path, number, f"it has no {missing[0]}")
        rows.append(row)
    return rows


def _damaged(path: Path, line: int, reason: str) -> InputError:
    return InputError(f"{path}, line {line} is damaged ({reason}); mend or remove the file")


def _row(line: bytes) -> Any:
    try:
        return orjson.loads(line)  # a quarter of the time
    except orjson.JSONDecodeError:  # NaN is none of its JSON, but what a diverged run logs
        return json.loads(line)


def keep_rows(path: Path, step: int) -> None:
    """Write the file anew with its rows up to a step, as a run does that goes on from there; empty where there was none."""
    kept = [row for row in read_metrics(path, needs=["step"]) if row["step"] <= step]
    with atomic_text(path) as sink:
        sink.writelines(json.dumps(row) + "\n" for row in kept)


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the end of the file."""
    with path.open("a", encoding="utf-8") as sink:
        sink.writelines(json.dumps(row) + "\n" for row in rows)
