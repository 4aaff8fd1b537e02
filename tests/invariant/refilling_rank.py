"""One process of a run that refills dead groups: rewards say which prompts are live, the engine samples.

Run with: torchrun … refilling_rank.py POLICY_FOLDER OUTPUT.json ROWS_PER_PROCESS [LIVE_PROMPT]
"""

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset

from maxrl.models import load_policy, load_tokenizer
from maxrl.objectives import CurveRL
from maxrl.training import MaxRLConfig, MaxRLTrainer

GROUP = 4
LIVE = "1 2 3"
KINDS = ["live", "dead", "dead", "dead", *["dead", "live", "dead"] * 12]
"""The first rank's groups are live and dead, the second's both dead."""


def prompts_of_kinds() -> Dataset:
    """A prompt of each of `KINDS`, with its number for an id."""
    return Dataset.from_dict(
        {
            "prompt": [LIVE if kind == "live" else "4 4 4" for kind in KINDS],
            "id": [str(number) for number in range(len(KINDS))],
        }
    )


def main(policy: str, output: str, rows: int, live: str = LIVE) -> None:
    faulthandler.dump_traceback_later(60, exit=True)  # a rank that hangs says where, and fails the test
    torch.set_num_threads(1)
    calls: list[list[str]] = []

    def reward(prompts: list[str], id: list[str], **_: Any) -> list[float]:
        calls.append(id[::GROUP])
        return [float(prompt == live and row % GROUP == 0) for row, prompt in enumerate(prompts)]

    batches: list[dict[str, Any]] = []

    class Recording(MaxRLTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            batches.append(batch)
            return batch

    trainer = Recording(
        model=load_policy(policy),
        reward_funcs=reward,
        args=MaxRLConfig(
            output_dir=output + ".d",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            per_device_train_batch_size=rows,
            num_generations=GROUP,
            max_completion_length=5,
            max_steps=1,
            refill_dead_groups=8,
            shuffle_dataset=False,
            save_strategy="steps",
            save_steps=1,
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
        ),
        train_dataset=prompts_of_kinds(),
        processing_class=load_tokenizer(policy),
        estimator=CurveRL(),
    )
    trainer.train()
    (batch,) = batches
    own = {
        "calls": calls,
        "advantages": batch["advantages"].tolist(),
        "rows": len(batch["completion_ids"]),
        "tokens": int(batch["completion_mask"].sum()),
        "num_items_in_batch": int(batch["num_items_in_batch"]),
        "progress": vars(trainer.progress),
        "states": trainer.estimating.states,
        "weights": float(sum(p.double().sum() for p in trainer.model.parameters())),
        "logged": [row for row in trainer.state.log_history if "reward" in row],
    }
    ranks = gather_object([own])
    if trainer.is_world_process_zero():
        Path(output).write_text(json.dumps(ranks))
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
