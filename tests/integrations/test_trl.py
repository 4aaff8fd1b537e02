"""TRL's own trainer, without ours: rewards that are rescaled become the advantages it trains on."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from maxrl.integrations.rescale import rescaled_rewards
from maxrl.objectives import MaxRL
from maxrl.tasks import SubsetSum

N, PROMPTS = 8, 4


def test_trl_trains_on_maxrls_advantages(
    tmp_path: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, task: SubsetSum
) -> None:
    raw: list[list[float]] = []

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        successes = [float(len(raw) % 3 == row % (2 + len(raw))) for row in range(len(completions))]
        raw.append(successes)
        return rescaled_rewards(successes, prompts).tolist()

    words = list(tokenizer.get_vocab())[-PROMPTS:]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=N * PROMPTS, num_generations=N, max_completion_length=3,
            max_steps=3, scale_rewards="none", report_to="none", bf16=False, use_cpu=True, logging_steps=1,
            save_strategy="no", disable_tqdm=True, chat_template_kwargs=None,
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": words}),
    )  # fmt: skip
    kept: list[torch.Tensor] = []
    scored = trainer._generate_and_score_completions

    def keep(inputs: Any) -> Any:
        batch = scored(inputs)
        kept.append(batch["advantages"].clone())
        return batch

    trainer._generate_and_score_completions = keep
    trainer.train()
    assert len(raw) == len(kept) == 3
    for successes, advantages in zip(raw, kept, strict=True):
        wanted = MaxRL()(torch.tensor(successes).reshape(PROMPTS, N)).flatten()
        assert wanted.abs().sum() > 0
        torch.testing.assert_close(advantages, wanted, rtol=1e-6, atol=1e-6)
