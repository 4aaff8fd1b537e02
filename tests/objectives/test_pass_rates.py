"""pass@k against binomial coefficients, which Python has exactly."""

from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import pass_at_k


def truth(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def test_by_hand() -> None:
    # 1 − C(3,2)/C(4,2) = 1 − 3/6; 1 − C(2,2)/C(4,2) = 5/6; one sample: c/n; fewer failures than draws: 1.
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6, rel=1e-15)
    assert pass_at_k(10, 3, 1) == 0.3
    assert pass_at_k(4, 3, 2) == 1.0
    assert pass_at_k(32, 1, 32) == 1.0  # where the bootstrap with replacement says .638
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(1, 1, 1) == 1.0


def test_it_counts_subsets() -> None:
    verdicts = [True, False, False, True, False, False]
    subsets = list(combinations(verdicts, 3))
    assert pass_at_k(6, 2, 3) == pytest.approx(sum(map(any, subsets)) / len(subsets), rel=1e-15)


@pytest.mark.parametrize("n", range(1, 13))
def test_every_small_case(n: int) -> None:
    cases = [(c, k) for c in range(n + 1) for k in range(1, n + 1)]
    c, k = zip(*cases, strict=True)
    got = pass_at_k(n, c, k)
    assert got.tolist() == pytest.approx([float(truth(n, *case)) for case in cases], rel=1e-14)
    # Exact at the ends: a report must not print 99.99 % for a problem that cannot fail.
    for value, case in zip(got.tolist(), cases, strict=True):
        assert (value == 0.0) == (truth(n, *case) == 0)
        assert (value == 1.0) == (truth(n, *case) == 1)


@pytest.mark.parametrize("n", [1000, 2048, 5000])
def test_large_counts_keep_their_digits(n: int) -> None:
    c = [0, 1, 2, 7, n // 3, n - 1, n]
    for k in (1, 2, 16, n // 4, n - 1, n):
        got = pass_at_k(n, c, k).tolist()
        assert got == pytest.approx([float(truth(n, x, k)) for x in c], rel=1e-12)
        assert all(0.0 <= value <= 1.0 for value in got)


def test_is_unbiased() -> None:
    # E over c ~ Binomial(n, p) is 1 − (1−p)^k, the pass@k of the truth.
    n, p = 8, Fraction(1, 5)
    chances = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    for k in range(1, n + 1):
        estimates = pass_at_k(n, range(n + 1), k)
        mean = sum(float(chance) * e for chance, e in zip(chances, estimates.tolist(), strict=True))
        assert mean == pytest.approx(float(1 - (1 - p) ** k), rel=1e-14)


def test_containers_and_broadcasting() -> None:
    expected = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    for c in ([0, 1, 4], (0, 1, 4), np.array([0, 1, 4], dtype=np.uint8), torch.tensor([0, 1, 4])):
        assert torch.equal(pass_at_k(4, c, 2), expected)
    curve = pass_at_k([[4], [8]], [[1], [2]], [1, 2, 4])
    assert curve.tolist() == [
        pytest.approx([float(truth(n, c, k)) for k in (1, 2, 4)]) for n, c in ((4, 1), (8, 2))
    ]
    assert pass_at_k([], [], 2).tolist() == []
    for one in (4, np.int64(4), torch.tensor(4)):
        assert isinstance(pass_at_k(one, 1, 2), float)


def test_inputs_are_left_as_they_are() -> None:
    n, c, k = torch.tensor([4, 4]), torch.tensor([1, 3]), torch.tensor([2, 2])
    pass_at_k(n, c, k)
    assert (n.tolist(), c.tolist(), k.tolist()) == ([4, 4], [1, 3], [2, 2])


@pytest.mark.parametrize(
    ("n", "c", "k", "match"),
    [
        (4, 1, 5, "k must be at most n: pass@k cannot be estimated from fewer than k samples; got 5"),
        (4, [1, 5], 2, "c must be at most n, .*; got 5"),
        (4, -1, 2, "c must be at least 0; got -1"),
        (4, 1, 0, "k must be at least 1; got 0"),
        (4, 1, -2, "k must be at least 1; got -2"),
        (-1, 0, 1, "c must be at most n"),
        (0, 0, 1, "k must be at most n"),
        (4.0, 1, 2, "n must be integers, got 4.0"),
        (4, [True], 2, "c must be integers"),
        (4, [1, None], 2, "c must be integers"),
        (4, 1, "2", "k must be numbers, got '2'"),
        ([4, 4], [1, 1, 1], 2, "n, c and k do not broadcast against each other"),
    ],
)
def test_impossible_counts_are_refused(n: Any, c: Any, k: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        pass_at_k(n, c, k)
