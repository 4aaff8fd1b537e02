"""All arms with all seeds: nothing is mixed, nothing done twice, failures stay as rows; options that are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from maxrl.errors import InputError
from maxrl.experiments.classification import config as config_module
from maxrl.experiments.classification.config import TRIAL, ClassifyConfig, read_config, resolved
from maxrl.experiments.classification.experiment import classify, plan_runs
from maxrl.experiments.classification.run import CHECKPOINT
from maxrl.experiments.classification.summary import Results
from maxrl.experiments.recipe import to_yaml

MakeConfig = Callable[..., ClassifyConfig]

RECIPES = Path(__file__).parents[3] / "recipes"


def refused(make_config: MakeConfig, **fields: object) -> str:
    with pytest.raises(InputError) as caught:
        classify(make_config(**fields), command="")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- folders ----------------------------------------------------------------------------------------------


def test_runs_are_kept_extended_and_never_mixed(make_config: MakeConfig, tmp_path: Path) -> None:
    root = tmp_path / "out"
    results, report = classify(make_config(), command="maxrl classify")
    assert report == root / "report.html"
    assert [(run.arm, run.seed, run.folder) for run in results.runs] == [
        ("cross_entropy", 0, "cross_entropy-seed0"), ("maxrl@8", 0, "maxrl-n8-seed0"),
    ]  # fmt: skip
    assert Results.load(root / "results.json") == results
    stamp = {run.folder: (root / run.folder / "run.json").stat().st_mtime_ns for run in results.runs}

    assert "already holds a run (cross_entropy-seed0/run.json)" in refused(make_config)
    says = refused(make_config, resume_from_checkpoint=True, noise=0.5, learning_rate=0.2)
    assert "cross_entropy-seed0 holds a run with other settings (learning_rate, noise)" in says

    more = make_config(arms=["maxrl@8", "grpo@4"], seeds=[0, 1], resume_from_checkpoint=True, logging_steps=2)
    extended, _ = classify(more, command="")
    assert [(run.arm, run.seed) for run in extended.runs] == [
        ("maxrl@8", 0), ("grpo@4", 0), ("maxrl@8", 1), ("grpo@4", 1),
    ]  # fmt: skip
    assert extended.runs[0] == results.runs[1]
    assert (root / "maxrl-n8-seed0" / "run.json").stat().st_mtime_ns == stamp["maxrl-n8-seed0"]

    anew, _ = classify(make_config(overwrite_output_dir=True, noise=0.5), command="")
    assert (root / "maxrl-n8-seed0" / "run.json").stat().st_mtime_ns != stamp["maxrl-n8-seed0"]
    assert anew.runs[0].evaluation != results.runs[0].evaluation


def test_a_folder_with_a_checkpoint_alone_holds_a_run(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "out" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "mine" / CHECKPOINT).touch()
    assert "already holds a run (mine/checkpoint.pt)" in refused(make_config)


def test_nothing_is_left_where_options_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    refused(make_config, data="folder", image_folder=str(tmp_path / "nowhere"), model="tiny")
    assert not (tmp_path / "out").exists()


def test_seeds_are_the_outer_loop_and_arms_with_options_have_folders_of_their_own(
    make_config: MakeConfig,
) -> None:
    config = make_config(arms=["maxrl", "maxrl(order=4)@8", "maxrl@16"], num_generations=8, seeds=[3, 1])
    assert [run.folder.name for run in plan_runs(config)] == [
        "maxrl-n8-seed3", "maxrl-order-4-n8-seed3", "maxrl-n16-seed3",
        "maxrl-n8-seed1", "maxrl-order-4-n8-seed1", "maxrl-n16-seed1",
    ]  # fmt: skip


def test_a_run_that_diverges_stays_as_a_row_and_the_others_go_on(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """At a rate that only an arm survives that never draws a right label, and so moves nothing."""
    with (tmp_path / "log").open("w") as sink:
        results, _ = classify(
            make_config(arms=["cross_entropy", "maxrl@2"], learning_rate=1e30, num_classes=3000),
            command="",
            console=Console(file=sink, width=200),
        )
    failed, done = results.runs
    assert failed.evaluation is None
    assert done.evaluation is not None
    assert "logits are not finite" in str(failed.error)
    assert (tmp_path / "out" / "cross_entropy-seed0" / "error.txt").is_file()
    assert "1/2 cross_entropy-seed0: failed: logits are not finite" in (tmp_path / "log").read_text()


def test_a_run_that_diverges_in_its_last_update_is_a_failed_row(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        arms=["cross_entropy"], learning_rate=1e30, train_examples=8, num_train_epochs=1, logging_steps=1
    )
    results, report = classify(config, command="")
    (failed,) = results.runs
    assert failed.evaluation is None
    assert "the log-likelihood of the test set is not finite at step 1" in str(failed.error)
    assert "NaN" not in (tmp_path / "out" / "results.json").read_text()
    assert "No arm has a finished run" in report.read_text()


def test_progress_is_a_line_every_tenth_where_there_is_no_terminal(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as sink:
        classify(make_config(arms=["reinforce@4"]), command="", console=Console(file=sink, width=200))
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if "step" in line]
    assert len(lines) == 6
    assert lines[-1].startswith("1/1 reinforce-n4-seed0: step 12/12  pass@1 0.")


@pytest.mark.parametrize(
    ("fields", "folder"),
    [
        ({}, "classification-synthetic-mlp"),
        ({"data": "images", "model": "tiny"}, "classification-images-tiny"),
        (
            {"data": "folder", "model": "resnet50", "image_folder": "sets/imagenet/"},
            "classification-imagenet-resnet50",
        ),
        ({"data": "folder", "model": "resnet50", "image_folder": "."}, "classification-here-resnet50"),
    ],
)
def test_other_data_and_models_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], folder: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = ClassifyConfig(**fields)
    assert config.root == Path("runs") / folder
    assert resolved(config)["output_dir"] == f"runs/{folder}"
    assert ClassifyConfig(**fields, output_dir="mine").root == Path("mine")


# --- options ----------------------------------------------------------------------------------------------


def test_words_win_over_the_file_and_what_is_printed_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("arms: [maxrl@4, grpo@4]\nnoise: 2\nbf16: true\ncpu_threads: null\n")
    config, trial = read_config(
        ["--config", str(file), "--noise", "3", "--seeds", "5", "6", "--fresh_examples", "false"]
    )
    assert (config.arms, config.noise, config.bf16, config.seeds) == (
        ["maxrl@4", "grpo@4"],
        3.0,
        True,
        [5, 6],
    )
    assert not config.fresh_examples
    assert not trial
    file.write_text(to_yaml(resolved(config)))
    assert read_config(["--config", str(file)])[0] == config


def test_the_defaults_are_the_recipe() -> None:
    config, _ = read_config(["--config", str(RECIPES / "classification_synthetic.yaml")])
    assert config == ClassifyConfig(cpu_threads=1)


def test_the_recipe_of_the_paper_has_its_numbers() -> None:
    path = str(RECIPES / "imagenet_resnet50.yaml")
    config, _ = read_config(["--config", path, "--image_folder", "imagenet"])
    assert (config.model, config.data, config.image_size) == ("resnet50", "folder", 224)
    assert (config.num_train_epochs, config.per_device_train_batch_size) == (20, 256)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.1, 0.9, 1e-4)
    assert config.lr_scheduler_type == "cosine"
    assert config.arms == ClassifyConfig().arms
    with pytest.raises(InputError, match="data folder and image_folder go together"):
        read_config(["--config", path])


def test_model_tiny_on_the_command_line_makes_any_recipe_a_trial() -> None:
    for recipe in ("imagenet_resnet50.yaml", "classification_synthetic.yaml"):
        words = ["--config", str(RECIPES / recipe), "--model", "tiny"]
        config, trial = read_config(words)
        assert {name: getattr(config, name) for name in TRIAL} == TRIAL
        assert trial["num_train_epochs"] == 2
        config, trial = read_config([*words, "--num_train_epochs", "3"])
        assert config.num_train_epochs == 3
        assert "num_train_epochs" not in trial
        config, trial = read_config([*words, "--image_folder", "here"])
        assert (config.data, config.image_folder) == ("folder", "here")


def test_model_tiny_in_a_file_is_a_recipe_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: tiny\ndata: images\nnum_classes: 50\n")
    config, trial = read_config(["--config", str(tmp_path / "recipe.yaml")])
    assert not trial
    assert (config.num_classes, config.num_train_epochs) == (50, 20)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"arms": []}, "arms must name at least one"),
        ({"arms": ["maxrl@4", "maxrl@04"]}, "arms names something twice: maxrl@4, maxrl@4"),
        ({"seeds": [1, 1]}, "seeds names something twice"),
        ({"seeds": [-1]}, "seeds must be at least 0"),
        ({"eval_ks": [2, 4]}, "eval_ks must hold 1"),
        ({"eval_ks": [0, 1]}, "eval_ks must be at least 1"),
        ({"model": "resnet"}, "unknown model 'resnet'; did you mean 'resnet50'?"),
        ({"data": "folders"}, "unknown data 'folders'; did you mean 'folder'?"),
        ({"lr_scheduler_type": "linear"}, "unknown lr_scheduler_type 'linear'"),
        ({"image_folder": "x"}, "data folder and image_folder go together"),
        ({"model": "resnet50"}, "model resnet50 takes images"),
        ({"train_examples": 7}, "must fill one batch of 8"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"num_train_epochs": 0}, "num_train_epochs must be at least 1"),
        ({"cpu_threads": 0}, "cpu_threads must be at least 1"),
        ({"noise": 0.0}, "noise must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"resume_from_checkpoint": True, "overwrite_output_dir": True}, "leave one of them out"),
        ({"device": "gpu"}, "device 'gpu' is none"),
        (
            {"device": "mps"},
            "device mps cannot be used: labels are drawn in float64, for which say auto, cpu",
        ),
        ({"device": "meta"}, "device meta cannot be used"),
        ({"device": "xpu:0"}, "device xpu:0 cannot be used"),
    ],
)
def test_options_that_cannot_be_used_say_why(
    make_config: MakeConfig, fields: dict[str, object], says: str
) -> None:
    assert says in refused(make_config, **fields)


def test_a_missing_gpu_is_refused(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module.torch.cuda, "is_available", lambda: False)
    assert "device cuda is not there" in refused(make_config, device="cuda")


def test_a_gpu_beyond_those_there_are_is_refused(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(config_module.torch.cuda, "device_count", lambda: 2)
    assert "device cuda:2 is not there: torch sees 2, cuda:0 to cuda:1" in refused(
        make_config, device="cuda:2"
    )
    assert str(make_config(device="cuda:1").torch_device()) == "cuda:1"


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("nosie: 2\n", [], "unknown field 'nosie'; did you mean 'noise'?"),
        ("noise: null\n", [], "noise must not be null"),
        ("noise: [1, 2]\n", [], "noise must be a single value"),
        ("noise: wide\n", [], "invalid float value: 'wide'"),
        ("", ["--nosie", "2"], "unknown option '--nosie'; did you mean '--noise'?"),
        ("", ["--num_train_epochs", "2.5"], "invalid int value"),
    ],
)
def test_bad_files_and_words_say_why(tmp_path: Path, text: str, words: list[str], says: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_config(["--config", str(tmp_path / "recipe.yaml"), *words])
    assert says in str(caught.value)


def test_a_runs_config_repeats_that_run(make_config: MakeConfig, tmp_path: Path) -> None:
    results, _ = classify(make_config(), command="")
    stored = tmp_path / "out" / "maxrl-n8-seed0" / "config.yaml"
    assert yaml.safe_load(stored.read_text())["arms"] == ["maxrl@8"]
    config, _ = read_config(["--config", str(stored), "--output_dir", str(tmp_path / "again")])
    again, _ = classify(config, command="")
    assert again.runs[0].evaluation == results.runs[1].evaluation
    assert json.loads((tmp_path / "again" / "results.json").read_text())["arms"] == ["maxrl@8"]
