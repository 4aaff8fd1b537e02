"""What the runs say together: means over seeds with the range of the seeds, differences seed by seed, exact weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maxrl.experiments.classification.measures import Measures
from maxrl.experiments.classification.objective import needs_batch, parse_arm
from maxrl.objectives import effective_weight

TOP_1 = "top-1"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run; one that diverged stays as a row."""

    arm: str
    seed: int
    folder: str
    evaluation: Measures | None = None
    """Of the test set after training; None for a run that diverged."""
    error: str | None = None
    training_seconds: float = 0.0
    """Tests included."""
    metrics: tuple[Mapping[str, Any], ...] = ()
    """Rows of `metrics.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All runs of an experiment."""

    title: str
    command: str
    settings: Mapping[str, Any]
    """Flat: field → value, shared by all arms."""
    arms: tuple[str, ...]
    """In the order asked for; the first is compared with each of the others."""
    best: Measures | None
    """What Bayes' rule reaches, where the data's density is known."""
    classes: int
    runs: tuple[RunResult, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def of(self, arm: str) -> tuple[RunResult, ...]:
        """The finished runs of an arm, by seed."""
        return tuple(
            sorted((r for r in self.runs if r.arm == arm and r.evaluation), key=lambda run: run.seed)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read a `results.json`."""
        data = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(
            RunResult(**{**row, "evaluation": _measures(row["evaluation"]), "metrics": tuple(row["metrics"])})
            for row in data["runs"]
        )
        return cls(**{**data, "arms": tuple(data["arms"]), "best": _measures(data["best"]), "runs": runs})


def _measures(data: dict[str, Any] | None) -> Measures | None:
    return Measures.from_dict(data) if data else None


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, with the lowest and the highest of them. No interval: a few seeds bear none."""

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value per seed."""
        return cls(sum(values) / len(values), min(values), max(values), tuple(values))


@dataclass(frozen=True)
class ArmSummary:
    """One arm after training."""

    name: str
    seeds: tuple[int, ...]
    columns: dict[str, Spread]
    """`pass@1` … and `top-1` → shares."""
    seconds: float
    """Of training, mean over seeds."""


@dataclass(frozen=True)
class Difference:
    """An arm minus the first one, paired over the seeds that both finished."""

    other: str
    first: str
    seeds: tuple[int, ...]
    columns: dict[str, Spread]


@dataclass(frozen=True)
class Curve:
    """A measure of the test set after each epoch, where all finished seeds of an arm have it."""

    arm: str
    epochs: tuple[float, ...]
    spreads: tuple[Spread, ...]


@dataclass(frozen=True)
class Summary:
    """Every number of the report."""

    ks: tuple[int, ...]
    columns: tuple[str, ...]
    best: dict[str, float] | None
    arms: tuple[ArmSummary, ...]
    """Those with a finished run, in the order asked for."""
    unfinished: tuple[str, ...]
    differences: tuple[Difference, ...]
    rates: tuple[float, ...]
    """Pass rates that `weights` are given at."""
    weights: dict[str, tuple[float, ...]]
    """Arm → w(p) in E[gradient of the loss] = −w(p)·∇p, exact; arms whose weight depends on more than p are left out."""


def summarise(results: Results) -> Summary:
    """Compute every number of the report; the same results give the same numbers."""
    ks = tuple(sorted(results.settings["eval_ks"]))
    arms = tuple(_arm(name, results.of(name)) for name in results.arms if results.of(name))
    rates = (1 / results.classes, 0.01, 0.1, 0.5, 0.9)
    found = {name: _weights(name, rates) for name in results.arms}
    lead = [arm for arm in arms if arm.name == results.arms[0]]
    differences = [_difference(one, other) for one in lead for other in arms if other is not one]
    return Summary(
        ks=ks,
        columns=(*(f"pass@{k}" for k in ks), TOP_1),
        best=_columns(results.best) if results.best else None,
        arms=arms,
        unfinished=tuple(name for name in results.arms if not results.of(name)),
        differences=tuple(difference for difference in differences if difference.seeds),
        rates=rates,
        weights={name: weights for name, weights in found.items() if weights is not None},
    )


def curve(results: Results, arm: str, metric: str) -> Curve:
    """A measure over the epochs of an arm; `metric` as in metrics.jsonl, for example `eval_pass@1`."""
    logged = [{row["epoch"]: row[metric] for row in run.metrics if metric in row} for run in results.of(arm)]
    epochs = sorted(set.intersection(*map(set, logged))) if logged else []
    spreads = tuple(Spread.of([one[epoch] for one in logged]) for epoch in epochs)
    return Curve(arm, tuple(epochs), spreads)


def _columns(measures: Measures) -> dict[str, float]:
    return {**{f"pass@{k}": value for k, value in measures.pass_at_k.items()}, TOP_1: measures.top_1}


def _arm(name: str, runs: Sequence[RunResult]) -> ArmSummary:
    rows = [_columns(run.evaluation) for run in runs if run.evaluation]
    return ArmSummary(
        name=name,
        seeds=tuple(run.seed for run in runs),
        columns={column: Spread.of([row[column] for row in rows]) for column in rows[0]},
        seconds=sum(run.training_seconds for run in runs) / len(runs),
    )


def _difference(first: ArmSummary, other: ArmSummary) -> Difference:
    seeds = tuple(seed for seed in first.seeds if seed in other.seeds)
    pairs = [(other.seeds.index(seed), first.seeds.index(seed)) for seed in seeds]
    return Difference(
        other=other.name,
        first=first.name,
        seeds=seeds,
        columns={
            column: Spread.of([spread.by_seed[i] - first.columns[column].by_seed[j] for i, j in pairs])
            for column, spread in other.columns.items()
            if pairs
        },
    )


def _weights(name: str, rates: Sequence[float]) -> tuple[float, ...] | None:
    arm = parse_arm(name, 2)
    if arm.estimator is None:
        return tuple(1 / p for p in rates)
    if needs_batch(arm.estimator, arm.num_generations):
        return None
    return tuple(effective_weight(arm.estimator, list(rates), arm.num_generations).tolist())
