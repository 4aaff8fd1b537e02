"""The page on runs: facts for the templates, and the files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from maxrl.errors import unknown_name
from maxrl.experiments import plots
from maxrl.experiments.pages import write_pages
from maxrl.experiments.reports import figures
from maxrl.experiments.reports.grouping import Grouping, arm_of, group_runs
from maxrl.experiments.reports.limits import caveats, differing_environments, open_differences
from maxrl.experiments.reports.reading import AXES, CLASSES, RunData, read_runs
from maxrl.experiments.reports.sentences import VERDICTS, finding, verdict
from maxrl.experiments.reports.settings import (
    WARM_START,
    Numbers,
    choose_baseline,
    cost_of,
    learning_metric,
    measure_settings,
)
from maxrl.experiments.statistics import RESAMPLES, Difference
from maxrl.experiments.store import StoredRun
from maxrl.experiments.wording import count, points_span, span, times

PANELS, FEWER = 8, 4
"""So many settings are drawn, spread over all: in what matters most, and in the rest. The tables have all."""

FOREST = 40
"""Settings in a figure of differences at most."""

TABLED = 8
"""Up to so many settings the long tables stand open; the longest ones up to half as many."""

CURVES = {
    "success_rate": ("success rate", True, "Share of rollouts that succeed."),
    "reward": ("reward", False, "Mean reward of the rollouts."),
    "groups/dead": (
        "dead groups",
        True,
        "Dead groups: no rollout succeeded, so nothing is learned from the prompt.",
    ),
    "groups/live": ("live groups", True, "Live groups: some rollouts succeeded and some failed."),
    "groups/mastered": (
        "mastered groups",
        True,
        "Mastered groups: every rollout succeeded, so nothing is left to learn there.",
    ),
    "entropy": (
        "entropy, nats per token",
        False,
        "Entropy of the sampled tokens; near 0 the model has stopped exploring.",
    ),
}
"""Training metrics that are drawn: name, whether it is a share, what it says."""

_INSTEAD = {"groups/dead": "frac_reward_zero_mean", "groups/mastered": "frac_reward_all_success"}
"""What runs without group diagnostics log."""


def report_runs(
    runs: Sequence[StoredRun],
    folder: Path,
    *,
    title: str | None = None,
    command: str,
    baseline: str | None = None,
) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` on any number of runs into `folder` (made if missing); return their paths.

    Runs that differ in their seeds alone repeat each other; estimators are arms; what else varies spans settings, and
    within a setting arms are compared, paired over seeds and problems. Runs that are not done are rows with their state.
    The same records give the same bytes.

    Args:
        runs: at least one, see `store.find_runs`.
        folder: where the pages go.
        title: of the page; by default from arms and tasks.
        command: how to repeat the page, as it is shown.
        baseline: the arm that the others are compared with; by default `grpo`, or the first where there is none.

    Raises:
        InputError: a file of a run is damaged, or no run is of that arm.
    """
    data = read_runs(runs)
    grouping = group_runs(data)
    if baseline is not None and baseline not in grouping.arms:
        raise unknown_name("arm", baseline, grouping.arms)
    baseline = baseline or choose_baseline(grouping.arms)
    facts = _facts(data, grouping, measure_settings(grouping, baseline))
    facts |= {"title": title or _title(grouping, data), "command": command, "baseline": baseline}
    return write_pages(
        folder, "runs", facts, _figures(facts), filters=(count, points_span, span, times, short)
    )


def short(value: float) -> str:
    """A figure with three digits; — for none."""
    return f"{value:.3g}" if np.isfinite(value) else "—"


def _title(grouping: Grouping, data: Sequence[RunData]) -> str:
    tasks = dict.fromkeys(
        str(run.config.get("task") or run.config.get("dataset_name") or "a mixture")
        for run in data
        if run.config
    )
    arms = grouping.arms if len(grouping.arms) <= 4 else (*grouping.arms[:3], "others")
    return f"{' and '.join(arms)} on {' and '.join(tasks)}" if arms else f"{len(data)} runs"


# ---------------------------------------------------------------------------------------------------------
# Facts
# ---------------------------------------------------------------------------------------------------------


