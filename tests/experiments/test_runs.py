"""How many problems a run needs, however TRL cuts generations into micro-steps, and what it has cost."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.experiments import made_runs
from tests.smallest import write_recipe
from transformers import Qwen2ForCausalLM

from maxrl.cli import main
from maxrl.engine import SamplingParams, SharedPrefixGenerator, TransformersGenerator
from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation.files import this_machine
from maxrl.experiments.data import load_data
from maxrl.experiments.folders import claim_folder
from maxrl.experiments.grids.work import make_run
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.runs import complete_metrics, train_run, training_cost
from maxrl.experiments.store.checkpoints import checkpoints
from maxrl.experiments.store.metrics_file import append_rows
from maxrl.experiments.store.processes import RunProcess
from maxrl.experiments.store.pruning import prune_checkpoints

BASE: dict[str, Any] = {
    "task": "subset_sum",
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 5,
    "report_to": ["none"],
}


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        # One generation of 8 rows = 2 groups a step.
        ({"max_steps": 6}, 12),
        # Accumulation: a step takes 3 micro-steps and the generation serves all 3: 24 rows = 6 groups a step.
        ({"max_steps": 6, "gradient_accumulation_steps": 3}, 36),
        # Each generation is used twice: 6 steps take 3 generations of 2 groups.
        ({"max_steps": 6, "num_iterations": 2}, 6),
        # A generation of 4 × 8 = 32 rows = 8 groups serves 4 steps: 6 steps begin 2 generations.
        ({"max_steps": 6, "steps_per_generation": 4}, 16),
        ({"max_steps": 6, "num_train_problems": 3}, 3),
    ],
)
def test_problems_that_a_run_needs(tmp_path: Path, fields: dict[str, Any], problems: int) -> None:
    recipe = make_recipe({**BASE, **fields, "output_dir": str(tmp_path)})
    assert len(load_data(recipe)[0]) == problems


def test_the_cost_is_what_the_trainer_counted() -> None:
    rows = [
        {"step": 2, "elapsed": 5.0, "rollouts": 48, "completion_tokens": 130},
        # More than 6 × 8: some were refills.
        {"step": 6, "elapsed": 9.0, "rollouts": 104, "completion_tokens": 271},
        {"step": 6, "elapsed": 9.5, "eval_success_rate": 0.5},
    ]
    assert training_cost(rows) == {
        "training_seconds": 9.5,
        "rollouts": 104,
        "completion_tokens": 271,
    }


def test_a_run_that_never_logged_cost_nothing_known() -> None:
    assert training_cost([]) == {"training_seconds": 0.0, "rollouts": 0, "completion_tokens": 0}


def test_a_run_that_another_process_makes_is_not_made_a_second_time(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        process = RunProcess(
            pid=other.pid, created=psutil.Process(other.pid).create_time(), machine=this_machine()
        )
        (tmp_path / "process.json").write_text(json.dumps(asdict(process)))
        recipe = make_recipe(
            {**BASE, "max_steps": 1, "output_dir": str(tmp_path), "overwrite_output_dir": True}
        )
        with pytest.raises(InputError, match=f"is being made by process {other.pid}"):
            train_run(recipe)
    finally:
        other.kill()
        other.communicate()


def test_every_stop_id_of_the_model_ends_a_completion(model: Qwen2ForCausalLM, tokenizer: Any) -> None:
    other = tokenizer.convert_tokens_to_ids("1")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, other]
    generator = Policy(model=model, tokenizer=tokenizer).generator()
    assert generator.stop_ids == (tokenizer.eos_token_id, other)
    (completions,) = generator.generate(
        [[1, 5]], SamplingParams(max_completion_length=6, num_generations=32), seeds=[0]
    )
    assert {c.token_ids[-1] for c in completions if c.finish_reason == "stop"} == {
        tokenizer.eos_token_id,
        other,
    }
    assert all(other not in c.token_ids[:-1] for c in completions)


@pytest.mark.parametrize(
    ("asked", "sampler"),
    [
        ("auto", SharedPrefixGenerator),
        ("engine", SharedPrefixGenerator),
        ("vllm", SharedPrefixGenerator),
        ("transformers", TransformersGenerator),
    ],
)
def test_evaluations_sample_as_the_recipe_says(policy_folder: Path, asked: str, sampler: type) -> None:
    fields = {**BASE, "max_steps": 1, "model_name_or_path": str(policy_folder), "prompt_format": "compact"}
    recipe = make_recipe({**fields, "rollout_backend": asked, "bf16": False, "output_dir": "run"})
    assert type(prepare_policy(recipe).generator()) is sampler


# --- how a run ends ------------------------------------------------------------------------------------------------


def test_a_run_whose_metrics_do_not_reach_its_end_is_not_done(tmp_path: Path) -> None:
    append_rows(tmp_path / "metrics.jsonl", [{"step": 1}, {"step": 2}])
    assert complete_metrics(tmp_path, 2) == [{"step": 1}, {"step": 2}]
    with pytest.raises(MaxRLError, match="ends at step 2, but the run at step 3: it does not count as done"):
        complete_metrics(tmp_path, 3)


def test_metrics_are_on_the_disk_before_the_run_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    for name in ("metrics.jsonl", "diagnostics.jsonl", "evals.jsonl"):
        append_rows(tmp_path / name, [{"step": 1}])
    complete_metrics(tmp_path, 1)
    assert [Path(name).name for name in synced] == ["metrics.jsonl", "diagnostics.jsonl", "evals.jsonl"]


@pytest.mark.parametrize(("keep", "left"), [("all", [2, 4]), ("last", [4]), ("none", [])])
def test_checkpoints_that_stay(tmp_path: Path, keep: str, left: list[int]) -> None:
    made_runs.make_run(tmp_path / "run", checkpoints=(2, 4))
    (tmp_path / "run" / "checkpoint-6").mkdir()  # a process died in it
    prune_checkpoints(tmp_path / "run", keep)
    kept = [path.name for path in checkpoints(tmp_path / "run")]
    assert kept == [f"checkpoint-{step}" for step in left] + (["checkpoint-6"] if keep == "all" else [])


def test_a_run_prunes_its_checkpoints_and_says_what_it_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(
        tmp_path, max_steps=4, keep_checkpoints="last", eval_before_training="false", seed=7
    )
    folder = tmp_path / "run"
    assert (
        main(["train", "--config", str(recipe), "--output_dir", str(folder), "-q", "--cpu_threads", "1"]) == 0
    )
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-4"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert environment["precision"] == "float32"
    assert environment["seeds"] == "run 7, problems 7, evaluation 0"
    assert json.loads((folder / "latest_samples.json").read_text())["completions"]
    # A grid does not take another run for its own because that is done.
    asked = {**BASE, "max_steps": 4, "output_dir": str(folder), "seed": 8}
    with pytest.raises(InputError, match=r"holds a run with other settings \(.*seed"):
        make_run(asked)
    assert not (folder / "error.txt").exists()
    # Another run in this folder does not begin with this one's model.
    (folder / "left.json.x-1-0.partial").touch()
    os.utime(folder / "left.json.x-1-0.partial", (0, 0))
    again = make_recipe({**BASE, "max_steps": 4, "output_dir": str(folder), "overwrite_output_dir": True})
    assert claim_folder(again, folder) is None
    assert not list(folder.glob("*.safetensors")) + list(folder.glob("*.partial"))
