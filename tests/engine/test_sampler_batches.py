"""A rollout is the same in whatever batch it is drawn, and a batch is as large as memory allows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.engine.policies import ARCHITECTURES, PROMPTS, VOCABULARY, build, generator, tokens
from torch import nn

from maxrl.engine import Completion, SamplingParams, sampler
from maxrl.engine.cache import PrefillState, SharedCache
from maxrl.engine.decoder import Decoder

SEEDS = [3, 1, 4, 1, 5]
NEVER = (VOCABULARY,)
"""A stop token that cannot be drawn: every step is one of all rollouts."""
PARAMS = SamplingParams(max_completion_length=10, num_generations=6)


def assert_same(one: Sequence[Sequence[Completion]], other: Sequence[Sequence[Completion]]) -> None:
    """The same tokens; log-probabilities up to the rounding that comes with another shape."""
    assert [len(group) for group in one] == [len(group) for group in other]
    for first, second in zip(
        (completion for group in one for completion in group),
        (completion for group in other for completion in group),
        strict=True,
    ):
        assert first.token_ids == second.token_ids
        assert first.finish_reason == second.finish_reason
        assert first.logprobs == pytest.approx(second.logprobs, abs=1e-5, rel=0)


class Passes:
    """What every forward pass fed in: ("read" or "step", tokens of prompts or rollouts)."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: list[tuple[str, int]] = []
        model.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, _model: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        kind = "step" if isinstance(inputs["shared_prefix"], SharedCache) else "read"
        self.seen.append((kind, inputs["input_ids"].shape[1]))

    def batches(self) -> list[tuple[int, int]]:
        """Of each batch, tokens of its prompts and rollouts at its first step."""
        found = []
        for (kind, tokens_), (then, rollouts) in zip(self.seen, self.seen[1:], strict=False):
            if (kind, then) == ("read", "step"):
                found.append((tokens_, rollouts))
        return found


# --- the same whatever the batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_prompts_do_not_disturb_each_other(name: str) -> None:
    model = build(name)
    together = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    alone = [
        generator(model).generate([p], PARAMS, seeds=[s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)
    ]
    assert_same(together, alone)
    backwards = generator(model).generate(PROMPTS[::-1], PARAMS, seeds=SEEDS[::-1])
    assert_same(together, backwards[::-1])


def test_rollouts_do_not_disturb_each_other() -> None:
    model = build("qwen2")
    together = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    # Each rollout by itself: also what finished ones leave behind in the cache changes nothing.
    for number in range(6):
        alone = generator(model).generate(
            PROMPTS, PARAMS, seeds=SEEDS, rollouts=[range(number, number + 1)] * 5
        )
        assert_same([[group[number]] for group in together], alone)
    ranges = [range(6), range(2, 3), range(0), range(5, 6), range(3, 6)]
    ragged = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS, rollouts=ranges)
    assert_same([[group[n] for n in range_] for group, range_ in zip(together, ranges, strict=True)], ragged)
    more = SamplingParams(max_completion_length=10, num_generations=15)
    assert_same(together, [group[:6] for group in generator(model).generate(PROMPTS, more, seeds=SEEDS)])


def test_nothing_to_draw() -> None:
    groups = generator(build("qwen2")).generate(PROMPTS, PARAMS, seeds=SEEDS, rollouts=[range(3, 3)] * 5)
    assert groups == [[]] * 5


def test_a_shorter_limit_cuts() -> None:
    model = build("qwen2")
    long = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    short = SamplingParams(max_completion_length=4, num_generations=6)
    for group, cut in zip(long, generator(model).generate(PROMPTS, short, seeds=SEEDS), strict=True):
        assert [completion.token_ids[:4] for completion in group] == [c.token_ids for c in cut]