def _facts(data: Sequence[RunData], grouping: Grouping, cells: Sequence[Numbers]) -> dict[str, Any]:
    ks = sorted({k for cell in cells if cell.analysis for k in cell.analysis.ks})
    shown = [ks[i] for i in sorted({round(i) for i in np.linspace(0, len(ks) - 1, 4)})] if ks else []
    compared = sorted(
        {k for cell in cells if cell.analysis and cell.analysis.differences for k in cell.analysis.ks}
    )
    ends = sorted({(compared or ks)[0], (compared or ks)[-1]}) if ks else []
    analyses = [cell.analysis for cell in cells if cell.analysis]
    curves = _curves(data)
    # With many settings live and mastered groups are shown by the layers of pass rates alone.
    drawn = {n: a for n, a in curves.items() if len(cells) == 1 or not a[0].startswith(("live", "mastered"))}
    return {
        "arms": grouping.arms,
        "looks": {arm: index for index, arm in enumerate(grouping.arms)},
        "hues": plots.HUES,
        "marks": plots.MARKS,
        "warm_start": WARM_START,
        "grouping": grouping,
        "cells": cells,
        "forest": FOREST,
        "drawn": _spread(cells, PANELS),
        "fewer": _spread(cells, FEWER),
        "folded": len(cells) > TABLED,
        "long": len(cells) > TABLED / 2,
        "runs": data,
        "arm_of": arm_of,
        "states": dict(sorted(Counter(run.state for run in data).items())),
        "ks": ks,
        "shown": shown,
        "ends": ends,
        "compared_ks": compared,
        "finding": finding(cells, data, ends),
        "caveats": caveats(grouping, cells, data),
        "open": open_differences(cells, ks if len(cells) == 1 else ends),
        "verdicts": VERDICTS,
        "level": f"{100 * (analyses[0].confidence if analyses else 0.95):g} %",
        "resamples": RESAMPLES,
        "comparisons": [
            _comparison(cell, difference)
            for cell in cells
            if cell.analysis
            for difference in cell.analysis.differences
        ],
        "curves": drawn,
        "fifths": [row for cell in cells for row in _fifths(cell, grouping.arms, curves)],
        "classes": CLASSES,
        "class_rows": [row for cell in cells for row in _class_rows(cell, grouping.arms)],
        "axes": AXES,
        "learning": CURVES[learning_metric(data)],
        "cost": [
            (cell, arm, cost_of(cell.runs_of(arm)))
            for cell in cells
            for arm in grouping.arms
            if cell.runs_of(arm)
        ],
        "settings": _shared_settings(data, grouping),
        "environment": _shared_environment(data),
        "environments": differing_environments(data),
        "seeds": sorted({str(run.config["seed"]) for run in data if "seed" in run.config}),
    }


def _spread(cells: Sequence[Numbers], most: int) -> list[Numbers]:
    """At most so many, evenly over all, the first and the last among them."""
    if len(cells) <= most:
        return list(cells)
    return [cells[i] for i in np.linspace(0, len(cells) - 1, most).round().astype(int)]


def _curves(data: Sequence[RunData]) -> dict[str, tuple[str, bool, str]]:
    """The columns that are drawn, with what `CURVES` says of them."""
    logged = {name for run in data for name in run.columns}
    found = {}
    for name, about in CURVES.items():
        column = name if name in logged else _INSTEAD.get(name)
        if column in logged:
            found[column] = about
    if "success_rate" in found:
        found.pop("reward", None)
    return found


def _comparison(cell: Numbers, difference: Difference) -> dict[str, Any]:
    """Two arms of a setting, at every k: a row of the tables of comparisons."""
    analysis = cell.analysis
    assert analysis is not None
    ratio = next(r for r in analysis.ratios if (r.first, r.other) == (difference.first, difference.other))
    wide = difference.over_seeds
    return {
        "cell": cell,
        "difference": difference,
        "limit": ratio.limit,
        "at": {
            k: {
                "interval": difference.pass_at_k[i],
                "over_seeds": wide[i] if wide else None,
                "verdict": verdict(difference, i),
                "detectable": difference.detectable[i],
                "ratio": ratio.by_k[i],
            }
            for i, k in enumerate(analysis.ks)
        },
    }


