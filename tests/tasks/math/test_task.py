"""gsm8k and math: prompts, order, demonstrations, self-check, and the reward function."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from maxrl.errors import InputError
from maxrl.tasks.base import Example, Verdict
from maxrl.tasks.guard import judge
from maxrl.tasks.math.sources import load_problems
from maxrl.tasks.math.task import GSM8K, Math, make_math_reward, math_reward
from maxrl.tasks.math.verdicts import FAILURES, NO_RIGHT_ANSWER

GSM = GSM8K(**GSM8K.check_parameters)
MATH = Math(**Math.check_parameters)
FORMATS = ["any", "boxed", "hash"]
KINDS = {
    "another answer after it", "another number", "blank", "box cut off", "cut off", "empty", "list", "no answer", "no form",
    "not that", "question repeated", "two answers",
}  # fmt: skip
NUMBER_KINDS = {"doubled", "off by a little", "off by one", "other sign", "stated again"}


@pytest.fixture(autouse=True)
def _load_afresh() -> None:
    load_problems.cache_clear()


@pytest.mark.parametrize("task_class", [GSM8K, Math])
@pytest.mark.parametrize("answer_format", FORMATS)
def test_the_self_check_passes(task_class: type[GSM8K] | type[Math], answer_format: Any) -> None:
    result = task_class(**task_class.check_parameters, answer_format=answer_format).self_check(1000)
    assert result.passed, result.failures
    assert result.problems == result.accepted == 24
    expected = KINDS | NUMBER_KINDS | ({"another form"} if answer_format != "any" else set())
    assert set(result.tried) == expected
    assert all(result.tried[kind] == 24 for kind in KINDS)


def test_a_verifier_that_takes_any_number_in_the_text_fails_the_self_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lenient(_: object, truths: Any, completions: Any) -> list[Verdict]:
        right = [truth["answer"] in completion for truth, completion in zip(truths, completions, strict=True)]
        return [Verdict(success=one, reward=float(one), reason="" if one else "no") for one in right]

    monkeypatch.setattr(GSM8K, "score_many", lenient)
    result = GSM.self_check(24)
    assert not result.passed
    assert result.accepted == 24
    assert result.refused["two answers"] == result.refused["another answer after it"] == 0


def test_prompts_are_the_papers() -> None:
    [first] = GSM.examples("eval", 1)
    assert first.prompt == [
        {
            "role": "user",
            "content": "Pens come in boxes of 12. A school orders 15 boxes and finds that 4 pens of every box do not write. "
            "How many pens write? Let's think step by step and output the final answer within \\boxed{}.",
        }
    ]
    [first] = MATH.examples("eval", 1)
    assert first.prompt == [
        {
            "role": "user",
            "content": "Solve $\\frac{2}{x} + \\frac{1}{3} = \\frac{5}{6}$.\n"
            "Please reason step by step, and put your final answer within \\boxed{}.",
        }
    ]


def test_prompts_can_be_plain_text_and_end_otherwise() -> None:
    plain = Math(**Math.check_parameters, prompt_format="plain", prompt_suffix=" Well?")
    assert (
        plain.examples("eval", 1)[0].prompt == "Solve $\\frac{2}{x} + \\frac{1}{3} = \\frac{5}{6}$. Well?\n"
    )
    bare = Math(**Math.check_parameters, prompt_format="plain", prompt_suffix="")
    assert bare.examples("eval", 1)[0].prompt == "Solve $\\frac{2}{x} + \\frac{1}{3} = \\frac{5}{6}$.\n"
    for task_class in (GSM8K, Math):
        [example] = task_class(**task_class.check_parameters, answer_format="hash").examples("eval", 1)
        assert str(example.prompt[0]["content"]).endswith("write the final answer after ####.") or str(
            example.prompt[0]["content"]
        ).endswith("write your final answer after ####.")


def test_training_goes_round_and_round_in_a_new_order_each_time() -> None:
    ids = [example.id for example in GSM.examples("train", 72, seed=3)]
    rounds = [ids[:24], ids[24:48], ids[48:]]
    assert len({frozenset(one) for one in rounds}) == 1
    assert len(set(ids)) == 24
    assert rounds[0] != rounds[1] != rounds[2] != rounds[0]
    assert [example.id for example in GSM.examples("train", 30, seed=3, start=20)] == ids[20:50]
    assert [example.id for example in GSM.examples("train", 72, seed=4)] != ids
    assert GSM.examples("train", 0) == []


def test_evaluation_goes_through_the_data_set_once() -> None:
    ids = [example.id for example in MATH.examples("eval", 12)]
    assert ids == [problem.id for problem in load_problems("project", "eval", "math")]
    assert [example.id for example in MATH.examples("eval", 3, seed=9, start=4)] == ids[4:7]
    with pytest.raises(InputError, match="project has 12 problems for evaluation; 13 were asked for"):
        MATH.examples("eval", 5, start=8)


def test_train_and_eval_share_no_problem() -> None:
    for task in (GSM, MATH):
        questions = [
            {str(example.prompt) for example in task.examples(split, 12)} for split in ("train", "eval")
        ]
        assert not questions[0] & questions[1]


def test_global_random_state_is_left_alone() -> None:
    random.seed(1)
    before = random.getstate()
    first = GSM.examples("train", 5)
    random.seed(2)
    assert GSM.examples("train", 5) == first
    random.setstate(before)
    GSM.examples("train", 100)
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_format": "chatty"}, "unknown prompt_format 'chatty'; did you mean 'chat'"),
        ({"answer_format": "box"}, "unknown answer_format 'box'; did you mean 'boxed'"),
        ({"train_data": 3}, "train_data=3 is not allowed; give a text"),
        ({"answer_column": None}, "answer_column=None"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GSM8K(**options)


@pytest.mark.parametrize("answer_format", FORMATS)
def test_demonstrations_need_the_truth_alone(answer_format: Any) -> None:
    task = GSM8K(**GSM8K.check_parameters, answer_format=answer_format)
    for example in task.examples("eval", 12):
        shown = task.demonstration(example)
        copy = Example(id="copy", prompt="", truth=json.loads(json.dumps(example.truth)))
        assert task.demonstration(copy) == shown
        assert shown.startswith(example.truth["solution"])
        assert task.score(example.truth, shown) == Verdict(success=True, reward=1.0)
    bare = Example(id="bare", prompt="", truth={"answer": "5"})
    assert task.demonstration(bare) == ("#### 5" if answer_format == "hash" else "The answer is \\boxed{5}.")


@pytest.mark.parametrize(
    "truth", [{}, {"answer": ""}, {"answer": " "}, {"answer": 5}, {"answer": None}, "5", None]
)
def test_a_truth_that_is_no_problem_is_an_error(truth: Any) -> None:
    verdict = GSM.score(truth, "\\boxed{5}")
    assert (verdict.success, verdict.reward) == (False, None)
    assert verdict.error == "truth['answer'] must be a text that is not empty, of 1000 characters at most"
    assert verdict.reason == NO_RIGHT_ANSWER in FAILURES
    if isinstance(truth, dict):
        with pytest.raises(InputError, match="example 'x' cannot be demonstrated"):
            GSM.demonstration(Example(id="x", prompt="", truth=truth))


def test_verdicts_come_through_the_guard() -> None:
    truths = [{"answer": "18"}, {"answer": "x^2"}, {"answer": "18"}]
    verdicts = judge(MATH, truths, ["\\boxed{18}", "\\boxed{x \\cdot x}", "\\boxed{\ud800}"])
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.0, 0.0]


def test_a_task_travels_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(MATH)) == MATH


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert GSM.missing() is None
    assert (
        GSM8K(train_data=str(tmp_path / "none.jsonl")).missing() == f"the data file {tmp_path / 'none.jsonl'}"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install math-verify" in str(MATH.missing())


# The reward function.


def test_rewards_in_trls_calling_convention() -> None:
    texts = ["so \\boxed{5}", "#### 6", "5", "\\boxed{5}"]
    golds = ["2 + 3\n#### 5", 6, "5", None]
    assert math_reward(completions=texts, answer=golds, prompts=["?"] * 4, trainer_state=None) == [
        1.0,
        1.0,
        0.0,
        None,
    ]
    chats = [
        [{"role": "assistant", "content": "\\boxed{4}"}, {"role": "assistant", "content": text}]
        for text in texts
    ]
    assert math_reward(completions=chats, answer=golds) == [1.0, 1.0, 0.0, None]
    assert math_reward(completions=["\\boxed{x x}"], answer=["x^2"]) == [1.0]
    assert math_reward.__name__ == "math_reward"


@pytest.mark.parametrize("reward", [math_reward, make_math_reward(zero_at_length=9)])
def test_a_failure_of_the_reward_function_can_be_told_from_no_opinion(reward: Any) -> None:
    # Beside another function TRL sums a None as nothing; our guard takes the rollout out of its group.
    assert reward.none_is_failure is True


def test_rewards_of_what_is_cut_off_are_zero_by_option() -> None:
    reward = make_math_reward(answer_format="boxed", zero_at_length=3)
    texts, ids = ["\\boxed{5}", "\\boxed{5}", "#### 5"], [[1, 2], [1, 2, 3], [1]]
    assert reward(completions=texts, answer=["5"] * 3, completion_ids=ids) == [1.0, 0.0, 0.0]
    assert math_reward(completions=texts, answer=["5"] * 3, completion_ids=ids) == [1.0, 1.0, 1.0]
    with pytest.raises(InputError, match="zero_at_length needs completion_ids"):
        reward(completions=texts, answer=["5"] * 3)


@pytest.mark.parametrize("completion", [5, [], [{"role": "assistant"}], {"content": None}, [3]])
def test_completions_of_no_known_kind_are_refused(completion: Any) -> None:
    with pytest.raises(InputError, match="a completion must be a text or messages with a text"):
        math_reward(completions=[completion], answer=["5"])


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="unknown answer_format 'boxes'"):
        make_math_reward(answer_format="boxes")
    with pytest.raises(InputError, match="zero_at_length=0"):
        make_math_reward(zero_at_length=0)
