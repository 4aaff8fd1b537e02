"""What serves a trainer: the shared-prefix engine, transformers, or vLLM, and why."""

from typing import Any

from accelerate.utils import DistributedType
from torch import nn

from maxrl.engine import unsupported_reason

WHOLE_WEIGHTS = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
"""Ways of running in which every process holds the whole model."""


def rollouts_reason(trainer: Any) -> str | None:
    """Why the engine cannot draw this trainer's rollouts; None where it can."""
    args = trainer.args
    if trainer.rollout_func is not None:
        return "rollout_func draws them"
    if trainer.tools:
        return "tools are in play"
    if trainer.environment_factories is not None:
        return "an environment is in play"
    if args.repetition_penalty != 1.0:
        return f"repetition_penalty is {args.repetition_penalty}"
    if args.generation_kwargs:
        return f"generation_kwargs has {', '.join(args.generation_kwargs)}"
    if trainer.use_transformers_continuous_batching:
        return "continuous batching was asked for"
    if args.max_completion_length is None:
        return "max_completion_length is not set"
    return _model_reason(trainer, training=False)


def update_reason(trainer: Any) -> str | None:
    """Why the engine cannot compute this trainer's update; None where it can."""
    args = trainer.args
    generations, accumulation = args.steps_per_generation, args.gradient_accumulation_steps
    if generations % accumulation and accumulation % generations:
        return (
            f"neither of steps_per_generation ({generations}) and gradient_accumulation_steps ({accumulation}) divides "
            "the other"
        )
    if trainer.top_entropy_quantile < 1:
        return "top_entropy_quantile ranks tokens across the whole batch"
    if trainer.use_adaptive_entropy:
        return "use_adaptive_entropy steers by the whole batch"
    if trainer.aux_loss_enabled:
        return "the loss has a load-balancing term"
    if args.torch_compile:
        return "torch_compile would compile anew for every chunk"
    if args.cast_lm_head_to_fp32:
        return "cast_lm_head_to_fp32 is TRL's"
    optimizer = str(getattr(args.optim, "value", args.optim)).lower()
    if "lomo" in optimizer or "layerwise" in optimizer:
        return f"the optimizer {optimizer} updates during the backward"
    return _model_reason(trainer)


def _model_reason(trainer: Any, *, training: bool = True) -> str | None:
    kind = trainer.accelerator.distributed_type
    if kind not in WHOLE_WEIGHTS:
        return f"the weights are spread over processes ({kind.value})"
    if trainer.args.n_gpu > 1:
        return "several GPUs are driven by one process"
    if trainer._is_vlm:
        return "the model is multimodal"
    model: nn.Module = trainer.model
    return unsupported_reason(model, training=training)
