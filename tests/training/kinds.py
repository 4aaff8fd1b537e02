"""Data of live and dead prompts, and rewards that go by the prompt."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

LIVE = "1 2 3"
DEAD = "4 4 4"


def data(kinds: Sequence[str]) -> Dataset:
    """Prompts in this order, each with its number as its id."""
    return Dataset.from_dict(
        {
            "prompt": [{"live": LIVE, "dead": DEAD}[kind] for kind in kinds],
            "id": [str(number) for number in range(len(kinds))],
        }
    )


class Rewards:
    """One of four rollouts succeeds on a live prompt, none on a dead one. Remembers which prompts it scored."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.__name__ = "by_prompt"

    def __call__(self, prompts: Any, completions: Any, id: list[str], **_: Any) -> list[float]:
        self.calls.append(id[::4])
        return [float(prompt == LIVE and row % 4 == 0) for row, prompt in enumerate(prompts)]
