"""Maze: its pictures, in characters and as SVG."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from maxrl.errors import InputError
from maxrl.tasks import Example
from maxrl.tasks.maze import Maze

ROWS = ["#####", "#S..#", "#.#.#", "#.#G#", "#####"]
EXAMPLE = Example(id="mine", prompt="", truth={"maze": "\n".join(ROWS)})
COMPLETIONS = [
    "RIGHT RIGHT DOWN DOWN DONE",
    "RIGHT LEFT RIGHT RIGHT DOWN DOWN DONE",  # comes to the start and its right twice, and counts once
    "RIGHT RIGHT RIGHT DONE",
    "DOWN DOWN DOWN UP DONE",
    "DOWN RIGHT DONE",
    "DOWN RIGHT",  # hits the same wall, and never says DONE
    "DOWN DONE RIGHT RIGHT",
    "DOWN fast DOWN DONE",  # walked as far as its words are actions
]
TASK = Maze(maze_size=5)
SVG = "{http://www.w3.org/2000/svg}"


def test_the_maze_alone() -> None:
    assert TASK.picture(EXAMPLE) == "\n".join(
        [
            "██████████",
            "██ S    ██",
            "██  ██  ██",
            "██  ██ G██",
            "██████████",
        ]
    )


def test_numbers_say_how_many_completions_come_through_and_crosses_where_they_hit_a_wall() -> None:
    assert TASK.picture(EXAMPLE, COMPLETIONS) == "\n".join(
        [
            "██████████",
            "██ S 3 3×1",
            "██ 5×2 2██",
            "██ 1██G2██",
            "██×1██████",
            "S start, G goal, 3: three completions come here, ×3: three hit this wall",
            "8 answers: 3 hit a wall, 2 solved, 1 no DONE, 1 goal not reached, 1 not an action",
        ]
    )


def test_places_are_as_wide_as_the_largest_number() -> None:
    picture = TASK.picture(EXAMPLE, ["RIGHT RIGHT DOWN DOWN DONE"] * 12 + ["DOWN RIGHT DONE"] * 345)
    assert picture.split("\n")[:5] == [
        "████████████████████",
        "████   S  12  12████",
        "████ 345×345  12████",
        "████    ████ G12████",
        "████████████████████",
    ]


def test_a_completion_that_goes_nowhere_is_counted_and_drawn_nowhere() -> None:
    picture = TASK.picture(EXAMPLE, ["", "nonsense"])
    maze, _, summary = picture.rsplit("\n", 2)
    assert maze == TASK.picture(EXAMPLE)
    assert summary == "2 answers: 2 no DONE"
    (nowhere,) = _paths(TASK.svg(EXAMPLE, ["", "nonsense"]), "maze-failed")
    assert "L" not in nowhere.get("d")


def test_a_truth_that_is_no_maze_has_no_picture() -> None:
    broken = Example(id="broken", prompt="", truth={"maze": "#"})
    for draw in (TASK.picture, TASK.svg):
        with pytest.raises(InputError, match="example 'broken' is no problem of this task"):
            draw(broken)


def _paths(svg: str, kind: str) -> list[ElementTree.Element]:
    """The lines of a kind, those of the legend left out."""
    root = ElementTree.fromstring(svg)
    return [
        path for path in root.iter(f"{SVG}path") if kind in path.get("class") and path.get("stroke-opacity")
    ]


def _texts(svg: str) -> list[str]:
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_an_svg_needs_nothing_else() -> None:
    svg = TASK.svg(EXAMPLE, COMPLETIONS)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert not re.search(r"href|url\(|@import|<script|<image|https?://(?!www\.w3\.org/2000/svg)", svg)
    assert "prefers-color-scheme:dark" in svg
    styled = set(re.findall(r"\.([\w-]+)\{", svg))
    used = {name for item in root.iter() for name in (item.get("class") or "").split()}
    assert used <= styled
    assert all(
        name.startswith("maze-") for name in styled
    )  # so that it changes nothing on a page it stands in
    _, _, width, height = map(float, root.get("viewBox").split())
    assert (root.get("width"), root.get("height")) == (f"{width:g}", f"{height:g}")


def test_an_svg_draws_every_wall_once() -> None:
    (walls,) = (
        path.get("d")
        for path in ElementTree.fromstring(TASK.svg(EXAMPLE)).iter(f"{SVG}path")
        if path.get("class") == "maze-walls"
    )
    drawn = set()
    for x, y, width, back in re.findall(r"M(\d+) (\d+)h(\d+)v24h-(\d+)z", walls):
        assert width == back
        row, column, many = int(y) // 24, int(x) // 24, int(width) // 24
        new = {(row, column + offset) for offset in range(many)}
        assert not drawn & new
        drawn |= new
    assert drawn == {(r, c) for r in range(5) for c in range(5) if ROWS[r][c] == "#"}


def test_an_svg_has_a_line_for_each_different_way() -> None:
    svg = TASK.svg(EXAMPLE, [*COMPLETIONS, *COMPLETIONS[:1] * 9])
    assert len(_paths(svg, "maze-solved")) == 2
    # Of the failures "DOWN RIGHT" went as "DOWN RIGHT DONE" did, and "DOWN fast DOWN DONE" as "DOWN DONE RIGHT RIGHT".
    assert len(_paths(svg, "maze-failed")) == 4
    widths = [float(path.get("stroke-width")) for path in _paths(svg, "maze-solved")]
    assert max(widths) > min(widths)  # ten went one of the ways


def _steps(line: str) -> list[tuple[int, int]]:
    """By how many pixels each part of a line goes right and down."""
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    return [(round(b[0] - a[0]), round(b[1] - a[1])) for a, b in pairwise(points)]


@pytest.mark.parametrize(
    ("completion", "steps"),
    [
        ("RIGHT UP DONE", [(24, 0), (0, -12)]),
        ("DOWN DOWN DOWN DONE", [(0, 24), (0, 24), (0, 12)]),
        ("LEFT DONE", [(-12, 0)]),
        ("DOWN RIGHT DONE", [(0, 24), (12, 0)]),
    ],
)
def test_lines_follow_the_way_and_stop_in_the_face_of_a_wall(
    completion: str, steps: list[tuple[int, int]]
) -> None:
    (solved,) = _paths(TASK.svg(EXAMPLE, ["RIGHT RIGHT DOWN DOWN DONE"]), "maze-solved")
    assert _steps(solved.get("d")[1:]) == [(24, 0), (24, 0), (0, 24), (0, 24)]
    (failed,) = _paths(TASK.svg(EXAMPLE, [completion]), "maze-failed")
    way, cross = failed.get("d")[1:].split("M")
    assert _steps(way) == steps
    assert cross.startswith(way.split("L")[-1])
    assert cross.endswith("l-6 6")


def test_different_ways_do_not_lie_on_one_another() -> None:
    ways = ["RIGHT LEFT " * turns + "RIGHT RIGHT DOWN DOWN DONE" for turns in range(40)]
    starts = {path.get("d").split("L")[0] for path in _paths(TASK.svg(EXAMPLE, ways), "maze-solved")}
    assert len(starts) == 40
    for start in starts:
        x, y = map(float, start[1:].split())
        assert 24 + 6 <= x <= 48 - 6  # inside its place, clear of the walls
        assert 24 + 6 <= y <= 48 - 6


def test_the_legend_says_what_there_is() -> None:
    assert _texts(TASK.svg(EXAMPLE)) == ["S", "G", "S", "start", "G", "goal"]
    assert _texts(TASK.svg(EXAMPLE, COMPLETIONS))[2:] == [
        *("S", "start", "G", "goal", "2 solved", "3 hit a wall"),
        *("1 goal not reached", "1 no DONE", "1 not an action", "where a wall is hit"),
    ]
    assert _texts(TASK.svg(EXAMPLE, ["DONE"]))[2:] == ["S", "start", "G", "goal", "1 goal not reached"]
    title = ElementTree.fromstring(TASK.svg(EXAMPLE, COMPLETIONS)).find(f"{SVG}title")
    assert title.text == "A maze of 5 × 5 and 8 ways through it, 2 of them right"


def test_pictures_are_the_same_every_time_and_in_any_order_of_completions() -> None:
    assert TASK.svg(EXAMPLE, COMPLETIONS) == TASK.svg(EXAMPLE, COMPLETIONS[::-1])


def test_a_large_group_on_a_large_maze_is_drawn() -> None:
    task = Maze()
    (example,) = task.examples("train", 1)
    gold = task.demonstration(example).split(" ")
    group = [" ".join([*gold[:cut], "DONE"]) for cut in range(len(gold))] * 100
    assert len(_paths(task.svg(example, group), "maze-")) == len(gold)
    assert task.picture(example, group).count("\n") == 18
