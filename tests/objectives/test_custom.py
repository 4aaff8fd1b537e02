"""A user's own function as an estimator."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maxrl.errors import InputError
from maxrl.objectives import Custom

NAN = float("nan")


def doubled(rewards_GN: Tensor, factor: float = 2.0) -> Tensor:
    return rewards_GN * factor


def test_options_are_handed_on() -> None:
    assert Custom(function=doubled)([[1, 0]]).tolist() == [[2.0, 0.0]]
    assert Custom(function=doubled, options=(("factor", 3.0),))([[1, 0]]).tolist() == [[3.0, 0.0]]


def test_named_after_the_function_or_as_it_was_asked_for() -> None:
    assert Custom(function=doubled).formula == "doubled"
    assert Custom(function=doubled, label="mine:doubled").formula == "mine:doubled"
    assert "Odd" in Custom(function=Odd()).formula


class Odd:
    """Callable, without a name."""

    def __call__(self, rewards: Tensor) -> Any:
        return np.ones(tuple(rewards.shape), dtype=np.float32)


def test_any_array_will_do() -> None:
    advantages = Custom(function=Odd())(torch.zeros(2, 3, dtype=torch.float64))
    assert advantages.tolist() == [[1.0] * 3] * 2
    assert advantages.dtype == torch.float64


def test_a_function_may_write_into_what_it_gets() -> None:
    def writes(rewards: Tensor) -> Tensor:
        rewards += 1
        return rewards

    rewards = torch.tensor([[1.0, 0.0, NAN]])
    assert Custom(function=writes)(rewards).tolist() == [[2.0, 1.0, 0.0]]
    assert rewards[0, :2].tolist() == [1.0, 0.0]


def test_what_it_says_of_missing_rollouts_is_not_looked_at() -> None:
    assert Custom(function=doubled)([[1.0, None]]).tolist() == [[2.0, 0.0]]


def test_the_pair_is_measured() -> None:
    assert Custom(function=doubled).binary_advantages(1, 3) == (2.0, 0.0)
    assert Custom(function=doubled).binary_advantages(3, 3) == (2.0, 0.0)
    assert Custom(function=lambda r: r - r.mean(1, keepdim=True)).binary_advantages(1, 4) == (0.75, -0.25)
    assert Custom(function=doubled).target_order(4) is None


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (
            lambda r: r[:, :1],
            r"must turn rewards of shape \(1, 2\) into as many finite advantages, but returned shape",
        ),
        (lambda r: r / 0, "as many finite advantages"),
        (lambda r: "none", "advantages must be numbers"),
    ],
)
def test_what_it_returns_is_checked(function: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Custom(function=function)([[1.0, 0.0]])


def test_unequal_treatment_has_no_pair() -> None:
    with pytest.raises(InputError, match="treats equal rewards of a group unequally"):
        Custom(function=lambda r: r * torch.arange(4)).binary_advantages(2, 4)
