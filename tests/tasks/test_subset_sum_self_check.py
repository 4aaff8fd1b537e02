"""Subset-sum: its self-check passes, and would not if the verifier were wrong."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest

from maxrl.tasks import SubsetSum, Verdict

KINDS = {
    "blank",
    "brackets",
    "comma at the end",
    "decimals",
    "element changed",
    "element dropped",
    "element off by one",
    "element repeated",
    "empty",
    "equation",
    "foreign number, sum kept",
    "full stop",
    "full-width digits",
    "leading zeros",
    "minus signs",
    "number used too often, sum kept",
    "plus signs",
    "prompt repeated",
    "second line",
    "target named",
    "underscores",
    "whole list",
    "words",
    "words after",
}


@pytest.mark.parametrize("prompt_format", ["chat", "compact"])
def test_ten_thousand_problems_pass(prompt_format: str) -> None:
    result = SubsetSum(prompt_format=prompt_format).self_check(10_000)
    assert result.passed
    assert result.problems == result.accepted == 10_000
    assert result.failures == ()
    assert set(result.tried) == KINDS
    assert min(result.tried.values()) > 5_000  # a kind that is seldom tried proves little


def test_problems_depend_on_the_seed_and_on_nothing_else() -> None:
    task = SubsetSum()
    assert task.self_check(50, seed=1) == task.self_check(50, seed=1)
    assert task.self_check(50, seed=1).tried != task.self_check(50, seed=2).tried


def _verdict(success: bool) -> Verdict:
    return Verdict(success=success, reward=float(success), reason="" if success else "no")


def _sum_alone(truth: Mapping[str, Any], completion: str) -> Verdict:
    try:
        return _verdict(sum(map(int, completion.replace(",", " ").split())) == truth["target"])
    except ValueError:
        return _verdict(False)


def _set_not_multiset(truth: Mapping[str, Any], completion: str) -> Verdict:
    inside = set(completion.replace(",", " ").split()) <= set(map(str, truth["numbers"]))
    return _verdict(inside and _sum_alone(truth, completion).success)


def _other_scripts(truth: Mapping[str, Any], completion: str) -> Verdict:
    return SubsetSum().score(truth, unicodedata.normalize("NFKC", completion))


def _decimals(truth: Mapping[str, Any], completion: str) -> Verdict:
    return SubsetSum().score(truth, completion.replace(".0", ""))


def _last_line(truth: Mapping[str, Any], completion: str) -> Verdict:
    return SubsetSum().score(truth, completion.strip().split("\n")[-1])


def _any_numbers_in_it(truth: Mapping[str, Any], completion: str) -> Verdict:
    return SubsetSum().score(truth, "".join(c if c in "0123456789 " else " " for c in completion))


def _any_sum(truth: Mapping[str, Any], completion: str) -> Verdict:
    verdict = SubsetSum().score(truth, completion)
    return _verdict(verdict.success or verdict.reason == "wrong sum")


@pytest.mark.parametrize(
    ("verifier", "missed"),
    [
        (lambda truth, completion: _verdict(True), KINDS),
        # int() takes signs, leading zeros, underscores and any script's digits.
        (
            _sum_alone,
            {
                "comma at the end",
                "foreign number, sum kept",
                "full-width digits",
                "leading zeros",
                "number used too often, sum kept",
                "plus signs",
                "target named",
                "underscores",
            },
        ),
        (_set_not_multiset, {"comma at the end", "number used too often, sum kept"}),
        (_other_scripts, {"full-width digits"}),
        (_decimals, {"decimals"}),
        (_last_line, {"second line"}),
        (
            _any_numbers_in_it,
            {
                "brackets",
                "comma at the end",
                "full stop",
                "minus signs",
                "plus signs",
                "second line",
                "words",
                "words after",
            },
        ),
        (_any_sum, {"element dropped", "whole list"}),
    ],
)
def test_a_wrong_verifier_is_caught_at_what_it_gets_wrong(verifier: Any, missed: set[str]) -> None:
    class Wrong(SubsetSum):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return verifier(truth, completion)

    result = Wrong().self_check(300)
    assert not result.passed
    assert result.accepted == 300
    assert 0 < len(result.failures) <= 10
    assert all("not refused" in failure for failure in result.failures)
    slipped = {kind for kind in KINDS if result.refused[kind] < result.tried[kind]}
    assert slipped >= missed


@pytest.mark.parametrize(
    ("verdict", "refuses"),
    [
        (_verdict(False), True),
        (Verdict(success=False, reward=None, error="crashed"), False),  # an error is no refusal
        (Verdict(success=True, reward=0.5), False),  # nor is half a reward an acceptance
    ],
)
def test_a_verifier_that_refuses_gold_is_caught(verdict: Verdict, refuses: bool) -> None:
    class Wrong(SubsetSum):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return verdict

    result = Wrong().self_check(20)
    assert not result.passed
    assert result.accepted == 0
    assert "gold refused" in result.failures[0]
    assert (dict(result.refused) == dict(result.tried)) is refuses
    assert refuses or not any(result.refused.values())
