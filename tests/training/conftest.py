"""Training runs of these tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.training.kinds import Rewards, data
from tests.training.runs import Recording
from tests.training.settings import settings
from transformers import Qwen2ForCausalLM

from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset

CONSTRUCTOR = (
    "reward_funcs",
    "peft_config",
    "rollout_func",
    "eval_dataset",
    "train_dataset",
    "callbacks",
    "estimator",
)


@pytest.fixture
def make_trainer(
    tmp_path: Path, policy_folder: Path, tokenizer: Any, task: SubsetSum
) -> Callable[..., MaxRLTrainer]:
    """A trainer of a fresh policy that has not started. Keywords that are no fields go to the constructor."""

    def make(cls: type[MaxRLTrainer] = MaxRLTrainer, **fields: Any) -> MaxRLTrainer:
        extra = {name: fields.pop(name) for name in CONSTRUCTOR if name in fields}
        extra.setdefault("reward_funcs", TaskReward(task))
        extra.setdefault("train_dataset", task_dataset(task, "train", 64))
        return cls(
            model=Qwen2ForCausalLM.from_pretrained(policy_folder),
            args=MaxRLConfig(**settings(tmp_path, **fields)),
            processing_class=tokenizer,
            **extra,
        )

    return make


@pytest.fixture
def run_kinds(make_trainer: Any) -> Callable[..., tuple[Recording, Rewards]]:
    """A run on prompts in order, four groups of four a step."""

    def run(kinds: Sequence[str], **fields: Any) -> tuple[Recording, Rewards]:
        rewards = fields.pop("reward_funcs", Rewards())
        trainer = make_trainer(
            Recording,
            train_dataset=data(kinds),
            reward_funcs=rewards,
            **{
                "per_device_train_batch_size": 16,
                "shuffle_dataset": False,
                "max_steps": 1,
                "num_completions_to_print": 0,
                **fields,
            },
        )
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
        return trainer, rewards

    return run
