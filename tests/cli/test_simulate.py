"""`maxrl simulate`: the race on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from maxrl.cli import main
from maxrl.cli.simulate import spark
from maxrl.experiments.notebooks.toy import RaceSettings, ToyPolicy, race


def simulate(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["simulate", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["simulate", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("maxrl: error: ")
    return line


def test_the_table_has_the_race(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = simulate(capsys)
    lanes = race(["maxrl", "grpo", "rloo"], RaceSettings())
    assert "p = σ(θ) from 0.018, N = 16, learning rate 0.5" in text
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["maxrl"], ["grpo"], ["rloo"])]
    for row, lane in zip(rows, lanes, strict=True):
        reached = lane.steps_to(0.5)
        assert row[-4] == f"{lane.expected[-1]:.3f}"
        assert row[-3] == f"{np.median(lane.sampled[:, -1]):.3f}"
        assert row[-2] == ("never" if reached is None else str(reached))
        assert row[-1] == f"{lane.share_at(0.5):.0%}"
        assert spark(lane.expected) in " ".join(row)
    assert "order T = 15" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_json_has_settings_and_paths(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--p0",
        "0.1",
        "--difficulty",
        "2",
        "--steps",
        "9",
        "--num-generations",
        "4",
        "--lr",
        "0.2",
        "--seed",
        "7",
    ]
    found = json.loads(simulate(capsys, *words, "--estimators", "rloo", "--repeats", "3", "--json"))
    settings = RaceSettings(
        theta0=ToyPolicy(difficulty=2).theta_at(0.1),
        difficulty=2,
        learning_rate=0.2,
        steps=9,
        num_generations=4,
        repeats=3,
        seed=7,
    )
    [lane] = race(["rloo"], settings)
    [row] = found["lanes"]
    assert found["settings"]["p0"] == pytest.approx(0.1)
    assert row["expected"] == lane.expected.tolist()
    assert row["sampled"]["q50"] == lane.quantiles(0.5)[0].tolist()
    assert (row["estimator"], row["order"], row["steps_to_goal"]) == ("rloo", 1, None)


def test_a_negative_theta(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(simulate(capsys, "--theta0", "-1e-3", "--steps", "1", "--json"))
    assert found["settings"]["theta0"] == -0.001


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_picture(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / f"race{suffix}"
    assert f"plot: {path}" in simulate(capsys, "--svg", str(path), "--steps", "5")
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--p0", "1"], "strictly between 0 and 1, but is 1"),
        (["--p0", "0.1", "--theta0", "-2"], "not allowed with"),
        (["--estimators", "maxlr"], "did you mean 'maxrl'"),
        (["--estimators", "maxrl", "maxrl"], "different names"),
        (["--estimators", "hybrid"], "hybrid has memory"),
        (["--num_generations", "1"], "num_generations must be at least 2"),
        (["--steps", "many"], "invalid int value"),
        (["--plot", "race.gif"], "must end in .svg"),
        (["--step", "3"], "unrecognized arguments"),
    ],
)
def test_errors_take_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in complaint(capsys, *words)


def test_a_picture_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["simulate", "--steps", "2", "--plot", str(tmp_path / "file" / "race.svg")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "--estimators",
        "--p0",
        "--theta0",
        "--difficulty",
        "--lr",
        "--repeats",
        "--json",
        "examples:",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_bars_are_in_proportion() -> None:
    assert spark(np.array([0.0, 0.5, 1.0])) == "▁▄█"
    path = np.linspace(0, 1, 101)
    assert re.fullmatch("▁+▂+▃+▄+▅+▆+▇+█+", spark(path))
    assert spark(path)[-1] == "█"


def test_nothing_that_trains_is_imported() -> None:
    code = (
        "import sys, maxrl.cli.simulate; "
        "print([m for m in ('transformers', 'trl', 'datasets', 'peft', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
