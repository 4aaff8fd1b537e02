"""`maxrl runs`: what is on disk, told as it is."""

import json
from pathlib import Path

import pytest
from tests.experiments.made_runs import make_run

from maxrl.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs in every state, below runs/."""
    runs = tmp_path / "runs"
    make_run(runs / "a-done", rate=0.5, checkpoints=(4, 10), num_generations=16, keep="x")
    make_run(
        runs / "b-done", rate=0.4, checkpoints=(10,), advantage_estimator="grpo", num_generations=16, seed=1
    )
    make_run(runs / "grid" / "failed", "failed", steps=3, checkpoints=(2,), num_generations=64)
    make_run(runs / "grid" / "stopped", "stopped", steps=0, num_generations=64)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return runs


def says(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["runs", *words]) == status
    streams = capsys.readouterr()
    if status:
        assert len(streams.err.strip().splitlines()) == 1
        return streams.err
    return streams.out


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    return [row["name"] for row in json.loads(says(capsys, "list", "--json", *words))]


@pytest.mark.usefixtures("folder")
def test_a_list_has_a_line_for_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    out = says(capsys, "list")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["a-done"][1:9] == ["maxrl", "0", "done", "10/10", "0.500", "0.500", "0.750", "@4"]
    assert rows["b-done"][1:9] == ["grpo", "1", "done", "10/10", "0.400", "0.400", "0.650", "@4"]
    assert rows["failed"][1:7] == ["maxrl", "0", "failed", "3/10", "0.150", "—"]
    assert rows["stopped"][1:8] == ["maxrl", "0", "stopped", "0/10", "—", "—", "—"]
    assert "all: task subset_sum, model tiny" in out
    assert "failed: RuntimeError: the loss is not finite" in out


@pytest.mark.usefixtures("folder")
def test_lists_are_filtered_and_sorted(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == ["a-done", "b-done", "failed", "stopped"]
    assert listed(capsys, "--state", "failed") == ["failed"]
    assert listed(capsys, "runs/grid") == ["failed", "stopped"]
    assert listed(capsys, "--where", "num_generations=16", "advantage_estimator=grpo") == ["b-done"]
    assert listed(capsys, "--where", "num_generations=16", "--where", "seed=0") == ["a-done"]
    assert listed(capsys, "--sort", "step") == ["a-done", "b-done", "failed", "stopped"]
    assert listed(capsys, "--sort", "name", "--where", "num_generations=64") == ["failed", "stopped"]
    assert listed(capsys, "--sort", "pass@1", "--state", "done") == ["a-done", "b-done"]
    assert "none of 4 runs" in says(capsys, "list", "--state", "running")


def test_a_row_for_programs_has_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(says(capsys, "list", str(folder / "a-done"), "--json"))
    assert row["state"] == "done"
    assert (row["step"], row["max_steps"], row["training_seconds"]) == (10, 10, 5.0)
    assert (row["pass@1"], row["largest_k"], row["pass@largest_k"]) == (0.5, 4, 0.75)
    assert row["changed"] == max(
        path.stat().st_mtime for path in (folder / "a-done").iterdir() if path.is_file()
    )


def test_runs_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("x", "y"):
        make_run(tmp_path / part / "maxrl-seed0")
    out = says(capsys, "list", str(tmp_path))
    assert "x/maxrl-seed0" in out
    assert "y/maxrl-seed0" in out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "just text"),
        ("config.yaml", "seed: ["),
        ("run.json", '{"a'),
        ("metrics.jsonl", "[1]\n"),
        ("metrics.jsonl", "{}\n"),
    ],
)
def test_a_damaged_run_is_a_row_with_its_error_beside_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (folder / "b-done" / name).write_text(text)
    rows = {row["name"]: row for row in json.loads(says(capsys, "list", "--json"))}
    assert list(rows) == ["a-done", "b-done", "failed", "stopped"]
    assert [row["damaged"] for row in rows.values()] == [False, True, False, False]
    assert f"b-done/{name}" in rows["b-done"]["error"]
    assert rows["b-done"]["state"] == "done"
    assert rows["b-done"]["model"] == (None if name == "config.yaml" else "tiny")
    out = says(capsys, "list")
    assert f"b-done: runs/b-done/{name}" in out
    assert "a-done" in out
    for order in ("name", "estimator", "seed", "step", "pass@1", "pass@k", "time", "age"):
        assert sorted(listed(capsys, "--sort", order)) == list(rows)
    # Nobody knows whether it is such a one.
    asked = listed(capsys, "--where", "num_generations=64")
    assert asked == (["b-done"] if name == "config.yaml" else []) + ["failed", "stopped"]
    assert f"b-done/{name}" in says(capsys, "show", "runs/b-done", status=2)


@pytest.mark.parametrize(
    ("name", "text"), [("environment.json", '{"a'), ("evals.jsonl", "{}\n"), ("eval.json", "{}")]
)
def test_a_damaged_file_that_a_list_needs_not_is_named_by_show(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (folder / "b-done" / name).write_text(text)
    assert f"b-done/{name}" in says(capsys, "show", "runs/b-done", status=2)
    (folder / "a-done" / "evals.jsonl").write_text('{"step": 5}\n')
    assert "step 5" in says(capsys, "show", "runs/a-done")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lst"], "unknown action of maxrl runs 'lst'; did you mean 'list'?"),
        (["list", "--state", "finished"], "unknown state of a run 'finished'"),
        (["list", "--sort", "pass"], "unknown order 'pass'; did you mean"),
        (["list", "--where", "num_generation=4"], "did you mean 'num_generations'?: no run here has it"),
        (["list", "--where", "seed"], "--where takes field=value, but got 'seed'"),
        (["list", "--stat"], "unrecognized arguments: --stat (`maxrl runs list --help` explains)"),
        (["list", "nowhere"], "nowhere is no folder"),
        (["show", "runs"], "runs holds 4 runs: name one of them, such as runs/a-done"),
        (["diff", "runs/a-done"], "the following arguments are required: b"),
        (["prune", "runs"], "the following arguments are required: --keep"),
        (["prune", "runs", "--keep", "all"], "invalid choice: 'all'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_errors_take_a_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in says(capsys, *words, status=2)


def test_without_runs_here_a_folder_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no folder runs/ here" in says(capsys, "list", status=2)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--help"]) == 0
    out = capsys.readouterr().out
    assert "maxrl runs list --where num_generations=64 --sort pass@k" in out
    assert "stopped (killed or interrupted; it can be resumed)" in out
    assert main(["runs"]) == 2


# --- one run -------------------------------------------------------------------------------------------------------


def test_show_says_everything_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a-done" / "evals.jsonl").write_text('{"step": 5, "greedy_accuracy": 0.25}\n')
    found = json.loads(says(capsys, "show", "runs/a-done", "--json"))
    assert found["settings"]["num_generations"] == 16
    assert found["settings"]["keep"] == "x"  # no field of ours: it has no default
    assert not {"advantage_estimator", "seed_"} & found["settings"].keys()  # maxrl is the default
    assert found["environment"]["code"] == "abc+changes"
    assert found["costs"] == {
        "steps": 10,
        "training_seconds": 5.0,
        "rollouts": 320,
        "completion_tokens": 1280,
    }
    assert found["before"]["pass_at_k"]["1"] == [0.25, 0.1, 0.9]
    assert found["after"]["greedy_accuracy"] == 1.0
    assert [(c["name"], c["complete"]) for c in found["checkpoints"]] == [
        ("checkpoint-4", True),
        ("checkpoint-10", True),
    ]
    assert found["checkpoints"][0]["bytes"] == 1024
    out = says(capsys, "show", "runs/a-done")
    for told in (
        "0.250  (0.100 … 0.900)",
        "0.500  (0.100 … 0.900)",
        "checkpoint-10",
        "1.0 kB",
        "abc+changes",
        "step 5",
    ):
        assert told in out


@pytest.mark.usefixtures("folder")
def test_show_of_a_failed_run_has_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    out = says(capsys, "show", "runs/grid/failed")
    assert "failed  step 3/10" in out
    assert "RuntimeError: the loss is not finite" in out


# --- two runs ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_diff_puts_what_differs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(says(capsys, "diff", "runs/a-done", "runs/b-done", "--json"))
    assert found["settings"] == {
        "advantage_estimator": ["maxrl", "grpo"],
        "keep": ["x", None],
        "seed": [0, 1],
    }
    assert found["environment"] == {}
    assert found["results"] == {"last success_rate": [0.5, 0.4]}
    out = says(capsys, "diff", "runs/a-done", "runs/b-done")
    assert "environment: nothing differs" in out
    assert "-0.1" in out.split("last success_rate")[1]


def test_diff_of_equal_runs_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(folder / "c-done", rate=0.5, num_generations=16, keep="x")
    lines = says(capsys, "diff", "runs/a-done", "runs/c-done").splitlines()
    assert lines == [f"{kind}: nothing differs" for kind in ("settings", "environment", "results")]
    make_run(folder / "d-done", environment={"code": "def", "python": "3.11.2", "machine": "here"})
    assert json.loads(says(capsys, "diff", "runs/a-done", "runs/d-done", "--json"))["environment"] == {
        "code": ["abc+changes", "def"]
    }


# --- checkpoints ---------------------------------------------------------------------------------------------------


def kept(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("checkpoint-*") if path.parent.name != "evals"
    )


def test_prune_leaves_the_last_checkpoint_of_runs_that_are_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [
        "a-done/checkpoint-10",
        "a-done/checkpoint-4",
        "b-done/checkpoint-10",
        "grid/failed/checkpoint-2",
    ]
    out = says(capsys, "prune", "--keep", "last", "--dry-run")
    assert "runs/a-done: would remove checkpoint-4 (1.0 kB)" in out
    assert kept(folder) == every
    (folder / "a-done" / "checkpoint-4" / "evals").mkdir()
    (folder / "a-done" / "checkpoint-4" / "evals" / "eval.json").touch()
    out = says(capsys, "prune", "runs", "--keep", "last")
    assert "runs/grid/failed: left as it is (failed: it can go on from them)" in out
    assert out.splitlines()[-1] == "removed 1 checkpoints of 4 runs, 1.0 kB"
    assert (folder / "a-done" / "evals" / "checkpoint-4" / "eval.json").is_file()  # what was measured stays
    assert kept(folder) == [every[0], *every[2:]]


def test_prune_of_all_spares_a_run_without_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a-done" / "model.safetensors").touch()
    out = says(capsys, "prune", "--keep", "none")
    assert kept(folder) == ["b-done/checkpoint-10", "grid/failed/checkpoint-2"]
    assert "runs/b-done: left as it is (it has no model beside them)" in out


def test_a_running_run_keeps_its_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one", "running", checkpoints=(2, 4))
    assert "left as it is (running" in says(capsys, "prune", str(tmp_path), "--keep", "last")
    assert len(kept(tmp_path)) == 2


def test_what_a_prune_that_was_killed_left_is_removed_by_the_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "a-done"
    for name in ("removing-checkpoint-4", "removing-checkpoint-2"):  # made longer since, and no more
        (run / name / "evals").mkdir(parents=True)
        (run / name / "evals" / "eval.json").write_text(name)
        (run / name / "weights.bin").touch()
    says(capsys, "prune", "runs", "--keep", "last", "--dry-run")
    assert (run / "removing-checkpoint-2").is_dir()
    assert "removed checkpoint-4" in says(capsys, "prune", "runs", "--keep", "last")
    assert not list(run.glob("removing-*"))
    assert (run / "evals" / "checkpoint-2" / "eval.json").read_text() == "removing-checkpoint-2"
    assert kept(run) == ["checkpoint-10"]
