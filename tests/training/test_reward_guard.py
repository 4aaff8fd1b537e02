"""Reward functions that crash, hang or return nonsense cost the rollouts they failed on, and nothing else."""

import asyncio
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maxrl.errors import InputError, VerifierError
from maxrl.training import reward_guard
from maxrl.training.reward_guard import FAILED, guarded, without_failures

EIGHT = [str(number) for number in range(8)]


def rewards(function: Any, completions: list[str] | None = None, seconds: float = 30.0, **kwargs: Any) -> Any:
    completions = EIGHT if completions is None else completions
    return guarded(function, seconds)(prompts=["p"] * len(completions), completions=completions, **kwargs)


def test_good_rewards_pass_as_floats_from_one_call() -> None:
    calls: list[int] = []

    def good(prompts: Any, completions: Any, **_: Any) -> Any:
        calls.append(len(completions))
        return np.arange(len(completions)) % 2

    assert rewards(good) == [0.0, 1.0] * 4
    assert calls == [8]


def test_none_says_that_a_function_does_not_apply_unless_none_is_a_failure() -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        return [None, 1, True, torch.tensor(0.5)]

    logged: dict[str, float] = {}
    assert rewards(mine, EIGHT[:4], log_metric=logged.__setitem__) == [None, 1.0, 1.0, 0.5]
    assert logged == {}
    mine.none_is_failure = True
    assert rewards(mine, EIGHT[:4], log_metric=logged.__setitem__) == [FAILED, 1.0, 1.0, 0.5]
    assert logged == {"verifier/mine: verifier failed": 1 / 4}


def test_a_none_that_is_a_failure_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        return [None, 1.0, None]

    mine.none_is_failure = True
    function = guarded(mine, 30.0)
    for _ in range(2):
        function(prompts=["p"] * 3, completions=EIGHT[:3])
    assert [record.getMessage() for record in caplog.records] == [
        "reward function 'mine': 2 of 3 completions got no verdict: verifier failed: returned None, by which it says that "
        "it has failed. Such rollouts leave their groups; their fraction is logged as verifier/errors"
    ]


def test_a_none_that_the_function_tells_of_itself_is_counted_only_where_it_could_not() -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        if completions == list(EIGHT[:3]):
            raise ValueError("as a batch")
        return [None] * len(completions)

    mine.none_is_failure = mine.tells_failures = True
    logged: dict[str, float] = {}
    assert rewards(mine, EIGHT[:2], log_metric=logged.__setitem__) == [FAILED] * 2
    assert logged == {}
    assert (
        rewards(mine, EIGHT[:3], log_metric=logged.__setitem__) == [FAILED] * 3
    )  # of single rows it logs nothing
    assert logged == {"verifier/mine: verifier crashed": 0.0, "verifier/mine: verifier failed": 1.0}


@pytest.mark.parametrize(
    "nonsense", [math.nan, math.inf, -math.inf, "1", "right", [1.0], {}, np.ones(2), object(), 1j, b"1"]
)
def test_a_value_that_is_no_number_fails_its_row(nonsense: Any) -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        return [1.0, nonsense, 0.0]

    logged: dict[str, float] = {}
    assert rewards(mine, EIGHT[:3], log_metric=logged.__setitem__) == [1.0, FAILED, 0.0]
    assert logged == {"verifier/mine: verifier returned nonsense": pytest.approx(1 / 3)}


def test_a_crash_costs_the_row_it_is_due_to_and_columns_go_along() -> None:
    def mine(prompts: Any, completions: Any, answer: Any, level: str, **_: Any) -> Any:
        assert level == "easy"
        if "3" in completions:
            raise ValueError("three")
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    logged: dict[str, float] = {}
    answers = ["0", "x", "2", "3", "4", "x", "6", "x"]
    found = rewards(mine, answer=answers, level="easy", log_metric=logged.__setitem__)
    assert found == [1.0, 0.0, 1.0, FAILED, 1.0, 0.0, 1.0, 0.0]
    assert logged == {"verifier/mine: verifier crashed": 1 / 8}