def test_seeds_rollouts_and_nothing_else_make_the_difference() -> None:
    model = build("qwen2", seed=2)
    params = SamplingParams(max_completion_length=16, num_generations=8)
    prompt = PROMPTS[0]
    sampling = generator(model, [23])
    first, second, again = sampling.generate([prompt] * 3, params, seeds=[1, 2, 1])
    assert first == again
    texts = [completion.token_ids for completion in [*first, *second]]
    assert len(set(texts)) == 16
    [negative, huge] = sampling.generate([prompt] * 2, params, seeds=[-1, 2**64 - 1])
    assert negative == huge  # modulo 2^64
    assert negative != first


def test_a_request_can_be_repeated() -> None:
    sampling = generator(build("qwen2"))
    assert sampling.generate(PROMPTS, PARAMS, seeds=SEEDS) == sampling.generate(PROMPTS, PARAMS, seeds=SEEDS)


@pytest.mark.parametrize("worth", [1e-9, 0.8, 1.0])
def test_dropping_finished_rollouts_changes_nothing(monkeypatch: pytest.MonkeyPatch, worth: float) -> None:
    model = build("qwen2")
    expected = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    passes = Passes(model)
    before = Decoder.__init__

    def init(self: Decoder, *inputs: Any) -> None:
        before(self, *inputs)
        self.worth_compacting = worth

    monkeypatch.setattr(Decoder, "__init__", init)
    assert_same(expected, generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS))
    rows: list[int] = []
    held = 30
    for step in range(1, 10):
        going = sum(len(completion.token_ids) > step for group in expected for completion in group)
        held = going if going <= worth * held else held
        rows.append(held)
    assert [count for kind, count in passes.seen if kind == "step"] == rows
    assert (len(set(rows)) > 2) is (worth > 0.5)


# --- the size of a batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 15, 31, 33, 60, 1000])
def test_a_small_budget_splits_and_changes_nothing(batch_tokens: int) -> None:
    model = build("qwen2")
    expected = generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS)
    passes = Passes(model)
    assert_same(
        expected, generator(model, NEVER, batch_tokens=batch_tokens).generate(PROMPTS, PARAMS, seeds=SEEDS)
    )
    kinds = [kind for kind, _ in passes.seen]
    for prompt_tokens, rollouts in passes.batches():
        assert prompt_tokens + rollouts * 10 <= batch_tokens or rollouts == 1
    # 6 rollouts of each prompt, in order of length, each batch as full as can be.
    assert kinds.count("read") == {1: 30, 15: 30, 31: 14, 33: 13, 60: 7, 1000: 1}[batch_tokens]


def test_a_long_prompt_is_drawn_apart() -> None:
    """Beside it every other prompt would be as long in the cache."""
    model = build("qwen2")
    short = [tokens(3, seed) for seed in range(20)]
    long = tokens(400, 99)
    expected = generator(model, NEVER).generate(short, PARAMS, seeds=range(20))
    passes = Passes(model)
    found = generator(model, NEVER).generate(
        [*short[:7], long, *short[7:]], PARAMS, seeds=[*range(7), 50, *range(7, 20)]
    )
    assert_same(expected, found[:7] + found[8:])
    assert passes.batches() == [(20 * 3, 20 * 6), (400, 6)]
    # Ever so few rollouts of their own leave no room for more than one prompt of 9 padded to 10.
    passes.seen.clear()
    pair = [tokens(10, 1), tokens(9, 2)]
    once = SamplingParams(max_completion_length=10, num_generations=1)
    generator(model, NEVER, batch_tokens=39).generate(pair, once, seeds=[0, 1])
    assert [rollouts for _, rollouts in passes.batches()] == [1, 1]
    passes.seen.clear()
    generator(model, NEVER, batch_tokens=40).generate(pair, once, seeds=[0, 1])
    assert [rollouts for _, rollouts in passes.batches()] == [2]


def test_the_default_budget_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen3")
    # Keys and values of 2 layers, 1 head of 16 numbers, 4 bytes each.
    monkeypatch.setattr(sampler, "CACHE_BYTES", 60 * (2 * 2 * 16 * 4))
    by_default, by_tokens = Passes(model), Passes(model)
    generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS)
    count = len(by_default.seen)
    generator(model, NEVER, batch_tokens=60).generate(PROMPTS, PARAMS, seeds=SEEDS)
    assert by_default.seen[:count] == by_tokens.seen[count:]


