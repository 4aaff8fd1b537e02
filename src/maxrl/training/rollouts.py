"""Rows of a generation batch, as requests to the engine."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Rollouts of one group that this process draws."""

    prompt: Sequence[int]
    seed: int
    rollouts: range


def training_requests(
    rows: Sequence[Sequence[int]], *, num_generations: int, first_row: int, seed: int, generation: int
) -> list[Request]:
    """Rows in a row that belong to one group, as one request each.

    A rollout's random numbers depend on its place in the generation batch of all processes, so that any number of
    processes draws the same batch.

    Args:
        rows: prompts of this process, each as often as it has rollouts here.
        num_generations: rollouts of a group (N).
        first_row: place of the first row in the generation batch of all processes.
        seed: of the run.
        generation: number of this generation in the run.
    """
    requests: list[Request] = []
    for row, prompt in enumerate(rows, start=first_row):
        group, rollout = divmod(row, num_generations)
        last = requests[-1] if requests else None
        if last is not None and rollout > 0 and last.prompt == prompt:
            requests[-1] = Request(prompt, last.seed, range(last.rollouts.start, rollout + 1))
        else:
            requests.append(
                Request(prompt, _seed("train", seed, generation, group), range(rollout, rollout + 1))
            )
    return requests


def evaluation_requests(
    rows: Sequence[Sequence[int]], *, num_generations: int, first_row: int, seed: int
) -> list[Request]:
    """As in training, but with seeds that belong to the prompt: every evaluation draws with the same numbers, which
    makes the difference between two of them less noisy.
    """
    met: Counter[tuple[int, ...]] = Counter()
    requests = []
    for request in training_requests(
        rows, num_generations=num_generations, first_row=first_row, seed=seed, generation=0
    ):
        prompt = tuple(request.prompt)
        content = hashlib.sha256(repr(prompt).encode()).hexdigest()
        own = _seed("eval", seed, content, met[prompt])
        met[prompt] += 1
        requests.append(Request(request.prompt, own, request.rollouts))
    return requests


def _seed(*parts: object) -> int:
    digest = hashlib.sha256(repr(("maxrl", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
