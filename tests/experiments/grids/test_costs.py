"""What a grid is said to cost."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.made_runs import write_evaluation

from maxrl.experiments.grids.costs import (
    FLOPS_PER_TOKEN,
    OTHER_UTILISATION,
    SAMPLING_FLOPS,
    START_SECONDS,
    STEP_SECONDS,
    estimate,
    model_parameters,
)
from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.recipe import make_recipe, resolved_fields, to_yaml
from maxrl.experiments.store import StoredRun
from maxrl.models import build_tiny, build_tokenizer
from maxrl.tasks import get_task

FIELDS: dict[str, Any] = {
    "task": "subset_sum",
    "model_name_or_path": "tiny",
    "num_generations": 8,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "max_completion_length": 10,
    "max_steps": 100,
    "output_dir": "somewhere",
}


def run(**fields: Any) -> GridRun:
    return GridRun(name="r", fields={**FIELDS, **fields}, point={})


def test_rollouts_and_tokens_follow_from_the_recipe() -> None:
    (cost,) = estimate([run()])
    assert (cost.steps, cost.rollouts, cost.most_tokens) == (100, 3200, 32000)
    (twice,) = estimate([run(num_iterations=2)])
    assert twice.rollouts == 1600
    (epochs,) = estimate([run(max_steps=-1, num_train_epochs=2, num_train_problems=8)])
    assert (epochs.steps, epochs.rollouts, epochs.seconds) == (None, None, None)


def test_the_small_model_on_two_cores_is_estimated_near_what_it_took() -> None:
    # `make demo` on three machines: 60, 68 and about 130 s.
    demo = run(
        per_device_train_batch_size=512,
        gradient_accumulation_steps=1,
        num_generations=32,
        max_completion_length=8,
        max_steps=400,
        tiny_layers=3,
        tiny_width=64,
        tiny_feed_forward=256,
    )
    (cost,) = estimate([demo])
    assert cost.seconds is not None
    assert 60 < cost.seconds < 200


def test_stages_add_up() -> None:
    (cost,) = estimate(
        [run(stages=[{"max_steps": 10}, {"max_steps": 20, "per_device_train_batch_size": 32}])]
    )
    assert (cost.steps, cost.rollouts) == (30, 320 + 1280)


def test_seconds_are_rough_until_a_run_of_the_kind_is_done(tmp_path: Path) -> None:
    (rough,) = estimate([run(model_name_or_path="some/Model-2B")], device="a100-large")
    assert not rough.measured
    operations = 2e9 * (
        FLOPS_PER_TOKEN * 32000 + SAMPLING_FLOPS * 13000 * 10
    )  # 2 × 100 problems × (64 + greedy)
    assert rough.seconds == pytest.approx(
        operations / (312e12 * OTHER_UTILISATION) + START_SECONDS + 100 * STEP_SECONDS
    )
    assert estimate([run(model_name_or_path="some/model")])[0].seconds is None
    for unknown in ("a card of next year", None):
        assert estimate([run()], device=unknown)[0].seconds is None
    done = []
    for index, seconds in enumerate((10.0, 20.0, 60.0)):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "config.yaml").write_text("\n".join(f"{name}: {value}" for name, value in FIELDS.items()))
        (folder / "run.json").write_text(json.dumps({"training_seconds": seconds, "rollouts": 1000}))
        done.append(StoredRun(folder))
    (measured,) = estimate([run()], device=None, done=done)
    assert measured.measured
    assert measured.seconds == pytest.approx(START_SECONDS + 3200 * 0.02)
    assert not estimate([run(num_generations=16)], done=done)[0].measured


def test_what_a_spec_leaves_at_a_default_is_of_the_kind_that_says_it(tmp_path: Path) -> None:
    short: dict[str, Any] = {"task": "subset_sum", "max_steps": 100, "output_dir": "somewhere"}
    mixture: dict[str, Any] = {
        "tasks": [{"task": "subset_sum"}, {"task": "maze"}],
        "per_device_train_batch_size": 16,
        "max_steps": 100,
        "output_dir": "somewhere",
    }
    done = []
    for name, fields in {"short": short, "mixture": mixture}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(to_yaml(resolved_fields(make_recipe(fields))))
        (folder / "run.json").write_text(json.dumps({"training_seconds": 2.0, "rollouts": 100}))
        done.append(StoredRun(folder))
        (cost,) = estimate([GridRun(name="r", fields=fields, point={})], done=done)
        assert cost.measured
    assert cost.rollouts is not None
    assert cost.seconds == pytest.approx(START_SECONDS + cost.rollouts * 0.02)
    other = {**mixture, "tasks": [{"task": "subset_sum"}, {"task": "reverse_text"}]}
    assert not estimate([GridRun(name="m", fields=other, point={})], done=done)[0].measured


def test_evaluations_count_before_while_and_after(tmp_path: Path) -> None:
    (cost,) = estimate([run(eval_problems=10, eval_samples=4)])
    assert cost.evaluated == 2 * 10 * (4 + 1)
    (often,) = estimate(
        [run(eval_problems=10, eval_samples=4, eval_greedy=False, eval_every=30, eval_every_samples=2)]
    )
    assert often.evaluated == 2 * 10 * 4 + 3 * 10 * (1 + 2)
    (once,) = estimate([run(eval_problems=10, eval_samples=4, eval_before_training=False)])
    assert once.evaluated == 50
    (staged,) = estimate([run(eval_problems=10, eval_samples=4, stages=[{}, {}])])
    assert staged.evaluated == 100 + 50  # a later stage begins as the one before ended
    (data,) = estimate([run(task=None, dataset_name="some/data", model_name_or_path="some/model")])
    assert data.evaluated == 0
    (tmp_path / "config.yaml").write_text(to_yaml(FIELDS))
    (tmp_path / "run.json").write_text(json.dumps({"training_seconds": 0.0, "rollouts": 1000}))
    write_evaluation(tmp_path / "eval.json", 1)  # 3 s for 2 problems × (4 samples + greedy)
    (measured,) = estimate([run(eval_problems=10, eval_samples=4)], done=[StoredRun(tmp_path)])
    assert measured.seconds == pytest.approx(START_SECONDS + 100 * 0.3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5e9),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", 360e6),
        ("Qwen/Qwen3-4B-Base", 4e9),
        ("org/Mixtral-8x7B", 56e9),
        ("org/model", None),
        ("org/B2B-model", None),
    ],
)
def test_a_name_says_how_large_the_model_is(name: str, parameters: float | None) -> None:
    assert model_parameters(make_recipe({**FIELDS, "model_name_or_path": name})) == parameters


def test_the_tiny_model_is_as_large_as_said() -> None:
    task = get_task("subset_sum", prompt_format="compact")
    vocabulary = task.vocabulary()
    assert vocabulary is not None
    recipe = make_recipe({**FIELDS, "tiny_layers": 3, "tiny_width": 64})
    model: Any = build_tiny(build_tokenizer(vocabulary.words), recipe.tiny, seed=0, stop=())
    inside = sum(p.numel() for name, p in model.named_parameters() if "layers." in name and p.dim() == 2)
    assert model_parameters(recipe) == inside
