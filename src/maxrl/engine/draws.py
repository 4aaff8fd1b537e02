"""Random numbers that belong to a token, and the tokens they choose.

A generator's stream gives each draw whatever number comes next, so that a completion depends on everything drawn before
it. Here the number is a function of the prompt's seed, the rollout and the position alone: a rollout comes out the same
in whatever batch, order or process it is drawn (up to the rounding of the model's logits).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl.engine.protocol import SamplingParams

# Constants of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), as
# signed 64-bit integers: torch multiplies modulo 2^64.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def rollout_keys(seeds: Sequence[int], rollouts: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(R,) a 64-bit key for each rollout, of its prompt's seed (any integer, taken modulo 2^64) and its number."""
    seed_R = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int64, device=device)
    rollout_R = torch.tensor(rollouts, dtype=torch.int64, device=device)
    return _mix(_mix(seed_R + _GAMMA) + (rollout_R + 1) * _GAMMA)


def uniforms(keys_R: Tensor, position: int) -> Tensor:
    """(R,) uniform numbers in [0, 1), in double precision, of a rollout's key and the position of the new token."""
    bits = _mix(keys_R + _signed((position + 1) * _GAMMA))
    return _shifted(bits, 11).double() * 2.0**-53


def _signed(number: int) -> int:
    """Modulo 2^64, as a signed 64-bit integer."""
    return (number + 2**63) % 2**64 - 2**63


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Right shift that draws zeros in: torch's own keeps the sign."""
    return (z >> bits) & (2 ** (64 - bits) - 1)


def choose(logits_RV: Tensor, params: SamplingParams, uniform_R: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (R,) and their natural log-probabilities (R,) in single precision.

    The token is where the cumulative distribution passes the uniform number. At temperature 0 it is the likeliest, and
    the log-probability the model's own.

    Args:
        logits_RV: the model's, in any precision.
        params: temperature, top-k, top-p and min-p, applied in this order, as transformers does.
        uniform_R: in [0, 1); not needed at temperature 0.
    """
    logits_RV = logits_RV.float()
    if params.temperature == 0:
        tokens_R = logits_RV.argmax(-1)
        return tokens_R, _logprobs(logits_RV, tokens_R)
    assert uniform_R is not None, "sampling needs random numbers"
    logits_RV = filtered(logits_RV, params)
    cumulative_RV = logits_RV.softmax(-1).cumsum(-1, dtype=torch.float64)
    total_R = cumulative_RV[:, -1]
    # Just below the total, so that rounding never points behind the last token of positive probability.
    target_R = torch.minimum(uniform_R * total_R, total_R.nextafter(torch.zeros_like(total_R)))
    tokens_R = torch.searchsorted(cumulative_RV, target_R[:, None], right=True)[:, 0]
    tokens_R = tokens_R.clamp_(
        max=logits_RV.shape[-1] - 1
    )  # logits that are not finite: the log-probability says so
    return tokens_R, _logprobs(logits_RV, tokens_R)


def _logprobs(logits_RV: Tensor, tokens_R: Tensor) -> Tensor:
    return logits_RV.gather(-1, tokens_R[:, None])[:, 0] - logits_RV.logsumexp(-1)


def filtered(logits_RV: Tensor, params: SamplingParams) -> Tensor:
    """Logits at the temperature, −∞ for tokens that top-k, top-p and min-p leave out; never all of a row."""
    if params.temperature != 1:
        logits_RV = logits_RV / params.temperature
    if 0 < params.top_k < logits_RV.shape[-1]:
        least = logits_RV.topk(params.top_k, dim=-1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < least, -torch.inf)
    if params.top_p < 1:
        ascending, order = logits_RV.sort(dim=-1)
        out = ascending.softmax(-1).cumsum(-1) <= 1 - params.top_p
        out[:, -1] = False  # the likeliest token stays
        logits_RV = logits_RV.masked_fill(out.scatter(-1, order, out), -torch.inf)
    if params.min_p:
        likeliest = logits_RV.amax(-1, keepdim=True)
        # p < min_p · p_max, in logarithms
        logits_RV = logits_RV.masked_fill(
            logits_RV - likeliest < torch.tensor(params.min_p).log().item(), -torch.inf
        )
    return logits_RV
