"""How many problems a run needs, however TRL cuts generations into micro-steps, and what it has cost."""

from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2ForCausalLM

from maxrl.engine import SamplingParams, SharedPrefixGenerator, TransformersGenerator
from maxrl.experiments.data import load_data
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.runs import training_cost

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
