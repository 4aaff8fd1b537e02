"""Log-probabilities of completions over the packed layout, with gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from maxrl.engine.attention import PackedState
from maxrl.engine.packed_attention import Kernel
from maxrl.engine.packing import PromptGroup, pack
from maxrl.engine.selection import selected_logprobs


@dataclass(frozen=True)
class TokenScores:
    """Of every completion token, one row per completion in the order of the groups, zero behind its end."""

    logprobs: Tensor
    """(R, T) natural log-probability of each token, differentiable."""
    entropies: Tensor | None
    """(R, T) entropy in nats of the distribution each token was chosen from, if asked for."""


def token_logprobs(
    model: nn.Module,
    groups: Sequence[PromptGroup],
    *,
    temperature: float = 1.0,
    entropies: bool = False,
    entropy_gradient: bool = False,
    width: int | None = None,
    kernel: Kernel | None = None,
) -> TokenScores:
    """log π(token | prompt, tokens before it) of every completion token, with each prompt forwarded once.

    Call it, and the backward, inside `engine_attention(model)`. Logits are computed where they predict a completion
    token and nowhere else.

    Args:
        model: a causal language model of transformers, wrapped or not (peft, DistributedDataParallel).
        groups: prompts with their completions.
        temperature: divides the logits.
        entropies: also return them.
        entropy_gradient: with gradient.
        width: columns of the result, the longest completion's length by default.
        kernel: form of the attention, see `packed_attention`.
    """
    device = next(model.parameters()).device
    packed = pack(groups, device)
    output: Any = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        use_cache=False,
        logits_to_keep=packed.keep,
        shared_prefix=PackedState(packed, kernel),
    )
    logprobs_M, entropy_U = selected_logprobs(
        output.logits[0], packed.source, packed.targets, temperature, entropies=entropies
    )
    logprobs = packed.rows(logprobs_M, width=width)
    if entropy_U is None:
        return TokenScores(logprobs, None)
    if not entropy_gradient:
        entropy_U = entropy_U.detach()
    return TokenScores(logprobs, packed.rows(entropy_U[packed.source], width=width))
