"""`maxrl classify`: a whole small experiment, a trial of every recipe, pictures from a folder, one line for bad input."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maxrl.cli import classify
from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.classification.config import read_config
from maxrl.experiments.classification.summary import Results

pytestmark = pytest.mark.usefixtures("workplace")

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = (
    *(
        "--num_classes",
        "12",
        "--train_examples",
        "64",
        "--test_examples",
        "64",
        "--per_device_train_batch_size",
        "16",
    ),
    *("--num_train_epochs", "2", "--hidden_size", "8", "--output_dir", "out"),
)


def test_an_experiment_from_words_to_report(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "--arms", "cross_entropy", "maxrl@8", "--seeds", "0", "1"]
    assert classify.run(words) == 0
    out, err = capsys.readouterr()
    assert out.strip().endswith("report: out/report.html")
    assert "maxrl@8" in out
    assert "4/4 maxrl-n8-seed1: step 8/8" in err
    results = Results.load(workplace / "out" / "results.json")
    assert results.command == "maxrl classify " + " ".join(words)
    assert len(results.runs) == 4

    assert classify.run([*words, "-q", "--resume_from_checkpoint", "true"]) == 0
    assert capsys.readouterr().err == ""
    again = Results.load(workplace / "out" / "results.json")
    assert again.runs == results.runs
    with pytest.raises(InputError, match="out already holds a run"):
        classify.run([*words, "-q"])


@pytest.mark.parametrize("recipe", ["classification_synthetic.yaml", "imagenet_resnet50.yaml"])
def test_a_trial_of_every_recipe(workplace: Path, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", str(RECIPES / recipe), "--model", "tiny", "--output_dir", "out", "--seeds", "0"]
    assert classify.run([*words, "--arms", "cross_entropy", "maxrl@128", "reinforce@16"]) == 0
    assert "--model tiny makes this a trial: " in capsys.readouterr().err.replace("\n", " ")
    results = Results.load(workplace / "out" / "results.json")
    assert [run.arm for run in results.runs] == ["cross_entropy", "maxrl@128", "reinforce@16"]
    assert {run.metrics[-1]["step"] for run in results.runs} == {8}


def test_pictures_from_a_folder(workplace: Path) -> None:
    """Two colours: a ResNet of two stages tells them apart after a few steps, by cross-entropy and by MaxRL."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8)):
        for channel, name in ((0, "red"), (2, "blue")):
            (workplace / "pictures" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (12, 14, 3), dtype=np.uint8)
                pixels[:, :, channel] += 180
                Image.fromarray(pixels).save(workplace / "pictures" / split / name / f"{index}.png")
    words = [
        "--model",
        "tiny",
        "--image_folder",
        "pictures",
        "--image_size",
        "16",
        "--per_device_train_batch_size",
        "8",
    ]
    words += [
        "--num_train_epochs",
        "4",
        "--arms",
        "cross_entropy",
        "maxrl@8",
        "--seeds",
        "0",
        "--output_dir",
        "out",
        "-q",
    ]
    assert classify.run(words) == 0
    results = Results.load(workplace / "out" / "results.json")
    assert results.classes == 2
    assert results.best is None
    for run in results.runs:
        assert run.evaluation is not None
        assert run.evaluation.top_1 > 0.9, run.arm
    assert "best possible" not in (workplace / "out" / "report.md").read_text()


def test_dry_run_prints_what_would_be_done(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify.run([*SMALL, "--noise", "2", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["noise"] == 2.0
    (workplace / "printed.yaml").write_text(printed)
    assert read_config(["--config", "printed.yaml"])[0] == read_config([*SMALL, "--noise", "2"])[0]
    assert not (workplace / "out").exists()


def test_help_explains_every_option_within_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert classify.run(["--help"]) == 0
    text = capsys.readouterr().out
    for word in (
        "--arms",
        "--num_generations",
        "--image_folder",
        "cross_entropy",
        "maxrl@128",
        "1 − (1 − p_y)^k",
    ):
        assert word in text
    options = text.split("options:")[1].split("examples:")[0]
    assert max(map(len, options.splitlines())) <= 80


def test_the_examples_of_the_help_do_not_stand_in_each_others_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPES.parent)
    lines = [line.strip() for line in classify.EXAMPLES.splitlines() if line.startswith("  maxrl classify")]
    commands = [shlex.split(re.split(" {3,}", line)[0])[2:] for line in lines]
    folders = [read_config(words)[0].root for words in commands]
    assert len(folders) == 4
    assert len(set(folders)) == 4


def test_a_run_that_fails_fails_the_command(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MaxRLError, match=r"1 of 1 runs failed; cross_entropy-seed0: logits are not finite"):
        classify.run([*SMALL, "--arms", "cross_entropy", "--seeds", "0", "--learning_rate", "1e30"])
    assert (workplace / "out" / "report.html").is_file()
    assert "no finished run" in capsys.readouterr().out