def test_positional_columns_are_cut_like_named_ones() -> None:
    def mine(prompts: Any, scale: float, completions: Any) -> Any:
        if len(completions) > 1:
            raise ValueError("one at a time")
        return [scale * float(prompts[0])]

    assert guarded(mine, 30.0)(["1", "2"], 2.0, completions=["a", "b"]) == [2.0, 4.0]


@pytest.mark.parametrize("returned", [[1.0], [], 1.0, None, [1.0] * 9])
def test_a_batch_of_the_wrong_size_is_judged_row_by_row(returned: Any) -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        if len(completions) > 1:
            return returned
        return [] if completions == ["5"] else [float(completions[0])]

    assert rewards(mine) == [0.0, 1.0, 2.0, 3.0, 4.0, FAILED, 6.0, 7.0]


def test_a_generator_that_breaks_is_a_crash() -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        for text in completions:
            yield 1 / int(text)

    assert rewards(mine, ["1", "0", "2"]) == [1.0, FAILED, 0.5]


def test_one_row_that_hangs_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_guard, "LEAST_SECONDS", 0.05)

    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        while "3" in completions:
            pass
        return [1.0] * len(completions)

    started = time.monotonic()
    assert rewards(mine, seconds=0.4) == [1.0, 1.0, 1.0, FAILED, 1.0, 1.0, 1.0, 1.0]
    assert time.monotonic() - started < 20


def test_where_every_row_hangs_the_rest_is_left_unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_guard, "LEAST_SECONDS", 0.05)
    calls: list[int] = []

    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        calls.append(len(completions))
        time.sleep(100)

    logged: dict[str, float] = {}
    assert rewards(mine, seconds=0.1, log_metric=logged.__setitem__) == [FAILED] * 8
    assert calls == [8, 1, 1, 1]
    assert logged == {
        "verifier/mine: verifier too slow": 3 / 8,
        "verifier/mine: not judged after a verifier that hung": 5 / 8,
    }


def test_what_single_rows_log_is_no_metric_of_the_batch() -> None:
    def mine(prompts: Any, completions: Any, log_metric: Any, log_extra: Any, **_: Any) -> Any:
        log_metric("mine", len(completions))
        log_extra("column", completions)
        return [1.0]

    logged: list[Any] = []
    extra: list[Any] = []
    rewards(
        mine, EIGHT[:2], log_metric=lambda *row: logged.append(row), log_extra=lambda *row: extra.append(row)
    )
    assert [name for name, _ in logged] == ["mine", "verifier/mine: verifier returned nonsense"]
    assert extra == [("column", EIGHT[:2])]


def test_a_reason_is_warned_of_once_and_logged_on_at_0(caplog: pytest.LogCaptureFixture) -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        return [math.nan if text == "bad" else 1.0 for text in completions]

    function = guarded(mine, 30.0)
    rows: list[dict[str, float]] = []
    with caplog.at_level(logging.WARNING):
        for text in ("good", "bad", "bad", "good"):
            rows.append({})
            function(prompts=["p"], completions=[text], log_metric=rows[-1].__setitem__)
    name = "verifier/mine: verifier returned nonsense"
    assert rows == [{}, {name: 1.0}, {name: 1.0}, {name: 0.0}]
    assert [record.getMessage() for record in caplog.records] == [
        "reward function 'mine': 1 of 1 completions got no verdict: verifier returned nonsense: returned the reward nan. "
        "Such rollouts leave their groups; their fraction is logged as verifier/errors"
    ]


async def _too_few(prompts: Any, completions: Any, **_: Any) -> Any:
    return [1.0]


async def _crash(prompts: Any, completions: Any, **_: Any) -> Any:
    raise ValueError("no")


async def _hang(prompts: Any, completions: Any, **_: Any) -> Any:
    await asyncio.sleep(100)


async def _exit(prompts: Any, completions: Any, **_: Any) -> Any:
    raise SystemExit(3)


async def _crash_on_1(prompts: Any, completions: Any, **_: Any) -> Any:
    return [1.0 / (text != "1") for text in completions]


async def _hang_on_1(prompts: Any, completions: Any, **_: Any) -> Any:
    await asyncio.sleep(100 * ("1" in completions))
    return [1.0] * len(completions)


async def _block_on_1(prompts: Any, completions: Any, **_: Any) -> Any:
    time.sleep(15 * ("1" in completions))
    return [1.0] * len(completions)


