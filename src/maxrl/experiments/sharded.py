"""Runs whose weights are spread over processes (FSDP, DeepSpeed ZeRO): what they cannot do, and a whole copy to evaluate.

Such a model runs in all processes at once or in none: the first process alone would wait for the others for ever. So it
evaluates a copy of its own, read from the model's source before training and from what was saved after it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from maxrl.errors import InputError
from maxrl.experiments.recipe import Recipe


def check_sharding(accelerator: Accelerator, recipe: Recipe) -> None:
    """Refuse, before the first step, what would fail or hang at the end of one.

    Raises:
        InputError: `eval_every`, or a configuration of accelerate by which no whole model is saved.
    """
    state: Any = accelerator.state
    fsdp = state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    plugin = getattr(state, "deepspeed_plugin", None)
    zero3 = plugin is not None and plugin.zero_stage == 3
    if recipe.run.eval_every is not None and (fsdp is not None or zero3):
        raise InputError(
            f"eval_every needs the whole model in one process, and {'FSDP' if fsdp else 'ZeRO-3'} spreads it over all: "
            "leave it out, and measure checkpoints with `maxrl eval RUN/checkpoint-N`"
        )
    if fsdp is not None:
        if fsdp.fsdp_version != 2:
            raise InputError(
                f"accelerate's fsdp_version is {fsdp.fsdp_version}, whose weights cannot be told from whole ones: set it to "
                "2, as in recipes/accelerate/fsdp2.yaml"
            )
        kind = str(fsdp.state_dict_type)
        if "FULL_STATE_DICT" not in kind:
            raise InputError(
                f"accelerate's fsdp_state_dict_type is {kind.rpartition('.')[2]}, by which no model is saved that can be "
                "loaded: set it to FULL_STATE_DICT, as in recipes/accelerate/fsdp2.yaml"
            )
    if zero3 and not plugin.zero3_save_16bit_model:
        raise InputError(
            "accelerate's zero3_save_16bit_model is off, by which no model is saved that can be loaded: turn it on, as in "
            "recipes/accelerate/zero3.yaml"
        )


def is_spread(model: nn.Module) -> bool:
    """Whether a process holds parts of the weights only."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters())


@contextmanager
def loading_whole(accelerator: Accelerator) -> Generator[None]:
    """Models are loaded whole: under ZeRO-3 transformers spreads every model over the processes as it is loaded."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if plugin is not None:
            set_hf_deepspeed_config(getattr(plugin, "dschf", None) or plugin.hf_ds_config)
