"""Subset-sum: the verifier, against hand-made cases, brute force and fuzzing."""

import time
from collections import Counter
from itertools import combinations, combinations_with_replacement, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.tasks import SubsetSum, Verdict, judge
from maxrl.tasks.subset_sum import NO_NUMBERS, NOT_AVAILABLE, NOT_INTEGERS, REASONS, WRONG_SUM
from maxrl.tasks.time_limits import TimeLimit

TASK = SubsetSum()
# 5 + 20 + 1 = 17 + 9 = 26, and the 3 stands twice.
TRUTH = {"numbers": [3, 17, 5, 9, 20, 1, 3], "target": 26}
# Hypothesis: the same cases on every run, and a second at most for each.
FUZZ = settings(derandomize=True, database=None, deadline=1000, max_examples=300)

ACCEPTED = [
    "5, 20, 1",  # the form asked for in chat
    "5 20 1",  # the compact form
    "1, 20, 5",  # order does not matter
    "17, 9",  # any other subset counts
    "3, 3, 20",  # a number that is listed twice may be named twice
    "5,20,1",
    "5 ,20\t,  1",
    "  \n\n\t5, 20, 1 \n",  # blanks around the completion
    "5, 20, 1\r\n",
    "5, 20, 1 \t\nand this is not read",  # only the first line counts …
    "17, 9\n5, 20",  # … though what follows is a list as well
]


@pytest.mark.parametrize("completion", ACCEPTED)
def test_answers_in_every_allowed_spelling_are_accepted(completion: str) -> None:
    assert TASK.score(TRUTH, completion) == Verdict(success=True, reward=1.0)


REFUSED = {
    NO_NUMBERS: ["", " ", "\n\r\n\t \v\f"],
    NOT_INTEGERS: [
        "five, twenty, one",
        "The answer is 5, 20, 1",
        "5, 20, 1 is the answer",
        "Let me think.\n5, 20, 1",  # the first line is not the answer
        "5 + 20 + 1 = 26",
        "5 20 1 = 26",
        "[5, 20, 1]",
        "(5, 20, 1)",
        "5, 20, 1.",  # a full stop would make the last number a decimal
        "5, 20, 1,",
        ",5, 20, 1",
        "5,, 20, 1",
        "5; 20; 1",
        "5.0, 20, 1",
        "3.5",
        "2_6",  # int("2_6") is 26
        "+5, 20, 1",
        "-5, 20, 1",
        "5, 20, 1, 3, -3",  # adds up to 26 with a number that is not there
        "５, ２０, １",  # full-width digits, which int() and \d take
        "٥, 20, 1",  # Arabic-Indic
        "5, 20, ①",
        "5²",
        "5,\u00a020, 1",  # no-break space, which str.split() takes
        "5\u200820",  # another blank of Unicode
        "\u00a05, 20, 1",
        "5, 20\u20281",  # a line separator, which str.splitlines() takes
        "5\x1c20 1",
        "5\v20 1",
        "5\r20 1",
        "5, 20, 1\x00",
        "5e0, 20, 1",
        "0x5, 20, 1",
        "*",
        ",",
    ],
    NOT_AVAILABLE: [
        "26",  # the target itself is not in the list
        "25, 1",  # adds up, but there is no 25
        "13, 13",
        "0, 17, 9",
        "9, 9, 5, 3",  # adds up to 26, but there is one 9 only
        "3, 3, 3, 17",  # adds up to 26, but there are two 3s only
        "5, 20, 1, 1, 1",
        "05, 20, 1",  # not as listed
        "5201",
        "9" * 5000,  # more digits than int() takes
        "0" * 5000 + "5, 20, 1",
    ],
    WRONG_SUM: [
        "5, 20",
        "20",
        "17, 9, 1",
        "3, 17, 5, 9, 20, 1, 3",  # the whole list
    ],
}


@pytest.mark.parametrize(("reason", "completion"), [(r, c) for r, cs in REFUSED.items() for c in cs])
def test_everything_else_is_refused_with_its_reason(reason: str, completion: str) -> None:
    assert TASK.score(TRUTH, completion) == Verdict(success=False, reward=0.0, reason=reason)


def test_the_reasons_are_the_documented_ones() -> None:
    assert tuple(REFUSED) == REASONS


