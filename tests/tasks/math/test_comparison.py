"""Answers of mathematics: what math-verify compares, its limits, and whose fault a failure is."""

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.tasks.math.answers import (
    NOT_COMPARABLE,
    TOO_EXPENSIVE,
    WRONG,
    equal,
    settle,
)
from maxrl.tasks.math.verdicts import COMPARISON_LIMIT, COMPARISONS, VERIFIER_FAILED, judge_answers
from maxrl.tasks.workers import WorkerFailure

RIGHT = ""
FUZZ = settings(derandomize=True, database=None, deadline=None, max_examples=60)
PIECES = st.sampled_from(
    [
        "\\frac{", "\\sqrt{", "\\left(", "\\{", "}", "{", "(", ")", "[", "^", "_", "!", "=", "<", "+", "-", "*", "/", "|",
        "&", "\\\\", "\\pm", "\\infty", "\\sum", "\\begin{pmatrix}", "\\text{", ",", ":", "'", "%", "3", "0.5", "x", "\0",
        "π", "\ud800",
    ]
)  # fmt: skip

ENDLESS = [
    "10^{10^{10}}",
    "5^{5^{5^{5^5}}}",
    "9^{9^{9^9}}",
    "(x+1)^{100000}",
    r"\sin(" * 80 + "x" + ")" * 80,
    "(" * 300 + "x" + ")" * 300,
]
"""What math-verify does not get done in the time it has."""


@pytest.mark.parametrize("answer", ENDLESS)
def test_what_takes_too_long_to_compare_is_refused(answer: str) -> None:
    judge_answers(["x"], [r"\boxed{y}"])  # the processes run
    verdicts = judge_answers(
        [r"x^2 \sin 1"] * 2,
        [f"\\boxed{{{answer}}}", r"\boxed{x \cdot x \sin 1}"],
    )
    assert [(verdict.reward, verdict.reason) for verdict in verdicts] == [(0.0, TOO_EXPENSIVE), (1.0, "")]


def test_a_comparison_has_half_a_second() -> None:
    assert COMPARISON_LIMIT == 0.5
    assert COMPARISON_LIMIT in COMPARISONS._settings


def test_a_gold_that_cannot_be_compared_is_an_error() -> None:
    endless = r"\sin(" * 80 + "x" + ")" * 80
    [verdict, other] = judge_answers([endless] * 2, [r"\boxed{x}", f"\\boxed{{{endless}}}"])
    assert (verdict.success, verdict.reward) == (False, None)
    assert verdict.error == "math-verify: time: CPU time used up"
    assert verdict.reason == VERIFIER_FAILED
    assert other.success  # the same text needs no comparison


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join))
@FUZZ
def test_math_verify_takes_what_is_left(text: str) -> None:
    started = time.monotonic()
    [verdict] = judge_answers([r"7\sqrt{3}"], [f"\\boxed{{{text}}}"])
    assert verdict.error is None
    assert verdict.reward == float(not verdict.reason)
    assert time.monotonic() - started < 20  # CPU seconds are limited; these are of a busy machine's clock


FAILURES: list[tuple[Any, Any, str, str | None]] = [
    # What the answer gives, what the gold gives with a number: the reason, the error.
    (True, None, "", None),
    (False, None, WRONG, None),
    ("time", True, TOO_EXPENSIVE, None),
    ("memory", True, TOO_EXPENSIVE, None),
    ("raised", True, NOT_COMPARABLE, None),
    ("crashed", True, NOT_COMPARABLE, None),
    ("raised", "raised", VERIFIER_FAILED, "math-verify: raised: no"),
    ("memory", "time", VERIFIER_FAILED, "math-verify: memory: no"),
    ("stalled", True, VERIFIER_FAILED, "math-verify: stalled: no"),
    ("unavailable", "unavailable", VERIFIER_FAILED, "math-verify: unavailable: no"),
]


@pytest.mark.parametrize(("result", "gold", "reason", "error"), FAILURES)
def test_whose_fault_a_failed_comparison_is(
    result: Any, gold: Any, reason: str, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(pairs: list[list[str]]) -> list[Any]:
        found = [gold if other == "1" else result for _, other in pairs]
        return [WorkerFailure(kind=kind, detail="no") if isinstance(kind, str) else kind for kind in found]  # pyright: ignore

    monkeypatch.setattr(COMPARISONS, "map", answer)
    [verdict] = judge_answers(["x^2"], [r"\boxed{x}"])
    assert (verdict.success, verdict.reason, verdict.error) == (result is True, reason, error)
    assert verdict.reward is None if error else verdict.reward == float(result is True)


def test_a_crash_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(pairs: list[list[str]]) -> list[Any]:
        asked.extend(pairs)
        crashed = WorkerFailure(kind="crashed", detail="killed from outside")
        return [True if asked.count(pair) > 1 else crashed for pair in pairs]

    monkeypatch.setattr(COMPARISONS, "map", answer)
    [verdict] = judge_answers(["x^2"], [r"\boxed{x}"])
    assert verdict.success
    assert asked == [["x^2", "x"]] * 2


@pytest.mark.parametrize("answer", [r"7\sqrt3", r"7 \sqrt{3}", r"7\sqrt{3}\text{ cm}", r"$7\sqrt{3}$."])
def test_spellings_of_one_text_need_no_comparison(answer: str) -> None:
    assert settle(r"7\sqrt{3}", f"\\boxed{{{answer}}}") == RIGHT


def test_the_same_comparison_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(COMPARISONS, "map", lambda pairs: asked.extend(pairs) or [False] * len(pairs))
    judge_answers(["x^2"] * 100, [r"\boxed{x}"] * 50 + [r"so \boxed{ x }"] * 50)
    assert asked == [["x^2", "x"]]


def test_math_verify_compares_and_says_no_to_what_it_cannot_read() -> None:
    assert equal(("x^2 - 1", "(x - 1)(x + 1)"))
    assert not equal(("x^2 - 1", "x^2"))
    assert not equal(("", "x^2"))
    assert equal(("x^2 - 1", "x^2 - 1", "(x - 1)(x + 1)"))
    assert not equal(("x^2 - 1", "x^2 - 1", "x^2"))
    assert not equal(("2", "2", r"\sqrt{3}"))
    assert not equal(("(3, 4)", "(3, 4)", "(3, 5)"))
    for cannot_be_told in (r"\frac{", "y^2", r"\pi(5)^2", r"1 + \dots + 9", "3", ""):
        assert equal(("x^2", "x^2", cannot_be_told)) == (cannot_be_told != "3")
    assert not equal(("x^2", r"\frac{"))
    assert equal(("x < 2", r"(-\infty, 2)"))  # which is the gold makes a difference to math-verify
    assert not equal((r"(-\infty, 2)", "x < 2"))


def test_threads_get_verdicts_of_their_own() -> None:
    wrong: list[Any] = []

    def judge(number: int) -> None:
        golds = [f"x + {number}", "18", ENDLESS[0] if number == 3 else "y"]
        found = judge_answers(golds, [f"\\boxed{{{number} + x}}", r"\boxed{18}", r"\boxed{z}"])
        if [verdict.success for verdict in found] != [True, True, False]:
            wrong.append((number, found))

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_numbers_need_no_math_verify() -> None:
    code = """
import sys
from maxrl.tasks.math.verdicts import COMPARISONS, judge_answers
assert judge_answers(["18"], [r"\\boxed{18}"])[0].success
print([name for name in ("sympy", "math_verify", "datasets", "torch", "transformers", "trl") if name in sys.modules])
assert not COMPARISONS._workers
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
