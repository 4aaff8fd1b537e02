"""Names under which loggers get a run's figures, beside TRL's own: those of a benchmark, say, whose runs ours join.

What is logged under them is what `metrics.jsonl` and `evals.jsonl` hold, and is not written there again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LogKeys:
    """Logger's name → ours. An epoch is the `eval_every` steps that end with an evaluation while training."""

    step: Mapping[str, str]
    """Of a row of `metrics.jsonl`."""
    epoch_means: Mapping[str, str]
    """Means over the rows of an epoch."""
    epoch_accuracy: str
    """Greedy accuracy at its end."""
    epoch_seconds: str
    """What it took, its evaluation included."""
    initial_accuracy: str
    """Greedy accuracy before training (`eval_before.json`)."""
    final_accuracy: str
    """Greedy accuracy after training (`eval.json`)."""
    improvement: str
    """The difference of the two; goes into the logger's summary of the run, where it has one."""

    def of_row(self, row: Mapping[str, Any]) -> dict[str, float]:
        """The figures of a row that has them."""
        return {key: row[name] for key, name in self.step.items() if row.get(name) is not None}

    def of_epoch(
        self, metrics: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any], first: int
    ) -> dict[str, float]:
        """The figures of an epoch.

        Args:
            metrics: rows of `metrics.jsonl`.
            evaluation: the row of `evals.jsonl` that ends it.
            first: the last step before it; 0 for the first epoch.
        """
        rows = [row for row in metrics if first < row["step"] <= evaluation["step"]]
        before = max((row["elapsed"] for row in metrics if row["step"] <= first), default=0.0)
        figures: dict[str, float] = {}
        for key, name in self.epoch_means.items():
            values = [row[name] for row in rows if row.get(name) is not None]
            if values:
                figures[key] = sum(values) / len(values)
        if evaluation["greedy_accuracy"] is not None:
            figures[self.epoch_accuracy] = evaluation["greedy_accuracy"]
        if rows:
            figures[self.epoch_seconds] = rows[-1]["elapsed"] - before + evaluation["seconds"]
        return figures


LOG_KEYS: dict[str, LogKeys] = {
    # The MaxRL-vs-GRPO benchmark that this project started from.
    "subset_sum_benchmark": LogKeys(
        step={
            "batch/success_rate": "success_rate",
            "batch/time": "step_time",
            "batch/loss": "loss",
            "batch/grad_norm": "grad_norm",
        },
        epoch_means={"epoch/train_success": "success_rate", "epoch/loss_mean": "loss"},
        epoch_accuracy="epoch/eval_accuracy",
        epoch_seconds="epoch/time_total",
        initial_accuracy="eval/initial_accuracy",
        final_accuracy="eval/final_accuracy",
        improvement="accuracy_improvement",
    ),
}
"""What `log_keys` may be."""
