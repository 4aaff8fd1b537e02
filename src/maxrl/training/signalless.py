"""A step in which no rollout has an advantage leaves the policy as it is."""

import logging
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOTrainer

logger = logging.getLogger(__name__)


class SkipSignalless(GRPOTrainer):
    """`GRPOTrainer` whose optimizer skips a step without signal, where `skip_signalless_steps` is set.

    A gradient of zero is no standstill: momentum and weight decay go on, Adam's averages fade, and a KL penalty or an
    entropy bonus pulls alone. So before such a step every gradient is taken away (None), upon which torch's optimizers pass
    over a parameter with all of its state. Forward, backward, clipping and fp16's check for infinities have happened as
    ever, so that processes meet where they always do; the schedule of the learning rate counts the step.

    Whether there is signal is decided once per optimizer step, over all of its micro-batches and processes. It is logged
    as `steps_skipped`, 1 or 0.

    Overrides, and why:

    - `__init__`: adds the callback that acts between clipping and the optimizer; says so where it could not act.
    - `compute_loss`: sees the rows of every micro-batch.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.signal_seen = torch.zeros(1, dtype=torch.int, device=self.accelerator.device)
        """1 where a row of this process was live in this step. Evaluations come between steps and do not matter."""
        if not self.args.skip_signalless_steps:
            return
        reason = unskippable_reason(self)
        if reason is None:
            self.add_callback(_TakeGradientsAway(self))
        elif self.accelerator.is_main_process:
            logger.warning(
                "skip_signalless_steps has no effect: %s. Momentum, weight decay and KL move the weights in steps without "
                "signal, too; skip_signalless_steps=False says that this is known",
                reason,
            )

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.signal_seen |= live_rows(inputs).any().int()
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class _TakeGradientsAway(TrainerCallback):
    def __init__(self, trainer: SkipSignalless) -> None:
        self.trainer = trainer

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.trainer.signal_seen.zero_()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        # Every process comes here, and all decide alike: where one has signal, all hold its gradient.
        skip = not self.trainer.accelerator.gather(self.trainer.signal_seen).any()
        if skip:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        self.trainer._metrics["train"]["steps_skipped"].append(float(skip))


def live_rows(batch: dict[str, Any]) -> Tensor:
    """(rows,) booleans: the row has an advantage, and a token that it acts on."""
    advantages = batch["advantages"]
    live = advantages != 0 if advantages.dim() == 1 else (advantages != 0).any(dim=1)
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    return live & (mask != 0).any(dim=1)


def unskippable_reason(trainer: Any) -> str | None:
    """Why gradients cannot be taken away from this trainer's optimizer; None where they can."""
    if trainer.accelerator.distributed_type == DistributedType.DEEPSPEED:
        return "DeepSpeed steps by itself, within the backward"
    optimizer = str(getattr(trainer.args.optim, "value", trainer.args.optim)).lower()
    if "lomo" in optimizer or "layerwise" in optimizer:
        return f"the optimizer {optimizer} updates during the backward"
    return None
