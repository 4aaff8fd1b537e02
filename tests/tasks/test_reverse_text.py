"""Reverse text: its problems, its verifier, and the reward of prime-rl's environment."""

import time
from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.errors import InputError
from maxrl.tasks import Example, Verdict
from maxrl.tasks.reverse_text import (
    NO_PROBLEM,
    NO_TAGS,
    NO_TEXT,
    NOT_REVERSED,
    REASONS,
    TOO_LONG,
    ReverseText,
)

CHAT, COMPACT = ReverseText(), ReverseText(prompt_format="compact")
OVERLAP = ReverseText(reward="overlap")
LETTERS = ReverseText(content="letters", alphabet="ab", min_length=2, max_length=4)
TRUTH = {"text": "red sun"}
FUZZ = settings(max_examples=200, deadline=None, derandomize=True)
TASKS = {
    "chat": CHAT,
    "compact": COMPACT,
    "overlap": OVERLAP,
    "palindromes": LETTERS,
    "compact palindromes": ReverseText(
        content="letters", alphabet="01", min_length=2, max_length=3, prompt_format="compact"
    ),
    "compact overlap": ReverseText(prompt_format="compact", reward="overlap"),
    "longest": ReverseText(min_length=12, max_length=12),
}


def text_of(example: Example) -> str:
    return example.truth["text"]


def score(task: ReverseText, completion: str) -> tuple[str, float | None]:
    verdict = task.score(TRUTH, completion)
    assert verdict.error is None
    assert verdict.success is (not verdict.reason)
    return verdict.reason, verdict.reward


# Problems


def test_a_problem_in_both_formats() -> None:
    chat, compact = CHAT.examples("train", 3)[2], COMPACT.examples("train", 3)[2]
    text = text_of(chat)
    assert chat.truth == compact.truth
    assert chat.prompt == [
        {
            "role": "system",
            "content": "Reverse the text character-by-character. Put your answer in <reversed_text> tags.",
        },
        {"role": "user", "content": text},
    ]
    assert CHAT.demonstration(chat) == f"<reversed_text>{text[::-1]}</reversed_text>"
    assert compact.prompt == " ".join(text.replace(" ", "_")) + " :"
    assert COMPACT.demonstration(compact) == " ".join(text[::-1].replace(" ", "_"))


def test_every_length_comes_equally_often() -> None:
    lengths = Counter(len(text_of(e).split(" ")) for e in CHAT.examples("train", 1200))
    # 200 each of 3 … 8, standard deviation 12.9; four of those either way.
    assert set(lengths) == set(range(3, 9))
    assert all(abs(many - 200) < 52 for many in lengths.values())


def test_letters_come_equally_often_and_nothing_else_does() -> None:
    task = ReverseText(content="letters", alphabet="aB3", min_length=2, max_length=64)
    examples = task.examples("train", 200)
    letters = Counter("".join(map(text_of, examples)))
    total = sum(letters.values())
    assert set(letters) == set("aB3")
    assert all(abs(many / total - 1 / 3) < 0.03 for many in letters.values())  # sd .006
    assert {len(text_of(e)) for e in examples} <= set(range(2, 65))


def test_the_form_of_prompt_and_reward_are_no_part_of_the_problem_but_all_else_is() -> None:
    truths = [text_of(e) for e in CHAT.examples("train", 30)]
    assert truths == [text_of(e) for e in OVERLAP.examples("train", 30)]
    assert truths == [text_of(e) for e in ReverseText(alphabet="xyz").examples("train", 30)]
    for other in (ReverseText(min_length=4), ReverseText(max_length=9), ReverseText(content="letters")):
        assert truths != [text_of(e) for e in other.examples("train", 30)]


def test_the_longest_texts_can_be_judged() -> None:
    for task in (TASKS["longest"], ReverseText(content="letters", min_length=64, max_length=64)):
        for example in task.examples("eval", 200):
            assert task.score(example.truth, task.demonstration(example)).success


