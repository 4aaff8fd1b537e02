"""Rows on disk: added, read back, cut where a run goes on."""

import math
from pathlib import Path

import pytest

from maxrl.errors import InputError
from maxrl.experiments.store.metrics_file import append_rows, keep_rows, read_metrics

ROWS = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "note": "a\nb ü"}, {"step": 2, "eval": 1.0}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    append_rows(path, ROWS[:1])
    append_rows(path, ROWS[1:])
    return path


def test_rows_are_added_at_the_end_and_read_back(file: Path) -> None:
    assert read_metrics(file) == ROWS
    assert len(file.read_text().splitlines()) == 3


def test_no_file_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_line_left_half_written_is_dropped_and_does_not_spoil_the_next(file: Path) -> None:
    with file.open("a") as sink:
        sink.write('{"step": 3, "lo')
    assert read_metrics(file) == ROWS
    keep_rows(file, 3)
    append_rows(file, [{"step": 4}])
    assert read_metrics(file) == [*ROWS, {"step": 4}]


def test_a_damaged_line_in_between_is_named_and_nothing_is_thrown_away(file: Path) -> None:
    text = file.read_text().replace('"loss": 0.25', '"loss": 0.2x')
    file.write_text(text)
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is damaged"):
        keep_rows(file, 9)
    assert file.read_text() == text


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize(("line", "why"), [("[1]", "no JSON object"), ("{}", "it has no step")])
def test_a_row_that_is_none_is_named_wherever_it_is(file: Path, where: str, line: str, why: str) -> None:
    text = file.read_text()
    file.write_text(f"{line}\n{text}" if where == "first" else f"{text}{line}\n")
    number = 1 if where == "first" else 4
    with pytest.raises(InputError, match=rf"metrics.jsonl, line {number} is damaged \({why}\)"):
        read_metrics(file, needs=["step"])


def test_bytes_that_are_no_text_are_a_damaged_line(file: Path) -> None:
    file.write_bytes(b'{"step": "\xff"}\n' + file.read_bytes())
    with pytest.raises(InputError, match=r"line 1 is damaged"):
        read_metrics(file)


@pytest.mark.parametrize(("step", "kept"), [(-1, 0), (0, 0), (1, 1), (2, 3), (9, 3)])
def test_rows_up_to_a_step_are_kept(file: Path, step: int, kept: int) -> None:
    keep_rows(file, step)
    assert read_metrics(file) == ROWS[:kept]


def test_a_file_is_begun_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    keep_rows(path, 0)
    assert path.read_text() == ""


def test_figures_that_json_does_not_know_are_read_as_they_were_written(file: Path) -> None:
    append_rows(file, [{"step": 3, "loss": float("nan"), "grad_norm": float("inf"), "tokens": 2**70}])
    last = read_metrics(file)[-1]
    assert math.isnan(last["loss"])
    assert (last["grad_norm"], last["tokens"]) == (math.inf, 2**70)
