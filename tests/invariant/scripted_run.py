"""One process of a run that ranks must agree on: rollouts from a script or from the engine, plain SGD.

Run with: python scripted_run.py POLICY_FOLDER OUTPUT.pt ROWS_PER_PROCESS ROLLOUTS BACKEND   (under torchrun for several
ranks). ROLLOUTS is `scripted` or `sampled`; BACKEND, of the update, `engine` or `transformers`.
"""

import faulthandler
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from maxrl.models import load_policy, load_tokenizer
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig, MaxRLTrainer, TaskReward, task_dataset

GROUP = 4


def even(completions: list[str], **_: Any) -> list[float]:
    """Rewards that every group differs in."""
    return [float(len(completion.split()) % 2 == 0) for completion in completions]


def main(policy: str, output: str, rows: int, source: str, backend: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)  # a rank that hangs says where, and fails the test
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        from on_processors import count_as_accelerators  # beside this program, and no module of the tests

        count_as_accelerators()
    # DeepSpeed has processors of its own, and none where a trainer is told to use them.
    processors: Any = (
        {"ddp_backend": "gloo"} if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" else {"use_cpu": True}
    )
    tokenizer = load_tokenizer(policy)
    task = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
    # Of each group: a demonstration, two single numbers, and everything at once.
    examples = {str(example.prompt): example for example in task.examples("train", 64)}

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        first = trainer.accelerator.process_index * len(prompts)  # TRL deals the rows out in rank order
        prompt_ids, completion_ids = [], []
        for index, prompt in enumerate(prompts, start=first):
            example = examples[prompt]
            numbers = [str(number) for number in example.truth["numbers"]]
            script = [task.demonstration(example), numbers[0], numbers[1], " ".join(numbers)][index % GROUP]
            prompt_ids.append(tokenizer(prompt)["input_ids"])
            ids = tokenizer(script, add_special_tokens=False)["input_ids"]
            completion_ids.append([*ids, tokenizer.eos_token_id])
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": completion_ids,
            "logprobs": [[0.0] * len(ids) for ids in completion_ids],
        }

    advantages: list[list[float]] = []

    class Recording(MaxRLTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            advantages.append(self.accelerator.gather(batch["advantages"]).tolist())
            return batch

    trainer = Recording(
        model=load_policy(policy),
        # A random policy hardly ever solves a problem; whether it says an even number of words is a matter of chance.
        reward_funcs=TaskReward(task) if source == "scripted" else even,
        args=MaxRLConfig(
            output_dir=output + ".d",
            **processors,
            bf16=False,
            activation_checkpointing=False,
            per_device_train_batch_size=rows,
            num_generations=GROUP,
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
            update_backend=backend,
            update_token_budget=40,  # several chunks, and not as many on every rank
        ),
        train_dataset=task_dataset(task, "train", 64),
        processing_class=tokenizer,
        rollout_func=rollouts if source == "scripted" else None,
    )
    trainer.train()
    trainer.save_model(output + ".d")  # by all: the weights may be spread over them
    if trainer.is_world_process_zero():
        torch.save(
            {
                "kind": trainer.accelerator.distributed_type.value,
                "weights": load_file(Path(output + ".d") / "model.safetensors"),
                "advantages": advantages,
                "success_rate": [r["success_rate"] for r in trainer.state.log_history if "success_rate" in r],
            },
            output,
        )
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
