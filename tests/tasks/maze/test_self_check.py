"""Maze: its self-check passes, and would not if the verifier were wrong."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from maxrl.tasks import Verdict
from maxrl.tasks.maze.grid import ACTIONS
from maxrl.tasks.maze.task import HIT_A_WALL, Maze

KINDS = {
    "DONE first",
    "DONE in lower case",
    "DONE missing",
    "DONE too early",
    "action changed",
    "action dropped",
    "actions by letter",
    "actions in lower case",
    "actions in reverse order",
    "blank",
    "cells named",
    "commas",
    "diagonal through the walls",
    "empty",
    "full stop",
    "goes back at the goal",
    "line break between actions",
    "no spaces",
    "one action a line",
    "path from goal to start",
    "path of the mirrored maze",
    "prompt repeated",
    "runs into a wall",
    "stops before the goal",
    "words before",
    "words before DONE",
    "words between actions",
}


def test_ten_thousand_problems_pass() -> None:
    result = Maze().self_check(10_000)
    assert result.passed
    assert result.problems == result.accepted == 10_000
    assert result.failures == ()
    assert set(result.tried) == KINDS
    assert min(result.tried.values()) > 5_000  # a kind that is seldom tried proves little


@pytest.mark.parametrize(("size", "count"), [(5, 300), (7, 1000), (9, 1000), (31, 20)])
@pytest.mark.parametrize("generator", ["prim", "depth_first"])
def test_other_sizes_and_generators_pass(size: int, count: int, generator: str) -> None:
    assert Maze(maze_size=size, generator=generator).self_check(count).passed


def test_a_path_that_reads_the_same_backwards_is_not_taken_for_a_wrong_one() -> None:
    task = Maze(maze_size=7)
    kinds = [
        {kind for kind, _ in task.corruptions(example, gold)}
        for example in task.examples("train", 200)
        if (gold := task.demonstration(example)).split()[:-1] == gold.split()[-2::-1]
    ]
    assert kinds
    assert all("actions in reverse order" not in found for found in kinds)


def test_at_a_crossing_without_walls_none_is_run_into() -> None:
    task = Maze()
    without = [
        example
        for example in task.examples("train", 300)
        if "runs into a wall" not in dict(task.corruptions(example, task.demonstration(example)))
    ]
    assert 0 < len(without) < 60


def test_corruptions_are_the_same_every_time() -> None:
    task = Maze()
    for example in task.examples("train", 20):
        gold = task.demonstration(example)
        assert list(task.corruptions(example, gold)) == list(task.corruptions(example, gold))


# --- Wrong verifiers ------------------------------------------------------------------------------------------------


def _verdict(success: bool) -> Verdict:
    return Verdict(success=success, reward=float(success), reason="" if success else "no")


def _right(truth: Mapping[str, Any], completion: str) -> bool:
    return Maze().score(truth, completion).success


def _walls_stop_without_ending(truth: Mapping[str, Any], completion: str) -> bool:
    words = completion.split(" ")
    while "DONE" in words:
        verdict = Maze().score(truth, " ".join(words))
        if verdict.reason != HIT_A_WALL:
            return verdict.success
        # The shortest beginning that hits the wall: its last action is taken out.
        ends = range(1, words.index("DONE") + 1)
        end = next(
            e for e in ends if Maze().score(truth, " ".join([*words[:e], "DONE"])).reason == HIT_A_WALL
        )
        del words[end - 1]
    return False


def _walls_do_not_count(truth: Mapping[str, Any], completion: str) -> bool:
    rows = truth["maze"].split("\n")
    inner = [f"#{row[1:-1].replace('#', '.')}#" for row in rows[1:-1]]
    return _right({"maze": "\n".join([rows[0], *inner, rows[-1]])}, completion)


def _ends_at_the_goal_in_the_end(truth: Mapping[str, Any], completion: str) -> bool:
    return _right(truth, completion.replace("DONE", "") + " DONE")


def _only_the_actions(truth: Mapping[str, Any], completion: str) -> bool:
    words = [word for word in completion.split(" ") if word in (*ACTIONS, "DONE")]
    return _right(truth, " ".join(words))


def _any_case(truth: Mapping[str, Any], completion: str) -> bool:
    return _right(truth, completion.upper())


def _any_blank(truth: Mapping[str, Any], completion: str) -> bool:
    return _right(truth, " ".join(completion.split()))


def _no_done_needed(truth: Mapping[str, Any], completion: str) -> bool:
    return _right(truth, f"{completion} DONE")


def _letters(truth: Mapping[str, Any], completion: str) -> bool:
    words = {action[0]: action for action in ACTIONS}
    return _right(truth, " ".join(words.get(word, word) for word in completion.split(" ")))


def _found_anywhere(truth: Mapping[str, Any], completion: str) -> bool:
    return _right(truth, " ".join(re.findall("UP|DOWN|LEFT|RIGHT|DONE", completion)))


def _next_to_the_goal(truth: Mapping[str, Any], completion: str) -> bool:
    body, done, rest = completion.partition(" DONE")
    return any(_right(truth, f"{body}{step}{done}{rest}") for step in ("", " RIGHT", " DOWN", " LEFT", " UP"))


def _either_way_round(truth: Mapping[str, Any], completion: str) -> bool:
    mirrored = {"UP": "LEFT", "LEFT": "UP", "DOWN": "RIGHT", "RIGHT": "DOWN"}
    turned = " ".join(mirrored.get(word, word) for word in completion.split(" "))
    return _right(truth, completion) or _right(truth, turned)


@pytest.mark.parametrize(
    ("verifier", "missed"),
    [
        (lambda truth, completion: True, KINDS),
        (_walls_stop_without_ending, {"runs into a wall"}),
        (_walls_do_not_count, {"diagonal through the walls", "path of the mirrored maze"}),
        (_ends_at_the_goal_in_the_end, {"DONE first", "DONE missing", "DONE too early"}),
        (
            _only_the_actions,
            {
                "cells named",
                "line break between actions",
                "prompt repeated",
                "words before",
                "words before DONE",
                "words between actions",
            },
        ),
        (_any_case, {"DONE in lower case", "actions in lower case"}),
        (_any_blank, {"line break between actions", "one action a line"}),
        (_no_done_needed, {"DONE missing"}),
        (_letters, {"actions by letter"}),
        (_found_anywhere, {"commas", "full stop", "no spaces", "words before"}),
        (_next_to_the_goal, {"stops before the goal"}),
        (_either_way_round, {"path of the mirrored maze"}),
    ],
)
def test_a_wrong_verifier_is_caught_at_what_it_gets_wrong(verifier: Any, missed: set[str]) -> None:
    class Wrong(Maze):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return _verdict(verifier(truth, completion))

    result = Wrong(maze_size=9).self_check(100)
    assert not result.passed
    assert result.accepted == 100
    assert 0 < len(result.failures) <= 10
    assert all("not refused" in failure for failure in result.failures)
    slipped = {kind for kind in KINDS if result.refused[kind] < result.tried[kind]}
    assert slipped >= missed


def test_a_verifier_that_refuses_gold_is_caught() -> None:
    class Wrong(Maze):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return _verdict(False)

    result = Wrong().self_check(20)
    assert not result.passed
    assert result.accepted == 0
    assert "gold refused" in result.failures[0]
    assert dict(result.refused) == dict(result.tried)