@pytest.mark.parametrize("content", ["words", "letters"])
def test_the_vocabulary_is_what_texts_are_made_of(content: str) -> None:
    task = ReverseText(content=content, prompt_format="compact", alphabet="xyz")
    words = task.vocabulary().words
    used = {word for example in task.examples("train", 2000) for word in example.prompt.split(" ")}
    assert used == set(words)
    assert len(words) == len(set(words))
    assert ReverseText(content=content).vocabulary() is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"content": "word"}, r"unknown content 'word'; did you mean 'words'\?"),
        ({"prompt_format": "plain"}, "unknown prompt_format 'plain'"),
        ({"reward": "exactly"}, r"unknown reward 'exactly'; did you mean 'exact'\?"),
        ({"max_length": 13}, "max_length=13 is not allowed; give a whole number from 2 to 12"),
        ({"content": "letters", "max_length": 65}, "give a whole number from 2 to 64"),
        ({"max_length": 1}, "max_length=1 "),
        ({"min_length": 9}, "min_length=9 is not allowed; give a whole number from 1 to 8"),
        ({"min_length": 0}, "min_length=0 "),
        ({"content": "letters", "min_length": 1}, "give a whole number from 2 to 8"),
        *(
            ({"alphabet": wrong}, "alphabet=.* is not allowed; give at least two different ASCII letters")
            for wrong in ("a", "", "aa", "a b", "a_", "ä", "aä", "a<", 3, None)
        ),
    ],
)
def test_parameters_out_of_range_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReverseText(**parameters)


# The verifier


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("<reversed_text>nus der</reversed_text>", ""),
        ("<reversed_text>\n nus der \t</reversed_text>", ""),
        ("<think>d, e, r</think> It is <reversed_text>nus der</reversed_text>.", ""),
        ("<reversed_text>red sun</reversed_text> no: <reversed_text>nus der</reversed_text>", ""),
        ("in <reversed_text> tags: <reversed_text>nus der</reversed_text>", ""),
        ("<reversed_text>nus der</reversed_text> or <reversed_text>red sun</reversed_text>", NOT_REVERSED),
        ("<reversed_text>nus der</reversed_text></reversed_text>", NOT_REVERSED),
        ("<reversed_text>nus  der</reversed_text>", NOT_REVERSED),
        ("<reversed_text>Nus der</reversed_text>", NOT_REVERSED),
        ("<reversed_text>nus\u00a0der</reversed_text>", NOT_REVERSED),
        ("<reversed_text>\u00a0nus der</reversed_text>", NOT_REVERSED),
        ("<reversed_text>red sun</reversed_text>", NOT_REVERSED),
        ("<reversed_text>n u s _ d e r</reversed_text>", NOT_REVERSED),
        ("<reversed_text>" + "nus der" * 4 + "</reversed_text>", NOT_REVERSED),
        ("<reversed_text>" + "nus der" * 4 + "x</reversed_text>", TOO_LONG),
        ("<reversed_text></reversed_text>", NO_TEXT),
        ("<reversed_text> \n</reversed_text>", NO_TEXT),
        ("nus der", NO_TAGS),
        ("<reversed_text>nus der", NO_TAGS),
        ("nus der</reversed_text>", NO_TAGS),
        ("</reversed_text>nus der<reversed_text>", NO_TAGS),
        ("<Reversed_text>nus der</Reversed_text>", NO_TAGS),
        ("", NO_TAGS),
    ],
)
def test_chat_answers(completion: str, reason: str) -> None:
    assert score(CHAT, completion) == (reason, float(not reason))


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("n u s _ d e r", ""),
        (" n u s _ d e r\n", ""),
        ("n u s  d e r", NOT_REVERSED),
        ("n u s _ d  e r", NOT_REVERSED),
        ("n u s _ d e r :", NOT_REVERSED),
        ("n u s _ d e r\nx", NOT_REVERSED),
        ("nu s _ d e r", NOT_REVERSED),
        ("nus der", NOT_REVERSED),
        ("r e d _ s u n", NOT_REVERSED),
        ("n\tu s _ d e r", NOT_REVERSED),
        (" ".join("nus_der" * 4), NOT_REVERSED),
        (" ".join("nus_der" * 4 + "x"), TOO_LONG),
        ("", NO_TEXT),
        (" \n", NO_TEXT),
    ],
)
def test_compact_answers(completion: str, reason: str) -> None:
    assert score(COMPACT, completion) == (reason, float(not reason))


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("nus der", 1.0),
        ("nus de", 12 / 13),  # 2·6 / (6 + 7)
        ("us der", 12 / 13),
        ("nus_der", 12 / 14),
        (
            "red sun",
            2 / 14,
        ),  # the first longest block is the blank's; about it nothing matches … but see below
        ("xyz", 0.0),
    ],
)
def test_the_overlap_is_the_environments(answer: str, reward: float) -> None:
    verdict = OVERLAP.score(TRUTH, f"<reversed_text>{answer}</reversed_text>")
    assert verdict.reward == pytest.approx(reward)
    assert verdict.success is (reward == 1.0)
    assert verdict.reason == ("" if verdict.success else NOT_REVERSED)


