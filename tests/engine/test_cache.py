"""Decoding against the cache: the dense forward's logits, also in the form that CUDA graphs need."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.engine.policies import build, dense_logits, in_double, tokens
from torch import Tensor, nn

from maxrl.engine import PromptGroup, engine_attention, pack
from maxrl.engine import cache as cache_module
from maxrl.engine.cache import PrefillState, SharedCache
from maxrl.engine.decoder import Decoder, next_logits

CAPACITY = 6
GROUPS = {
    "one prompt": ([4], [0, 0, 0]),
    "even": ([4, 4], [0, 0, 1, 1]),
    "ragged": ([3, 7, 1], [0, 1, 1, 1, 2]),
}
"""Tokens of each prompt, and the prompt of each rollout."""

DROPS: list[tuple[str, dict[int, list[int]]]] = [
    ("one prompt", {}),
    ("one prompt", {2: [1, 2], 4: [0]}),
    ("even", {}),
    ("even", {1: [0, 2, 3], 3: [1, 2]}),  # one rollout of a prompt, then the prompt
    ("ragged", {}),
    ("ragged", {2: [0, 1, 3], 3: [1, 2], 5: [1]}),
    ("ragged", {1: [0, 4], 3: [1]}),
]
"""From which step on which rows stay."""


def play(
    model: nn.Module, case: str, drop: dict[int, list[int]], *, static: bool
) -> Iterator[tuple[Tensor, list[list[int]]]]:
    """Logits of every step, and the sequences behind which they were asked.

    `drop` names the rows that stay from a step on.
    """
    lengths, group_of = GROUPS[case]
    prompts = [tokens(length, length + 50 * number) for number, length in enumerate(lengths)]
    packed = pack([PromptGroup(prompt, [[0]]) for prompt in prompts])
    state = PrefillState(packed)
    next_logits(model, packed.input_ids, packed.position_ids, state, packed.keep)
    groups = torch.tensor(group_of)
    cache = SharedCache(state.layers, lengths, groups, CAPACITY, static=static)
    decoder = Decoder(model, cache, torch.tensor(lengths)[groups])
    sequences = [prompts[group] for group in group_of]
    for step in range(CAPACITY):
        if step in drop:
            decoder.select(torch.tensor(drop[step]))
            sequences = [sequences[row] for row in drop[step]]
        fed = tokens(len(sequences), 999 + step)
        sequences = [[*sequence, token] for sequence, token in zip(sequences, fed, strict=True)]
        yield decoder.step(torch.tensor(fed)).clone(), sequences


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("room", [None, 64, 2], ids=["as filled", "static", "static and growing"])
@pytest.mark.parametrize(("case", "drop"), DROPS, ids=str)
@torch.inference_mode()
def test_steps_give_the_logits_of_dense_forwards(
    monkeypatch: pytest.MonkeyPatch, name: str, case: str, drop: dict[int, list[int]], room: int | None
) -> None:
    static = room is not None
    monkeypatch.setattr(cache_module, "FIRST_CAPACITY", room)
    model = in_double(build(name))
    with engine_attention(model):
        steps = list(play(model, case, drop, static=static))
    for logits, sequences in steps:
        dense = [dense_logits(model, ids)[-1] for ids in sequences]
        torch.testing.assert_close(logits, torch.stack(dense), atol=1e-11, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@torch.inference_mode()
def test_the_static_form_agrees_with_the_other_in_lower_precision(dtype: torch.dtype) -> None:
    model: Any = build("qwen2")
    model.to(dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 0.5
    with engine_attention(model):
        for case, drop in DROPS:
            pairs = zip(
                play(model, case, drop, static=False), play(model, case, drop, static=True), strict=True
            )
            for (as_filled, _), (static, _) in pairs:
                torch.testing.assert_close(as_filled, static, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("prompt_score", "own_score"), [(0.0, 300.0), (300.0, 0.0), (-300.0, -400.0)])
def test_scores_far_apart_do_not_overflow(prompt_score: float, own_score: float) -> None:
    one = torch.ones(1, 1, 1)
    cache = SharedCache({0: (one * prompt_score, one)}, [1], torch.zeros(1, dtype=torch.long), 1)
    out = cache.attend(0, one, one * own_score, one * 2, 1.0)
    assert out.item() == (1.0 if prompt_score > own_score else 2.0)


@torch.inference_mode()
def test_a_static_step_can_be_repeated() -> None:
    # CUDA graphs are recorded after two trial runs of the same step.
    model = in_double(build("qwen2"))
    packed = pack([PromptGroup([1, 4, 7], [[0]])])
    state = PrefillState(packed)
    with engine_attention(model):
        next_logits(model, packed.input_ids, packed.position_ids, state, packed.keep)
        cache = SharedCache(state.layers, [3], torch.zeros(2, dtype=torch.long), CAPACITY, static=True)
        ids, positions = torch.tensor([[5, 6]]), torch.tensor([[3, 3]])
        once = next_logits(model, ids, positions, cache)
        again = next_logits(model, ids, positions, cache)
    assert torch.equal(once, again)
