"""A maze as text, the way a sequence of actions takes through it, and the shortest way to its goal."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

WALL, PATH, START, GOAL = "#", ".", "S", "G"

ACTIONS = ("UP", "DOWN", "LEFT", "RIGHT")
"""Each moves by one character of the maze, a wall's place counting as much as a cell's."""

LARGEST_SIDE = 101
"""Rows and columns at most; keeps truths brought by others, and the cache of those read, small."""

_STOPS = WALL + GOAL


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A square maze with a border of walls, so that nobody leaves it without hitting one.

    Places are indices into `text`.
    """

    text: str
    """Its rows, joined by line breaks."""
    side: int
    """Rows, and characters of each."""
    start: int
    goal: int
    steps: Mapping[str, int]
    """How far an action moves in `text`."""


@lru_cache(maxsize=4096)  # a group shares its maze, and reading one takes longer than judging a completion
def read_grid(text: str) -> Grid | str:
    """The maze written in `text`, or a sentence that says why it is none."""
    rows = text.split("\n")
    side = len(rows)
    if not 3 <= side <= LARGEST_SIDE or any(len(row) != side for row in rows):
        return f"a maze must be 3 to {LARGEST_SIDE} rows, joined by line breaks, of as many characters each"
    if not set(text) <= {WALL, PATH, START, GOAL, "\n"}:
        return f"a maze must be made of {WALL} (wall), {PATH} (path), {START} (start) and {GOAL} (goal)"
    if text.count(START) != 1 or text.count(GOAL) != 1:
        return f"a maze must have one start ({START}) and one goal ({GOAL})"
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    if border.strip(WALL):
        return f"a maze must have walls ({WALL}) all around"
    down = side + 1  # a line break stands between two rows
    steps = {"UP": -down, "DOWN": down, "LEFT": -1, "RIGHT": 1}
    return Grid(text=text, side=side, start=text.index(START), goal=text.index(GOAL), steps=steps)


def walk(grid: Grid, actions: Iterable[str]) -> list[int]:
    """Every place that the actions lead to, the start first.

    The walk ends at the goal or in the first wall, which is its last place then; what follows is not walked.
    """
    text, steps, place = grid.text, grid.steps, grid.start
    places = [place]
    for action in actions:
        place += steps[action]
        places.append(place)
        if text[place] in _STOPS:
            break
    return places


def shortest_path(grid: Grid) -> list[str] | None:
    """The fewest actions from the start to the goal, by breadth-first search; None where no way leads there.

    Where several are as short (never in a maze without loops), the one whose first differing action comes first in
    `ACTIONS`.
    """
    came_by: dict[int, str] = {grid.start: ""}
    waiting = deque([grid.start])
    while waiting and grid.goal not in came_by:
        place = waiting.popleft()
        for action, step in grid.steps.items():
            if grid.text[place + step] != WALL and place + step not in came_by:
                came_by[place + step] = action
                waiting.append(place + step)
    if grid.goal not in came_by:
        return None
    path: list[str] = []
    place = grid.goal
    while place != grid.start:
        path.append(came_by[place])
        place -= grid.steps[path[-1]]
    return path[::-1]