async def _loop_on_1(prompts: Any, completions: Any, **_: Any) -> Any:
    end = time.monotonic() + 5  # nothing else would end it, and the tests to come want the processor
    while "1" in completions and time.monotonic() < end:
        pass
    return [1.0] * len(completions)


async def _good(prompts: Any, completions: Any, **_: Any) -> Any:
    return [1.0, None, "x"]


class _Async:
    async def __call__(self, prompts: Any, completions: Any, **_: Any) -> Any:
        return [1.0, None, "x"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_too_few, [1.0] * 3),  # one by one it gives as many as it should
        (_crash, [FAILED] * 3),
        (_exit, [FAILED] * 3),
        (_hang, [FAILED] * 3),
        (_crash_on_1, [1.0, FAILED, 1.0]),
        (_hang_on_1, [1.0, FAILED, 1.0]),
        (_block_on_1, [1.0, FAILED, 1.0]),
        (_loop_on_1, [1.0, FAILED, 1.0]),
        (_good, [1.0, None, FAILED]),
        (_Async(), [1.0, None, FAILED]),
    ],
)
def test_asynchronous_functions_are_guarded(
    function: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_guard, "_BLOCKED_AFTER", 0.3)
    started = time.monotonic()
    assert asyncio.run(rewards(function, EIGHT[:3], seconds=1.0)) == expected
    assert time.monotonic() - started < 12


def test_where_an_asynchronous_function_always_hangs_the_rest_is_left_unjudged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reward_guard, "LEAST_SECONDS", 0.05)
    logged: dict[str, float] = {}
    assert asyncio.run(rewards(_hang, seconds=0.1, log_metric=logged.__setitem__)) == [FAILED] * 8
    assert logged == {
        "verifier/_hang: verifier too slow": 3 / 8,
        "verifier/_hang: not judged after a verifier that hung": 5 / 8,
    }


def test_a_loop_is_kept_unless_it_is_blocked_and_what_blocked_it_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reward_guard, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(reward_guard, "_BLOCKED_AFTER", 0.3)
    made: list[Any] = []
    monkeypatch.setattr(
        reward_guard, "_Loop", lambda loop=reward_guard._Loop: made.append(loop()) or made[-1]
    )
    asyncio.run(rewards(_hang_on_1, EIGHT[:3], seconds=0.3))
    assert len(made) == 1
    assert made[0].runs()
    assert "blocks" not in caplog.text
    made.clear()
    asyncio.run(rewards(_loop_on_1, EIGHT[:3], seconds=0.3))
    assert len(made) == 3  # the batch blocked one, and a row the next
    assert "reward function '_loop_on_1': is asynchronous, but blocks" in caplog.text
    for given_up in made[:2]:
        given_up._thread.join(20)
        assert not given_up.runs()
    assert made[2].runs()


def test_a_function_that_blocks_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_guard, "_BLOCKED_AFTER", 0.3)

    async def slow(prompts: Any, completions: Any, **_: Any) -> Any:
        await asyncio.sleep(4)
        return [1.0] * len(completions)

    async def both() -> Any:
        return await asyncio.gather(
            rewards(_block_on_1, EIGHT[:3], seconds=1.0), rewards(slow, EIGHT[:3], seconds=30.0)
        )

    assert asyncio.run(both()) == [[1.0, FAILED, 1.0], [1.0] * 3]


def test_what_is_returned_is_read_under_guard() -> None:
    def endless(prompts: Any, completions: Any, **_: Any) -> Any:
        while True:
            yield 1.0
            time.sleep(0.01)

    def leaving(prompts: Any, completions: Any, **_: Any) -> Any:
        yield 1.0
        sys.exit(3)

    class Number:
        def __float__(self) -> float:
            sys.exit(4)

        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    class Unnamed:
        __repr__ = Number.__repr__

    assert rewards(endless, EIGHT[:2], seconds=0.5) == [FAILED] * 2
    assert rewards(leaving, EIGHT[:2]) == [FAILED] * 2
    for odd in (Number(), Unnamed()):

        def gives(prompts: Any, completions: Any, odd: Any = odd, **_: Any) -> Any:
            return [odd if text == "1" else 1.0 for text in completions]

        assert rewards(gives, EIGHT[:2]) == [1.0, FAILED]


