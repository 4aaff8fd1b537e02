"""Figures of a run on disk, a row of JSON per line: `metrics.jsonl`, `diagnostics.jsonl`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from maxrl.errors import InputError
from maxrl.evaluation.files import atomic_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file; a last line that a killed process left half written is dropped.

    Raises:
        InputError: another line is none of JSON.
    """
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise InputError(
                    f"{path}, line {number} is damaged ({error}); mend or remove the file"
                ) from error
    return rows


def _row(line: str) -> Any:
    try:
        return orjson.loads(line)  # a quarter of the time
    except orjson.JSONDecodeError:  # NaN is none of its JSON, but what a diverged run logs
        return json.loads(line)


def keep_rows(path: Path, step: int) -> None:
    """Write the file anew with its rows up to a step, as a run does that goes on from there; empty where there was none."""
    kept = [row for row in read_metrics(path) if row["step"] <= step]
    with atomic_text(path) as sink:
        sink.writelines(json.dumps(row) + "\n" for row in kept)


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the end of the file."""
    with path.open("a", encoding="utf-8") as sink:
        sink.writelines(json.dumps(row) + "\n" for row in rows)
