"""One process of a run on two tasks whose groups differ in size; the engine samples.

Run with: python mixed_rank.py POLICY_FOLDER OUTPUT.pt ROWS_PER_PROCESS BACKEND   (under torchrun for several ranks).
BACKEND is that of the update.
"""

import faulthandler
import sys
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset

from maxrl.models import load_policy, load_tokenizer
from maxrl.training import MaxRLConfig, MaxRLTrainer


def even(completions: list[str], **_: Any) -> list[float]:
    """Rewards that most groups differ in."""
    return [float(len(completion.split()) % 2 == 0) for completion in completions]


def prompts() -> Dataset:
    """Twelve of each task."""
    return Dataset.from_list(
        [
            {"prompt": f"{1 + number % 4} {word} =", "id": f"{task}-{number}", "task": task}
            for number in range(12)
            for task, word in (("three", "1"), ("five", "2"))
        ]
    )


def main(policy: str, output: str, rows: int, backend: str) -> None:
    faulthandler.dump_traceback_later(120, exit=True)  # a rank that hangs says where, and fails the test
    torch.set_num_threads(1)
    batches: list[dict[str, Any]] = []

    class Recording(MaxRLTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            ids = gather_object([row["id"] for row in inputs])
            batch = super()._generate_and_score_completions(inputs)
            batches.append({"ids": ids, "advantages": self.accelerator.gather(batch["advantages"]).tolist()})
            return batch

    trainer = Recording(
        model=load_policy(policy),
        reward_funcs=even,
        args=MaxRLConfig(
            output_dir=output + ".d",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            per_device_train_batch_size=rows,
            task_settings={
                "three": {"num_generations": 3, "advantage_estimator": "grpo"},
                "five": {"num_generations": 5, "advantage_estimator": "curve_rl"},
            },
            max_completion_length=5,
            max_steps=5,
            optim="sgd",
            learning_rate=0.5,
            lr_scheduler_type="constant",
            max_grad_norm=1e9,
            save_strategy="no",
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
            rollout_backend="engine",
            update_backend=backend,
            update_token_budget=40,
        ),
        train_dataset=prompts(),
        processing_class=load_tokenizer(policy),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        kept = ("tasks/", "success_rate", "groups/", "frac_reward_zero_std", "reward_std")
        torch.save(
            {
                "weights": torch.cat([p.detach().flatten() for p in model.parameters()]),
                "batches": batches,
                "states": trainer.estimating.states,
                "logged": [
                    {name: value for name, value in row.items() if name.startswith(kept)}
                    for row in trainer.state.log_history
                    if "reward" in row
                ],
            },
            output,
        )
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
