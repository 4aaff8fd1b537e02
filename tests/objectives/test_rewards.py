"""From what the caller has to one matrix, and back."""

from typing import Any

import numpy as np
import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import RLOO
from maxrl.objectives.rewards import group_rewards

NAN = float("nan")


def test_a_matrix_stays_as_it_is() -> None:
    groups = group_rewards(torch.tensor([[1, 0], [0, 1]]), None, None)
    assert groups.rewards_GN.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert groups.cells is None


def test_rows_are_ids_in_order_of_appearance_and_columns_the_order_within() -> None:
    groups = group_rewards([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None, ["b", "a", "b", "c", "a", "b"])
    torch.testing.assert_close(
        groups.rewards_GN,
        torch.tensor([[1.0, 3.0, 6.0], [2.0, 5.0, NAN], [4.0, NAN, NAN]]),
        equal_nan=True,
    )
    assert groups.restore(groups.rewards_GN).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_contiguous_ids_give_the_contiguous_matrix() -> None:
    rewards = torch.arange(12.0)
    groups = group_rewards(rewards, None, torch.arange(3).repeat_interleave(4))
    assert torch.equal(groups.rewards_GN, rewards.view(3, 4))


def test_ids_that_look_alike_are_told_apart() -> None:
    # As an array these would all be strings, and 1 and "1" one group.
    assert len(group_rewards([1.0, 2.0, 3.0, 4.0], None, [1, "1", 10, "10"]).rewards_GN) == 4
    big = 2**53  # as floats these two would be one
    assert len(group_rewards([1.0, 2.0], None, [big, big + 1]).rewards_GN) == 2
    assert len(group_rewards([1.0, 2.0], None, [np.int64(7), 7]).rewards_GN) == 1


def test_many_groups_at_once() -> None:
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    rewards = torch.rand(1000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ids = torch.arange(1000).repeat_interleave(4)[order]
    torch.testing.assert_close(
        RLOO()(rewards.flatten()[order], group_ids=ids), RLOO()(rewards).flatten()[order]
    )


@pytest.mark.parametrize(
    ("rewards", "mask", "ids", "match"),
    [
        ([[1.0, 0.0]], None, [0, 0], r"must be flat, one per rollout, got shape \(1, 2\)"),
        (1.0, None, [0], "must be flat"),
        ([1.0, 0.0], None, [0], "1 group_ids for 2 rewards"),
        ([1.0, 0.0], None, "ab", "group_ids must be one id per rollout, got 'ab'"),
        ([1.0, 0.0], None, 3, "group_ids must be one id per rollout, got 3"),
        ([1.0, 0.0], None, [0, None], "group_ids must be integers or strings, got NoneType"),
        ([1.0, 0.0], None, [0.0, "a"], "group_ids must be integers or strings, got float"),
        ([1.0, 0.0], None, [True, False], "group_ids must be integers or strings, got bool"),
        ([1.0, 0.0], None, [[0], [0]], "group_ids must be integers or strings, got list"),
        ([1.0, 0.0], None, torch.tensor([0.5, 0.5]), "group_ids must be integers or strings, got float"),
        ([[1.0, 0.0]], [[True]], None, r"mask has shape \(1, 1\) but rewards have \(1, 2\)"),
        ([[1.0, 0.0]], [True, False], None, r"mask has shape \(2,\) but rewards have \(1, 2\)"),
        ([[1.0, 0.0]], [[0.5, 1.0]], None, "mask must be True"),
        ([[1.0, 0.0]], [[2, 1]], None, "mask must be True"),
        ([[1.0, 0.0]], [[None, 1]], None, "mask must be True"),
    ],
)
def test_what_does_not_fit_together_is_refused(rewards: Any, mask: Any, ids: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        group_rewards(rewards, mask, ids)
