"""The numbers of each setting: pass@k of its arms, paired differences, sample ratios, equal budgets, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxrl.experiments.intervals import Array, Interval, problem_draws
from maxrl.experiments.reports.grouping import Grouping, Setting, arm_of, repeat_labels
from maxrl.experiments.reports.reading import AXES, Counts, RunData
from maxrl.experiments.statistics import (
    RESAMPLES,
    Analysis,
    ArmResult,
    Measure,
    curve_grid,
    usable_ks,
)

WARM_START = "warm start"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The training curve of an arm at a budget."""

    value: float
    """Mean over runs of the mean over the last tenth before the budget."""
    by_run: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Every arm of a setting at the largest budget that all its runs reached."""

    axis: str
    """Of `AXES`."""
    size: float
    arms: Mapping[str, Reading]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A setting, counted."""

    setting: Setting
    analysis: Analysis | None
    """None where no run was evaluated. Its differences are arm minus baseline."""
    measured: Mapping[str, tuple[RunData, ...]]
    """The runs of each arm that are in the analysis, in the order of its seeds."""
    otherwise: tuple[RunData, ...]
    """Runs that were evaluated, but on other problems than most of their arm: in no number."""
    apart: Mapping[str, Analysis]
    """Arms that were evaluated on other problems than the baseline, each alone: not compared with it."""
    warm_starts: int
    """How many different evaluations of the warm start there are; the first one is shown."""
    budgets: tuple[Budget, ...]

    @property
    def number(self) -> int:
        """Of the setting."""
        return self.setting.number

    def runs_of(self, arm: str) -> tuple[RunData, ...]:
        """All runs of an arm, whatever became of them."""
        return tuple(run for run in self.setting.runs if arm_of(run) == arm)

    def shown(self, arm: str) -> tuple[RunData, ...]:
        """The runs that an arm's curves are drawn from: the finished ones, or all where none is."""
        return finished_or_all(self.runs_of(arm))

    def result(self, arm: str) -> ArmResult | None:
        """What an arm came to, if it was measured."""
        found = self.apart.get(arm, self.analysis)
        return next((one for one in found.arms if one.name == arm), None) if found else None

    def at(self, arm: str, k: int) -> Interval | None:
        """pass@k of an arm, or of the warm start."""
        found = self.apart.get(arm, self.analysis)
        result = self.analysis and self.analysis.before if arm == WARM_START else self.result(arm)
        return result.pass_at_k[found.ks.index(k)] if found and result and k in found.ks else None


def finished_or_all(runs: Sequence[RunData]) -> tuple[RunData, ...]:
    """Runs that are not done are in no average; but where there are no others, they are all there is to see."""
    return tuple(run for run in runs if run.state == "done") or tuple(runs)


def choose_baseline(arms: Sequence[str]) -> str | None:
    """What the others are compared with where nobody says: `grpo` if it is among them, else the first."""
    return "grpo" if "grpo" in arms else arms[0] if arms else None


def measure_settings(
    grouping: Grouping, baseline: str | None, *, resamples: int = RESAMPLES
) -> list[Numbers]:
    """Compute the numbers of every setting; the same runs give the same numbers."""
    draws: dict[int, Array] = {}

    def draws_for(problems: int) -> Array:
        if problems not in draws:
            draws[problems] = problem_draws(problems, resamples, np.random.default_rng(0))
        return draws[problems]

    return [_measure(setting, grouping.arms, baseline, draws_for) for setting in grouping.settings]


def _measure(setting: Setting, arms: Sequence[str], baseline: str | None, draws_for: Any) -> Numbers:
    done = {
        arm: [run for run in setting.runs if arm_of(run) == arm and run.state == "done" and run.after]
        for arm in arms
    }
    kept = {arm: _on_most_problems(runs) for arm, runs in done.items() if runs}
    leader = baseline if baseline in kept else next(iter(kept), None)
    # One set of problems rules: the baseline's. An arm on another one cannot stand in the same table.
    problems = kept[leader][0].after.same_problems if leader else None
    measured = {arm: tuple(runs) for arm, runs in kept.items() if runs[0].after.same_problems == problems}
    befores = {
        run.before.correct_P.tobytes(): run.before
        for runs in measured.values()
        for run in runs
        if run.before is not None and run.before.same_problems == problems
    }
    before = next(iter(befores.values()), None)
    in_use = {id(run) for runs in kept.values() for run in runs}
    return Numbers(
        setting=setting,
        analysis=_analyse(measured, arms, leader, before, draws_for) if measured else None,
        measured=measured,
        otherwise=tuple(run for runs in done.values() for run in runs if id(run) not in in_use),
        apart={
            arm: _analyse({arm: runs}, [arm], arm, None, draws_for)
            for arm, runs in kept.items()
            if arm not in measured
        },
        warm_starts=len(befores),
        budgets=tuple(_budgets(setting, arms)),
    )


