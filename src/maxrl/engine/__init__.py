"""Token ids in; completions out, and log-probabilities with gradient. Prompts are shared by their rollouts.

Two halves. Sampling: callers know `Generator`, `SamplingParams` and `Completion`; `make_generator` decides which back-end
serves them. Scoring: `PromptGroup`s in, `token_logprobs` out, inside `engine_attention(model)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from maxrl.engine.hardware import available_cores, choose_threads, cpu_multiplies_bf16, keep_freed_memory
from maxrl.engine.packing import PackedGroups, PromptGroup, pack, split_groups
from maxrl.engine.protocol import Completion, Generator, SamplingParams

if TYPE_CHECKING:
    from maxrl.engine.attention import engine_attention
    from maxrl.engine.choice import make_generator
    from maxrl.engine.modes import evaluation_mode
    from maxrl.engine.sampler import SharedPrefixGenerator
    from maxrl.engine.scoring import TokenScores, token_logprobs
    from maxrl.engine.support import unsupported_reason
    from maxrl.engine.transformers_backend import TransformersGenerator

_HOME = {
    "SharedPrefixGenerator": "sampler",
    "TokenScores": "scoring",
    "TransformersGenerator": "transformers_backend",
    "engine_attention": "attention",
    "evaluation_mode": "modes",
    "make_generator": "choice",
    "token_logprobs": "scoring",
    "unsupported_reason": "support",
}
"""What needs transformers is imported when it is first used: reports and monitors, which want the machine's cores, do
not wait for it."""

__all__ = [
    "Completion",
    "Generator",
    "PackedGroups",
    "PromptGroup",
    "SamplingParams",
    "SharedPrefixGenerator",
    "TokenScores",
    "TransformersGenerator",
    "available_cores",
    "choose_threads",
    "cpu_multiplies_bf16",
    "engine_attention",
    "evaluation_mode",
    "keep_freed_memory",
    "make_generator",
    "pack",
    "split_groups",
    "token_logprobs",
    "unsupported_reason",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'maxrl.engine' has no attribute {name!r}")
    return getattr(import_module(f"maxrl.engine.{_HOME[name]}"), name)
