"""What an evaluation leaves behind: counts per problem, curves with intervals, and their JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ProblemCounts:
    """Verdicts on the sampled completions of one problem."""

    id: str
    scored: int
    """Completions the verifier reached a verdict on (n)."""
    correct: int
    """Successes among them (c)."""
    errors: int = 0
    """Completions on which the verifier itself failed; they are not in `scored`."""
    truncated: int = 0
    """Completions that ran into the length limit."""
    greedy_success: bool | None = None
    """Verdict on the greedy completion; None where it was not asked for or could not be scored."""


@dataclass(frozen=True, kw_only=True)
class PassAtK:
    """pass@k averaged over problems, with a bootstrap interval over problems."""

    k: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model sampled on a task's evaluation stream."""

    problems: tuple[ProblemCounts, ...]
    pass_at_k: tuple[PassAtK, ...]
    greedy_accuracy: float | None
    confidence: float
    """Level of the intervals, e.g. 0.95."""
    completion_tokens: int
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Task with its parameters, sampling, seeds: what to repeat with the same model."""

    def at(self, k: int) -> PassAtK:
        """The entry of the curve at `k`. Raises KeyError where `k` was not asked for."""
        for entry in self.pass_at_k:
            if entry.k == k:
                return entry
        raise KeyError(f"pass@{k} is not in this evaluation (has k = {[e.k for e in self.pass_at_k]})")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Evaluation":
        """The inverse of `to_dict`."""
        values: dict[str, Any] = dict(data)
        values["problems"] = tuple(ProblemCounts(**row) for row in data["problems"])
        values["pass_at_k"] = tuple(PassAtK(**row) for row in data["pass_at_k"])
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read an `eval.json`."""
        return cls.from_dict(json.loads(path.read_text()))
