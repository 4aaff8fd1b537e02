"""Folders of runs, read back: states, what they hold, where they are found."""

import json
from pathlib import Path

import pytest
from tests.experiments.made_runs import make_run

from maxrl.errors import InputError
from maxrl.experiments.store import StoredRun, find_runs, is_run, varying_fields


def test_states(tmp_path: Path) -> None:
    for state in ("done", "running", "failed", "stopped"):
        assert StoredRun(make_run(tmp_path / state, state)).state == state
    failed = StoredRun(tmp_path / "failed")
    assert failed.error == "RuntimeError: the loss is not finite"
    assert StoredRun(tmp_path / "done").error is None
    (tmp_path / "running" / "error.txt").write_text("earlier")
    assert StoredRun(tmp_path / "running").state == "running"  # made again


def test_what_a_run_holds(tmp_path: Path) -> None:
    run = StoredRun(make_run(tmp_path / "one", steps=6, seed=3, advantage_estimator="grpo"))
    assert (run.name, run.step, run.max_steps, run.seed, run.estimator) == ("one", 6, 10, 3, "grpo")
    assert run.summary["rollouts"] == 192
    assert run.before is not None
    assert run.evaluation is not None
    assert run.evaluation.at(1).estimate == 0.5
    assert (run.evals, run.latest_samples) == ([], None)
    (run.folder / "evals.jsonl").write_text('{"step": 2}\n')
    (run.folder / "latest_samples.json").write_text('{"step": 6}')
    again = StoredRun(run.folder)
    assert (again.evals, again.latest_samples) == ([{"step": 2}], {"step": 6})
    assert StoredRun(make_run(tmp_path / "two", max_steps=-1)).max_steps is None


def test_a_run_that_has_hardly_begun(tmp_path: Path) -> None:
    (tmp_path / "process.json").write_text("{}")
    run = StoredRun(tmp_path)
    assert (run.config, run.environment, run.summary, run.metrics) == ({}, {}, {}, [])
    assert (run.state, run.step, run.before, run.evaluation) == ("stopped", 0, None, None)


@pytest.mark.parametrize(
    ("name", "text", "attribute", "told"),
    [
        ("config.yaml", "a: [", "config", "config.yaml is damaged"),
        ("config.yaml", "just text", "config", "config.yaml is damaged: it is no mapping"),
        ("config.yaml", "", "config", "config.yaml is damaged: it is no mapping"),
        ("environment.json", '{"a', "environment", r"environment.json is damaged .*; remove it"),
        ("environment.json", "[]", "environment", r"environment.json is damaged \(no JSON object\)"),
        ("run.json", "{", "summary", "run.json is damaged"),
        ("run.json", "[]", "summary", r"run.json is damaged \(no JSON object\)"),
        ("latest_samples.json", "3", "latest_samples", r"latest_samples.json is damaged .*; remove it"),
        ("eval.json", "{", "evaluation", r"eval.json is damaged .*`maxrl eval \S+one --output_dir \S+one`"),
        (
            "eval.json",
            "{}",
            "evaluation",
            r"eval.json is no evaluation of maxrl .*`maxrl eval \S+one --output_dir",
        ),
        ("eval_before.json", "{", "before", r"eval_before.json is damaged .*; remove it"),
        ("metrics.jsonl", "[1]\n", "metrics", r"metrics.jsonl, line 1 is damaged"),
        (
            "metrics.jsonl",
            '{"step": 1}\n',
            "metrics",
            r"metrics.jsonl, line 1 is damaged \(it has no elapsed\)",
        ),
        ("evals.jsonl", "{}\n", "evals", r"evals.jsonl, line 1 is damaged \(it has no step\)"),
        ("metrics.jsonl", "{\n{}\n", "metrics", "metrics.jsonl, line 1 is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, attribute: str, told: str) -> None:
    folder = make_run(tmp_path / "one")
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=told):
        getattr(StoredRun(folder), attribute)


def test_runs_are_found_below_folders_once_and_stages_for_their_whole(tmp_path: Path) -> None:
    make_run(tmp_path / "b" / "two")
    make_run(tmp_path / "a")
    for stage in ("stage-2", "stage-10", "stage-1"):
        make_run(tmp_path / "staged" / stage)
    (tmp_path / "staged" / "run.json").write_text("{}")
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "eval.json").write_text("{}")  # a comparison's evaluation of the warm start
    make_run(tmp_path / ".hidden" / "one")
    assert not is_run(tmp_path / "before")
    found = find_runs([tmp_path / "b", tmp_path, tmp_path / "a" / ".." / "a"])
    assert [str(run.folder.relative_to(tmp_path)) for run in found] == [
        "b/two",
        "a",
        "staged/stage-1",
        "staged/stage-2",
        "staged/stage-10",
    ]
    with pytest.raises(InputError, match="nowhere is no folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="before holds no run"):
        find_runs([tmp_path / "before"])


def test_fields_in_which_runs_differ(tmp_path: Path) -> None:
    runs = [
        StoredRun(make_run(tmp_path / "a", seed=0)),
        StoredRun(make_run(tmp_path / "b", seed=1, beta=0.1)),
        StoredRun(make_run(tmp_path / "c", seed=0)),
    ]
    assert varying_fields(runs) == {"seed": [0, 1, 0], "beta": [None, 0.1, None]}
    assert varying_fields(runs[::2]) == {}
    assert json.dumps(varying_fields(runs, without=("seed", "output_dir"))) == '{"beta": [null, 0.1, null]}'
