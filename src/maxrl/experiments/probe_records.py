"""What a probe leaves behind: `probe.json`, and what is printed and drawn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maxrl.evaluation.groups import ExpectedGroups, HardPrompts, RateBin
from maxrl.evaluation.records import ProblemCounts
from maxrl.experiments.outlook import Judgement


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the samples of one setting say."""

    pass_at_1: float
    pass_at_1_error: float | None
    """Standard error over prompts; None of a single one."""
    histogram: tuple[RateBin, ...]
    groups: tuple[ExpectedGroups, ...]
    """By N, in rising order."""
    hard: HardPrompts
    judgement: Judgement
    """At the recipe's N."""
    problems: tuple[ProblemCounts, ...]
    completion_tokens: int
    sampling_seconds: float

    def at(self, rollouts: int) -> ExpectedGroups:
        """The groups expected of this N, one of those asked for."""
        return next(groups for groups in self.groups if groups.rollouts == rollouts)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting of a sweep, or the only one."""

    fields: Mapping[str, Any]
    """The swept fields."""
    folder: str
    """Relative to the probe's."""
    reading: Reading | None
    """None where the measurement failed."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A finished probe."""

    command: str
    task: str
    model: str
    rollouts: int
    """The recipe's N, which the judgements are about."""
    estimators: tuple[str, ...]
    over_batch: tuple[str, ...]
    """Those whose sums go over a batch, measured as if each group were one."""
    swept: Mapping[str, Sequence[Any]]
    settings: Mapping[str, Any]
    """The resolved recipe: field → value."""
    rows: tuple[Row, ...]
    seconds: float
    """Wall time of this call."""
    environment: Mapping[str, str]
    """Versions, machine class, code version of the measurements."""


def named(own: Mapping[str, Any]) -> str:
    """The swept fields of a setting in one line."""
    return ", ".join(f"{name}={value}" for name, value in own.items())