@pytest.mark.parametrize(
    "completion",
    ["nus der", "", "<reversed_text></reversed_text>", f"<reversed_text>{'nus der' * 5}</reversed_text>"],
)
def test_what_gives_no_answer_earns_no_overlap(completion: str) -> None:
    assert OVERLAP.score(TRUTH, completion).reward == 0.0


@given(answer=st.text(alphabet="nusder xé", max_size=28))
@FUZZ
def test_overlap_grows_to_one_for_the_right_answer_alone(answer: str) -> None:
    answer = answer.strip()
    verdict = OVERLAP.score(TRUTH, f"<reversed_text>{answer}</reversed_text>")
    assert verdict.reward == SequenceMatcher(None, answer, "nus der").ratio()
    assert verdict.success is (verdict.reward == 1.0) is (answer == "nus der")
    spelled = " ".join(answer.replace(" ", "_"))
    assert TASKS["compact overlap"].score(TRUTH, spelled).reward == verdict.reward


def test_every_short_answer_is_judged_as_python_reverses_it() -> None:
    answers = ["".join(letters) for n in range(4) for letters in product("ab", repeat=n)]
    for text in answers:
        if len(text) < 2:
            continue
        for answer in answers:
            verdict = LETTERS.score({"text": text}, f"<reversed_text>{answer}</reversed_text>")
            assert verdict.success is (answer == "".join(reversed(text)))


@pytest.mark.parametrize("name", TASKS)
def test_problems_pass_the_self_check(name: str) -> None:
    result = TASKS[name].self_check(200)
    assert result.passed, result.failures
    assert result.accepted == 200
    assert sum(result.tried.values()) > 200 * 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chat", "compact", "palindromes"])
def test_ten_thousand_problems_pass_the_self_check(name: str) -> None:
    assert TASKS[name].self_check(10_000).passed


def _verdict(success: bool) -> Verdict:
    return Verdict(success=success, reward=float(success), reason="" if success else "no")


def _inner(completion: str) -> str:
    return completion.rpartition("<reversed_text>")[2].partition("</reversed_text>")[0].strip()