@pytest.mark.parametrize("prompt_format", ["chat", "compact"])
def test_both_prompt_formats_share_one_rule(prompt_format: str) -> None:
    task = SubsetSum(prompt_format=prompt_format)
    assert task.score(TRUTH, "5, 20, 1").success
    assert task.score(TRUTH, "5 20 1").success


def test_a_verdict_is_not_shared_with_the_next_one() -> None:
    first = TASK.score(TRUTH, "20")
    assert first.components is not TASK.score(TRUTH, "20").components


@pytest.mark.parametrize(
    ("truth", "error"),
    [
        (None, "truth must be a mapping with 'numbers' and 'target', got NoneType"),
        ([[1, 2], 3], "got list"),
        ("numbers", "got str"),
        ({}, "'numbers'"),
        ({"target": 3}, "'numbers'"),
        ({"numbers": None, "target": 3}, "'numbers'"),
        ({"numbers": [], "target": 3}, "'numbers'"),
        ({"numbers": "12", "target": 3}, "'numbers'"),
        ({"numbers": {"1": 1}, "target": 3}, "'numbers'"),
        ({"numbers": [1, "2"], "target": 3}, "'numbers'"),
        ({"numbers": [1, 2.0], "target": 3}, "'numbers'"),
        ({"numbers": [True, 2], "target": 3}, "'numbers'"),
        ({"numbers": [0, 2], "target": 3}, "'numbers'"),
        ({"numbers": [-1, 2], "target": 3}, "'numbers'"),
        ({"numbers": [1, None], "target": 3}, "'numbers'"),
        ({"numbers": [10**5000, 2], "target": 3}, "'numbers'"),
        ({"numbers": [1, 2]}, "'target'"),
        ({"numbers": [1, 2], "target": "3"}, "'target'"),
        ({"numbers": [1, 2], "target": 3.0}, "'target'"),
        ({"numbers": [1, 2], "target": float("nan")}, "'target'"),
        ({"numbers": [1, 2], "target": True}, "'target'"),
        ({"numbers": [1, 2], "target": 0}, "'target'"),
    ],
)
@pytest.mark.parametrize("completion", ["1, 2", "", "words"])
def test_a_truth_that_is_no_problem_is_an_error_and_not_a_zero(
    truth: object, error: str, completion: str
) -> None:
    verdict = TASK.score(truth, completion)
    assert (verdict.success, verdict.reward, verdict.reason) == (False, None, "truth is no problem")
    assert verdict.error is not None
    assert error in verdict.error


def test_a_truth_with_a_tuple_or_more_keys_still_is_a_problem() -> None:
    assert TASK.score({"numbers": (1, 2), "target": 3, "source": "mine"}, "1, 2").success


def test_scoring_changes_nothing() -> None:
    truth = {"numbers": [3, 17, 5], "target": 8}
    assert TASK.score(truth, "3, 5") == TASK.score(truth, "3, 5")
    assert truth == {"numbers": [3, 17, 5], "target": 8}


def _subsets(numbers: tuple[int, ...]) -> set[tuple[int, ...]]:
    """What can be chosen, as sorted tuples: every non-empty combination of positions."""
    sizes = range(1, len(numbers) + 1)
    return {tuple(sorted(chosen)) for size in sizes for chosen in combinations(numbers, size)}


def test_brute_force_agrees_on_every_small_problem_and_every_answer() -> None:
    # All lists of up to four values up to 4, all targets up to one more than the sum of the list, and as
    # answers all multisets of values up to 5 (one that is never listed) with up to one number too many.
    checked = 0
    for size in (1, 2, 3, 4):
        answers = [a for k in range(size + 2) for a in combinations_with_replacement(range(1, 6), k)]
        written = [(answer, " ".join(map(str, answer))) for answer in answers]
        for numbers in combinations_with_replacement(range(1, 5), size):
            subsets = _subsets(numbers)
            for target in range(1, sum(numbers) + 2):
                truth = {"numbers": list(numbers), "target": target}
                for answer, text in written:
                    right = answer in subsets and sum(answer) == target
                    assert TASK.score(truth, text).success is right, (truth, text)
                    checked += 1
    assert checked > 100_000


def test_brute_force_agrees_whatever_the_order_of_list_and_answer() -> None:
    written = [(a, ", ".join(map(str, a))) for k in (1, 2, 3, 4) for a in product(range(1, 5), repeat=k)]
    for numbers in product(range(1, 5), repeat=3):
        subsets = _subsets(numbers)
        for answer, text in written:
            verdict = TASK.score({"numbers": list(numbers), "target": sum(answer)}, text)
            assert verdict.success is (tuple(sorted(answer)) in subsets), (numbers, text)


