"""Numbers in any container."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives.arrays import to_count, to_probabilities, to_tensor


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], torch.int64),
        ([1.0, 2], torch.float64),
        ([True, False], torch.bool),
        ([1, None], torch.float64),
        ([], torch.float64),
        (np.zeros(0, dtype=bool), torch.bool),
        (3, torch.int64),
        (np.float32(3), torch.float32),
        (np.ones(2, dtype=np.longdouble), torch.float64),
        (np.ones(2, dtype=">i4"), torch.int32),
        (torch.ones(2, dtype=torch.bfloat16), torch.bfloat16),
    ],
)
def test_dtypes(values: Any, dtype: torch.dtype) -> None:
    assert to_tensor(values, "x").dtype == dtype


def test_a_read_only_array_is_read() -> None:
    array = np.array([1.0, 2.0])
    array.flags.writeable = False
    assert to_tensor(array, "x").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([[1], [1, 2]], "x cannot be read as an array of numbers"),
        ([torch.ones(1, requires_grad=True)], "x cannot be read as an array of numbers"),
        ("text", "x must be numbers, got 'text'"),
        ([Fraction(1, 2)], "x must be numbers"),
        ({"a": 1}, "x must be numbers"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "x must be numbers"),
    ],
)
def test_what_is_no_number_is_refused(values: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        to_tensor(values, "x")


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), [0.5, 2.0], torch.tensor([0.5, -1.0])])
def test_probabilities_end_at_zero_and_one(p: Any) -> None:
    with pytest.raises(InputError, match="p must be pass rates between 0 and 1"):
        to_probabilities(p)


def test_counts() -> None:
    assert to_count(np.int32(4), "n", least=1) == 4
    assert to_count(torch.tensor(4), "n", least=1) == 4
    for wrong in (0, True, 2.0, "2", None):
        with pytest.raises(InputError, match="n must be an integer of at least 1, got"):
            to_count(wrong, "n", least=1)