@pytest.mark.parametrize(
    ("verifier", "missed"),
    [
        (lambda text, completion: text[::-1] in completion, {"no tags", "two answers", "full stop", "second thoughts"}),
        (lambda text, completion: _inner(completion) == text[::-1], {"no tags", "tag not closed", "tag not opened"}),
        (lambda text, completion: _inner(completion).lower() == text[::-1].lower(), {"other case"}),
        (lambda text, completion: sorted(_inner(completion)) == sorted(text), {"not reversed", "neighbours swapped"}),
        (lambda text, completion: _inner(completion).split() == text[::-1].split(), {"blanks doubled"}),
        (lambda text, completion: _inner(completion).replace(" ", "") == text[::-1].replace(" ", ""), {"blanks missing"}),
        (lambda text, completion: _inner(completion).startswith(text[::-1]), {"last character twice", "full stop"}),
        (lambda text, completion: text[::-1].startswith(_inner(completion)), {"last character missing", "empty"}),
        (lambda text, completion: _inner(completion).strip("\"'.") == text[::-1], {"quotes", "full stop"}),
    ],
)  # fmt: skip
def test_a_wrong_verifier_is_caught_at_what_it_gets_wrong(verifier: Any, missed: set[str]) -> None:
    class Wrong(ReverseText):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return _verdict(verifier(truth["text"], completion))

    result = Wrong().self_check(100)
    slipped = {kind for kind in result.tried if result.refused[kind] < result.tried[kind]}
    assert slipped >= missed
    assert result.accepted == 100


# Anything


ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec=None)),  # lone surrogates too
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.lists(
        st.sampled_from(["<reversed_text>", "</reversed_text>", "nus der", "nus", " ", "n u s _ d e r", "x"])
    ).map("".join),
)


@given(completion=ANYTHING)
@FUZZ
def test_any_text_gets_a_verdict(completion: str) -> None:
    for task in (CHAT, COMPACT, OVERLAP):
        verdict = task.score(TRUTH, completion)
        assert verdict.error is None
        assert verdict.success is (verdict.reward == 1.0) is (not verdict.reason)
        assert verdict.success or verdict.reason in REASONS
        assert 0 <= verdict.reward <= 1
        assert not verdict.success or "nus der" in completion or completion.strip() == "n u s _ d e r"


@given(
    truth=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "x"]), inner),
    )
)
@FUZZ
def test_no_truth_of_json_types_makes_it_raise(truth: Any) -> None:
    verdict = CHAT.score(truth, "<reversed_text>a</reversed_text>")
    assert (verdict.error is None) is (verdict.reward is not None)
    assert verdict.reason == (
        "" if verdict.success else NOT_REVERSED if verdict.error is None else NO_PROBLEM
    )
    if verdict.error:
        with pytest.raises(InputError, match="example 'a' cannot be demonstrated"):
            CHAT.demonstration(Example(id="a", prompt="", truth=truth))
    else:
        assert CHAT.demonstration(Example(id="a", prompt="", truth=truth)).endswith("</reversed_text>")


@pytest.mark.parametrize("text", ["", " a", "a ", "a  b", "a_b", "a.b", "ä", "a" * 129, "a\n"])
def test_what_no_problem_has_is_an_error(text: str) -> None:
    assert CHAT.score({"text": text}, f"<reversed_text>{text[::-1]}</reversed_text>").reward is None


@pytest.mark.parametrize(
    "completion",
    [
        "<reversed_text>" * 70_000,
        "</reversed_text>" * 70_000,
        "<reversed_text></reversed_text>" * 35_000,
        "<reversed_text>" + "nus der" * 150_000 + "</reversed_text>",
        "<reversed_text>" + " " * 1_000_000 + "</reversed_text>",
        "n " * 500_000,
        "_ " * 500_000,
        " " * 1_000_000,
        "<" * 1_000_000,
    ],
    ids=lambda text: f"{text[:20]!r}",
)
def test_a_megabyte_is_judged_within_a_second(completion: str) -> None:
    for task in (CHAT, COMPACT, OVERLAP):
        started = time.process_time()
        assert not task.score(TRUTH, completion).success
        assert time.process_time() - started < 1.0


@pytest.mark.parametrize("answer", ["ab" * 128, "a b" * 85, "a" * 128 + "b" * 128, "b" * 128 + "a" * 128])
def test_the_overlap_of_long_repetitive_texts_is_found_within_a_second(answer: str) -> None:
    task = ReverseText(content="letters", alphabet="ab", max_length=64, reward="overlap")
    started = time.process_time()
    task.score({"text": "a" * 64}, f"<reversed_text>{answer}</reversed_text>")
    assert time.process_time() - started < 1.0