def _obviously_right(completion: str) -> bool:
    """A second reading of the rule, by hand and one character at a time; no regular expression, no int()."""
    line = completion.strip(" \t\r\n\f\v").split("\n")[0].strip(" \t\r\n\f\v")
    if not line or set(line) - set("0123456789, \t"):
        return False
    words = [word.strip(" \t") for word in line.split(",")]
    pieces = [piece for word in words for piece in word.replace("\t", " ").split(" ") if piece]
    values = {str(value): value for value in TRUTH["numbers"]}
    if not all(words) or not all(piece in values for piece in pieces):
        return False
    total = sum(values[piece] for piece in pieces)
    return not Counter(pieces) - Counter(map(str, TRUTH["numbers"])) and total == TRUTH["target"]


NEAR_ANSWERS = st.lists(
    st.sampled_from(
        ["3", "17", "5", "9", "20", "1", "26", ",", ", ", " ", "\t", "\n", ".", "-", "+", "１", "_"]
    ),
    max_size=9,
).map("".join)
ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec=None)),  # lone surrogates too
    st.text(alphabet="0123456789 ,\t\n\r.-+[]_１٣\u00a0\u2028"),
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    NEAR_ANSWERS,
)


@given(completion=ANYTHING)
@FUZZ
def test_any_text_gets_a_verdict_that_agrees_with_a_second_reading(completion: str) -> None:
    verdict = TASK.score(TRUTH, completion)
    assert verdict.error is None
    assert verdict.success is _obviously_right(completion)
    assert verdict.reward == float(verdict.success)
    assert (verdict.reason == "") is verdict.success
    assert verdict.success or verdict.reason in REASONS


@given(
    answer=st.sampled_from([(5, 20, 1), (17, 9), (3, 3, 20), (17, 3, 3, 1)]),
    order=st.randoms(use_true_random=False),
    separators=st.lists(st.from_regex(r"[ \t]+|[ \t]*,[ \t]*", fullmatch=True), min_size=4, max_size=4),
    rest=st.text(),
)
@FUZZ
def test_every_spelling_of_a_subset_is_judged_by_its_sum(answer, order, separators, rest) -> None:
    shuffled = list(answer)
    order.shuffle(shuffled)
    text = "".join(f"{number}{sep}" for number, sep in zip(shuffled[:-1], separators, strict=False))
    verdict = TASK.score(TRUTH, f"{text}{shuffled[-1]}\n{rest}")
    assert verdict.success is (sum(answer) == 26)


@given(
    truth=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["numbers", "target", "x"]), inner),
    )
)
@FUZZ
def test_no_truth_of_json_types_makes_it_raise(truth: object) -> None:
    verdict = TASK.score(truth, "1, 2")
    assert (verdict.error is None) is (verdict.reward is not None)


@pytest.mark.parametrize(
    "completion",
    [
        "9" * 1_000_000,
        "1 " * 500_000,
        "1," * 500_000,
        "," * 1_000_000,
        " " * 1_000_000 + "x",
        "1" + " " * 1_000_000 + "x",
        ("1" + " " * 1000) * 1000 + "x",
        ("1" * 1000 + " ,") * 1000 + "x",
        "\n" * 1_000_000 + "5, 20, 1",
        "5, 20, 1" + "\n" * 1_000_000,
        "a" * 1_000_000,
    ],
    ids=lambda text: f"{text[:3]!r}…{text[-2:]!r}",
)
def test_a_megabyte_is_judged_within_a_second(completion: str) -> None:
    started = time.process_time()
    verdict = TASK.score(TRUTH, completion)
    assert time.process_time() - started < 1.0
    assert verdict.success is ("5, 20, 1" in completion)


def test_a_batch_is_judged_without_a_time_limit_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[float] = []
    enter = TimeLimit.__enter__
    monkeypatch.setattr(
        TimeLimit, "__enter__", lambda limit: [entered.append(limit.seconds), enter(limit)][1]
    )
    truths = [{"numbers": [1, 2, 4], "target": 3}] * 100
    verdicts = judge(TASK, truths, ["1, 2", "4"] * 50)
    assert [verdict.success for verdict in verdicts] == [True, False] * 50
    assert len(entered) == 1