def test_logits_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("qwen2")
    expected = generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS)
    monkeypatch.setattr(sampler, "LOGIT_BYTES", 7 * 24 * 4)  # seven rows of a vocabulary of 24
    passes = Passes(model)
    assert_same(expected, generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS))
    assert [rollouts for _, rollouts in passes.batches()] == [7, 7, 7, 7, 2]


@pytest.mark.parametrize("most", [1, 8, 14])
def test_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    model = build("qwen2")
    expected = generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS)
    monkeypatch.setattr(sampler, "PREFILL_TOKENS", most)
    passes = Passes(model)
    assert_same(expected, generator(model, NEVER).generate(PROMPTS, PARAMS, seeds=SEEDS))
    reads = [count for kind, count in passes.seen if kind == "read"]
    assert sum(reads) == 22  # each prompt once
    assert reads == {1: [1, 2, 5, 5, 9], 8: [8, 5, 9], 14: [13, 9]}[most]


# --- out of memory -------------------------------------------------------------------------------------------------


class Small:
    """Memory for so many rollouts at a time: more of them fail as a GPU's allocator does, or a CPU's."""

    def __init__(self, model: nn.Module, rollouts: int, *, on_gpu: bool, prompts: bool = False) -> None:
        self.rollouts = rollouts
        self.on_gpu = on_gpu
        self.kind = PrefillState if prompts else SharedCache
        model.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, _model: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        if isinstance(inputs["shared_prefix"], self.kind) and inputs["input_ids"].shape[1] > self.rollouts:
            if self.on_gpu:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            torch.empty(2**50, dtype=torch.uint8)  # a pebibyte: the real message of a CPU's allocator


@pytest.mark.parametrize("on_gpu", [True, False])
def test_out_of_memory_halves_the_batch(on_gpu: bool) -> None:
    model = build("qwen2")
    expected = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    Small(model, 8, on_gpu=on_gpu)
    sampling = generator(model)
    with pytest.warns(UserWarning, match="out of memory") as caught:
        found = sampling.generate(PROMPTS, PARAMS, seeds=SEEDS)
    assert_same(expected, found)
    budgets = [int(str(warning.message).split("batch_tokens=")[1].rstrip(")")) for warning in caught]
    assert all(later < sooner for sooner, later in pairwise(budgets))
    assert str(caught[0].message) == (
        f"out of memory while sampling 30 rollouts at once: going on with half as many (batch_tokens={budgets[0]})"
    )
    # Remembered: no second warning, which would be an error.
    assert_same(expected, sampling.generate(PROMPTS, PARAMS, seeds=SEEDS))
    assert {warning.filename for warning in caught} == {__file__}  # the line that asked for so much


def test_out_of_memory_while_prompts_are_read() -> None:
    model = build("qwen2")
    expected = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    Small(model, 13, on_gpu=False, prompts=True)
    with pytest.warns(UserWarning, match="out of memory while sampling") as caught:
        found = generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    assert_same(expected, found)
    # Until 5 and 9 prompt tokens are apart.
    assert str(caught[0].message).split()[5] == "30"


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.filterwarnings("ignore:out of memory while sampling")
def test_without_memory_for_one_rollout_there_is_none(on_gpu: bool) -> None:
    model = build("qwen2")
    Small(model, 0, on_gpu=on_gpu)
    with pytest.raises(RuntimeError, match="CUDA out of memory" if on_gpu else "can't allocate memory"):
        generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)


def test_other_failures_are_not_taken_for_it() -> None:
    model = build("qwen2")
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # and no warning, which would be an error
        generator(model).generate(PROMPTS, PARAMS, seeds=SEEDS)
    assert len(calls) == 1