def _on_most_problems(runs: Sequence[RunData]) -> list[RunData]:
    """Those evaluated on the problems that most of them were evaluated on."""
    groups: dict[Any, list[RunData]] = {}
    for run in runs:
        groups.setdefault(run.after.same_problems, []).append(run)
    return max(groups.values(), key=len)


def _analyse(
    measured: Mapping[str, Sequence[RunData]],
    arms: Sequence[str],
    leader: str | None,
    before: Counts | None,
    draws_for: Any,
) -> Analysis:
    counts = [run.after for runs in measured.values() for run in runs] + ([before] if before else [])
    asked = tuple(sorted({k for one in counts for k in one.ks}))
    fewest_P = np.min([one.scored_P for one in counts], axis=0)
    ks, kept = usable_ks(asked, {str(place): int(fewest) for place, fewest in enumerate(fewest_P)})
    places = [int(place) for place in kept]
    measure = Measure(ks, curve_grid(ks), draws_for(len(places)), counts[0].confidence)

    def result(name: str, labels: Sequence[int | str], own: Sequence[Counts]) -> ArmResult:
        arrays = (
            [getattr(one, field)[places] for one in own] for field in ("scored_P", "correct_P", "greedy_P")
        )
        return measure.arm(name, tuple(labels), *(np.array(rows) for rows in arrays))

    labels = dict(zip(measured, repeat_labels(list(measured.values())), strict=True))
    results = {arm: result(arm, labels[arm], [run.after for run in runs]) for arm, runs in measured.items()}
    start = result(WARM_START, (), [before]) if before else None
    pairs = [(results[arm], results[leader]) for arm in results if arm != leader] if leader else []
    return Analysis(
        ks=ks,
        curve_ks=measure.curve_ks,
        confidence=measure.confidence,
        problems=len(places),
        left_out=len(fewest_P) - len(places),
        dropped_ks=tuple(k for k in asked if k not in ks),
        before=start,
        arms=tuple(results.values()),
        unfinished=tuple(arm for arm in arms if arm not in results),
        differences=tuple(measure.difference(*pair) for pair in pairs),
        gains=tuple(measure.difference(one, start) for one in results.values()) if start else (),
        ratios=tuple(measure.ratio(*pair) for pair in pairs),
    )


# ---------------------------------------------------------------------------------------------------------
# Training curves at equal budgets
# ---------------------------------------------------------------------------------------------------------


def learning_metric(runs: Sequence[RunData]) -> str:
    """`success_rate`, or `reward` where no run logged it."""
    return "success_rate" if any("success_rate" in run.columns for run in runs) else "reward"


def _budgets(setting: Setting, arms: Sequence[str]) -> list[Budget]:
    """One for each axis, where at least two arms have curves. Finished runs count; all of an arm that has none."""
    metric = learning_metric(setting.runs)
    with_curves = {arm: [r for r in setting.runs if arm_of(r) == arm and metric in r.columns] for arm in arms}
    curves = {arm: finished_or_all(runs) for arm, runs in with_curves.items() if runs}
    if len(curves) < 2:
        return []
    found = []
    for axis in AXES:
        size = min(run.last(axis) for runs in curves.values() for run in runs)
        if size <= 0:
            continue
        read = {arm: [value_at(run, axis, metric, size) for run in runs] for arm, runs in curves.items()}
        found.append(
            Budget(
                axis=axis,
                size=size,
                arms={
                    arm: Reading(value=float(np.mean(values)), by_run=tuple(values))
                    for arm, values in read.items()
                },
            )
        )
    return found


def value_at(run: RunData, axis: str, metric: str, budget: float) -> float:
    """Mean of a metric over the last tenth before a budget (and the last row before it); NaN where nothing is there."""
    x_T, y_T = run.columns[axis], run.columns[metric]
    known_T = np.isfinite(x_T) & np.isfinite(y_T) & (x_T <= budget * (1 + 1e-9))
    if not known_T.any():
        return float("nan")
    x_T, y_T = x_T[known_T], y_T[known_T]
    return float(y_T[x_T >= min(0.9 * budget, float(x_T.max()))].mean())


def cost_of(runs: Sequence[RunData]) -> dict[str, float | int | None]:
    """Means over the finished runs; None where there is none."""
    done = [run for run in runs if run.state == "done"]
    if not done:
        return {
            "runs": 0,
            "seconds": None,
            "rollouts": None,
            "tokens": None,
            "speed": None,
            "evaluation": None,
        }
    seconds = float(np.mean([run.last("elapsed") for run in done]))
    tokens = float(np.mean([run.last("completion_tokens") for run in done]))
    evaluated = [run.after.seconds for run in done if run.after]
    return {
        "runs": len(done),
        "seconds": seconds,
        "rollouts": round(float(np.mean([run.last("rollouts") for run in done]))),
        "tokens": round(tokens),
        "speed": round(tokens / seconds) if seconds > 0 else None,
        "evaluation": float(np.mean(evaluated)) if evaluated else None,
    }
