"""Verdicts for coroutines: what comes in while a batch is judged is the next batch."""

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxrl.tasks import Task, Verdict, judge
from maxrl.tasks.guard import MOST_TIMEOUTS, NOT_JUDGED, TOO_SLOW, batch_seconds, failed


@dataclass(frozen=True)
class _Question:
    truth: Mapping[str, Any]
    completion: str
    answer: asyncio.Future[Verdict]


class Judging:
    """A task's verifier beside an event loop, which goes on while it works.

    Verdicts are reached in one thread, one batch after the other, so that a task that judges many at once (compiled code,
    mathematics) gets many at once. A batch that takes longer than `maxrl.tasks.guard.batch_seconds` is judged one by one,
    and what takes longer than the task's `time_limit` then gets an error; as in `maxrl.tasks.judge` the third such is the
    last that is tried. A thread cannot be ended: what hangs runs on until it ends by itself.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._at_once = type(task).score_many is not Task.score_many
        self._waiting: list[_Question] = []
        self._worker: asyncio.Task[None] | None = None

    async def verdict(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """The verdict on one completion; never raises, see `maxrl.tasks.judge`."""
        question = _Question(truth, completion, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await question.answer

    async def _work(self) -> None:
        while self._waiting:
            size = len(self._waiting) if self._at_once else 1
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            verdicts = await self._verdicts(batch) or await self._one_by_one(batch)
            for question, verdict in zip(batch, verdicts, strict=True):
                if not question.answer.done():  # whoever asked may have been cancelled
                    question.answer.set_result(verdict)

    async def _one_by_one(self, batch: list[_Question]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        hung = 0
        limit = f"{self._task.time_limit:g} s"
        for question in batch:
            if hung >= MOST_TIMEOUTS:
                verdicts.append(failed(NOT_JUDGED, f"{hung} of this batch took longer than {limit}"))
                continue
            found = await self._verdicts([question]) if len(batch) > 1 else None
            verdicts += found or [failed(TOO_SLOW, f"took longer than {limit}")]
            hung += not found
        return verdicts

    async def _verdicts(self, batch: list[_Question]) -> list[Verdict] | None:
        """One for each; None where they took too long together."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Verdict]] = loop.create_future()

        def work() -> None:
            verdicts = judge(self._task, [each.truth for each in batch], [each.completion for each in batch])
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(lambda: answer.done() or answer.set_result(verdicts))

        # No executor's: those are waited for at the program's end, and this one may never end.
        threading.Thread(target=work, name=f"judging {self._task.name}", daemon=True).start()
        try:
            return await asyncio.wait_for(answer, batch_seconds(self._task, len(batch)))
        except TimeoutError:
            return None
