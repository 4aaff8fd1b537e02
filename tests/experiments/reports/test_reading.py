"""A run's files as small arrays: columns, classes of groups, damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.experiments.reports.synthetic import Maker

from maxrl.errors import InputError
from maxrl.experiments.reports.reading import CLASSES, common_folder, read_runs, short_names
from maxrl.experiments.store import StoredRun


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Maker(steps=6, problems=10, samples=8).run(tmp_path / "runs" / "one")


def test_columns_are_those_of_the_rows(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[2]["success_rate"] = float("nan")
    rows[3]["success_rate"] = None
    rows[4]["success_rate"] = "none"
    del rows[5]["success_rate"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs([StoredRun(folder)])
    assert run.columns["step"].tolist() == [1, 2, 3, 4, 5, 6]
    rates = run.columns["success_rate"]
    assert np.isnan(rates[2:]).all()
    assert rates[:2].tolist() == [rows[0]["success_rate"], rows[1]["success_rate"]]
    assert run.last("rollouts") == rows[-1]["rollouts"]
    assert run.last("no such column") == 0


def test_rows_of_any_form_are_read_alike(folder: Path) -> None:
    (plain,) = read_runs([StoredRun(folder)])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["loss"] = float("nan")
    for form in (
        "".join(json.dumps(dict(reversed(row.items()))) + "\n" for row in rows),
        "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows),
        "".join(json.dumps({"step": row["step"], "note": "success_rate", **row}) + "\n" for row in rows),
        "\n".join(json.dumps(row) for row in rows),
    ):
        (folder / "metrics.jsonl").write_text(form)
        (read,) = read_runs([StoredRun(folder)])
        assert list(read.columns) == list(plain.columns)
        assert all(np.array_equal(read.columns[name], values) for name, values in plain.columns.items())


@pytest.mark.parametrize("style", ["as runs write it", "in another order"])
def test_groups_are_classed_by_their_share_of_successes(folder: Path, style: str) -> None:
    # N = 10: K = 0 none; 1, 2 up to 20 %; 3, 4; 5, 6; 7, 8; 9 is 80 % and more; 10 all. Then N = 4: 1/4, 2/4, 3/4.
    histograms = [[7, 1, 1, 0, 1, 0, 2, 0, 3, 4, 5], [0, 1, 1, 1, 0]]
    rows = [
        {"step": step, "groups/dead": 0.1, "k_histogram": histogram, "pass_rates": {"a": 0.5}}
        for step, histogram in enumerate(histograms, 1)
    ]
    if style != "as runs write it":
        rows = [dict(reversed(row.items())) for row in rows]
    (folder / "diagnostics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs([StoredRun(folder)])
    assert run.class_steps_T.tolist() == [1, 2]
    assert run.classes_TC.tolist() == [[7, 2, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 0, 0]]
    assert len(CLASSES) == 7


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval.json", "{"),
        ("eval.json", '{"problems": 3}'),
        ("eval_before.json", "[]"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n'),
        ("metrics.jsonl", '{"step": 1}\n5\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
        ("diagnostics.jsonl", '{"step": 1, "k_histogram": ["x"]}\n'),
        ("diagnostics.jsonl", '{"step": 1}\nnothing\n{"step": 2}\n'),
        ("environment.json", "{"),
        ("config.yaml", "a: [\n"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_runs([StoredRun(folder)])


def test_a_half_written_last_row_is_dropped(folder: Path) -> None:
    for name in ("metrics.jsonl", "diagnostics.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: len(text) - 30])
    (run,) = read_runs([StoredRun(folder)])
    assert run.columns["step"].tolist() == [1, 2, 3, 4, 5]
    assert run.class_steps_T.tolist() == [1, 2, 3, 4, 5]


def test_the_warm_start_of_a_comparison_serves_all_its_runs(folder: Path) -> None:
    (folder.parent / "before").mkdir()
    shutil.move(folder / "eval_before.json", folder.parent / "before" / "eval.json")
    (run,) = read_runs([StoredRun(folder)])
    assert run.before is not None
    assert run.before.ids == run.after.ids


def test_problems_are_the_same_only_with_the_same_ids_task_and_sampling(tmp_path: Path) -> None:
    def problems(name: str, **fields: object) -> object:
        maker = Maker(steps=2, problems=5, samples=4)
        (run,) = read_runs([StoredRun(maker.run(tmp_path / name, **fields))])
        return run.after.same_problems

    same = problems("a")
    assert problems("b", eval_samples=8) == same  # more samples of the same problems
    assert problems("c", num_elements=7) != same  # ids do not name the task
    assert problems("d", eval_seed=1) != same


def test_names_are_paths_below_what_runs_have_in_common(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "one", tmp_path / "a" / "two", tmp_path / "b" / "stage-1"]
    assert short_names(folders) == ["a/one", "a/two", "b/stage-1"]
    assert short_names(folders[:2]) == ["one", "two"]
    assert short_names(folders[:1]) == ["one"]
    assert common_folder(folders) == tmp_path.resolve()
