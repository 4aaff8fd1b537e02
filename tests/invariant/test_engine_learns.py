"""Training on the engine's rollouts goes where training on transformers' rollouts goes."""

import statistics
from pathlib import Path
from typing import Any

import pytest

from maxrl.engine import make_generator
from maxrl.evaluation import EvalSettings, evaluate
from maxrl.models import TinyModel, load_policy, load_tokenizer
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset, warm_start

TASK = SubsetSum(num_elements=4, max_value=10, prompt_format="compact")
SHAPE = TinyModel(tiny_layers=2, tiny_width=64, tiny_feed_forward=256)
SEEDS = (0, 1, 2)


def success_rate(model: Any, tokenizer: Any) -> float:
    generator = make_generator(model, stop_ids=[tokenizer.eos_token_id], pad_id=0)
    settings = EvalSettings(eval_problems=200, eval_samples=32, eval_ks=[1], eval_greedy=False)
    return evaluate(generator, tokenizer, TASK, settings, max_completion_length=6).at(1).estimate


def trained(policy: Path, folder: Path, seed: int, backend: str) -> float:
    tokenizer = load_tokenizer(str(policy))
    trainer = MaxRLTrainer(
        model=load_policy(str(policy)),
        reward_funcs=TaskReward(TASK),
        args=MaxRLConfig(
            output_dir=str(folder),
            seed=seed,
            rollout_backend=backend,
            num_generations=16,
            per_device_train_batch_size=128,
            max_completion_length=6,
            max_steps=60,
            learning_rate=5e-4,
            bf16=False,
            activation_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=task_dataset(TASK, "train", 600, seed=seed),
        processing_class=tokenizer,
    )
    trainer.train()
    return success_rate(trainer.model, tokenizer)


@pytest.mark.slow
def test_both_back_ends_reach_the_same_success_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_CACHE", str(tmp_path / "cache"))
    policy = warm_start(TASK, SHAPE, max_completion_length=6)
    start = success_rate(load_policy(str(policy)), load_tokenizer(str(policy)))
    rates = {
        backend: [trained(policy, tmp_path / "run", seed, backend) for seed in SEEDS]
        for backend in ("engine", "transformers")
    }
    engine, transformers = (statistics.mean(values) for values in rates.values())
    assert min(engine, transformers) > start + 0.05, "both learn"
    # A run's rate varies by about .02 from seed to seed; the difference of two means of three then has a standard
    # error of .016, and passes four of them by chance once in fifteen thousand tries.
    assert abs(engine - transformers) < 0.065
