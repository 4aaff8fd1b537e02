"""Perfect mazes of any odd side: cells at odd rows and columns, joined by openings in the walls between them.

Perfect means that the openings form a spanning tree of the lattice of cells: one simple path joins any two of them.
A side of 2n + 1 has n × n cells; their spanning trees number 4 for n = 2, 192 for n = 3 and 100,352 for n = 4
(https://oeis.org/A007341).
"""

import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from maxrl.tasks.maze.grid import GOAL, PATH, START, WALL

Opening = tuple[int, int]
"""The place of a wall between two cells, and of the cell behind it."""

_IS_PATH = ord(PATH)


def prim(side: int, rng: random.Random) -> str:
    """A maze grown from the start by randomised Prim: of all walls between the maze and what is outside, open any.

    Short branches everywhere, and a path to the goal that is seldom much longer than it must be. Every perfect maze can
    come, though not each as often.
    """
    neighbours = _neighbours(side)
    place = _first_cell(side)
    grid = _walls(side)
    grid[place] = _IS_PATH
    frontier = list(neighbours[place])
    while frontier:
        # Any item of the list, without moving those behind it; the bias of the product is below 2⁻⁴⁰.
        drawn = int(rng.random() * len(frontier))
        wall, place = frontier[drawn]
        frontier[drawn] = frontier[-1]
        frontier.pop()
        if grid[place] != _IS_PATH:
            grid[wall] = grid[place] = _IS_PATH
            frontier += neighbours[place]
    return _finished(grid, side)


def depth_first(side: int, rng: random.Random) -> str:
    """A maze dug from the start by a walk that turns at random and goes back only where it cannot go on.

    Long winding corridors and few branches. Only such mazes come in which no wall parts two cells of different branches:
    2 of the 4 of side 5, 14 of the 192 of side 7, 322 of the 100,352 of side 9.
    """
    neighbours = _neighbours(side)
    place = _first_cell(side)
    grid = _walls(side)
    grid[place] = _IS_PATH
    way = [place]
    while way:
        closed = [opening for opening in neighbours[way[-1]] if grid[opening[1]] != _IS_PATH]
        if not closed:
            way.pop()
            continue
        wall, place = closed[int(rng.random() * len(closed))]
        grid[wall] = grid[place] = _IS_PATH
        way.append(place)
    return _finished(grid, side)


GENERATORS: Mapping[str, Callable[[int, random.Random], str]] = MappingProxyType(
    {"prim": prim, "depth_first": depth_first}
)
"""By name: side (odd, at least 5) and random generator → the text of a maze, as `read_grid` takes it."""


@lru_cache
def _neighbours(side: int) -> Mapping[int, tuple[Opening, ...]]:
    """For the place of each cell, the ways out of it that do not cross the border."""
    found: dict[int, tuple[Opening, ...]] = {}
    for row in range(1, side, 2):
        for column in range(1, side, 2):
            ways = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            found[_place(side, row, column)] = tuple(
                (_place(side, r, c), _place(side, 2 * r - row, 2 * c - column))
                for r, c in ways
                if 0 < r < side - 1 and 0 < c < side - 1
            )
    return found


def _place(side: int, row: int, column: int) -> int:
    return row * (side + 1) + column  # a row ends with a line break


def _first_cell(side: int) -> int:
    return _place(side, 1, 1)


def _walls(side: int) -> bytearray:
    return bytearray("\n".join([WALL * side] * side), "ascii")


def _finished(grid: bytearray, side: int) -> str:
    """The maze as text, its start in the first cell and its goal in the last."""
    grid[_first_cell(side)] = ord(START)
    grid[_place(side, side - 2, side - 2)] = ord(GOAL)
    return grid.decode("ascii")
