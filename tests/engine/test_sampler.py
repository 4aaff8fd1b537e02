"""What `SharedPrefixGenerator` draws: from which distribution, how far, and that greedy is transformers' greedy."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.engine.policies import (
    ARCHITECTURES,
    PROMPTS,
    STOPS,
    VOCABULARY,
    build,
    dense_logits,
    generator,
    p_value,
    tokens,
)
from torch import nn
from transformers import GenerationConfig

from maxrl.engine import Completion, SamplingParams
from maxrl.engine.draws import filtered
from maxrl.errors import InputError, MaxRLError

STOP = 2


@torch.no_grad()
def assert_logprobs_are_dense(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Completion]],
    params: SamplingParams,
    tolerance: float = 1e-5,
) -> None:
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            logits = dense_logits(model, [*prompt, *completion.token_ids])[len(prompt) - 1 : -1].float()
            if params.temperature:
                logits = filtered(logits, params)  # test_draws compares this with transformers
            rows = logits.log_softmax(-1)
            expected = [float(row[token]) for row, token in zip(rows, completion.token_ids, strict=True)]
            assert completion.logprobs == pytest.approx(expected, abs=tolerance, rel=0)


# --- the distribution ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.6}, {"temperature": 0.0}], ids=str)
def test_log_probabilities_are_those_of_a_dense_forward(name: str, options: dict[str, Any]) -> None:
    model = build(name)
    count = 1 if options.get("temperature") == 0 else 12
    params = SamplingParams(max_completion_length=12, num_generations=count, **options)
    groups = generator(model).generate(PROMPTS, params, seeds=range(5))
    assert [len(group) for group in groups] == [count] * 5
    assert_logprobs_are_dense(model, PROMPTS, groups, params)
    lengths = {len(completion.token_ids) for group in groups for completion in group}
    assert len(lengths) > 1  # rollouts were dropped on the way


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.3},
        {"temperature": 1.3, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
    ],
    ids=str,
)
def test_log_probabilities_are_those_of_the_distribution_drawn_from(options: dict[str, Any]) -> None:
    model = build("qwen2")
    params = SamplingParams(max_completion_length=8, num_generations=6, **options)
    groups = generator(model).generate(PROMPTS, params, seeds=range(5))
    assert_logprobs_are_dense(model, PROMPTS, groups, params)


@torch.no_grad()
def every_completion(
    model: nn.Module, prompt: Sequence[int], params: SamplingParams, stops: Sequence[int]
) -> dict[tuple[int, ...], float]:
    """All completions of positive probability, by dense forwards."""
    done: dict[tuple[int, ...], float] = {}
    frontier: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(params.max_completion_length):
        grown: dict[tuple[int, ...], float] = {}
        for path, mass in frontier.items():
            logits = dense_logits(model, [*prompt, *path])[-1:]
            for token, p in enumerate(filtered(logits, params).double().softmax(-1)[0].tolist()):
                grown[(*path, token)] = mass * p
        done |= {path: mass for path, mass in grown.items() if path[-1] in stops and mass}
        frontier = {path: mass for path, mass in grown.items() if path[-1] not in stops and mass}
    return done | frontier


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.5}, {"temperature": 1.2, "top_k": 3}, {"top_p": 0.9, "min_p": 0.05}],
    ids=str,
)
def test_frequencies_are_the_probabilities(options: dict[str, Any]) -> None:
    model = build("qwen2", vocab_size=6)
    draws = 8000
    params = SamplingParams(max_completion_length=3, num_generations=draws, **options)
    prompts = [[1, 4, 0], [5]]
    groups = generator(model, [STOP]).generate(prompts, params, seeds=[11, 12])
    for prompt, group in zip(prompts, groups, strict=True):
        expected = every_completion(model, prompt, params, [STOP])
        assert math.isclose(sum(expected.values()), 1, abs_tol=1e-6)
        assert sum(mass * draws >= 5 for mass in expected.values()) > 8  # enough to tell
        counts = Counter(completion.token_ids for completion in group)
        assert counts.keys() <= expected.keys()
        for completion in group[:100]:
            assert sum(completion.logprobs) == pytest.approx(
                math.log(expected[completion.token_ids]), abs=1e-4
            )
        # A correct sampler fails for one seed in ten thousand; these seeds pass.
        assert p_value(counts, expected) > 1e-4


def test_rollouts_and_prompts_are_independent() -> None:
    model = build("llama", vocab_size=6)
    params = SamplingParams(max_completion_length=1, num_generations=8000)
    prompts = [[1, 4, 0], [5], [1, 4, 0]]  # the same prompt twice, with a seed of its own
    groups = generator(model, [STOP]).generate(prompts, params, seeds=[11, 12, 13])
    marginals = [every_completion(model, prompt, params, [STOP]) for prompt in prompts]
    drawn = [[completion.token_ids for completion in group] for group in groups]
    pairs = [(a, b) for a, b in itertools.product(range(3), range(3)) if a < b]
    columns = [(drawn[a], drawn[b], marginals[a], marginals[b]) for a, b in pairs]
    # Neighbours of one group, each rollout in one pair.
    columns += [(ids[::2], ids[1::2], p, p) for ids, p in zip(drawn, marginals, strict=True)]
    for first, second, p, q in columns:
        joint = {(one, other): p[one] * q[other] for one, other in itertools.product(p, q)}
        # By chance once in ten thousand, for each of six pairs; these seeds pass.
        assert p_value(Counter(zip(first, second, strict=True)), joint) > 1e-4


# --- greedy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_ids", [STOPS, (VOCABULARY - 1,)], ids=["stops", "hardly a stop"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_is_transformers_greedy(name: str, stop_ids: tuple[int, ...]) -> None:
    model: Any = build(name, seed=3)
    prompts = [tokens(length, length) for length in (1, 2, 3, 4, 5, 8, 13, 13)]
    params = SamplingParams(max_completion_length=24, temperature=0)
    groups = generator(model, stop_ids).generate(prompts, params, seeds=[0] * len(prompts))
    config = GenerationConfig(
        do_sample=False, max_new_tokens=24, eos_token_id=list(stop_ids), pad_token_id=0, disable_compile=True
    )
    stopped = set()
    for prompt, [completion] in zip(prompts, groups, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        assert list(completion.token_ids) == theirs[0, len(prompt) :].tolist()
        stopped.add(completion.finish_reason)
    assert "length" in stopped or stop_ids is STOPS


# --- what cannot be done ---------------------------------------------------------------------------------------------


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="batch_tokens must be at least 1, but is 0"):
        generator(build("qwen2"), batch_tokens=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_has_diverged_is_named(temperature: float) -> None:
    model = build("qwen2")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)
    params = SamplingParams(max_completion_length=3, temperature=temperature)
    with pytest.raises(MaxRLError, match=r"logits are not finite: its weights have diverged.*learning rate"):
        generator(model).generate([[1, 2]], params, seeds=[0])
