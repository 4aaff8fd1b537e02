"""Tasks in TRL's calling convention."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from maxrl.errors import InputError
from maxrl.tasks import SubsetSum, Task, Verdict
from maxrl.training import TaskReward, task_dataset
from maxrl.training.reward_guard import FAILED, guarded
from maxrl.training.rewards import completion_text


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("1 2", "1 2"),
        ([{"role": "assistant", "content": "3"}], "3"),
        ([{"role": "assistant", "content": "call"}, {"role": "tool", "name": "add", "content": "5"}], ""),
        (
            [
                {"role": "assistant", "content": "call"},
                {"role": "tool", "name": "add", "content": "5"},
                {"role": "assistant", "content": "4"},
            ],
            "4",
        ),
    ],
)
def test_only_the_models_own_last_words_are_graded(completion: object, text: str) -> None:
    assert completion_text(completion) == text  # pyright: ignore[reportArgumentType]


def test_a_task_scores_completions_and_counts_its_reasons(task: SubsetSum) -> None:
    logged: dict[str, float] = {}
    truth = json.dumps({"numbers": [1, 2, 4], "target": 3})
    rewards = TaskReward(task)(
        prompts=["p"] * 4,
        completions=["1 2", "4", "1 1 1", "one"],
        truth=[truth] * 4,
        log_metric=logged.__setitem__,
    )
    assert rewards == [1.0, 0.0, 0.0, 0.0]
    assert logged == {
        "verifier/wrong sum": 0.25,
        "verifier/number not available": 0.25,
        "verifier/not a list of integers": 0.25,
    }


def test_a_reason_that_does_not_come_again_is_logged_at_0(task: SubsetSum) -> None:
    """A mean over the batches that had it would be too high."""
    reward, truth = TaskReward(task), [json.dumps({"numbers": [1, 2, 4], "target": 3})]
    rows = []
    for completion in ("4", "1 2", "one"):
        rows.append({})
        reward(prompts=["p"], completions=[completion], truth=truth, log_metric=rows[-1].__setitem__)
    assert [row.get("verifier/wrong sum") for row in rows] == [1.0, 0.0, 0.0]
    assert [row.get("verifier/not a list of integers") for row in rows] == [None, None, 1.0]


def test_a_verifier_that_fails_gives_none_not_zero_is_counted_and_warned_of_once(
    task: SubsetSum, caplog: pytest.LogCaptureFixture
) -> None:
    reward, logged = TaskReward(task), dict[str, float]()
    for _ in range(2):
        rewards = reward(
            prompts=["p"] * 2,
            completions=["1", "1"],
            truth=['{"numbers": [1], "target": 1}', '{"numbers": "broken"}'],
            log_metric=logged.__setitem__,
        )
        assert rewards == [1.0, None]
    assert logged == {"verifier/truth is no problem": 0.5}
    assert [record.getMessage() for record in caplog.records] == [
        "task subset_sum: 1 of 2 completions got no verdict: truth is no problem: truth['numbers'] must be a list of at "
        "least one whole number. Such rollouts leave their groups; their fraction is logged as verifier/errors"
    ]


class NoCompiler(SubsetSum):
    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        return Verdict(success=False, reward=None, error="no compiler here")

    score_many = Task.score_many


def test_an_error_without_a_reason_is_counted_under_one_phrase_and_never_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logged: dict[str, float] = {}
    function = guarded(TaskReward(NoCompiler()), 30.0)
    rewards = function(
        prompts=["p"] * 2, completions=["1"] * 2, truth=["{}"] * 2, log_metric=logged.__setitem__
    )
    assert rewards == [FAILED] * 2
    assert logged == {"verifier/verifier failed": 1.0}
    (record,) = caplog.records
    assert "2 of 2 completions got no verdict: verifier failed: no compiler here." in record.getMessage()


@dataclass(frozen=True, kw_only=True)
class Parts(SubsetSum):
    """Rewards of parts, some of which a completion may lack; one completion crashes it."""

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        components = {"length": float(len(completion))} | ({"right": 1.0} if completion == "1 2" else {})
        if completion == "crash":
            raise RuntimeError("boom")
        return Verdict(success=True, reward=3.0, components=components)

    score_many = Task.score_many


def test_components_are_logged_and_a_crash_costs_one_completion() -> None:
    logged: dict[str, float] = {}
    rewards = TaskReward(Parts())(
        prompts=["p"] * 3, completions=["1 2", "1", "crash"], truth=["{}"] * 3, log_metric=logged.__setitem__
    )
    assert rewards == [3.0, 3.0, None]
    assert logged == {
        "components/length": 2.0,
        "components/right": 1.0,
        "verifier/verifier crashed": pytest.approx(1 / 3),
    }


def test_the_data_set_holds_what_the_reward_needs(task: SubsetSum) -> None:
    rows = task_dataset(task, "train", 3, seed=5)
    examples = task.examples("train", 3, seed=5)
    assert rows["id"] == [example.id for example in examples]
    assert rows["prompt"] == [example.prompt for example in examples]
    golds = [task.demonstration(example) for example in examples]
    assert TaskReward(task)(prompts=rows["prompt"], completions=golds, truth=rows["truth"]) == [1.0] * 3


def test_a_task_that_makes_no_examples_is_refused_before_there_is_a_data_set() -> None:
    few = type("Few", (SubsetSum,), {"examples": lambda *_, **__: []})
    with pytest.raises(InputError, match=r"task subset_sum: examples.* gave 0 examples"):
        task_dataset(few(), "train", 3)