def test_reward_models_pass_unchanged() -> None:
    model = nn.Linear(1, 1)
    assert guarded(model, 1.0) is model
    assert guarded("some/reward-model", 1.0) == "some/reward-model"
    assert guarded(3, 1.0) == 3  # TRL says what it thinks of it


def test_an_interrupt_is_no_failure_of_the_function() -> None:
    def mine(prompts: Any, completions: Any, **_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewards(mine)


def test_a_rollout_that_one_function_failed_on_is_missing_altogether() -> None:
    matrix = torch.tensor([[1.0, 0.5], [torch.inf, 0.5], [torch.nan, 0.5], [-torch.inf, torch.nan]])
    left, failures = without_failures(matrix)
    assert failures == 0.5
    nan = torch.nan
    torch.testing.assert_close(
        left, torch.tensor([[1.0, 0.5], [nan, nan], [nan, 0.5], [nan, nan]]), equal_nan=True
    )


class Bad:
    """Succeeds on every second rollout, but fails on the first of each generation in a way of its own each time."""

    __name__ = "bad"

    def __init__(self, ways: list[str]) -> None:
        self.ways = ways
        self.calls = 0

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **_: Any) -> Any:
        if len(completions) > 1:
            self.numbers = {id(ids): number for number, ids in enumerate(completion_ids)}
            self.calls += 1
        numbers = [self.numbers[id(ids)] for ids in completion_ids]
        at_fault = numbers[0] == 0
        way = self.ways[self.calls - 1]
        if at_fault and way == "crash":
            raise RuntimeError("boom")
        while at_fault and way == "hang":
            pass
        values: list[Any] = [float(number % 2) for number in numbers]
        if at_fault and way != "":
            values[0] = {"NaN": math.nan, "string": "0"}.get(way)
        return values[1:] if at_fault and way == "too few" else values


def test_a_verifier_that_fails_in_the_middle_of_a_run_costs_those_rollouts_alone(
    make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_guard, "LEAST_SECONDS", 0.05)
    ways = ["", "crash", "hang", "NaN", "string", "too few", ""]
    trainer = make_trainer(reward_funcs=Bad(ways), max_steps=len(ways), reward_timeout=0.5)
    trainer.train()
    logs = [row for row in trainer.state.log_history if "verifier/errors" in row]
    assert [row["verifier/errors"] for row in logs] == [0, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 0]
    assert trainer.state.global_step == len(ways)
    assert logs[-1]["verifier/bad: verifier crashed"] == 0.0
    assert logs[2]["verifier/bad: verifier too slow"] == 1 / 8
    # Of eight rollouts, the first is missing and no failure.
    assert [row["success_rate"] for row in logs] == pytest.approx([1 / 2, *[4 / 7] * 5, 1 / 2])


def test_a_run_without_any_verdict_ends_after_a_while_with_a_checkpoint(
    make_trainer: Any, tmp_path: Path
) -> None:
    def broken(prompts: Any, completions: Any, **_: Any) -> Any:
        raise NameError("typo")

    trainer = make_trainer(reward_funcs=broken, max_steps=20)
    with pytest.raises(
        VerifierError, match=r"failed on every rollout of 10 draws in a row.*stopped at step 9"
    ):
        trainer.train()
    assert (tmp_path / "checkpoint-9" / "trainer_state.json").is_file()


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_time_limit_must_be_one(make_trainer: Any, seconds: float) -> None:
    with pytest.raises(InputError, match="reward_timeout must be above 0 seconds and finite"):
        make_trainer(reward_timeout=seconds)


def test_the_reasons_that_a_checkpoint_keeps_are_those_that_were_logged() -> None:
    function = guarded(_crash_on_first, 5.0)
    for completions in (["0", "1"], ["1"]):  # the second call sees none, and forgets none
        function(prompts=["p"] * len(completions), completions=completions)
    assert function.seen_reasons == ({"verifier crashed"},)


def _crash_on_first(prompts: Any, completions: Any, **_: Any) -> Any:
    if "0" in completions:
        raise ValueError("0")
    return [1.0] * len(completions)
