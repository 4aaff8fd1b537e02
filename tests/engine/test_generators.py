"""What every back-end keeps to: where a completion ends, and which requests it refuses."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from transformers import Qwen2ForCausalLM

from maxrl.engine import Completion, Generator, SamplingParams, SharedPrefixGenerator, TransformersGenerator
from maxrl.errors import InputError

STOP = 2
# 1 stops at once, 3 after two tokens, 4 by another stop token after one; 6 and 7 alternate for ever.
ENDS = {1: {2: 1.0}, 3: {4: 1.0}, 4: {5: 1.0}, 5: {2: 1.0}, 6: {7: 1.0}, 7: {6: 1.0}}

MakeGenerator = Callable[..., Generator]


@pytest.fixture(
    params=[
        pytest.param(SharedPrefixGenerator, id="engine"),
        # Rows that have ended are filled with: nothing else's id, the stop token's, that of an ordinary token.
        *(
            pytest.param(partial(TransformersGenerator, pad_id=pad), id=f"transformers, padded with {pad}")
            for pad in (0, STOP, 7)
        ),
    ]
)
def make(
    request: pytest.FixtureRequest,
    make_chain: Callable[[Mapping[int, Mapping[int, float]]], Qwen2ForCausalLM],
) -> MakeGenerator:
    """A back-end over `ENDS`."""
    return lambda stop_ids=(STOP,): request.param(make_chain(ENDS), stop_ids=stop_ids)


def ends(groups: Sequence[Sequence[Completion]]) -> list[list[tuple[tuple[int, ...], str]]]:
    return [[(completion.token_ids, completion.finish_reason) for completion in group] for group in groups]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_stop_token_is_kept_and_nothing_after_it(make: MakeGenerator, temperature: float) -> None:
    params = SamplingParams(max_completion_length=5, temperature=temperature)
    groups = make().generate([[1], [3], [6]], params, seeds=[0] * 3)
    assert ends(groups) == [[((2,), "stop")], [((4, 5, 2), "stop")], [((7, 6, 7, 6, 7), "length")]]
    for [completion] in groups:  # each step is certain
        assert completion.logprobs == pytest.approx([0.0] * len(completion.token_ids), abs=1e-6)


@pytest.mark.parametrize("stop_ids", [(2, 5), (5, 2, 5)])
def test_any_of_several_stop_tokens_ends(make: MakeGenerator, stop_ids: tuple[int, ...]) -> None:
    params = SamplingParams(max_completion_length=5)
    groups = make(stop_ids).generate([[1], [3]], params, seeds=[0] * 2)
    assert ends(groups) == [[((2,), "stop")], [((4, 5), "stop")]]


@pytest.mark.parametrize(
    ("longest", "token_ids", "reason"), [(3, (4, 5, 2), "stop"), (2, (4, 5), "length"), (1, (4,), "length")]
)
def test_a_stop_token_in_the_last_place_still_counts(
    make: MakeGenerator, longest: int, token_ids: tuple[int, ...], reason: str
) -> None:
    params = SamplingParams(max_completion_length=longest)
    assert ends(make().generate([[3]], params, seeds=[0])) == [[(token_ids, reason)]]


def test_one_token_completions(make: MakeGenerator) -> None:
    params = SamplingParams(max_completion_length=1, num_generations=2)
    groups = make().generate([[1], [3, 6]], params, seeds=[0] * 2)
    assert ends(groups) == [[((2,), "stop")] * 2, [((7,), "length")] * 2]


def test_a_stop_token_in_the_prompt_ends_nothing(make: MakeGenerator) -> None:
    params = SamplingParams(max_completion_length=5)
    assert ends(make().generate([[2, 3]], params, seeds=[0])) == [[((4, 5, 2), "stop")]]


def test_no_prompts_no_completions(make: MakeGenerator) -> None:
    assert make().generate([], SamplingParams(max_completion_length=3), seeds=[]) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"prompts": [[1], []]}, "a prompt has no tokens; give each prompt at least one"),
        ({"seeds": [0]}, "seeds must have one entry for each of the 2 prompts, but has 1"),
        ({"rollouts": [range(1)] * 3}, "rollouts must have one entry for each of the 2 prompts, but has 3"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    make: MakeGenerator, changed: dict[str, Any], says: str
) -> None:
    request: dict[str, Any] = {"prompts": [[1], [2]], "seeds": [0, 0], **changed}
    with pytest.raises(InputError, match=says):
        make().generate(params=SamplingParams(max_completion_length=3), **request)


def test_a_generator_that_could_never_stop_is_refused(make: MakeGenerator) -> None:
    with pytest.raises(InputError, match=r"at least one stop token id \(eos_token_id of the tokenizer\)"):
        make(())
