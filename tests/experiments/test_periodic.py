"""Evaluations while training: what they say, and that training does not notice them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments.loggers import check_loggers
from maxrl.experiments.periodic import _own_precision
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.store.metrics_file import append_rows, read_metrics

OTHER = {"elapsed", "step_time", "epoch"}
"""What says how long something took, and of how long a run."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train into a folder of this name; fields of the recipe."""
    monkeypatch.setenv("MAXRL_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(name: str, *words: str, **fields: object) -> Path:
        recipe = str(write_recipe(tmp_path, **{"eval_before_training": "false", **fields}))
        assert main(["train", "--config", recipe, "--output_dir", str(tmp_path / name), "-q", *words]) == 0
        return tmp_path / name

    return run


def same_training(first: Path, second: Path, weights: str = "model.safetensors") -> None:
    expected = load_file(first / weights)
    for name, value in load_file(second / weights).items():
        assert torch.equal(expected[name], value), name
    rows, again = (
        [{k: v for k, v in row.items() if k not in OTHER} for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (first, second)
    )
    assert again == rows
    assert read_metrics(first / "diagnostics.jsonl") == read_metrics(second / "diagnostics.jsonl")


def test_training_is_the_same_with_and_without(train: Any) -> None:
    without = train("without")
    evaluated = train("with", eval_every=2, eval_every_samples=4)
    same_training(without, evaluated)
    rows = read_metrics(evaluated / "evals.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert not (without / "evals.jsonl").exists()
    # The last step is what the evaluation after training measures, too: the same problems, seeds and samples.
    after = Evaluation.load(evaluated / "eval.json")
    assert rows[-1]["greedy_accuracy"] == after.greedy_accuracy
    assert rows[-1]["pass_at_k"] == {str(entry.k): entry.estimate for entry in after.pass_at_k}
    # Every epoch has problems of its own.
    drawn = [prompt for row in read_metrics(evaluated / "diagnostics.jsonl") for prompt in row["pass_rates"]]
    assert len(drawn) == len(set(drawn)) == 6 * 4


def test_a_resumed_run_has_the_rows_of_an_undisturbed_one(train: Any) -> None:
    whole = train("whole", eval_every=2)
    begun = train("resumed", eval_every=2, max_steps=4)
    append_rows(begun / "evals.jsonl", [{"step": 6, "greedy_accuracy": 9.0}])  # of a process that was killed
    train("resumed", "--resume_from_checkpoint", "true", eval_every=2)
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(folder / "evals.jsonl")]
        for folder in (whole, begun)
    ]
    assert timeless[0] == timeless[1]
    assert timeless[0][0]["pass_at_k"] == {}
    same_training(whole, begun)


def test_its_steps_are_logged_and_its_seconds_left_out(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("maxrl.experiments.callbacks.time.perf_counter", lambda: clock[0])

    def evaluate(self: Any) -> dict[str, Any]:
        clock[0] += 100.0
        self._metrics.leave_out(100.0)
        return {"greedy_accuracy": 0.5, "pass_at_k": {}, "seconds": 100.0}

    monkeypatch.setattr("maxrl.experiments.periodic.EvaluatesWhileTraining._evaluate", evaluate)
    folder = train("run", eval_every=2, logging_steps=4)
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert [row["elapsed"] for row in rows] == [0.0, 0.0, 0.0]


@pytest.mark.slow
def test_also_with_generate_and_an_adapter_with_dropout(train: Any) -> None:
    fields = {
        "rollout_backend": "transformers",
        "use_peft": "true",
        "lora_target_modules": "[q_proj, v_proj]",
        "lora_dropout": 0.5,
        "max_steps": 3,
    }
    first, second = train("first", **fields), train("second", **fields, eval_every=1, eval_every_samples=2)
    same_training(first, second, "adapter_model.safetensors")
    assert len(read_metrics(second / "evals.jsonl")) == 3


@pytest.mark.slow
def test_also_in_mixed_precision_which_stays_on(train: Any) -> None:
    fields = {"bf16": "true", "rollout_backend": "transformers", "max_steps": 3}
    first, second = train("first", **fields), train("second", **fields, eval_every=1)
    same_training(first, second)
    rows = read_metrics(second / "evals.jsonl")
    assert rows[-1]["greedy_accuracy"] == Evaluation.load(second / "eval.json").greedy_accuracy
    environment = json.loads((second / "environment.json").read_text())
    assert environment["precision"] == "float32 weights, computed in bfloat16"


def test_mixed_precision_is_put_aside_and_comes_back() -> None:
    model = torch.nn.Linear(1, 1)
    own, mixed = model.forward, lambda x: x
    model._original_forward, model.forward = own, mixed

    def fail() -> None:
        with _own_precision(model):
            assert model.forward is own
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert model.forward is mixed


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"eval_every": 0}, "eval_every must be at least 1 step, but is 0"),
        ({"eval_every_samples": -1}, "eval_every_samples must be at least 0, but is -1"),
        ({"log_keys": "subset_sum"}, "unknown log_keys 'subset_sum'"),
        ({"keep_checkpoints": "first"}, "unknown keep_checkpoints 'first'"),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make_recipe({"task": "subset_sum", "max_steps": 1, "report_to": ["none"], **fields})


def test_without_a_task_there_is_nothing_to_evaluate_on() -> None:
    recipe = make_recipe(
        {"dataset_name": "rows.jsonl", "eval_every": 2, "report_to": ["none"], "bf16": False}
    )
    with pytest.raises(InputError, match="eval_every evaluates on a task"):
        check_loggers(recipe)
