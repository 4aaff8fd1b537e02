"""Verdicts for coroutines: the same as without, in batches, and an event loop that goes on."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from maxrl.integrations.judging import Judging
from maxrl.tasks import Example, Split, Task, Verdict, get_task, judge
from maxrl.tasks.guard import CRASHED, NOT_JUDGED, TOO_SLOW

RELEASE = threading.Event()


@dataclass(frozen=True, kw_only=True)
class Slow(Task):
    """Waits for as long as a completion says, or for `RELEASE`."""

    name: ClassVar[str] = "slow"
    time_limit: ClassVar[float] = 0.5

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        return []

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        if completion == "hang":
            RELEASE.wait()
        if completion == "crash":
            raise KeyError("its own")
        return Verdict(success=completion == truth["answer"], reward=float(completion == truth["answer"]))


@dataclass(frozen=True, kw_only=True)
class Batched(Slow):
    """Judges several at once, each batch in a tenth of a second."""

    name: ClassVar[str] = "batched"
    batches: list[int] = field(default_factory=list)

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        self.batches.append(len(completions))
        time.sleep(0.1)
        return [self.score(truth, completion) for truth, completion in zip(truths, completions, strict=True)]


async def ask(judging: Judging, completions: Sequence[str], answer: str = "yes") -> list[Verdict]:
    return await asyncio.gather(*(judging.verdict({"answer": answer}, each) for each in completions))


def test_verdicts_are_those_of_the_task_and_each_gets_its_own() -> None:
    task = get_task("subset_sum")
    examples = task.examples("train", 40)
    completions = [
        task.demonstration(example) if index % 3 else "none" for index, example in enumerate(examples)
    ]

    async def run() -> list[Verdict]:
        judging = Judging(task)
        return await asyncio.gather(
            *(judging.verdict(each.truth, text) for each, text in zip(examples, completions, strict=True))
        )

    assert asyncio.run(run()) == judge(task, [each.truth for each in examples], completions)


def test_what_waits_while_a_batch_is_judged_is_the_next_batch() -> None:
    task = Batched()

    async def run() -> list[Verdict]:
        judging = Judging(task)
        first = asyncio.create_task(ask(judging, ["yes"]))
        await asyncio.sleep(0.03)  # it is at work now
        rest = [asyncio.create_task(ask(judging, ["yes", "no"])) for _ in range(5)]
        return (await first) + [verdict for each in rest for verdict in await each]

    verdicts = asyncio.run(run())
    assert [verdict.success for verdict in verdicts] == [True] + 5 * [True, False]
    assert task.batches == [1, 10]


def test_the_loop_goes_on_meanwhile() -> None:
    async def run() -> int:
        judged = asyncio.create_task(ask(Judging(Batched()), ["yes"]))
        turns = 0
        while not judged.done():
            await asyncio.sleep(0.005)
            turns += 1
        return turns

    assert asyncio.run(run()) >= 5


def test_one_that_hangs_costs_itself_alone_where_they_are_judged_one_by_one() -> None:
    RELEASE.clear()
    try:
        verdicts = asyncio.run(ask(Judging(Slow()), ["yes", "hang", "no", "crash", "yes"]))
    finally:
        RELEASE.set()
    assert [verdict.success for verdict in verdicts] == [True, False, False, False, True]
    assert [verdict.reason for verdict in verdicts] == ["", TOO_SLOW, "", CRASHED, ""]
    assert verdicts[1].reward is None


def test_a_batch_that_hangs_is_judged_one_by_one_and_then_the_next() -> None:
    RELEASE.clear()

    async def run() -> tuple[list[Verdict], list[Verdict]]:
        judging = Judging(Batched())
        return await ask(judging, ["yes", "hang", "no"]), await ask(judging, ["yes"])

    try:
        hung, after = asyncio.run(run())
    finally:
        RELEASE.set()
    assert [verdict.reason for verdict in hung] == ["", TOO_SLOW, ""]  # its neighbours keep their rewards
    assert [verdict.success for verdict in hung] == [True, False, False]
    assert [verdict.success for verdict in after] == [True]


def test_after_three_that_hang_no_more_of_a_batch_are_tried() -> None:
    RELEASE.clear()
    try:
        verdicts = asyncio.run(ask(Judging(Batched()), [*4 * ["hang"], "yes"]))
    finally:
        RELEASE.set()
    assert [verdict.reason for verdict in verdicts] == [*3 * [TOO_SLOW], *2 * [NOT_JUDGED]]
    assert all(verdict.reward is None for verdict in verdicts)


def test_one_who_no_longer_waits_and_a_second_loop() -> None:
    judging = Judging(Batched())

    async def cancelled() -> list[Verdict]:
        given_up = asyncio.create_task(judging.verdict({"answer": "yes"}, "yes"))
        other = asyncio.create_task(ask(judging, ["yes"]))
        await asyncio.sleep(0.03)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await other

    assert asyncio.run(cancelled())[0].success
    assert asyncio.run(ask(judging, ["yes"]))[0].success


def test_a_loop_that_ends_first_leaves_nothing_behind() -> None:
    judging = Judging(Batched())

    async def left() -> None:
        judging_task = asyncio.create_task(ask(judging, ["yes", "no"]))
        await asyncio.sleep(0.03)
        assert not judging_task.done()

    asyncio.run(left())
    assert asyncio.run(ask(judging, ["no", "yes"]))[1].success
