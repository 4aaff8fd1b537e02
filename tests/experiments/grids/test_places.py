"""Places by name, and their options from a spec and from words."""

from pathlib import Path
from typing import Any

import pytest

from maxrl.errors import InputError
from maxrl.experiments.grids.local import LocalRunner, follow_file
from maxrl.experiments.grids.places import PLACES, make_place, options_help
from maxrl.experiments.grids.runner import GridRun, Runner
from maxrl.experiments.grids.spec import Grid


def grid_with(folder: Path, **runners: Any) -> Grid:
    run = GridRun(name="r", fields={"output_dir": str(folder / "r"), "cpu_threads": 3}, point={})
    return Grid(name="g", folder=folder, runs=(run,), runners=runners)


def place(folder: Path, name: str, words: str = "", **runners: Any) -> Any:
    return make_place(name, grid_with(folder, **runners), words.split())


def test_words_win_over_the_spec_and_the_spec_over_defaults(tmp_path: Path) -> None:
    assert place(tmp_path, "local").options.jobs is None
    assert place(tmp_path, "local", local={"jobs": 3}).slots() == 3
    assert place(tmp_path, "local", "--jobs 5", local={"jobs": 3, "threads": 2}).slots() == 5
    assert place(tmp_path, "local", "--jobs 5", local={"threads": 2}).options.threads == 2
    hf = {"env": {"A": 1}, "timeout": "2h"}
    found = place(tmp_path, "hf-jobs", "--collect-checkpoints true --env B=x=y C=", **{"hf-jobs": hf})
    assert found.options.env == {"B": "x=y", "C": ""}
    assert found.options.timeout == "2h"
    assert found.options.collect_checkpoints is True
    assert place(tmp_path, "hf-jobs", **{"hf-jobs": hf}).options.env == {"A": "1"}
    assert place(tmp_path, "ray", "--resources tpu=0.5", ray={"gpus": 0.5}).options.resources == {"tpu": 0.5}
    assert place(tmp_path, "slurm", slurm={"setup": ["module load x", "y"]}).options.setup == [
        "module load x",
        "y",
    ]


@pytest.mark.parametrize(
    ("name", "words", "runners", "says"),
    [
        ("locl", "", {}, "did you mean 'local'?"),
        ("local", "--job 3", {}, "did you mean '--jobs'?"),
        ("local", "--jobs three", {}, "invalid int value: 'three'"),
        ("local", "--jobs 0", {}, "jobs must be at least 1"),
        ("local", "", {"locl": {}}, "did you mean 'local'?"),
        ("local", "", {"ray": {"gpu": 1}}, "runners: ray: unknown option 'gpu'; did you mean 'gpus'?"),
        ("local", "", {"local": {"jobs": "many"}}, "jobs cannot be 'many'"),
        ("hf-jobs", "", {"hf-jobs": {"env": ["A"]}}, "env cannot be ['A']: must be a mapping"),
        ("hf-jobs", "--env A", {}, "'A' is no NAME=VALUE"),
        ("hf-jobs", "--collect_checkpoints maybe", {}, "'maybe' is neither true nor false"),
        ("slurm", "", {"slurm": {"setup": "module load x"}}, "must be a list"),
        ("ray", "--cpus 0", {}, "a run needs cores or GPUs"),
        ("ray", "--workers 2 --address auto", {}, "workers is for a cluster that is started here"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, name: str, words: str, runners: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        place(tmp_path, name, words, **runners)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", PLACES)
def test_every_place_is_a_runner_explains_its_options_and_says_what_it_would_do(
    tmp_path: Path, name: str
) -> None:
    found: Runner = place(tmp_path, name)
    assert found.name == name
    for method in ("slots", "start", "states", "find", "logs", "cancel", "collect", "request"):
        assert callable(getattr(found, method))
    assert found.states({}) == {}
    text = options_help(name)
    assert text.startswith(f"--on {name} (")
    for option in PLACES[name][0].__dataclass_fields__:
        assert f"--{option}" in text
        assert text.count(f"  --{option} ") == 1
        assert f", --{option} " not in text or "_" in option  # a second spelling only where there is one
    if name != "hf-jobs":  # which is asked where it gets maxrl from
        assert str(tmp_path / "r") in found.request(grid_with(tmp_path).runs[0])


def test_a_run_has_one_thread_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxrl.experiments.grids.local.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (run,) = grid_with(tmp_path).runs
    bare = GridRun(name="b", fields={"output_dir": str(tmp_path / "b")}, point={})
    one = place(tmp_path, "local", "--jobs 1")
    assert (one.threads(bare), one.threads(run)) == (1, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert (one.threads(bare), one.threads(run)) == (2, 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "environment.json").write_text('{"threads": "4"}')
    assert one.threads(bare) == 4, "a run that goes on keeps its rounding"
    assert place(tmp_path, "local", "--threads 1").threads(run) == 1
    assert place(tmp_path, "local").slots() == 8


def test_a_log_is_followed_until_its_job_ends(tmp_path: Path) -> None:
    grid = grid_with(tmp_path)
    (run,) = grid.runs
    local = place(tmp_path, "local")
    assert isinstance(local, LocalRunner)
    assert list(local.logs(run, "other:1:0.0")) == []
    run.folder.mkdir()
    log = run.folder / "log.txt"
    log.write_text("one\ntwo\n")
    assert list(local.logs(run, "other:1:0.0")) == ["one", "two"]
    answers = iter([True, True, False])

    def goes_on() -> bool:
        with log.open("a") as file:
            file.write("more\n")
        return next(answers)

    assert list(follow_file(log, goes_on)) == ["one", "two", "more", "more", "more"]
    parts = iter(["a lin", "e\nand a", " last one"])

    def writes_on() -> bool:
        part = next(parts)
        with log.open("a") as file:
            file.write(part)
        return not part.startswith(" last")

    log.write_text("")
    assert list(follow_file(log, writes_on)) == ["a line", "and a last one"]
