"""Maze: given a maze as a sequence of tokens, walk from its start to its goal.

The task of the MaxRL paper (arXiv 2602.02710) to the token: what a prompt holds, which words there are and in which
order, what a right answer is. A policy that has seen some demonstrations solves few mazes at first, and each maze has
one simple path, so that a group of rollouts is often all wrong: the case in which estimators differ most.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import takewhile
from typing import Any, ClassVar, Literal, cast, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import NO_PROBLEM, Example, Task, Verdict, Vocabulary
from maxrl.tasks.maze.generators import GENERATORS
from maxrl.tasks.maze.grid import (
    ACTIONS,
    GOAL,
    LARGEST_SIDE,
    PATH,
    START,
    WALL,
    Grid,
    read_grid,
    shortest_path,
    walk,
)
from maxrl.tasks.maze.pictures import Trail, svg_picture, text_picture
from maxrl.tasks.streams import Split, check_integer, problem_streams, random_stream

MazeGenerator = Literal["prim", "depth_first"]

DONE = "DONE"

NO_DONE = "no DONE"
NOT_AN_ACTION = "not an action"
HIT_A_WALL = "hit a wall"
GOAL_NOT_REACHED = "goal not reached"
REASONS = (NO_DONE, NOT_AN_ACTION, HIT_A_WALL, GOAL_NOT_REACHED)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

# The order gives the paper's ids, 4 to 31, after the four special tokens. Of its two words for a line break, prompts use
# NEWLINE; the other can only come from a model. It reserves 14 ids without naming them.
_WORDS = (
    *("GRID_START", "GRID_END", "PATH_START", DONE),
    *("PATH", "WALL", "GOAL", "START", "NEWLINE"),
    *ACTIONS,
    "\n",
    *(f"RESERVED_{number}" for number in range(14)),
)
_WORD_OF = {PATH: "PATH", WALL: "WALL", GOAL: "GOAL", START: "START", "\n": "NEWLINE"}

_ACTIONS = frozenset(ACTIONS)
_MIRRORED = {"UP": "LEFT", "LEFT": "UP", "DOWN": "RIGHT", "RIGHT": "DOWN"}
_OPPOSITE = {"UP": "DOWN", "DOWN": "UP", "LEFT": "RIGHT", "RIGHT": "LEFT"}

_LARGEST_POOL = 10**7


@dataclass(frozen=True, kw_only=True)
class Maze(Task):
    """Walk through a maze from its start in the upper left corner to its goal in the lower right one.

    A maze of side `maze_size` has cells at odd rows and columns (counted from 0) and one simple path between any two
    of them. The prompt is `GRID_START`, then each row's places (`WALL`, `PATH`, `START`, `GOAL`) followed by `NEWLINE`,
    then `GRID_END PATH_START`: `maze_size · (maze_size + 1) + 3` words. The answer is actions (`UP`, `DOWN`, `LEFT`,
    `RIGHT`, one place each) and `DONE`.

    Whether a maze belongs to training or to evaluation is a hash of the maze itself, one half each: no maze is ever in
    both, whatever the seeds and the generators. Mazes of one split may repeat where there are few: 4 have side 5, 192
    side 7, 100,352 side 9; of these `depth_first` makes 2, 14 and 322.

    Raises:
        InputError: on construction, when a parameter is out of range or of the wrong type.
    """

    name: ClassVar[str] = "maze"

    maze_size: int = field(
        default=17,
        metadata={"help": f"rows and columns of a maze, walls included (odd, 5 to {LARGEST_SIDE})"},
    )
    generator: MazeGenerator = field(
        default="prim",
        metadata={
            "help": "'prim': short branches everywhere, the paper's; 'depth_first': long winding corridors"
        },
    )
    pool_size: int = field(
        default=0,
        metadata={
            "help": "train on this many mazes again and again, in a new order each round; 0 for no end of new ones"
        },
    )

    def __post_init__(self) -> None:
        check_integer("maze_size", self.maze_size, 5, LARGEST_SIDE)
        if self.maze_size % 2 == 0:
            raise InputError(f"maze_size={self.maze_size} is not allowed; give an odd number")
        if self.generator not in get_args(MazeGenerator):
            raise unknown_name("generator", str(self.generator), get_args(MazeGenerator))
        check_integer("pool_size", self.pool_size, 0, _LARGEST_POOL)

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        With a pool, training goes through the first `pool_size` problems of its stream round after round, each round in
        an order of its own. An id then names the problem and not its turn.

        Raises:
            InputError: on an unknown split, or a count, seed or start that is not a whole number ≥ 0.
        """
        parameters = {"maze_size": self.maze_size, "generator": self.generator}
        streams = partial(problem_streams, self.name, parameters, split, seed=seed)
        asked = streams(count, start=start)  # refuses a bad request
        if split == "eval" or not self.pool_size:
            return [self._example(id_, split, rng) for id_, rng in asked]
        order = self._pool_order(range(start, start + count), seed)
        pool = {
            index: self._example(id_, split, rng)
            for index in set(order)
            for id_, rng in streams(1, start=index)
        }
        return [pool[index] for index in order]

    def _pool_order(self, turns: range, seed: int) -> list[int]:
        """The problem of the pool that each of the turns takes."""
        order: list[int] = []
        first_round = turns.start // self.pool_size
        for round_ in range(first_round, -(-turns.stop // self.pool_size)):
            shuffled = list(range(self.pool_size))
            random_stream(self.name, "pool", seed, round_).shuffle(shuffled)
            order += shuffled
        skipped = turns.start - first_round * self.pool_size
        return order[skipped : skipped + len(turns)]

    def _example(self, id_: str, split: Split, rng: random.Random) -> Example:
        maze = GENERATORS[self.generator](self.maze_size, rng)
        while _split_of(maze) != split:
            maze = GENERATORS[self.generator](self.maze_size, rng)
        return Example(id=id_, prompt=_prompt(maze), truth={"maze": maze})

    def size(self, split: Split) -> int | None:
        """The pool's size for training with a pool; else None: as many as one asks for, small mazes repeatedly."""
        return self.pool_size or None if split == "train" else None

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Success (reward 1.0) when the completion walks to the goal and says `DONE`, else 0.0.

        `DONE` must appear, every word before the first one must be an action, and the walk must reach the goal at some
        point before it hits a wall. Walking back and forth is allowed; actions after the goal are not walked, so that
        they may run into walls; what follows `DONE` is ignored. The border is all wall: nobody leaves the maze.

        Words are separated by spaces (one or more), and by nothing else: a line break is a word of the vocabulary and
        no action. They count as they are spelt in the vocabulary, to the letter.

        A refusal's `reason` is one of `REASONS`. Never raises on any string; a `truth` that is no maze gives an error
        (reward None), never a zero.
        """
        grid = _read(truth)
        if isinstance(grid, str):
            return Verdict(success=False, reward=None, reason=NO_PROBLEM, error=grid)
        reason = _refusal(grid, completion)
        return Verdict(success=not reason, reward=0.0 if reason else 1.0, reason=reason)

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion, as by `score`; its time is proportional to their length, and needs no guard."""
        return [self.score(truth, completion) for truth, completion in zip(truths, completions, strict=True)]

    def demonstration(self, example: Example) -> str:
        """The shortest path to the goal, found by breadth-first search in the truth, and `DONE`.

        Raises:
            InputError: when the truth is no maze, or no way leads to the goal.
        """
        path = shortest_path(_grid(example))
        if path is None:
            raise InputError(
                f"example '{example.id}' cannot be demonstrated: no way leads from start to goal; use examples made by "
                "this task"
            )
        return " ".join([*path, DONE])

    def vocabulary(self) -> Vocabulary | None:
        """The paper's 28 words, the same for every size of maze; `DONE` ends a completion."""
        return Vocabulary(words=_WORDS, stop=(DONE,))

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Wrong paths, and right ones in words that are not to be read."""
        yield from super().corruptions(example, gold)
        path = gold.split(" ")[:-1]
        for kind, wrong in _wrong_paths(_grid(example), path):
            yield kind, " ".join([*wrong, DONE])
        yield from _wrong_texts(example, path)

    def picture(self, example: Example, completions: Sequence[str] = ()) -> str | None:
        """The maze in characters, and how many completions come through each place or run into each wall.

        Raises:
            InputError: when the truth is no maze.
        """
        grid = _grid(example)
        return text_picture(grid, [_trail(grid, completion) for completion in completions])

    def svg(self, example: Example, completions: Sequence[str] = ()) -> str:
        """The maze and the paths of completions as an SVG image that needs nothing else, for light and dark pages.

        Raises:
            InputError: when the truth is no maze.
        """
        grid = _grid(example)
        return svg_picture(grid, [_trail(grid, completion) for completion in completions])


def _split_of(maze: str) -> Split:
    # The label is one that leaves both splits mazes of side 5 from either generator; another makes every problem another.
    return "train" if sha256(f"split of {maze}".encode("ascii")).digest()[0] % 2 else "eval"


def _prompt(maze: str) -> str:
    return " ".join(["GRID_START", *map(_WORD_OF.__getitem__, maze), "NEWLINE GRID_END PATH_START"])


def _read(truth: object) -> Grid | str:
    """The maze of a truth, or a sentence that says what is wrong with it."""
    if not isinstance(truth, Mapping):
        return f"truth must be a mapping with 'maze', got {type(truth).__name__}"
    maze = cast("Mapping[str, object]", truth).get("maze")
    if not isinstance(maze, str):
        return "truth['maze'] must be a maze as text"
    grid = read_grid(maze)
    return f"truth['maze'] is none: {grid}" if isinstance(grid, str) else grid


def _grid(example: Example) -> Grid:
    grid = _read(example.truth)
    if isinstance(grid, str):
        raise InputError(f"example '{example.id}' is no problem of this task: {grid}")
    return grid


def _words(text: str) -> list[str]:
    return list(filter(None, text.split(" ")))


def _refusal(grid: Grid, completion: str) -> str:
    """Why the completion is no answer, one of `REASONS`; "" when it is one."""
    before, done, _ = f" {completion} ".partition(f" {DONE} ")
    if not done:
        return NO_DONE
    actions = _words(before)
    if not _ACTIONS.issuperset(actions):
        return NOT_AN_ACTION
    last = walk(grid, actions)[-1]
    if last == grid.goal:
        return ""
    return HIT_A_WALL if grid.text[last] == WALL else GOAL_NOT_REACHED


def _trail(grid: Grid, completion: str) -> Trail:
    """The way of a completion as far as its words are actions, and what became of it."""
    actions = takewhile(_ACTIONS.__contains__, _words(completion))
    return Trail(places=tuple(walk(grid, actions)), reason=_refusal(grid, completion))


def _wrong_paths(grid: Grid, path: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Sequences of actions that do not lead to the goal.

    In a maze without loops any other sequence that is not longer than the shortest path is certain to be wrong.
    """
    rng = random.Random(
        grid.text
    )  # any generator does: which of several corruptions is tried does not matter
    where = rng.randrange(len(path))
    before, action, after = path[:where], path[where], path[where + 1 :]
    yield "action changed", [*before, rng.choice([other for other in ACTIONS if other != action]), *after]
    yield "action dropped", [*before, *after]
    yield "stops before the goal", path[:-1]
    yield "goes back at the goal", [*path[:-1], _OPPOSITE[path[-1]]]
    # Right for whoever lets walls stop a walk without ending it.
    place = walk(grid, before)[-1]
    into_a_wall = [turn for turn, step in grid.steps.items() if grid.text[place + step] == WALL]
    if into_a_wall:
        yield "runs into a wall", [*before, rng.choice(into_a_wall), action, *after]
    yield "path of the mirrored maze", [_MIRRORED[action] for action in path]
    yield "path from goal to start", [_OPPOSITE[action] for action in reversed(path)]
    if path[::-1] != path:
        yield "actions in reverse order", path[::-1]
    straight = ["RIGHT", "DOWN"] * (grid.side - 3)
    yield "diagonal through the walls", straight


def _wrong_texts(example: Example, path: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Paths to the goal that are not written as they must be."""
    actions = " ".join(path)
    where = len(path) // 2
    first, second = " ".join(path[:where]), " ".join(path[where:])
    yield "DONE missing", actions
    yield "DONE first", f"{DONE} {actions}"
    yield "DONE too early", f"{first} {DONE} {second} {DONE}"
    yield "DONE in lower case", f"{actions} done"
    yield "full stop", f"{actions} {DONE}."
    yield "actions in lower case", f"{actions.lower()} {DONE}"
    yield "actions by letter", f"{' '.join(action[0] for action in path)} {DONE}"
    yield "no spaces", f"{''.join(path)} {DONE}"
    yield "commas", f"{', '.join(path)} {DONE}"
    yield "one action a line", "\n".join([*path, DONE])
    yield "line break between actions", f"{first} \n {second} {DONE}"
    yield "words before", f"The path: {actions} {DONE}"
    yield "words between actions", f"{first} and then {second} {DONE}"
    yield "words before DONE", f"{actions} ok {DONE}"
    yield "cells named", f"START {first} PATH {second} GOAL {DONE}"
    yield "prompt repeated", f"{example.prompt} {actions} {DONE}"
