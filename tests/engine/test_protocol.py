"""What can be asked of a generator."""

import dataclasses
import math
from typing import Any

import pytest

from maxrl.engine import Completion, SamplingParams
from maxrl.errors import InputError


def test_the_defaults_sample_the_model_as_it_is() -> None:
    assert dataclasses.asdict(SamplingParams(max_completion_length=3)) == {
        "max_completion_length": 3,
        "num_generations": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_completion_length": 0}, "max_completion_length must be at least 1, but is 0"),
        ({"num_generations": 0}, "num_generations must be at least 1, but is 0"),
        ({"temperature": -0.1}, r"temperature must be 0 \(greedy\) or above and finite, but is -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 .* but is nan"),
        ({"temperature": math.inf}, "temperature must be 0 .* but is inf"),
        ({"temperature": 0, "num_generations": 2}, "ask for num_generations=1"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], but is 0.0"),
        ({"top_p": 1.01}, r"top_p must lie in \(0, 1\], but is 1.01"),
        ({"top_p": math.nan}, r"top_p must lie in \(0, 1\], but is nan"),
        ({"top_k": -1}, r"top_k must be 0 \(all tokens\) or above, but is -1"),
        ({"min_p": -0.1}, r"min_p must lie in \[0, 1\], but is -0.1"),
        ({"min_p": 1.1}, r"min_p must lie in \[0, 1\], but is 1.1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        SamplingParams(**{"max_completion_length": 3, **wrong})


@pytest.mark.parametrize(
    "edge",
    [
        {"max_completion_length": 1},
        {"temperature": 0},
        {"temperature": 1e-3},
        {"top_p": 1e-9},
        {"top_p": 1.0},
        {"top_k": 0},
        {"top_k": 1},
        {"min_p": 0.0},
        {"min_p": 1.0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(edge: dict[str, Any]) -> None:
    SamplingParams(**{"max_completion_length": 3, **edge})


def test_results_cannot_be_changed() -> None:
    completion = Completion(token_ids=(1,), logprobs=(0.0,), finish_reason="stop")
    with pytest.raises(dataclasses.FrozenInstanceError):
        completion.finish_reason = "length"  # pyright: ignore[reportAttributeAccessIssue]
