"""What a comparison leaves behind, as the report reads it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from maxrl.evaluation.records import Evaluation


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training run of a comparison: one estimator, one seed. A run that failed stays as a row."""

    estimator: str
    seed: int
    folder: str
    """Relative to the comparison's folder."""
    status: Literal["done", "failed"]
    error: str | None = None
    metrics: tuple[Mapping[str, float], ...] = ()
    """Rows of `metrics.jsonl`, each with `step` and what TRL and `MaxRLTrainer` log: `reward`, `success_rate`,
    `frac_reward_zero_mean`, `frac_reward_all_success`, `advantage_mass`, `entropy`, `loss`, `grad_norm` …"""
    evaluation: Evaluation | None = None
    """After training; None for a failed run."""
    training_seconds: float = 0.0
    rollouts: int = 0
    completion_tokens: int = 0
    """Sampled while training."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms trained from one warm start on the same prompts in the same order, and evaluated alike."""

    title: str
    command: str
    """How to repeat it."""
    settings: Mapping[str, Any]
    """Flat: field → value, shared by all arms."""
    arms: tuple[str, ...]
    """Names of the estimators, in the order asked for. The first is compared with each of the others."""
    before: Evaluation
    """The warm start, before any reinforcement learning."""
    runs: tuple[RunRecord, ...]
    seconds: float
    """Wall time of the whole comparison."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Versions, machine class, code version."""

    def of(self, arm: str) -> tuple[RunRecord, ...]:
        """The finished runs of an arm, by seed."""
        runs = [run for run in self.runs if run.estimator == arm and run.status == "done"]
        return tuple(sorted(runs, key=lambda run: run.seed))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> "Comparison":
        """Read a `comparison.json`."""
        data = json.loads(path.read_text())
        runs = tuple(
            RunRecord(
                **{
                    **row,
                    "metrics": tuple(row["metrics"]),
                    "evaluation": Evaluation.from_dict(row["evaluation"]) if row["evaluation"] else None,
                }
            )
            for row in data["runs"]
        )
        return cls(
            **{
                **data,
                "arms": tuple(data["arms"]),
                "before": Evaluation.from_dict(data["before"]),
                "runs": runs,
            }
        )
