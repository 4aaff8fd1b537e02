"""Maze: the verifier, against hand-made cases, brute force, a second reading of the rule, and fuzzing."""

import random
import re
import time
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.tasks import Example, Verdict
from maxrl.tasks.maze.generators import prim
from maxrl.tasks.maze.task import GOAL_NOT_REACHED, HIT_A_WALL, NO_DONE, NOT_AN_ACTION, REASONS, Maze

TASK = Maze()
# From S right, down, down, right to G; a dead end below S, and one right of G's corridor.
ROWS = [
    "#######",
    "#S..#.#",
    "#.#.#.#",
    "#.#.#.#",
    "###.#.#",
    "#....G#",
    "#######",
]
TRUTH = {"maze": "\n".join(ROWS)}
GOLD = "RIGHT RIGHT DOWN DOWN DOWN DOWN RIGHT RIGHT"
# Hypothesis: the same cases on every run, and a second at most for each.
FUZZ = settings(derandomize=True, database=None, deadline=1000, max_examples=200)

ACCEPTED = [
    f"{GOLD} DONE",
    f" {GOLD}   DONE ",  # any number of spaces
    f"{GOLD} DONE DONE",
    f"{GOLD} DONE and this is not read",  # what follows DONE is ignored …
    f"{GOLD} DONE UP WALL \n",
    f"{GOLD} DONE {'LEFT ' * 50}",
    "DOWN DOWN UP UP RIGHT RIGHT DOWN UP DOWN DOWN DOWN DOWN LEFT RIGHT RIGHT RIGHT DONE",  # backtracking
    "RIGHT LEFT " * 30 + f"{GOLD} DONE",
    f"{GOLD} UP DONE",  # one step beyond the goal and back, or further …
    f"{GOLD} UP UP UP UP DONE",
    f"{GOLD} DOWN DONE",  # … into a wall …
    f"{GOLD} RIGHT RIGHT RIGHT RIGHT DONE",  # … and out of the grid: all after the goal
    f"{GOLD} LEFT LEFT DONE",  # not there any more, but it was
]


@pytest.mark.parametrize("completion", ACCEPTED)
def test_walks_that_reach_the_goal_are_accepted(completion: str) -> None:
    assert TASK.score(TRUTH, completion) == Verdict(success=True, reward=1.0)


REFUSED = {
    NO_DONE: [
        "",
        " ",
        " \n\t",
        GOLD,  # all right, but it never says so
        f"{GOLD} done",
        f"{GOLD} Done",
        f"{GOLD} DONE.",
        f"{GOLD} DONE\n",  # a line break is no space …
        f"{GOLD} DONE\nbye",
        f"{GOLD}\nDONE",
        f"{GOLD}\tDONE",
        f"{GOLD}\u00a0DONE",
        f"{GOLD} DONE\x00",
        f"{GOLD}DONE",
        f"{GOLD} ＤＯＮＥ",
        "nowhere",
    ],
    NOT_AN_ACTION: [
        f"{GOLD} \n DONE",  # … but a word, and no action
        f"{GOLD} ok DONE",
        f"{GOLD} WALL DONE",  # after the goal, but before DONE
        f"START {GOLD} DONE",
        f"The path: {GOLD} DONE",
        f"{GOLD.lower()} DONE",
        f"{GOLD.replace(' ', ', ')} DONE",
        f"{GOLD.replace(' ', chr(10))} DONE",
        f"{GOLD.replace(' ', '')} DONE",
        "R R D D D D R R DONE",
        f"{GOLD.replace('DOWN', 'ＤＯＷＮ')} DONE",
        f"{GOLD}\x00 DONE",
        f"GRID_END PATH_START {GOLD} DONE",
        "UP nonsense DONE",  # a wall is hit as well; the words are looked at first
    ],
    HIT_A_WALL: [
        "UP DONE",
        f"LEFT {GOLD} DONE",  # a wall ends the walk, even where it would go on from the same place …
        f"UP DOWN {GOLD} DONE",  # … or from where it would have come back to
        "RIGHT DOWN DONE",
        "DOWN RIGHT RIGHT RIGHT DOWN DONE",
        "RIGHT RIGHT RIGHT RIGHT DOWN DOWN DOWN DOWN DONE",  # through the wall to the goal
        "UP " + "RIGHT " * 6 + "DOWN " * 6 + "LEFT UP DONE",  # outside, around the grid
        "RIGHT " * 12 + "DONE",
        "DOWN " * 40 + "DONE",  # further than the text of the maze is long
        "UP " * 40 + "DONE",
    ],
    GOAL_NOT_REACHED: [
        "DONE",
        f"DONE {GOLD} DONE",  # the first DONE counts
        "RIGHT RIGHT DONE",
        "RIGHT RIGHT DOWN DOWN DOWN DOWN RIGHT DONE",  # one step short
        f"RIGHT RIGHT DOWN DONE {GOLD} DONE",
        "RIGHT LEFT " * 80 + "DONE",
    ],
}


