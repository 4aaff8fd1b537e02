"""Every recipe loads, says what it would do, and runs with a tiny model."""

import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from maxrl.cli import main

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in ("grids", "accelerate"))
SMALLEST = [
    *("--tiny_layers=1", "--tiny_width=16", "--tiny_heads=2", "--tiny_kv_heads=1", "--tiny_feed_forward=16"),
    *("--warm_start_max_steps=0", "--max_steps=1", "--gradient_accumulation_steps=1"),
    *("--max_completion_length=4", "--eval_problems=2", "--eval_samples=2", "--bf16=false"),
    "--report_to=none",
]


def command(recipe: Path) -> str:
    """What a recipe is for."""
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    return "train" if {"task", "tasks"} & fields.keys() else "classify"


def label(recipe: Path) -> str:
    return recipe.stem


def test_there_is_a_recipe_for_every_published_setting() -> None:
    assert {recipe.stem for recipe in RECIPES} >= {
        "subset_sum_qwen",  # the benchmark this project started from
        "rust_code",  # the guide of a Rust code generator
        "reverse_text_debug",  # prime-rl's debug run
        *(f"maze_{size}x{size}" for size in (9, 11, 13, 17)),  # the paper, from here on
        "imagenet_resnet50",
        "gsm8k_smollm2",
        "polaris_qwen3_1.7b",
        "polaris_qwen3_4b",
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=label)
@pytest.mark.parametrize("model", [[], ["--model", "tiny"]], ids=["as it is", "tiny"])
def test_a_dry_run_shows_the_resolved_recipe(
    recipe: Path, model: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pictures = ["--image_folder", "imagenet"] if recipe.stem == "imagenet_resnet50" and not model else []
    words = ["--config", str(recipe), *model, *pictures, "--output_dir", str(tmp_path / "out"), "--dry-run"]
    assert main([command(recipe), *words]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    given = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if not model and "stages" not in given:
        for name, value in given.items():
            if name not in ("tiny", "tasks"):
                assert shown[name] == value, name
    assert not (tmp_path / "out").exists()


def test_recipes_too_large_for_this_machine_say_what_a_trial_changes() -> None:
    for recipe in RECIPES:
        if command(recipe) == "train" and not recipe.stem.endswith("_tiny"):
            assert "tiny" in yaml.safe_load(recipe.read_text(encoding="utf-8")), recipe.name


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if command(recipe) == "train"], ids=label)
def test_the_tiny_model_runs_it(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path / "cache"))
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if "tiny" in fields:
        out = tmp_path / "out"
        assert (
            main(["train", "--config", str(recipe), "--model", "tiny", "-q", "--output_dir", str(out)]) == 0
        )
        steps = fields["tiny"].get("max_steps", fields["max_steps"])
        assert json.loads((out / "run.json").read_text())["steps"] == steps
        return
    batch = ["--num_generations=4", "--per_device_train_batch_size=8"]
    if "tasks" in fields:  # whose groups have sizes of their own
        sizes = [entry.get("share", 1) * entry["num_generations"] for entry in fields["tasks"]]
        batch = [f"--per_device_train_batch_size={sum(sizes)}"]
    out = tmp_path / "out"
    words = ["--config", str(recipe), "--model", "tiny", "-q", "--output_dir", str(out), *SMALLEST, *batch]
    assert main(["train", *words]) == 0
    assert (out / "run.json").is_file()


@pytest.mark.parametrize("path", sorted((FOLDER / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configurations(path: Path) -> None:
    config = load_config_from_file(str(path))
    kinds = {
        "cpu": "MULTI_GPU",
        "fsdp2": "FSDP",
        "multi_gpu": "MULTI_GPU",
        "zero2": "DEEPSPEED",
        "zero3": "DEEPSPEED",
    }
    assert config.distributed_type == kinds[path.stem]
    assert config.num_processes == (2 if path.stem == "cpu" else 8)
    assert (config.fsdp_config or {}).get("fsdp_version") == (2 if path.stem == "fsdp2" else None)
    assert (config.deepspeed_config or {}).get("zero_stage") == {"zero2": 2, "zero3": 3}.get(path.stem)
