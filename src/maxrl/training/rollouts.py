"""Rows of a generation batch, as requests to the engine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from maxrl.training.layout import Layout


@dataclass(frozen=True)
class Request:
    """Rollouts of one group that this process draws."""

    prompt: Sequence[int]
    seed: int
    rollouts: range


def training_requests(
    rows: Sequence[Sequence[int]],
    *,
    num_generations: int | Layout,
    first_row: int,
    seed: int,
    generation: tuple[int, int],
) -> list[Request]:
    """Neighbouring rows that belong to one group, as one request each.

    A rollout's random numbers depend on its place in the generation batch of all processes, so that any number of
    processes draws the same batch.

    Args:
        rows: prompts of this process, each as often as it has rollouts here.
        num_generations: rollouts of a group (N), or where groups differ in size, the groups.
        first_row: place of the first row in the generation batch of all processes.
        seed: of the run.
        generation: optimizer step at which the batch is drawn, and its number among those of this step.
    """
    return [
        Request(prompt, _seed("train", seed, *generation, group), rollouts)
        for group, prompt, rollouts in _groups(rows, num_generations, first_row)
    ]


def evaluation_requests(
    rows: Sequence[Sequence[int]], *, num_generations: int | Layout, first_row: int, seed: int
) -> list[Request]:
    """As in training, but with seeds that belong to the prompt and its place: every evaluation draws with the same numbers,
    which makes the difference between two of them less noisy.
    """
    return [
        Request(
            prompt,
            _seed("eval", seed, hashlib.sha256(repr(tuple(prompt)).encode()).hexdigest(), group),
            rollouts,
        )
        for group, prompt, rollouts in _groups(rows, num_generations, first_row)
    ]


def _groups(
    rows: Sequence[Sequence[int]], num_generations: int | Layout, first_row: int
) -> list[tuple[int, Sequence[int], range]]:
    """Number, prompt and rollouts of each group, as far as it lies in these rows."""
    groups: list[tuple[int, Sequence[int], range]] = []
    for row, prompt in enumerate(rows, start=first_row):
        if isinstance(num_generations, Layout):
            group, rollout = num_generations.place(row)
        else:
            group, rollout = divmod(row, num_generations)
        if groups and groups[-1][:2] == (group, prompt):
            groups[-1] = (group, prompt, range(groups[-1][2].start, rollout + 1))
        else:
            groups.append((group, prompt, range(rollout, rollout + 1)))
    return groups


def _seed(*parts: object) -> int:
    digest = hashlib.sha256(repr(("maxrl", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
