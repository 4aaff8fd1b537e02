"""Groups that differ in size, as rows and as a matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.training.layout import Layout
from maxrl.training.rollouts import training_requests

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6).map(tuple)


def test_rows_and_matrix() -> None:
    """Three groups of 2, 3 and 1: the matrix is as wide as the largest."""
    layout = Layout((2, 3, 1))
    matrix = layout.matrix(torch.tensor([1.0, 2, 3, 4, 5, 6]), -1.0)
    assert matrix.tolist() == [[1, 2, -1], [3, 4, 5], [6, -1, -1]]
    assert layout.flat(matrix).tolist() == [1, 2, 3, 4, 5, 6]
    assert layout.matrix(torch.tensor([True] * 6), empty=False).sum() == 6
    assert [layout.place(row) for row in range(6)] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert (layout.rows, layout.starts) == (6, (0, 2, 5, 6))
    assert list(layout.pieces(1, 5)) == [range(1, 2), range(2, 5)]
    assert list(layout.pieces(2, 5)) == [range(2, 5)]


@given(SIZES, st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_row_has_one_place(sizes: tuple[int, ...], data: st.DataObject) -> None:
    layout = Layout(sizes)
    values = torch.arange(layout.rows, dtype=torch.float64)
    matrix = layout.matrix(values, torch.nan)
    assert torch.equal(layout.flat(matrix), values)
    assert (~matrix.isnan()).sum(dim=1).tolist() == list(sizes)
    for row in range(layout.rows):
        assert matrix[layout.place(row)] == row
    first = data.draw(st.integers(0, layout.rows))
    stop = data.draw(st.integers(first, layout.rows))
    pieces = list(layout.pieces(first, stop))
    assert [row for piece in pieces for row in piece] == list(range(first, stop))
    assert all(len({layout.place(row)[0] for row in piece}) == 1 for piece in pieces)


def test_groups_of_one_size_are_a_view() -> None:
    values = torch.arange(12.0)
    layout = Layout.uniform(12, 4)
    assert torch.equal(layout.matrix(values, torch.nan), values.view(-1, 4))
    assert torch.equal(layout.flat(values.view(-1, 4)), values)


@pytest.mark.parametrize("cut", range(11))
def test_a_rollout_has_the_same_seed_on_any_number_of_ranks(cut: int) -> None:
    """Groups of 2, 5 and 3 on two ranks, cut anywhere."""
    layout = Layout((2, 5, 3))
    rows = [[1, 5]] * 2 + [[1, 6, 7]] * 5 + [[1, 5]] * 3

    def drawn(rows: list[list[int]], first: int) -> list[tuple[int, int]]:
        requests = training_requests(rows, num_generations=layout, first_row=first, seed=3, generation=(2, 0))
        assert all(request.rollouts for request in requests)
        return [(request.seed, rollout) for request in requests for rollout in request.rollouts]

    alone = drawn(rows, 0)
    assert [rollout for _, rollout in alone] == [0, 1, 0, 1, 2, 3, 4, 0, 1, 2]
    assert len({seed for seed, _ in alone}) == 3
    assert drawn(rows[:cut], 0) + drawn(rows[cut:], cut) == alone


def test_equal_groups_have_the_seeds_they_always_had() -> None:
    rows = [[1, 5]] * 4 + [[1, 6]] * 4
    place = {"first_row": 0, "seed": 3, "generation": (2, 0)}
    by_number = training_requests(rows, num_generations=4, **place)
    assert training_requests(rows, num_generations=Layout.uniform(8, 4), **place) == by_number
