"""Random numbers of a token's own, and the tokens that they choose."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from tests.engine.policies import p_value
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from maxrl.engine import SamplingParams
from maxrl.engine.draws import choose, filtered, rollout_keys, uniforms

LAST = 1 - 2**-53
"""The largest number that `uniforms` can give."""


def params(**options: Any) -> SamplingParams:
    return SamplingParams(max_completion_length=1, **options)


def table(seeds: int, rollouts: int, positions: int) -> Tensor:
    """(seeds, rollouts, positions) uniform numbers."""
    pairs = list(itertools.product(range(seeds), range(rollouts)))
    keys = rollout_keys([seed for seed, _ in pairs], [rollout for _, rollout in pairs])
    return torch.stack([uniforms(keys, position) for position in range(positions)], 1).view(
        seeds, rollouts, -1
    )


# --- numbers -------------------------------------------------------------------------------------------------------


def test_the_numbers_are_splitmix64s() -> None:
    # Written out in Python's integers, which do not overflow. A change of these numbers changes every recorded run.
    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    gamma = 0x9E3779B97F4A7C15
    for seed, rollout, position in itertools.product((0, 1, 2**63, 2**64 - 1), (0, 7), (0, 3000)):
        key = mix((mix((seed + gamma) % 2**64) + (rollout + 1) * gamma) % 2**64)
        expected = (mix((key + (position + 1) * gamma) % 2**64) >> 11) * 2.0**-53
        assert uniforms(rollout_keys([seed], [rollout]), position).tolist() == [expected]


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**40, -(10**40)])
def test_a_seed_is_any_integer(seed: int) -> None:
    keys = rollout_keys([seed, seed + 1, seed % 2**64], [0, 0, 0])
    assert keys.dtype == torch.int64
    assert keys[0] == keys[2]
    assert keys[0] != keys[1]


def test_every_token_has_its_own_number() -> None:
    numbers = table(seeds=20, rollouts=50, positions=50)
    # 50 000 of 2^53 numbers: two alike once in seven million tables.
    assert numbers.unique().numel() == numbers.numel()


def test_a_number_does_not_depend_on_the_others() -> None:
    together = table(seeds=3, rollouts=4, positions=5)
    for seed, rollout, position in itertools.product(range(3), range(4), range(5)):
        alone = uniforms(rollout_keys([seed], [rollout]), position)
        assert alone.tolist() == [together[seed, rollout, position].item()]
    assert rollout_keys([], []).tolist() == []


@pytest.mark.parametrize("axis", range(3), ids=["seeds", "rollouts", "positions"])
def test_numbers_are_uniform_and_neighbours_independent(axis: int) -> None:
    numbers = table(seeds=40, rollouts=40, positions=40)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    # Moments within 4.5 standard errors: a good generator fails one of the three once in 50 000 tables.
    count = numbers.numel()
    for power, variance in ((1, 1 / 12), (2, 4 / 45), (3, 9 / 112)):
        error = float((numbers**power).mean()) - 1 / (power + 1)
        assert abs(error) < 4.5 * (variance / count) ** 0.5
    # Pairs of neighbours along the axis in 8 × 8 cells: by χ² a good generator fails once in ten thousand tables.
    first, second = (numbers.narrow(axis, start, 39) for start in (0, 1))
    cells = (first * 8).long() * 8 + (second * 8).long()
    assert p_value(Counter(cells.flatten().tolist()), dict.fromkeys(range(64), 1 / 64)) > 1e-4


def test_all_bits_are_used() -> None:
    bits = (table(seeds=4, rollouts=40, positions=40).flatten() * 2**53).long()
    for bit in range(53):
        ones = float(((bits >> bit) & 1).double().mean())
        assert abs(ones - 0.5) < 5 * 0.5 / len(bits) ** 0.5  # fails once in 30 000 tables


# --- the choice ----------------------------------------------------------------------------------------------------


def test_a_token_is_where_the_cumulative_distribution_passes_the_number() -> None:
    probabilities = torch.tensor([0.125, 0.25, 0.0, 0.5, 0.125])
    numbers = torch.tensor([0.0, 0.1, 0.126, 0.374, 0.376, 0.874, 0.876, LAST], dtype=torch.float64)
    logits = probabilities.log().expand(len(numbers), -1)
    chosen, logprobs = choose(logits, params(), numbers)
    assert chosen.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    torch.testing.assert_close(logprobs, probabilities.log()[chosen])


@pytest.mark.parametrize("vocabulary", [1, 2, 7, 50_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_a_token_of_probability_zero(vocabulary: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for first, last in ((0, vocabulary), (0, 1), (vocabulary - 1, vocabulary), (vocabulary // 2, vocabulary)):
        row = torch.full((vocabulary,), -torch.inf)
        row[first:last] = 30 * torch.randn(vocabulary, generator=generator)[first:last]
        rows.append(row)
    rows.append(rows[0].clone())
    rows[-1][torch.rand(vocabulary, generator=generator) < 0.5] = -torch.inf
    rows[-1][vocabulary // 2] = 0.0
    logits = torch.stack(rows).to(dtype)
    for number in (0.0, 2**-53, 0.5, 1 - 2**-24, LAST):
        chosen, logprobs = choose(logits, params(), torch.full((len(rows),), number, dtype=torch.float64))
        assert int(chosen.max()) < vocabulary
        assert logprobs.isfinite().all()
        assert (logits.float().softmax(-1).gather(1, chosen[:, None]) > 0).all()


def test_all_mass_on_one_token() -> None:
    for token in (0, 3, 6):
        logits = torch.full((3, 7), -torch.inf)
        logits[:, token] = 12.0
        numbers = torch.tensor([0.0, 0.5, LAST], dtype=torch.float64)
        chosen, logprobs = choose(logits, params(), numbers)
        assert chosen.tolist() == [token] * 3
        assert logprobs.tolist() == [0.0] * 3


def test_a_rare_token_is_drawn_as_often_as_it_should() -> None:
    # 10^-8 for the last of 50 000 tokens: a sum in single precision would lose it.
    vocabulary, rare = 50_000, 1e-8
    probabilities = torch.full((vocabulary,), (1 - rare) / (vocabulary - 1), dtype=torch.float64)
    probabilities[-1] = rare
    numbers = torch.tensor([1 - 1.05 * rare, 1 - 0.95 * rare], dtype=torch.float64)
    chosen, _ = choose(probabilities.log().float().expand(2, -1), params(), numbers)
    assert (chosen == vocabulary - 1).tolist() == [False, True]


def test_low_precision_ends_with_the_logits() -> None:
    logits = torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    numbers = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for given in (params(), params(top_p=0.9), params(temperature=0)):
        for low, exact in zip(
            choose(logits, given, numbers), choose(logits.float(), given, numbers), strict=True
        ):
            assert low.dtype == exact.dtype
            assert torch.equal(low, exact)


def test_the_likeliest_at_temperature_zero() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, -1.0, 0.0]])
    # What is left out makes no difference to the likeliest; its log-probability is the model's.
    chosen, logprobs = choose(logits, params(temperature=0, top_k=1, top_p=0.1), None)
    assert chosen.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[[0, 1], [1, 0]])


OPTIONS = [
    {"temperature": 0.7},
    {"temperature": 1.6},
    {"top_k": 3},
    {"top_k": 1},
    {"top_k": 100},
    {"top_p": 0.8},
    {"top_p": 1e-9},
    {"min_p": 0.3},
    {"min_p": 1.0},
    {"min_p": 0.0},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
]


def warpers(given: SamplingParams) -> LogitsProcessorList:
    """transformers' own, in the order in which `generate` applies them."""
    chain = LogitsProcessorList([TemperatureLogitsWarper(float(given.temperature))])
    if given.top_k:
        chain.append(TopKLogitsWarper(given.top_k))
    if given.top_p < 1:
        chain.append(TopPLogitsWarper(given.top_p))
    if given.min_p is not None:
        chain.append(MinPLogitsWarper(given.min_p))
    return chain


def test_a_nucleus_of_exactly_top_p() -> None:
    logits: Any = torch.zeros(1, 4)
    kept = filtered(logits, params(top_p=0.5))
    assert int(kept.isfinite().sum()) == 2
    assert torch.equal(kept, TopPLogitsWarper(0.5)(logits, logits))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_filters_are_those_of_transformers(options: dict[str, Any]) -> None:
    logits = 2 * torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    logits[::2] = logits[::2].round()  # ties
    given = params(**options)
    before = logits.clone()
    found = filtered(logits, given)
    ids: Any = torch.zeros(200, 1, dtype=torch.long)  # which these warpers do not look at
    assert torch.equal(found, warpers(given)(ids, logits))
    assert found.isfinite().any(-1).all()
    assert torch.equal(logits, before)
    numbers = torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen, logprobs = choose(logits, given, numbers)
    torch.testing.assert_close(logprobs, found.log_softmax(-1).gather(1, chosen[:, None])[:, 0])