@pytest.mark.parametrize(("reason", "completion"), [(r, c) for r, cs in REFUSED.items() for c in cs])
def test_everything_else_is_refused_with_its_reason(reason: str, completion: str) -> None:
    assert TASK.score(TRUTH, completion) == Verdict(success=False, reward=0.0, reason=reason)


def test_the_reasons_are_the_documented_ones() -> None:
    assert tuple(REFUSED) == REASONS


def test_the_parameters_do_not_change_the_rule() -> None:
    task = Maze(maze_size=31, generator="depth_first", pool_size=4)
    assert task.score(TRUTH, f"{GOLD} DONE").success
    assert not task.score(TRUTH, GOLD).success


def test_a_verdict_is_not_shared_with_the_next_one() -> None:
    assert TASK.score(TRUTH, "UP").components is not TASK.score(TRUTH, "UP").components


def test_many_are_judged_as_each_alone() -> None:
    other = {"maze": "#####\n#S..#\n###.#\n#..G#\n#####"}
    truths = [TRUTH, other, {}, TRUTH, None, other]
    completions = [f"{GOLD} DONE", "RIGHT RIGHT DOWN DOWN DONE", "DONE", "DONE", "DONE", "DOWN DONE"]
    verdicts = TASK.score_many(truths, completions)
    assert verdicts == [TASK.score(truth, text) for truth, text in zip(truths, completions, strict=True)]
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.0, None, 0.0, None, 0.0]
    with pytest.raises(ValueError, match="shorter"):
        TASK.score_many([TRUTH, TRUTH], ["DONE"])


SQUARE = r"truth\['maze'\] is none: a maze must be 3 to 101 rows"


@pytest.mark.parametrize(
    ("truth", "error"),
    [
        (None, "truth must be a mapping with 'maze', got NoneType"),
        (["maze"], "got list"),
        ("maze", "got str"),
        ({}, r"truth\['maze'\] must be a maze as text"),
        ({"maze": None}, "must be a maze as text"),
        ({"maze": ROWS}, "must be a maze as text"),
        ({"maze": b"###"}, "must be a maze as text"),
        ({"maze": ""}, SQUARE),
        ({"maze": "##\n##"}, SQUARE),
        ({"maze": "#" * 100}, SQUARE),
        ({"maze": "\n".join(ROWS) + "\n"}, SQUARE),
        ({"maze": "\r\n".join(ROWS)}, SQUARE),
        ({"maze": "\n".join(ROWS[:-1])}, SQUARE),
        ({"maze": "\n".join([*ROWS[:2], "#.##", *ROWS[3:]])}, SQUARE),
        ({"maze": "\n".join(["#" * 103] * 103)}, SQUARE),
        ({"maze": "\n".join(ROWS).replace(".", " ")}, "must be made of # "),
        ({"maze": "\n".join(ROWS).replace(".", "·")}, "must be made of # "),
        ({"maze": "\n".join(ROWS).replace("S", ".")}, "one start"),
        ({"maze": "\n".join(ROWS).replace("G", ".")}, "one goal"),
        ({"maze": "\n".join(ROWS).replace("G", "S")}, "one start"),
        ({"maze": "\n".join(ROWS).replace("S..", "SS.")}, "one start"),
        ({"maze": "\n".join(ROWS).replace("..G", ".GG")}, "one goal"),
        ({"maze": "\n".join(["#.#####", *ROWS[1:]])}, "walls"),
        ({"maze": "\n".join([*ROWS[:-1], "###.###"])}, "walls"),
        ({"maze": "\n".join([*ROWS[:3], "..#.#.#", *ROWS[4:]])}, "walls"),
        ({"maze": "\n".join([*ROWS[:3], "#.#.#..", *ROWS[4:]])}, "walls"),
        ({"maze": "#S#\n#.#\n#G#"}, "walls"),
    ],
)
@pytest.mark.parametrize("completion", [f"{GOLD} DONE", "", "words"])
def test_a_truth_that_is_no_maze_is_an_error_and_not_a_zero(
    truth: object, error: str, completion: str
) -> None:
    verdict = TASK.score(truth, completion)
    assert (verdict.success, verdict.reward, verdict.reason) == (False, None, "truth is no problem")
    assert verdict.error is not None
    assert re.search(error, verdict.error)


