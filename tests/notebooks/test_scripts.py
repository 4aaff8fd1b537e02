"""Each notebook as a script: the same work without a browser."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from maxrl.objectives import effective_weight

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ("max_rl.py", "toy_simulation.py", "what_am_i_optimizing.py", "reading_a_run.py")

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_header_takes_maxrl_from_the_clone(notebook: str) -> None:
    text = (ROOT / "notebooks" / notebook).read_text()
    block = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)
    assert block is not None
    header = tomllib.loads("".join(line[2:] or "\n" for line in block[1].splitlines(keepends=True)))
    assert header["requires-python"] == ">=3.11"
    assert header["dependencies"] == ["maxrl[notebooks]"]
    assert "# For a clone of maxrl's repository" in block[1]
    source = header["tool"]["uv"]["sources"]["maxrl"]
    project = tomllib.loads((ROOT / "notebooks" / source["path"] / "pyproject.toml").read_text())["project"]
    assert project["name"] == "maxrl"
    assert "notebooks" in project["optional-dependencies"]
    assert header["tool"]["marimo"]["display"]["theme"] == "system"


@pytest.mark.slow
def test_marimo_finds_nothing_to_complain_of() -> None:
    paths = [str(ROOT / "notebooks" / notebook) for notebook in NOTEBOOKS]
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", *paths], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.slow
def test_the_toy(script: Script, tmp_path: Path) -> None:
    words = [
        "--group-size",
        "2",
        "--repeats",
        "20",
        "--steps",
        "30",
        "--theta0",
        "-2",
        "--output-dir",
        str(tmp_path),
    ]
    done = script("toy_simulation.py", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(" ")}
    assert rows["maxrl"] == rows["rloo"] != rows["grpo"]
    for name in ("weights", "masses", "race"):
        assert len(list(ElementTree.parse(tmp_path / f"{name}.svg").iter())) > 20


@pytest.mark.slow
def test_an_estimator(script: Script, tmp_path: Path) -> None:
    words = [
        "--estimator",
        "maxrl",
        "--options",
        "order=4",
        "--n",
        "8",
        "--p",
        "0.1",
        "--output-dir",
        str(tmp_path),
    ]
    done = script("what_am_i_optimizing.py", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Order T = 4" in done.stdout
    assert re.search(
        rf"effective weight w\(p\) +{effective_weight('maxrl(order=4)', 0.1, 8):.4f}", done.stdout
    )
    assert len(re.findall(r"^ +\d ", done.stdout, re.MULTILINE)) == 9  # K = 0 … 8
    for name in ("weight", "utility", "noise", "advantages"):
        ElementTree.parse(tmp_path / f"{name}.svg")


@pytest.mark.slow
def test_a_run(script: Script, finished_run: Path, tmp_path: Path) -> None:
    words = ["--run", str(finished_run.parent), "--samples", "2", "--output-dir", str(tmp_path)]
    done = script("reading_a_run.py", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "run: maxrl, seed 3, done at step 6 of 6" in done.stdout
    assert len(re.findall(r"^(success|failure)", done.stdout, re.MULTILINE)) == 2
    for name in ("success", "histogram", "history", "pass_at_k"):
        ElementTree.parse(tmp_path / f"{name}.svg")


@pytest.mark.slow
def test_a_run_that_has_hardly_begun(script: Script, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    done = script("reading_a_run.py", "--run", str(tmp_path), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stopped at step 0" in done.stdout
    assert "has not been evaluated" in done.stdout


@pytest.mark.slow
def test_one_experiment(first_run: "subprocess.CompletedProcess[str]", finished_run: Path) -> None:
    text = first_run.stdout
    assert re.search(r"^greedy accuracy +\d+\.\d % \(.* … .*\) +\d+\.\d % \(", text, re.MULTILINE)
    assert "pass@16" in text
    assert re.search(r"^epoch   2, to step     6: success rate", text, re.MULTILINE)
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    wanted: dict[str, Any] = {
        "model_name_or_path": "tiny",
        "num_generations": 8,
        "per_device_train_batch_size": 16,
        "max_steps": 6,
        "learning_rate": 1e-4,
        "temperature": 0.8,
        "eval_temperature": 0.8,
        "eval_problems": 5,
        "seed": 3,
        "report_to": "none",
    }
    assert {name: config[name] for name in wanted} == wanted
    ElementTree.parse(finished_run / "success.svg")


@pytest.mark.slow
def test_an_experiment_that_is_done_is_shown_again(
    first_run: "subprocess.CompletedProcess[str]", finished_run: Path, script: Script, tmp_path: Path
) -> None:
    before = (finished_run / "run.json").stat().st_mtime_ns
    done = script("max_rl.py", *first_run.args[3:], folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, first_run.stdout)
    assert (finished_run / "run.json").stat().st_mtime_ns == before
    words = [*first_run.args[3:], "--temperature", "0.5"]
    done = script("max_rl.py", *words, folder=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "other settings (eval_temperature, temperature)" in line
    assert json.loads((finished_run / "run.json").read_text())["steps"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "words", "message"),
    [
        ("max_rl.py", ["--advantage-method", "maxlr"], "did you mean 'maxrl'"),
        ("toy_simulation.py", ["--difficulty", "0"], "difficulty must be above 0"),
        ("toy_simulation.py", ["--repeats", "1"], "at least 2 groups"),
        ("what_am_i_optimizing.py", ["--p", "2"], "p is 2"),
        ("what_am_i_optimizing.py", ["--options", "ordr=4"], "did you mean 'order'"),
        ("reading_a_run.py", ["--run", "nowhere"], "nowhere is no folder"),
    ],
)
def test_errors_take_one_line(
    notebook: str, words: list[str], message: str, script: Script, tmp_path: Path
) -> None:
    done = script(notebook, *words, folder=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.slow
def test_a_notebook_away_from_its_clone_says_so_in_one_line(script: Script, tmp_path: Path) -> None:
    alone = shutil.copy(ROOT / "notebooks" / "max_rl.py", tmp_path)
    done = script(alone, "--model-id", "tiny", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "subset_sum_qwen.yaml is missing" in line
    assert "run it in a clone" in line


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_help_names_every_option(notebook: str, script: Script, tmp_path: Path) -> None:
    done = script(notebook, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if notebook == "max_rl.py":
        words = (
            "model-id",
            "advantage-method",
            "batch-size",
            "group-size",
            "epochs",
            "steps-per-epoch",
            "learning-rate",
        )
        words += ("num-elements", "max-value", "temperature", "lora-rank", "wandb-run-name", "wandb-project")
        for word in (*words, "output-dir", "seed"):
            assert f"--{word}" in done.stdout
