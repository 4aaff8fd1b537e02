"""Verdicts on answers of mathematics: by `settle`, else by `math-verify` in processes that can be killed."""

import os
from collections.abc import Sequence
from typing import Any

from maxrl.tasks.base import Verdict
from maxrl.tasks.math.answers import (
    LONGEST_ANSWER,
    NOT_COMPARABLE,
    TOO_EXPENSIVE,
    WRONG,
    AnswerFormat,
    Comparison,
    settle,
)
from maxrl.tasks.workers import WorkerFailure, WorkerPool

NO_RIGHT_ANSWER = "no right answer to compare with"
VERIFIER_FAILED = "math-verify failed"
FAILURES = (NO_RIGHT_ANSWER, VERIFIER_FAILED)
"""Every `reason` of a verdict that is an error."""

NO_GOLD = f"truth['answer'] must be a text that is not empty, of {LONGEST_ANSWER} characters at most"

COMPARISON_LIMIT = 0.5
"""CPU seconds that comparing an answer with the gold may take. A comparison that does not end is the answer's fault, and
no success: else a model could take its rollout out of the group by writing what nobody can compute."""

COMPARISONS = WorkerPool(
    "maxrl.tasks.math.answers:equal",
    processes=min(2, os.cpu_count() or 1),
    time_limit=COMPARISON_LIMIT,
    warm_up=["x^2-1", "(x-1)(x+1)"],
)
"""Where `math-verify` runs; it starts with the first answer that needs it."""


def judge_answers(
    golds: Sequence[str | None], completions: Sequence[str], answer_format: AnswerFormat = "any"
) -> list[Verdict]:
    """A verdict per completion, given the right answers. Where there is none that an answer can be, it is an error."""
    settled = [
        None if not gold or len(gold) > LONGEST_ANSWER else settle(gold, completion, answer_format)
        for gold, completion in zip(golds, completions, strict=True)
    ]
    left = list(dict.fromkeys(item for item in settled if isinstance(item, Comparison)))
    compared = dict(zip(left, _compare(left), strict=True))
    verdicts: list[Verdict] = []
    for item in settled:
        if item is None:
            verdicts.append(_failed(NO_RIGHT_ANSWER, NO_GOLD))
        else:
            verdicts.append(compared[item] if isinstance(item, Comparison) else _verdict(item))
    return verdicts


def _verdict(reason: str) -> Verdict:
    return Verdict(success=not reason, reward=0.0 if reason else 1.0, reason=reason)


def _failed(reason: str, error: str) -> Verdict:
    return Verdict(success=False, reward=None, reason=reason, error=error)


def _compare(comparisons: Sequence[Comparison]) -> list[Verdict]:
    results = _results([[item.gold, item.answer, *item.also] for item in comparisons])
    failed = [index for index, result in enumerate(results) if isinstance(result, WorkerFailure)]
    # Whose fault is it? Where the gold cannot even be compared with a plain number, not the answer's.
    golds = _results([[comparisons[index].gold, "1"] for index in failed])
    at_fault = dict(zip(failed, golds, strict=True))
    return [_compared(result, at_fault.get(index)) for index, result in enumerate(results)]


def _results(pairs: Sequence[Sequence[str]]) -> list[Any]:
    results = COMPARISONS.map(pairs)
    again = [index for index, result in enumerate(results) if _is_crash(result)]
    for index, result in zip(again, COMPARISONS.map([pairs[index] for index in again]), strict=True):
        results[index] = result
    return results


def _is_crash(result: object) -> bool:
    """Whether a process died for a reason that may have had nothing to do with what it was doing."""
    return isinstance(result, WorkerFailure) and result.kind == "crashed"


def _compared(result: bool | WorkerFailure, gold: bool | WorkerFailure | None) -> Verdict:
    if not isinstance(result, WorkerFailure):
        return _verdict("" if result else WRONG)
    if isinstance(gold, WorkerFailure) or result.kind in ("stalled", "unavailable"):
        return _failed(VERIFIER_FAILED, f"math-verify: {result.kind}: {result.detail}")
    return _verdict(TOO_EXPENSIVE if result.kind in ("time", "memory") else NOT_COMPARABLE)