def _fifths(cell: Numbers, arms: Sequence[str], curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean of each metric over each fifth of training, per arm, for those who cannot see the curves."""
    rows = []
    last = _longest(cell, arms)
    for metric, (label, share, _) in curves.items():
        for arm in arms:
            runs = [run for run in cell.shown(arm) if metric in run.columns]
            if not runs:
                continue
            parts = [_mean_between(runs, metric, last * i / 5, last * (i + 1) / 5) for i in range(5)]
            rows.append({"cell": cell, "label": label, "share": share, "arm": arm, "parts": parts})
    return rows


def _longest(cell: Numbers, arms: Sequence[str]) -> float:
    """Steps of the longest run that is shown: every arm is cut at the same ones."""
    return max((run.last("step") for arm in arms for run in cell.shown(arm)), default=0.0)


def _mean_between(runs: Sequence[RunData], metric: str, low: float, high: float) -> float:
    values = np.concatenate(
        [run.columns[metric][(run.columns["step"] > low) & (run.columns["step"] <= high)] for run in runs]
    )
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _class_rows(cell: Numbers, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Groups by pass rate in the first, the middle and the last fifth of training."""
    rows = []
    last = _longest(cell, arms)
    for arm in arms:
        runs = [run for run in cell.shown(arm) if len(run.class_steps_T)]
        if not runs:
            continue
        steps = np.concatenate([run.class_steps_T for run in runs])
        counts = np.concatenate([run.classes_TC for run in runs])
        for label, low, high in (("first", 0.0, 0.2), ("middle", 0.4, 0.6), ("last", 0.8, 1.0)):
            sums = counts[(steps > low * last) & (steps <= high * last)].sum(axis=0)
            if sums.sum():
                rows.append({"cell": cell, "arm": arm, "part": label, "shares": list(sums / sums.sum())})
    return rows


_NOT_SHOWN = ("output_dir", "seed")


def _shared_settings(data: Sequence[RunData], grouping: Grouping) -> dict[str, Any]:
    known = [run.config for run in data if run.config]
    names = dict.fromkeys(name for config in known for name in config)
    return {name: known[0][name] for name in names if name not in grouping.roles and name not in _NOT_SHOWN}


def _shared_environment(data: Sequence[RunData]) -> dict[str, str]:
    differing = differing_environments(data)
    return {name: value for run in data for name, value in run.environment.items() if name not in differing}


# ---------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------


def _figures(facts: Mapping[str, Any]) -> dict[str, Any]:
    """All figures as markup that needs no escaping: matplotlib escapes the text in it."""
    cells, looks, ends = facts["cells"], facts["looks"], facts["ends"]
    drawn, fewer = facts["drawn"], facts["fewer"]
    size = figures.PANEL if len(cells) > 1 else figures.WHOLE
    analysed = [cell for cell in cells if cell.analysis]
    found: dict[str, Any] = {"front": None, "forests": []}
    if analysed and len(ends) > 1:
        found["front"] = Markup(figures.front_plot(analysed, looks, (ends[0], ends[-1])))
    if len(cells) > 1 and facts["comparisons"]:
        compared = [cell for cell in cells if cell.analysis and cell.analysis.differences]
        lines = _spread(compared, FOREST)
        found["forests"] = [Markup(figures.forest_plot("forest", lines, looks, k)) for k in ends]
    found["pass_at_k"] = {
        cell.number: Markup(
            plots.pass_at_k_plot(
                cell.analysis, looks, f"pass-at-k-{cell.number}", _pass_at_k_label(cell), size=size
            )
        )
        for cell in drawn
        if cell.analysis
    }
    metric = learning_metric(facts["runs"])
    found["curves"] = {
        name: _panels(drawn if place < 2 else fewer, looks, f"curve-{place}", name, about, size=size)
        for place, (name, about) in enumerate(facts["curves"].items())
    }
    found["axes"] = {
        axis: _panels(
            fewer, looks, f"budget-{axis.replace('_', '-')}", metric, CURVES[metric], axis, size=size
        )
        for axis in AXES
        if axis != "step"
    }
    found["classes"] = {
        cell.number: {arm: Markup(svg) for arm, svg in _stacks(cell, looks, size).items()} for cell in fewer
    }
    return found


def _pass_at_k_label(cell: Numbers) -> str:
    where = f" in setting {cell.number}" if cell.setting.values else ""
    return f"pass@k against k of each arm{where}"


def _panels(
    cells: Sequence[Numbers],
    looks: Mapping[str, int],
    name: str,
    metric: str,
    about: tuple[str, bool, str],
    axis: str = "step",
    *,
    size: tuple[float, float],
) -> dict[int, Markup]:
    drawn = {
        cell.number: figures.curve_plot(
            name, cell, looks, metric, about[0], axis=axis, share=about[1], size=size
        )
        for cell in cells
    }
    return {number: Markup(svg) for number, svg in drawn.items() if svg}


def _stacks(cell: Numbers, looks: Mapping[str, int], size: tuple[float, float]) -> dict[str, str]:
    drawn = {arm: figures.classes_plot(cell, arm, look, size=size) for arm, look in looks.items()}
    return {arm: svg for arm, svg in drawn.items() if svg}
