"""What a task is: it makes examples, scores a completion, demonstrates a solution, proves its verifier.

Tasks never import torch or transformers: they are strings, numbers and rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

Message = dict[str, str]
Prompt = str | list[Message]
Split = Literal["train", "eval"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One problem: what the model sees, and what only the verifier sees."""

    id: str
    """Names the problem, the same in every process: `"{split}-{seed}-{index}"`."""
    prompt: Prompt
    """Plain text, or chat messages `[{"role": …, "content": …}]`."""
    truth: Mapping[str, Any]
    """Ground truth for the verifier, of JSON types only; never shown to the model."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a verifier says of one completion: success, failure, or an error of its own.

    An error is never a zero: `reward` is None then, and the rollout leaves its group.
    """

    success: bool
    reward: float | None
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """Named parts of the reward, for the logs."""
    reason: str = ""
    """Why it is no success (one of a few fixed phrases, so that they can be counted); "" for a success."""
    error: str | None = None
    """What went wrong inside the verifier; None where it reached a verdict."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A task's own words as plain data, for models made on the spot.

    Texts of the task are these words joined by single spaces. Special tokens (padding, beginning, end)
    are not the task's business; `maxrl.models` adds them.
    """

    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """The result of a task's proof of its own verifier."""

    problems: int
    """Problems generated."""
    accepted: int
    """Gold completions accepted; must equal `problems`."""
    refused: Mapping[str, int]
    """Per kind of corruption, how many corrupted golds were refused …"""
    tried: Mapping[str, int]
    """… of how many tried."""
    failures: Sequence[str] = ()
    """The first few wrong verdicts, readable."""

    @property
    def passed(self) -> bool:
        """Whether every gold was accepted and every corruption refused."""
        return self.accepted == self.problems and dict(self.refused) == dict(self.tried)


class Task(Protocol):
    """What the trainer, the evaluation and the command line ask of a task.

    An implementation is a frozen, keyword-only dataclass: its fields are the task's parameters, each with
    `metadata={"help": …}`, and become fields of the recipes and options of the command line. Parameters out
    of range raise `maxrl.errors.InputError` on construction.
    """

    name: ClassVar[str]

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        The i-th problem does not depend on `count` or `start`, and no random state is shared between splits
        or left behind.
        """
        ...

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """The verdict on one completion. Never raises on any string."""
        ...

    def demonstration(self, example: Example) -> str:
        """A completion that solves the example, for warm starts."""
        ...

    def vocabulary(self) -> Vocabulary | None:
        """The task's words, or None where only a general tokenizer will do."""
        ...

    def self_check(self, count: int = 1000, *, seed: int = 0) -> SelfCheck:
        """Gold accepted and corrupted gold refused, on `count` generated problems."""
        ...