def test_a_maze_brought_by_others_may_have_loops_and_its_goal_anywhere() -> None:
    truth = {"maze": "######\n#.S..#\n#.##.#\n#G...#\n#...##\n######", "source": "mine"}
    assert TASK.score(truth, "LEFT DOWN DOWN DONE").success
    assert TASK.score(truth, "RIGHT RIGHT DOWN DOWN LEFT LEFT LEFT DONE").success
    assert TASK.score(truth, "RIGHT RIGHT DOWN DOWN DOWN DONE").reason == HIT_A_WALL


def test_scoring_changes_nothing() -> None:
    truth = dict(TRUTH)
    assert TASK.score(truth, f"{GOLD} DONE") == TASK.score(truth, f"{GOLD} DONE")
    assert truth == TRUTH


# --- A second reading -----------------------------------------------------------------------------------------------


def _obviously_right(maze: str, completion: str) -> bool:
    """The rule once more, one character and one step at a time, by row and column."""
    tokens = [""]
    for character in completion:
        if character == " ":
            tokens.append("")
        else:
            tokens[-1] += character
    tokens = [token for token in tokens if token]
    rows = maze.split("\n")
    (row, column) = next((r, line.index("S")) for r, line in enumerate(rows) if "S" in line)
    arrived = crashed = False
    for token in tokens:
        if token == "DONE":
            return arrived
        if token == "UP":
            row -= 1
        elif token == "DOWN":
            row += 1
        elif token == "LEFT":
            column -= 1
        elif token == "RIGHT":
            column += 1
        else:
            return False
        if arrived or crashed:
            continue
        inside = 0 <= row < len(rows) and 0 <= column < len(rows[row])
        crashed = not inside or rows[row][column] == "#"
        arrived = not crashed and rows[row][column] == "G"
    return False  # no DONE


@cache
def _all_mazes(size: int, many: int) -> list[str]:
    rng = random.Random(0)
    mazes = sorted({prim(size, rng) for _ in range(200 * many)})
    assert len(mazes) == many
    return mazes


def test_brute_force_agrees_on_every_maze_of_side_five_and_every_short_answer() -> None:
    # All sequences of up to seven actions, with and without DONE; up to four words of any kind, too.
    actions = [
        walk for length in range(8) for walk in product(("UP", "DOWN", "LEFT", "RIGHT"), repeat=length)
    ]
    words = ("UP", "DOWN", "LEFT", "RIGHT", "DONE", "WALL", "\n")
    mixed = [walk for length in range(5) for walk in product(words, repeat=length)]
    texts = [" ".join([*walk, "DONE"]) for walk in actions]
    texts += [f"RIGHT RIGHT {' '.join(walk)}" for walk in mixed]
    right = 0
    for maze in _all_mazes(5, 4):
        verdicts = TASK.score_many([{"maze": maze}] * len(texts), texts)
        for text, verdict in zip(texts, verdicts, strict=True):
            assert verdict.success is _obviously_right(maze, text), (maze, text)
            right += verdict.success
    assert right > 400


def test_brute_force_agrees_on_every_maze_of_side_seven() -> None:
    rng = random.Random(0)
    mazes = _all_mazes(7, 192)
    golds = [TASK.demonstration(Example(id="", prompt="", truth={"maze": maze})) for maze in mazes]
    right = 0
    for maze, gold in zip(mazes, golds, strict=True):
        # Its own path and every other maze's, with turns changed, dropped, put in and doubled, and random walks.
        for text in {
            *golds,
            *(_changed(gold, rng) for _ in range(60)),
            *(_wandering(rng) for _ in range(20)),
        }:
            verdict = TASK.score({"maze": maze}, text)
            assert verdict.success is _obviously_right(maze, text), (maze, text)
            right += verdict.success
    assert right > 192 * 5


