"""What `SharedPrefixGenerator` draws: from which distribution, how far, and that greedy is transformers' greedy."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from tests.engine.policies import ARCHITECTURES, VOCABULARY, build, tokens
from torch import Tensor, nn
from transformers import GenerationConfig, Qwen2ForCausalLM

from maxrl.engine import Completion, SamplingParams, SharedPrefixGenerator
from maxrl.engine.draws import filtered
from maxrl.errors import InputError, MaxRLError

MakeChain = Callable[[Mapping[int, Mapping[int, float]]], Qwen2ForCausalLM]

PROMPTS = [tokens(length, 7 + length) for length in (5, 1, 9, 5, 2)]
STOPS = (2, 9, 17)
STOP = 2


def generator(model: nn.Module, stop_ids: Sequence[int] = STOPS, **options: Any) -> SharedPrefixGenerator:
    return SharedPrefixGenerator(model, stop_ids=stop_ids, **options)


@torch.no_grad()
def dense_logits(model: nn.Module, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """(tokens of the completion, V) logits that each was chosen from, by one forward without cache or padding."""
    ids = torch.tensor([[*prompt, *completion]])
    return model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]


def assert_logprobs_are_dense(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Completion]],
    params: SamplingParams,
    tolerance: float = 1e-5,
) -> None:
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            logits = dense_logits(model, prompt, completion.token_ids).float()
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


def every_completion(
    model: nn.Module, prompt: Sequence[int], params: SamplingParams, stops: Sequence[int]
) -> dict[tuple[int, ...], float]:
    """All completions of positive probability, by dense forwards."""
    done: dict[tuple[int, ...], float] = {}
    frontier: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(params.max_completion_length):
        grown: dict[tuple[int, ...], float] = {}
        for path, mass in frontier.items():
            logits = dense_logits(model, prompt, [*path, 0])[-1:]
            for token, p in enumerate(filtered(logits, params).double().softmax(-1)[0].tolist()):
                grown[(*path, token)] = mass * p
        done |= {path: mass for path, mass in grown.items() if path[-1] in stops and mass}
        frontier = {path: mass for path, mass in grown.items() if path[-1] not in stops and mass}
    return done | frontier


def p_value(counts: Mapping[Any, int], probabilities: Mapping[Any, float]) -> float:
    """Pearson's χ² test; cells too small for it are put together."""
    draws = sum(counts.values())
    large = [cell for cell, mass in probabilities.items() if mass * draws >= 5]
    expected = [probabilities[cell] * draws for cell in large]
    found = [counts.get(cell, 0) for cell in large]
    rest = draws - sum(expected)
    if rest > 1e-3:
        expected, found = [*expected, rest], [*found, draws - sum(found)]
    statistic = sum((n - m) ** 2 / m for n, m in zip(found, expected, strict=True))
    freedom = len(expected) - 1
    return float(torch.special.gammaincc(torch.tensor(freedom / 2.0), torch.tensor(statistic / 2.0)))


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


# --- where a completion ends ---------------------------------------------------------------------------------------

# 1 stops at once, 3 after two tokens, 4 by another stop token after one; 6 and 7 alternate for ever.
ENDS = {1: {2: 1.0}, 3: {4: 1.0}, 4: {5: 1.0}, 5: {2: 1.0}, 6: {7: 1.0}, 7: {6: 1.0}}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_stop_token_is_kept_and_nothing_after_it(make_chain: MakeChain, temperature: float) -> None:
    params = SamplingParams(max_completion_length=5, temperature=temperature)
    groups = generator(make_chain(ENDS), [STOP]).generate([[1], [3], [6]], params, seeds=[0] * 3)
    assert [(c.token_ids, c.finish_reason) for [c] in groups] == [
        ((2,), "stop"),
        ((4, 5, 2), "stop"),
        ((7, 6, 7, 6, 7), "length"),
    ]
    for [completion] in groups:  # each step is certain
        assert completion.logprobs == pytest.approx([0.0] * len(completion.token_ids), abs=1e-6)


@pytest.mark.parametrize("stop_ids", [(2, 5), (5, 2, 5)])
def test_any_of_several_stop_tokens_ends(make_chain: MakeChain, stop_ids: tuple[int, ...]) -> None:
    params = SamplingParams(max_completion_length=5)
    groups = generator(make_chain(ENDS), stop_ids).generate([[1], [3]], params, seeds=[0] * 2)
    assert [(c.token_ids, c.finish_reason) for [c] in groups] == [((2,), "stop"), ((4, 5), "stop")]


@pytest.mark.parametrize(
    ("longest", "token_ids", "reason"), [(3, (4, 5, 2), "stop"), (2, (4, 5), "length"), (1, (4,), "length")]
)
def test_a_stop_token_in_the_last_place_still_counts(
    make_chain: MakeChain, longest: int, token_ids: tuple[int, ...], reason: str
) -> None:
    params = SamplingParams(max_completion_length=longest)
    [[completion]] = generator(make_chain(ENDS), [STOP]).generate([[3]], params, seeds=[0])
    assert (completion.token_ids, completion.finish_reason) == (token_ids, reason)


def test_one_token_completions(make_chain: MakeChain) -> None:
    params = SamplingParams(max_completion_length=1, num_generations=2)
    groups = generator(make_chain(ENDS), [STOP]).generate([[1], [3, 6]], params, seeds=[0] * 2)
    assert [[(c.token_ids, c.finish_reason) for c in group] for group in groups] == [
        [((2,), "stop")] * 2,
        [((7,), "length")] * 2,
    ]


def test_a_stop_token_in_the_prompt_ends_nothing(make_chain: MakeChain) -> None:
    params = SamplingParams(max_completion_length=5)
    [[completion]] = generator(make_chain(ENDS), [STOP]).generate([[2, 3]], params, seeds=[0])
    assert completion.token_ids == (4, 5, 2)


# --- requests ------------------------------------------------------------------------------------------------------


def test_no_prompts_no_completions() -> None:
    model = build("qwen2")
    assert generator(model).generate([], SamplingParams(max_completion_length=3), seeds=[]) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"prompts": [[1], []]}, "a prompt has no tokens; give each prompt at least one"),
        ({"seeds": [0]}, "seeds must have one entry for each of the 2 prompts, but has 1"),
        ({"rollouts": [range(1)] * 3}, "rollouts must have one entry for each of the 2 prompts, but has 3"),
    ],
)
def test_requests_that_make_no_sense_are_refused(changed: dict[str, Any], says: str) -> None:
    request: dict[str, Any] = {"prompts": [[1], [2]], "seeds": [0, 0], **changed}
    with pytest.raises(InputError, match=says):
        generator(build("qwen2")).generate(params=SamplingParams(max_completion_length=3), **request)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stop_ids": ()}, r"at least one stop token id \(eos_token_id of the tokenizer\)"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, but is 0"),
    ],
)
def test_generators_that_cannot_work_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        generator(build("qwen2"), **options)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_has_diverged_is_named(temperature: float) -> None:
    model = build("qwen2")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)
    params = SamplingParams(max_completion_length=3, temperature=temperature)
    with pytest.raises(MaxRLError, match=r"logits are not finite: its weights have diverged.*learning rate"):
        SharedPrefixGenerator(model, stop_ids=[2]).generate([[1, 2]], params, seeds=[0])
