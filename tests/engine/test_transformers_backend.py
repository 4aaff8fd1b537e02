"""`TransformersGenerator` draws from the distribution it reports, and leaves everything as it was."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.engine.policies import dense_logits, p_value
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, Qwen2ForCausalLM

from maxrl.engine import Completion, SamplingParams, TransformersGenerator

MakeChain = Callable[[Mapping[int, Mapping[int, float]]], Qwen2ForCausalLM]
PROMPTS = [[1, 4, 8, 5], [1], [1, 9, 9, 6, 7, 4, 5]]
STOP = 2


def generator(model: Any, stop_ids: Sequence[int] = (STOP,), **options: Any) -> TransformersGenerator:
    return TransformersGenerator(model, stop_ids=stop_ids, **{"pad_id": 0, **options})


@torch.no_grad()
def dense(model: nn.Module, ids: Sequence[int]) -> list[list[float]]:
    """Logits behind each token of a sequence."""
    return dense_logits(model, ids).tolist()


def drawn_from(logits: Sequence[float], params: SamplingParams) -> dict[int, float]:
    """Token → probability after temperature, top-k, top-p and min-p in this order, each on what the last one left."""
    scaled = [logit / (params.temperature or 1) for logit in logits]
    weights = {token: math.exp(value - max(scaled)) for token, value in enumerate(scaled)}
    ranked = sorted(weights, key=weights.__getitem__, reverse=True)
    if params.top_k:
        ranked = ranked[: params.top_k]
    left = sum(weights[token] for token in ranked)
    if params.top_p < 1:  # the likeliest tokens that together reach top_p
        before = itertools.accumulate((weights[token] / left for token in ranked), initial=0.0)
        ranked = [token for token, mass in zip(ranked, before, strict=False) if mass < params.top_p]
    if params.min_p is not None:
        ranked = [token for token in ranked if weights[token] >= params.min_p * weights[ranked[0]]]
    left = sum(weights[token] for token in ranked)
    return {token: weights[token] / left for token in ranked}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.6},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.3},
        {"temperature": 1.3, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
    ],
    ids=str,
)
def test_log_probabilities_are_those_of_the_distribution_drawn_from(
    sharp: Qwen2ForCausalLM, options: dict[str, Any]
) -> None:
    params = SamplingParams(max_completion_length=6, num_generations=8, **options)
    groups = generator(sharp).generate(PROMPTS, params, seeds=[3] * len(PROMPTS))
    supports: set[int] = set()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            logits = dense(sharp, [*prompt, *completion.token_ids])
            for step, (token, logprob) in enumerate(
                zip(completion.token_ids, completion.logprobs, strict=True)
            ):
                allowed = drawn_from(logits[len(prompt) - 1 + step], params)
                assert logprob == pytest.approx(math.log(allowed[token]), abs=1e-5)
                supports.add(len(allowed))
    truncating = bool(options.keys() - {"temperature"})
    assert (min(supports) < 10) is truncating  # else the case would show nothing (the vocabulary has 10)


def test_greedy_is_argmax_decoding(sharp: Qwen2ForCausalLM) -> None:
    params = SamplingParams(max_completion_length=8, temperature=0)
    groups = generator(sharp).generate(PROMPTS, params, seeds=[0] * len(PROMPTS))
    for prompt, [completion] in zip(PROMPTS, groups, strict=True):
        ids = list(prompt)
        logprobs: list[float] = []
        while len(logprobs) < 8 and ids[len(prompt) :][-1:] != [STOP]:
            probabilities = drawn_from(dense(sharp, ids)[-1], params)
            ids.append(max(probabilities, key=probabilities.__getitem__))
            logprobs.append(math.log(probabilities[ids[-1]]))
        assert list(completion.token_ids) == ids[len(prompt) :]
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-5)


def test_a_prompt_gets_the_same_alone_as_among_longer_ones(sharp: Qwen2ForCausalLM) -> None:
    params = SamplingParams(max_completion_length=8, temperature=0)
    together = generator(sharp).generate(PROMPTS, params, seeds=[0] * len(PROMPTS))
    for prompt, [completion] in zip(PROMPTS, together, strict=True):
        [[alone]] = generator(sharp).generate([prompt], params, seeds=[0])
        assert completion.token_ids == alone.token_ids
        assert completion.finish_reason == alone.finish_reason
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


# --- order, groups and memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_tokens", "rows"),
    [
        (65_536, [15]),
        (40, [6, 6, 3]),  # a row is the longest prompt (2) and the completion (4); ⌊40/6⌋ = 6
        (1, [1] * 15),  # at least one at a time
    ],
)
def test_groups_come_in_the_order_of_the_prompts_however_they_are_batched(
    make_chain: MakeChain, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, rows: list[int]
) -> None:
    model = make_chain({4: {5: 0.5, 6: 0.5}, 5: {5: 1.0}, 6: {6: 1.0}, 7: {2: 1.0}})
    shapes: list[tuple[int, ...]] = []
    generate = model.generate

    def spy(**inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return generate(**inputs)

    monkeypatch.setattr(model, "generate", spy)
    params = SamplingParams(max_completion_length=4, num_generations=5)
    groups = generator(model, batch_tokens=batch_tokens).generate([[7], [5, 4], [3]], params, seeds=[5] * 3)
    assert [shape[0] for shape in shapes] == rows
    assert [len(group) for group in groups] == [5, 5, 5]
    assert {c.token_ids for c in groups[0]} == {(2,)}
    assert {c.token_ids for c in groups[1]} == {(5,) * 4, (6,) * 4}  # 5 alike: once in 2⁴ seeds
    assert {c.token_ids for c in groups[2]} == {(3,) * 4}


# --- what is drawn -------------------------------------------------------------------------------------------------


def enumerate_completions(
    table: Mapping[int, Mapping[int, float]], start: int, longest: int
) -> dict[tuple[int, ...], float]:
    """Every completion of a chain from `start`, with its probability."""
    done: dict[tuple[int, ...], float] = {}
    frontier: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(longest):
        grown = {
            (*path, token): mass * p
            for path, mass in frontier.items()
            for token, p in table[(start, *path)[-1]].items()
        }
        done |= {path: mass for path, mass in grown.items() if path[-1] == STOP}
        frontier = {path: mass for path, mass in grown.items() if path[-1] != STOP}
    return done | frontier


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_the_probabilities(make_chain: MakeChain, temperature: float) -> None:
    table = {
        1: {STOP: 0.2, 3: 0.5, 4: 0.3},
        3: {STOP: 0.5, 3: 0.3, 4: 0.2},
        4: {STOP: 0.4, 3: 0.6},
    }
    # Temperature t turns p into p^(1/t), renormalised; the chain's logits are log p.
    heated: dict[int, dict[int, float]] = {}
    for last, row in table.items():
        total = sum(p ** (1 / temperature) for p in row.values())
        heated[last] = {token: p ** (1 / temperature) / total for token, p in row.items()}
    expected = enumerate_completions(heated, start=1, longest=3)
    assert math.isclose(sum(expected.values()), 1)

    draws = 4000
    params = SamplingParams(max_completion_length=3, num_generations=draws, temperature=temperature)
    [group] = generator(make_chain(table)).generate([[1]], params, seeds=[11])
    counts = Counter(completion.token_ids for completion in group)
    assert counts.keys() <= expected.keys()
    for completion in group:
        assert completion.finish_reason == ("stop" if completion.token_ids[-1] == STOP else "length")
        assert sum(completion.logprobs) == pytest.approx(math.log(expected[completion.token_ids]), abs=1e-5)
    assert min(expected.values()) * draws >= 5
    # A correct sampler fails for one seed in ten thousand; this seed passes.
    assert p_value(counts, expected) > 1e-4


def test_draws_depend_on_the_seed_alone(sharp: Qwen2ForCausalLM) -> None:
    params = SamplingParams(max_completion_length=8, num_generations=4)

    def draw(seed: int, outer: int) -> list[list[Completion]]:
        torch.manual_seed(outer)
        return generator(sharp).generate(PROMPTS, params, seeds=[seed] * len(PROMPTS))

    assert draw(1, outer=1) == draw(1, outer=2)
    assert draw(1, outer=1) != draw(2, outer=1)


# --- what is left as it was ----------------------------------------------------------------------------------------


def test_the_global_random_state_is_left_alone(
    sharp: Qwen2ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(seed: int) -> None:
        raise AssertionError("the generators of devices that the model is not on were seeded")

    # torch.manual_seed calls this even where there is no device; only the model's own may be touched.
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reached)
    before = torch.get_rng_state()
    generator(sharp).generate(PROMPTS, SamplingParams(max_completion_length=4), seeds=[0] * len(PROMPTS))
    assert torch.equal(torch.get_rng_state(), before)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def with_dropout(model: Qwen2ForCausalLM) -> PreTrainedModel:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


def with_adapter(model: Qwen2ForCausalLM) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lora = LoraConfig(
            r=4,
            lora_alpha=64,
            lora_dropout=0.5,
            target_modules=["q_proj", "v_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, lora)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("prepare", [with_dropout, with_adapter])
def test_dropout_is_off_and_the_mode_comes_back(
    sharp: Qwen2ForCausalLM, prepare: Callable[[Qwen2ForCausalLM], PreTrainedModel]
) -> None:
    model = prepare(sharp)
    model.train()
    assert dense(model, PROMPTS[0]) != dense(model, PROMPTS[0])  # dropout is at work
    list(model.modules())[-1].eval()  # a caller may keep parts of a model in evaluation mode
    before = modes(model)
    assert len(set(before)) == 2

    params = SamplingParams(max_completion_length=6, num_generations=3)
    groups = generator(model).generate(PROMPTS, params, seeds=[0] * len(PROMPTS))
    assert modes(model) == before

    model.eval()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            logits = dense(model, [*prompt, *completion.token_ids])
            for step, token in enumerate(completion.token_ids):
                allowed = drawn_from(logits[len(prompt) - 1 + step], params)
                assert completion.logprobs[step] == pytest.approx(math.log(allowed[token]), abs=1e-5)


def test_an_adapter_is_part_of_the_policy(sharp: Qwen2ForCausalLM) -> None:
    model: Any = with_adapter(sharp)
    params = SamplingParams(max_completion_length=6, temperature=0)
    adapted = generator(model).generate(PROMPTS, params, seeds=[0] * len(PROMPTS))
    with model.disable_adapter():
        assert generator(model).generate(PROMPTS, params, seeds=[0] * len(PROMPTS)) != adapted


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("prepare", [with_dropout, with_adapter])
def test_a_checkpoints_own_generation_defaults_do_not_bend_the_distribution(
    sharp: Qwen2ForCausalLM, prepare: Callable[[Qwen2ForCausalLM], PreTrainedModel], temperature: float
) -> None:
    model = prepare(sharp)
    params = SamplingParams(max_completion_length=6, temperature=temperature)
    plain = generator(model).generate(PROMPTS, params, seeds=[0] * len(PROMPTS))
    # Qwen2.5-Instruct, for one, ships repetition_penalty and top_k; `generate` merges in what we do not set.
    theirs = GenerationConfig(
        do_sample=True,
        repetition_penalty=3.0,
        suppress_tokens=[4, 5, 6],
        min_p=0.9,
        top_k=1,
        min_new_tokens=6,
        no_repeat_ngram_size=1,
    )
    sharp.generation_config = theirs
    assert generator(model).generate(PROMPTS, params, seeds=[0] * len(PROMPTS)) == plain
    assert sharp.generation_config is theirs


def test_a_failure_leaves_everything_as_it_was(
    sharp: Qwen2ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: Any) -> Any:
        torch.rand(1)
        raise KeyboardInterrupt

    sharp.train()
    defaults = sharp.generation_config
    state = torch.get_rng_state()
    monkeypatch.setattr(sharp, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generator(sharp).generate(PROMPTS, SamplingParams(max_completion_length=4), seeds=[0] * len(PROMPTS))
    assert all(modes(sharp))
    assert sharp.generation_config is defaults
    assert torch.equal(torch.get_rng_state(), state)
