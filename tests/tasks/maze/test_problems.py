"""Maze: the problems it makes, their words, their two halves, pools, and demonstrations."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from statistics import median

import pytest

from maxrl.errors import InputError
from maxrl.tasks import Example
from maxrl.tasks.maze.generators import GENERATORS, depth_first, prim
from maxrl.tasks.maze.grid import Grid, read_grid, shortest_path
from maxrl.tasks.maze.task import Maze, _split_of

Cell = tuple[int, int]
Edge = tuple[Cell, Cell]


def _mazes(task: Maze, split: str = "train", count: int = 100, seed: int = 0) -> list[str]:
    return [example.truth["maze"] for example in task.examples(split, count, seed=seed)]


def _lattice(n: int) -> list[Edge]:
    """Pairs of neighbouring cells of an n × n lattice."""
    cells = [(row, column) for row in range(n) for column in range(n)]
    return [(a, b) for a in cells for b in ((a[0], a[1] + 1), (a[0] + 1, a[1])) if b in cells]


def _spanning_trees(n: int) -> Iterator[tuple[Edge, ...]]:
    """All of them: each edge is taken or left out, as long as no loop closes and no cell is cut off."""
    edges = _lattice(n)

    def joined(component: dict[Cell, Cell], edge: Edge) -> dict[Cell, Cell]:
        old, new = component[edge[0]], component[edge[1]]
        return {cell: new if name == old else name for cell, name in component.items()}

    def can_be_joined(component: dict[Cell, Cell], rest: list[Edge]) -> bool:
        for edge in rest:
            component = joined(component, edge)
        return len(set(component.values())) == 1

    def grow(number: int, component: dict[Cell, Cell], tree: tuple[Edge, ...]) -> Iterator[tuple[Edge, ...]]:
        if len(tree) == n * n - 1:
            yield tree
            return
        edge = edges[number]
        apart = component[edge[0]] != component[edge[1]]
        if apart:
            yield from grow(number + 1, joined(component, edge), (*tree, edge))
        if not apart or can_be_joined(component, edges[number + 1 :]):
            yield from grow(number + 1, component, tree)

    return grow(0, {cell: cell for edge in edges for cell in edge}, ())


def _drawn(n: int, tree: tuple[Edge, ...]) -> str:
    """The maze whose openings are the edges of a spanning tree."""
    rows = [["#"] * (2 * n + 1) for _ in range(2 * n + 1)]
    for (row, column), (other_row, other_column) in tree:
        for r, c in (
            (2 * row + 1, 2 * column + 1),
            (row + other_row + 1, column + other_column + 1),
            (2 * other_row + 1, 2 * other_column + 1),
        ):
            rows[r][c] = "."
    rows[1][1], rows[-2][-2] = "S", "G"
    return "\n".join("".join(row) for row in rows)


# --- Words ----------------------------------------------------------------------------------------------------------


def test_a_prompt_says_what_the_maze_is_row_by_row() -> None:
    (example,) = Maze(maze_size=5).examples("train", 1)
    assert example.truth == {"maze": "#####\n#S..#\n#.###\n#..G#\n#####"}
    assert example.prompt == (
        "GRID_START "
        "WALL WALL WALL WALL WALL NEWLINE "
        "WALL START PATH PATH WALL NEWLINE "
        "WALL PATH WALL WALL WALL NEWLINE "
        "WALL PATH PATH GOAL WALL NEWLINE "
        "WALL WALL WALL WALL WALL NEWLINE "
        "GRID_END PATH_START"
    )


def test_the_vocabulary_gives_the_ids_of_the_paper() -> None:
    vocabulary = Maze().vocabulary()
    ids = {4 + place: word for place, word in enumerate(vocabulary.words)}  # after pad, bos, eos and unk
    named = ["GRID_START", "GRID_END", "PATH_START", "DONE", "PATH", "WALL", "GOAL", "START", "NEWLINE"]
    named += ["UP", "DOWN", "LEFT", "RIGHT", "\n"]
    assert ids == dict(enumerate([*named, *(f"RESERVED_{number}" for number in range(14))], start=4))
    assert (ids[7], ids[16], ids[17]) == ("DONE", "RIGHT", "\n")
    assert len(vocabulary.words) == 28
    assert vocabulary.stop == ("DONE",)
    assert vocabulary == Maze(maze_size=5, generator="depth_first", pool_size=3).vocabulary()


@pytest.mark.parametrize(
    ("size", "tokens", "length"), [(7, 60, 8), (9, 94, 12), (11, 136, 16), (13, 186, 20), (17, 310, 28)]
)
def test_tokens_and_path_lengths_are_those_of_the_paper(size: int, tokens: int, length: int) -> None:
    task = Maze(maze_size=size)
    examples = task.examples("train", 500)
    assert {1 + len(example.prompt.split(" ")) for example in examples} == {tokens}  # and <bos>
    lengths = [len(task.demonstration(example).split(" ")) - 1 for example in examples]
    assert median(lengths) == min(lengths) == length
    assert size < 17 or max(lengths) in range(36, 45)  # the paper's longest: 40


# --- Mazes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("size", [5, 7, 9, 17, 31])
def test_mazes_are_perfect(size: int, generator: str) -> None:
    for maze in _mazes(Maze(maze_size=size, generator=generator), count=30):
        rows = maze.split("\n")
        assert len(rows) == size
        assert {len(row) for row in rows} == {size}
        assert rows[1][1] == "S"
        assert rows[size - 2][size - 2] == "G"
        places = {(r, c) for r in range(size) for c in range(size) if rows[r][c] != "#"}
        assert all(r % 2 or c % 2 for r, c in places)  # no opening where four walls meet
        # A connected graph with one edge less than nodes is a tree: one simple path between any two places.
        assert len(places) == 2 * (size // 2) ** 2 - 1
        reached, waiting = {(1, 1)}, [(1, 1)]
        for r, c in waiting:
            new = {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} & places - reached
            reached |= new
            waiting += new
        assert reached == places


@pytest.mark.parametrize(("size", "many", "draws"), [(5, 4, 200), (7, 192, 40_000)])
def test_prim_makes_every_maze_and_depth_first_some(size: int, many: int, draws: int) -> None:
    everything = {_drawn(size // 2, tree) for tree in _spanning_trees(size // 2)}
    rng = random.Random(0)
    assert len(everything) == many
    assert {prim(size, rng) for _ in range(draws)} == everything
    assert {depth_first(size, rng) for _ in range(draws)} < everything


@pytest.mark.slow
def test_there_are_100_352_mazes_of_side_nine_of_which_either_split_has_about_half() -> None:
    everything = {_drawn(4, tree) for tree in _spanning_trees(4)}
    assert len(everything) == 100_352
    seen = {split: set(_mazes(Maze(maze_size=9), split, 20_000)) for split in ("train", "eval")}
    assert seen["train"] | seen["eval"] < everything
    halves = Counter(_split_of(maze) for maze in everything)
    assert abs(halves["train"] - halves["eval"]) < 5 * 317  # sd of the difference √100,352
    assert all(_split_of(maze) == split for split in seen for maze in seen[split])


def test_depth_first_makes_as_many_mazes_as_documented() -> None:
    for size, draws, many in ((5, 100, 2), (7, 2000, 14), (9, 20_000, 322)):
        rng = random.Random(0)
        assert len({depth_first(size, rng) for _ in range(draws)}) == many


def test_prim_opens_every_wall_of_the_frontier_equally_often() -> None:
    # Cells A (start) B / C D. The first opening is AB or AC, 1/2 each. After AB the frontier is AC, BD: AC (1/2) leaves
    # BD, CD, either of which (1/2) makes the maze that lacks the other; BD leaves AC, CD likewise. So the mazes that
    # lack CD, BD, AC have 1/8 + 1/8, 1/8, 1/8, and after AC, by symmetry, BD, CD, AB the same: in all 3/8 each for CD and
    # BD, 1/8 each for AC and AB.
    rng = random.Random(1)
    lacking = Counter(name for _ in range(8000) for name in _closed(prim(5, rng)))
    expected = {"AB": 1000, "AC": 1000, "BD": 3000, "CD": 3000}
    # The standard deviation of a count is at most √(8000 · 3/8 · 5/8) = 43.3.
    assert all(abs(lacking[name] - many) < 5 * 44 for name, many in expected.items())


def _closed(maze: str) -> list[str]:
    """The walls that stand in a maze of four cells, A (start) and B above C and D (goal)."""
    rows = maze.split("\n")
    walls = {"AB": rows[1][2], "AC": rows[2][1], "BD": rows[2][3], "CD": rows[3][2]}
    return [name for name, place in walls.items() if place == "#"]


def test_depth_first_turns_either_way_equally_often() -> None:
    rng = random.Random(1)
    counts = Counter(depth_first(5, rng) for _ in range(2000))
    assert all(abs(many - 1000) < 5 * 23 for many in counts.values())  # sd √(2000 / 4) = 22.4


def test_depth_first_paths_are_long() -> None:
    long, short = (
        median(len(shortest_path(read_grid(maze))) for maze in _mazes(Maze(generator=generator)))
        for generator in ("depth_first", "prim")
    )
    assert long > 1.5 * short


# --- Halves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(5, 200), (7, 2000), (9, 1000), (11, 200)])
def test_no_maze_is_in_both_splits_whatever_seeds_and_generators(size: int, count: int) -> None:
    seen = {
        split: {
            maze
            for seed in (0, 1, 2**31 - 1)
            for generator in GENERATORS
            for maze in _mazes(Maze(maze_size=size, generator=generator), split, count, seed)
        }
        for split in ("train", "eval")
    }
    assert not seen["train"] & seen["eval"]
    assert min(map(len, seen.values())) > 0.4 * max(map(len, seen.values()))
    if size <= 7:
        assert seen["train"] | seen["eval"] == {
            _drawn(size // 2, tree) for tree in _spanning_trees(size // 2)
        }


def test_a_pool_brings_no_evaluation_maze_into_training() -> None:
    evaluation = set(_mazes(Maze(maze_size=9), "eval", 2000, seed=5))
    assert not evaluation & set(_mazes(Maze(maze_size=9, pool_size=500), "train", 2000, seed=5))


# --- Pools ----------------------------------------------------------------------------------------------------------


def test_a_pool_is_the_beginning_of_the_endless_stream_in_a_new_order_each_round() -> None:
    pooled, endless = Maze(maze_size=9, pool_size=20), Maze(maze_size=9)
    wanted = {example.id: example for example in endless.examples("train", 20, seed=3)}
    given = pooled.examples("train", 100, seed=3)
    orders = []
    for first in range(0, 100, 20):
        ids = [example.id for example in given[first : first + 20]]
        assert sorted(ids) == sorted(wanted)
        assert all(wanted[example.id] == example for example in given[first : first + 20])
        orders.append(tuple(ids))
    assert len(set(orders)) == 5
    assert tuple(wanted) not in orders


def test_a_pool_does_not_depend_on_count_or_start() -> None:
    task = Maze(maze_size=5, pool_size=7)
    whole = task.examples("train", 40)
    for start in range(20):
        for count in (0, 1, 6, 7, 8, 20):
            assert task.examples("train", count, start=start) == whole[start : start + count]
    assert task.examples("train", 3, start=7 * 10**9) != whole[:3]


def test_pools_of_different_seeds_differ_in_problems_and_order() -> None:
    task = Maze(pool_size=30)
    first, second = (task.examples("train", 30, seed=seed) for seed in (0, 1))
    assert not {example.truth["maze"] for example in first} & {example.truth["maze"] for example in second}
    assert [example.id.rpartition("-")[2] for example in first] != [
        example.id.rpartition("-")[2] for example in second
    ]


def test_a_pool_leaves_evaluation_as_it_is() -> None:
    assert Maze(pool_size=2).examples("eval", 10) == Maze().examples("eval", 10)


def test_the_size_of_a_split_is_that_of_the_pool() -> None:
    assert Maze().size("train") is Maze().size("eval") is Maze(pool_size=9).size("eval") is None
    assert Maze(pool_size=9).size("train") == 9
    assert Maze(maze_size=5, pool_size=9).self_check(100).problems == 9


# --- Streams, parameters --------------------------------------------------------------------------------------------


def test_streams_are_pinned() -> None:
    # Results on file name problems by id: a change here makes them incomparable and needs a new task name.
    def first(task: Maze, split: str) -> list[str]:
        return _mazes(task, split, 1)[0].split("\n")

    assert first(Maze(maze_size=7), "train") == [
        "#######",
        "#S....#",
        "#.###.#",
        "#...#.#",
        "#.#####",
        "#....G#",
        "#######",
    ]
    assert first(Maze(maze_size=7), "eval") == [
        "#######",
        "#S....#",
        "#.#.#.#",
        "#.#.#.#",
        "#.#####",
        "#....G#",
        "#######",
    ]
    assert first(Maze(maze_size=7, generator="depth_first"), "train") == [
        "#######",
        "#S..#.#",
        "###.#.#",
        "#...#.#",
        "#.###.#",
        "#....G#",
        "#######",
    ]
    pooled = Maze(maze_size=7, pool_size=5).examples("train", 5, seed=2)
    assert [example.id for example in pooled] == [f"train-2-{index}" for index in (2, 3, 1, 0, 4)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"maze_size": 3}, "maze_size=3 is not allowed; give a whole number from 5 to 101"),
        ({"maze_size": 103}, "from 5 to 101"),
        ({"maze_size": 16}, "maze_size=16 is not allowed; give an odd number"),
        ({"maze_size": 9.0}, "maze_size=9.0"),
        ({"maze_size": True}, "maze_size=True"),
        ({"maze_size": "9"}, "maze_size='9'"),
        ({"generator": "prims"}, "unknown generator 'prims'; did you mean 'prim'"),
        ({"generator": None}, "unknown generator 'None'"),
        ({"pool_size": -1}, "pool_size=-1 is not allowed; give a whole number from 0 to 10000000"),
        ({"pool_size": 10**7 + 1}, "pool_size=10000001"),
        ({"pool_size": 1.5}, "pool_size=1.5"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Maze(**parameters)


@pytest.mark.parametrize("pool_size", [0, 5])
def test_bad_requests_are_refused_with_and_without_a_pool(pool_size: int) -> None:
    task = Maze(maze_size=5, pool_size=pool_size)
    for request in (("train", -1), ("test", 1)):
        with pytest.raises(InputError):
            task.examples(*request)
    with pytest.raises(InputError, match="start=-1"):
        task.examples("train", 1, start=-1)


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_ten_thousand_mazes_of_the_papers_size_take_five_seconds_at_most(generator: str) -> None:
    started = time.process_time()
    assert len(Maze(generator=generator).examples("train", 10_000)) == 10_000
    assert time.process_time() - started < 5.0


# --- Demonstrations -------------------------------------------------------------------------------------------------


def _by_hand(*rows: str) -> Example:
    return Example(id="mine", prompt="", truth={"maze": "\n".join(rows)})


def _depth_first_search(grid: Grid) -> list[str]:
    """The only path of a maze without loops, found in another way than the task finds it."""
    rows = grid.text.split("\n")
    moves = {"UP": (-1, 0), "DOWN": (1, 0), "LEFT": (0, -1), "RIGHT": (0, 1)}
    waiting: list[tuple[int, int, tuple[str, ...]]] = [(1, 1, ())]
    seen = set()
    while True:
        row, column, path = waiting.pop()
        if rows[row][column] == "G":
            return list(path)
        seen.add((row, column))
        for action, (down, right) in moves.items():
            there = row + down, column + right
            if rows[there[0]][there[1]] != "#" and there not in seen:
                waiting.append((*there, (*path, action)))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("size", [5, 9, 17])
def test_a_demonstration_is_the_only_simple_path_and_done(size: int, generator: str) -> None:
    task = Maze(maze_size=size, generator=generator)
    for example in task.examples("train", 100):
        path = _depth_first_search(read_grid(example.truth["maze"]))
        assert task.demonstration(example) == " ".join([*path, "DONE"])


def test_of_several_ways_the_shortest_is_shown_and_of_equal_ones_the_first() -> None:
    open_room = _by_hand("#####", "#S..#", "#...#", "#..G#", "#####")
    assert Maze().demonstration(open_room) == "DOWN DOWN RIGHT RIGHT DONE"
    ring = _by_hand("######", "#.S..#", "#.##.#", "#G...#", "#...##", "######")
    assert Maze().demonstration(ring) == "LEFT DOWN DOWN DONE"


def test_what_cannot_be_solved_cannot_be_demonstrated() -> None:
    with pytest.raises(InputError, match="example 'mine' cannot be demonstrated: no way leads"):
        Maze().demonstration(_by_hand("#####", "#S#.#", "###.#", "#..G#", "#####"))
    with pytest.raises(
        InputError, match="example 'mine' is no problem of this task: truth must be a mapping"
    ):
        Maze().demonstration(Example(id="mine", prompt="", truth=None))


def test_every_size_asked_for_is_made() -> None:
    sizes = chain(range(5, 40, 2), (101,))
    assert all(_mazes(Maze(maze_size=size), count=1)[0].count("\n") == size - 1 for size in sizes)
