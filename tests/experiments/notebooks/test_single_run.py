"""The single experiment: options in, fields of the recipe out."""

from pathlib import Path
from typing import Any

import pytest

from maxrl.errors import InputError
from maxrl.experiments.notebooks.single_run import (
    HELP,
    Progress,
    SingleRun,
    chosen_in_widgets,
    in_words,
    make_single_run,
    parse_single_run,
    single_run_fields,
)
from maxrl.experiments.recipe import make_recipe

RECIPE = Path(__file__).parents[3] / "recipes" / "subset_sum_qwen.yaml"


def fields_of(*words: str) -> dict[str, Any]:
    return single_run_fields(parse_single_run(words)[0], RECIPE)


def test_defaults_are_the_benchmark_s() -> None:
    # LoRA r 8 α 16, n 6, max 20, batch 4, group 16, 20 epochs of 10 steps, lr 1e-5, 64 new tokens, T .8, 50 problems.
    recipe = make_recipe(single_run_fields(SingleRun(), RECIPE))
    training = recipe.training
    assert recipe.model_name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert (recipe.model.lora_r, recipe.model.lora_alpha) == (8, 16)
    assert (recipe.given["num_elements"], recipe.given["max_value"]) == (6, 20)
    assert (training.num_generations, training.per_device_train_batch_size, training.max_steps) == (
        16,
        64,
        200,
    )
    assert (training.learning_rate, training.max_completion_length, training.temperature) == (1e-5, 64, 0.8)
    assert (recipe.evaluation.eval_problems, recipe.evaluation.eval_greedy) == (50, True)
    assert training.report_to == []


def test_the_temperature_is_one_everywhere() -> None:
    given = fields_of("--temperature", "1.1")
    assert given["temperature"] == given["eval_temperature"] == 1.1


def test_every_option_reaches_its_field() -> None:
    given = fields_of(
        *(
            "--",
            "--advantage-method",
            "maxrl(order=8)",
            "--batch-size",
            "3",
            "--group-size",
            "12",
            "--epochs",
            "5",
        ),
        *(
            "--steps-per-epoch",
            "7",
            "--learning-rate",
            "2e-5",
            "--num-elements",
            "10",
            "--max-value",
            "50",
            "--seed",
            "9",
        ),
        *("--lora-rank", "4", "--wandb-run-name", "mine", "--output-dir", "here", "--eval-problems", "30"),
    )
    wanted = {
        "advantage_estimator": "maxrl(order=8)",
        "num_generations": 12,
        "per_device_train_batch_size": 36,
        "max_steps": 35,
        "learning_rate": 2e-5,
        "num_elements": 10,
        "max_value": 50,
        "seed": 9,
        "lora_r": 4,
        "lora_alpha": 8,
        "run_name": "mine",
        "project": "maxrl-subset-sum",
        "output_dir": "here",
        "eval_problems": 30,
    }
    assert {name: given[name] for name in wanted} == wanted
    assert given["report_to"] in ("wandb", ["wandb"])


def test_the_tiny_model_has_its_own_numbers() -> None:
    given = fields_of("--model-id", "tiny")
    assert (given["learning_rate"], given["max_steps"], given["prompt_format"]) == (3e-4, 20, "compact")
    assert "use_peft" not in given
    assert fields_of("--model-id", "tiny", "--steps-per-epoch", "3")["max_steps"] == 6
    with pytest.raises(InputError, match="without an adapter"):
        fields_of("--model-id", "tiny", "--lora-rank", "4")


def test_names_follow_the_benchmark_and_tell_settings_apart() -> None:
    names = {
        Path(fields_of(*words)["output_dir"]).name
        for words in (
            (),
            ("--learning-rate", "2e-5"),
            ("--seed", "1"),
            ("--lora-rank", "4"),
            ("--temperature", "1"),
        )
    }
    assert len(names) == 5
    assert all(name.startswith("Qwen2.5-0.5B-Instruct-maxrl-n6-bs4-gs16-") for name in names)
    assert fields_of()["output_dir"] == fields_of("--wandb-run-name", "x")["output_dir"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--group-size", "1"], "group_size must be at least 2"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--temperature", "0"], "temperature must be above 0"),
        (["--advantage-method", "maxlr"], "did you mean 'maxrl'"),
        (["--num-elements", "99"], "num_elements"),
        (["--group"], "unrecognized arguments"),
        (["--seed", "one"], "invalid int value"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fields_of(*words)


def test_a_notebook_without_its_recipe_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"q\.yaml is missing: .*; run it in a clone"):
        single_run_fields(SingleRun(), tmp_path / "recipes" / "q.yaml")


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_single_run(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, explained in HELP.items():
        assert f"--{name.replace('_', '-')}" in text
        assert explained.split(";")[0].split(",")[0].split()[0] in text


def test_widgets_win_over_options_and_leave_what_they_do_not_have() -> None:
    asked = SingleRun(model_id="tiny", steps_per_epoch=5, wandb_run_name="mine")
    values = {"model_id": " tiny ", "epochs": 0, "lora_rank": 0, "group_size": 8, "learning_rate": None}
    chosen = chosen_in_widgets(asked, values)
    assert (chosen.model_id, chosen.epochs, chosen.lora_rank, chosen.group_size) == ("tiny", None, None, 8)
    assert (chosen.steps_per_epoch, chosen.wandb_run_name) == (5, "mine")
    given = single_run_fields(chosen, RECIPE)
    assert "**10 steps** (2 epochs of 5), each 4 problems × 8 rollouts = 32 rollouts" in in_words(
        chosen, given
    )
    assert "LoRA" not in in_words(chosen, given)
    qwen = SingleRun()
    assert "LoRA rank 8, α 16" in in_words(qwen, single_run_fields(qwen, RECIPE))


def test_boxes_that_are_empty_or_hold_a_fraction() -> None:
    boxes = {"model_id": "tiny", "epochs": None, "lora_rank": None}
    assert chosen_in_widgets(SingleRun(), boxes).epochs is None
    with pytest.raises(InputError, match="seed is empty"):
        chosen_in_widgets(SingleRun(), {**boxes, "seed": None})
    with pytest.raises(InputError, match=r"epochs must be a whole number, but is 1\.25"):
        chosen_in_widgets(SingleRun(), {**boxes, "epochs": 1.25})


def test_progress_counts_each_step_once() -> None:
    seen: list[tuple[int, str]] = []
    progress = Progress(lambda increment, subtitle: seen.append((increment, subtitle)))
    for step, rate in ((0, None), (2, 0.5), (2, 0.5), (5, 0.25)):
        progress(step, rate)
    assert seen == [(2, "step 2, success rate 0.500"), (3, "step 5, success rate 0.250")]


def test_a_folder_with_a_run_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    given = fields_of("--model-id", "tiny", "--output-dir", str(tmp_path))
    with pytest.raises(InputError, match=r"other settings \(.*seed.*\)"):
        make_single_run(given)
    assert (tmp_path / "run.json").read_text() == "{}"