def _changed(gold: str, rng: random.Random) -> str:
    """Gold with one to three places left out or replaced, or something put in before them."""
    words = gold.split(" ")
    turns = [["UP", "DOWN"], ["LEFT", "RIGHT"], ["DOWN", "UP"], ["RIGHT", "LEFT"]]
    single = [[word] for word in ("UP", "DOWN", "LEFT", "RIGHT", "DONE", "PATH")]
    for _ in range(rng.randint(1, 3)):
        place = rng.randint(0, len(words))
        words[place : place + rng.randint(0, 1)] = rng.choice(
            [[], *single, *turns, *(2 * turn for turn in turns)]
        )
    return " ".join(words)


def _wandering(rng: random.Random) -> str:
    return " ".join(
        [*rng.choices(("DOWN", "RIGHT", "UP", "LEFT"), (4, 4, 1, 1), k=rng.randint(8, 16)), "DONE"]
    )


# --- Fuzzing --------------------------------------------------------------------------------------------------------

NEAR_ANSWERS = st.lists(
    st.sampled_from(
        [GOLD, "UP", "DOWN", "LEFT", "RIGHT", "DONE", "RIGHT LEFT", "WALL", " ", "\n", "\t", "", "done"]
    ),
    max_size=12,
).flatmap(lambda words: st.sampled_from([" ", "  ", "\n", ""]).map(lambda blank: blank.join(words)))
ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec=None)),  # lone surrogates too
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    NEAR_ANSWERS,
    st.tuples(st.text(), st.text()).map(lambda around: f"{around[0]} {GOLD} DONE{around[1]}"),
    st.text(alphabet="UPDOWNLEFTRIGHTE \n"),
)


@given(completion=ANYTHING)
@FUZZ
def test_any_text_gets_a_verdict_that_agrees_with_a_second_reading(completion: str) -> None:
    verdict = TASK.score(TRUTH, completion)
    assert verdict.error is None
    assert verdict.success is _obviously_right(TRUTH["maze"], completion)
    assert verdict.reward == float(verdict.success)
    assert (verdict.reason == "") is verdict.success
    assert verdict.success or verdict.reason in REASONS
    assert TASK.score_many([TRUTH], [completion]) == [verdict]


@given(
    number=st.integers(0, 191),
    walk=st.lists(st.sampled_from(["DOWN", "RIGHT", "DOWN DOWN", "RIGHT RIGHT", "UP", "LEFT"]), max_size=12),
)
@FUZZ
def test_walks_are_judged_as_by_a_second_reading(number: int, walk: list[str]) -> None:
    maze = _all_mazes(7, 192)[number]
    text = " ".join([*walk, "DONE"])
    assert TASK.score({"maze": maze}, text).success is _obviously_right(maze, text)


@given(
    truth=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(alphabet="#.SG\n"),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["maze", "x"]), inner),
    )
)
@FUZZ
def test_no_truth_of_json_types_makes_it_raise(truth: object) -> None:
    verdict = TASK.score(truth, f"{GOLD} DONE")
    assert (verdict.error is None) is (verdict.reward is not None)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("a" * 1_000_000, NO_DONE),
        (" " * 1_000_000, NO_DONE),
        ("UP " * 333_333, NO_DONE),
        ("DONE" * 250_000, NO_DONE),
        (" DON" * 250_000, NO_DONE),
        ("DONE " * 200_000, GOAL_NOT_REACHED),
        ("RIGHT LEFT " * 90_000 + "DONE", GOAL_NOT_REACHED),
        ("RIGHT LEFT " * 90_000 + f"{GOLD} DONE", ""),
        (f"{GOLD} DONE" + " UP" * 333_333, ""),
        (f"{GOLD} " + "UP " * 333_333 + "DONE", ""),
        (" " * 1_000_000 + f"{GOLD} DONE", ""),
        ("\n" * 1_000_000 + f" {GOLD} DONE", NOT_AN_ACTION),
        ("w " * 500_000 + f"{GOLD} DONE", NOT_AN_ACTION),
        ("UP " * 333_333 + f"{GOLD} DONE", HIT_A_WALL),
    ],
    ids=lambda text: f"{text[:8]!r}…{text[-8:]!r}",
)
def test_a_megabyte_is_judged_within_a_second(completion: str, reason: str) -> None:
    started = time.process_time()
    verdict = TASK.score(TRUTH, completion)
    assert time.process_time() - started < 1.0
    assert verdict.reason == reason
    assert verdict.success is not bool(reason)
