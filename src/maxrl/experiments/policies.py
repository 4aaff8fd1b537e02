"""The policy a recipe asks for: made on the spot, or loaded, with its tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import get_peft_config, get_quantization_config

from maxrl.engine import Generator, make_generator
from maxrl.errors import InputError
from maxrl.experiments.recipe import Recipe
from maxrl.models import load_policy, load_tokenizer
from maxrl.training.warm_starts import warm_start

Sampler = Literal["auto", "engine", "transformers"]
_SAMPLERS: dict[str, Sampler] = {
    "auto": "auto",
    "engine": "engine",
    "transformers": "transformers",
    "vllm": "auto",  # which belongs to the trainer
}
"""`rollout_backend` of a recipe → what samples in evaluations."""


@dataclass(frozen=True)
class Policy:
    """A model that can be trained or sampled, and the tokenizer that goes with it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    peft_config: Any = None
    sampler: Sampler = "auto"
    """Back-end of `generator`, see `make_generator`."""
    load: Callable[[str], PreTrainedModel] = load_policy
    """Another model by the same options, from where it lies."""

    def generator(self, model: Any = None) -> Generator:
        """Samples this policy, or `model` (a trained form of it)."""
        model = self.model if model is None else model
        stop_ids = model.generation_config.eos_token_id
        stop_ids = [] if stop_ids is None else [stop_ids] if isinstance(stop_ids, int) else list(stop_ids)
        return make_generator(
            model,
            stop_ids=[self.tokenizer.eos_token_id, *stop_ids],
            pad_id=self.tokenizer.pad_token_id,
            backend=self.sampler,
        )


def prepare_policy(recipe: Recipe, *, progress: Callable[[int, float], None] | None = None) -> Policy:
    """Load or make the policy of a recipe, on the device that training will use.

    Args:
        recipe: names the model, or `tiny`.
        progress: told (step, pass rate) while a tiny model is warming up.

    Raises:
        InputError: the model cannot be loaded.
    """
    source = recipe.model_name
    if source == "tiny":
        source = str(_tiny(recipe, progress))
    tokenizer = load_tokenizer(
        source, revision=recipe.model.model_revision, trust_remote_code=recipe.training.trust_remote_code
    )
    # Bound now: the trainer takes the options from the recipe, since its model is made already.
    load = partial(_load, _model_kwargs(recipe), recipe.training.device)
    return Policy(
        model=load(source),
        tokenizer=tokenizer,
        peft_config=get_peft_config(recipe.model),
        sampler=_SAMPLERS[recipe.training.rollout_backend],
        load=load,
    )


def _load(kwargs: dict[str, Any], device: torch.device, source: str) -> PreTrainedModel:
    return load_policy(source, **kwargs).to(device)


def _tiny(recipe: Recipe, progress: Callable[[int, float], None] | None) -> Path:
    if recipe.training.world_size > 1:
        raise InputError(
            "the tiny model is warmed up by one process: make it once without accelerate (`maxrl train … --max_steps 1`) "
            "and pass the folder it was saved in as --model_name_or_path"
        )
    return warm_start(
        recipe.task,
        recipe.tiny,
        recipe.warm_start,
        max_completion_length=recipe.training.max_completion_length or 256,
        progress=progress,
    )


def _model_kwargs(recipe: Recipe) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        "revision": recipe.model.model_revision,
        "dtype": recipe.model.dtype,
        "attn_implementation": recipe.model.attn_implementation,
        "trust_remote_code": recipe.training.trust_remote_code,
        "quantization_config": get_quantization_config(recipe.model),
        **(recipe.training.model_init_kwargs or {}),
    }
    return {name: value for name, value in kwargs.items() if value is not None}
