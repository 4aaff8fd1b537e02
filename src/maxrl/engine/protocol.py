"""The one protocol every generation back-end speaks. It sees token ids only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from maxrl.errors import InputError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How completions are drawn. Names and meanings follow TRL and transformers."""

    max_completion_length: int
    """Most new tokens in a completion, the stop token included."""
    num_generations: int = 1
    """Completions per prompt (N)."""
    temperature: float = 1.0
    """Divides the logits; 0 means greedy: the likeliest token each time, one completion per prompt."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps every token."""
    min_p: float | None = None

    def __post_init__(self) -> None:
        if self.max_completion_length < 1:
            raise InputError(f"max_completion_length must be at least 1, but is {self.max_completion_length}")
        if self.num_generations < 1:
            raise InputError(f"num_generations must be at least 1, but is {self.num_generations}")
        if not 0 <= self.temperature < math.inf:  # NaN is refused as well
            raise InputError(f"temperature must be 0 (greedy) or above and finite, but is {self.temperature}")
        if self.temperature == 0 and self.num_generations > 1:
            raise InputError("greedy completions (temperature 0) are all alike: ask for num_generations=1")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], but is {self.top_p}")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (all tokens) or above, but is {self.top_k}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise InputError(f"min_p must lie in [0, 1], but is {self.min_p}")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled continuation of a prompt."""

    token_ids: tuple[int, ...]
    """New tokens, the stop token included where one was drawn: it is part of the rollout."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the distribution it was drawn from (after temperature,
    top-k, top-p and min-p); under the model's own at temperature 0."""
    finish_reason: FinishReason
    """"stop": a stop token was drawn. "length": `max_completion_length` was reached without one."""


class Generator(Protocol):
    """A policy that can be sampled."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        rollouts: Sequence[range] | None = None,
    ) -> list[list[Completion]]:
        """Completions of each prompt, in the order of the prompts.

        Dropout is off while sampling. The draw depends on the seeds alone and leaves the global random state as it
        was. Prompts may differ in length; an empty list of prompts gives an empty list.

        Args:
            prompts: token ids.
            params: how completions are drawn.
            seeds: one for each prompt.
            rollouts: which rollouts of its group are drawn here, for each prompt; `range(num_generations)` by
                default. Rollout 5 of a seed is the same one whether it is drawn with the others or apart, where the
                back-end says so (`SharedPrefixGenerator` does).

        Raises:
            InputError: an empty prompt, or not one seed for each prompt.
        """
        ...


def check_request(
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    seeds: Sequence[int],
    rollouts: Sequence[range] | None,
) -> Sequence[range]:
    """The rollouts to draw of each prompt, after a look at the rest of a request to `Generator.generate`.

    Raises:
        InputError: see there.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise InputError("a prompt has no tokens; give each prompt at least one (such as <bos>)")
    numbers = [range(params.num_generations)] * len(prompts) if rollouts is None else rollouts
    for name, given in (("seeds", seeds), ("rollouts", numbers)):
        if len(given) != len(prompts):
            raise InputError(
                f"{name} must have one entry for each of the {len(prompts)} prompts, but has {len(given)}"
            )
    return numbers
