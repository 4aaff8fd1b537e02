"""One of two ranks with a group each: only the second one's has signal, then both, then none.

Run under torchrun with: python one_sided_rank.py POLICY_FOLDER OUTPUT_FOLDER BACKEND
"""

import faulthandler
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from maxrl.models import load_policy, load_tokenizer
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, task_dataset

LIVE, DEAD = [1.0, 0.0, 0.0, 0.0], [0.0] * 4
SCRIPT = [(DEAD, LIVE), (LIVE, LIVE), (DEAD, DEAD), (DEAD, DEAD), (DEAD, LIVE)]
"""Per step: rewards of the first rank's group and of the second's."""


def main(policy: str, output: str, backend: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)  # a rank that hangs says where, and fails the test
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(policy)
    task = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
    script = iter(SCRIPT)

    def scripted(completions: list[str], **_: Any) -> list[float]:
        return next(script)[trainer.accelerator.process_index]

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        completion_ids = [[*ids, *ids][row : row + 5] for row, ids in enumerate(prompt_ids)]
        logprobs = [[-1.0] * 5] * len(prompts)
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    weights: list[torch.Tensor] = []

    class Snapshots(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))

    trainer = MaxRLTrainer(
        model=load_policy(policy),
        reward_funcs=scripted,
        args=MaxRLConfig(
            output_dir=output,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=5,
            max_steps=len(SCRIPT),
            learning_rate=1e-2,
            weight_decay=0.1,
            save_strategy="no",
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
            update_backend=backend,
        ),
        train_dataset=task_dataset(task, "train", 64),
        processing_class=tokenizer,
        rollout_func=rollouts,
        callbacks=[Snapshots()],
    )
    trainer.train()
    assert trainer.packed == (backend == "engine")
    skipped = [row["steps_skipped"] for row in trainer.state.log_history if "steps_skipped" in row]
    rank = trainer.accelerator.process_index
    torch.save({"weights": weights, "skipped": skipped}, Path(output) / f"rank{rank}.pt")
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(*sys.argv[1:])
