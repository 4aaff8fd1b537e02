"""The comparison's report: one self-contained HTML page, the same facts as Markdown, a terminal table.

Numbers come from `statistics.analyse`, figures from `plots`, sentences from `wording` and
`caveats`, layout from `templates/` by way of `pages`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from maxrl.experiments import plots
from maxrl.experiments.caveats import caveats
from maxrl.experiments.pages import percent_table, two_lines, write_pages
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.statistics import HISTOGRAM_LABELS, RESAMPLES, Analysis, analyse
from maxrl.experiments.wording import (
    count,
    finding,
    level,
    percent,
    points,
    points_span,
    seed_names,
    span,
    times,
)

TRAINING = {
    "success_rate": ("success rate", True),
    "reward": ("reward", False),
    "frac_reward_zero_mean": ("dead groups", True),
    "frac_reward_all_success": ("groups solved throughout", True),
    "entropy": ("entropy, nats per token", False),
}
"""Training metrics shown, where they were logged: name and whether it is a share. `reward` stands in where
`success_rate` is missing."""

CAPTIONS = {
    "success_rate": "Share of rollouts that succeed.",
    "reward": "Mean reward of the rollouts.",
    "frac_reward_zero_mean": "Dead groups: no rollout succeeded, so nothing is learned from the prompt.",
    "frac_reward_all_success": "Groups in which every rollout succeeded: nothing is left to learn there.",
    "entropy": "Entropy of the sampled tokens; near 0 the model has stopped exploring.",
}


def write_report(comparison: Comparison, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` into `folder` (made if missing) and return their paths.

    Failed runs are rows, arms without a finished run are named. The same comparison gives the same bytes.

    Raises:
        InputError: the runs were evaluated on different problems or at different k's.
    """
    facts = _facts(comparison, analyse(comparison))
    return write_pages(folder, "report", facts, _figures(facts), filters=(count, points_span, span, times))


def summary_table(comparison: Comparison) -> Table:
    """The warm start, each arm and the paired differences, for a terminal of 80 columns: estimates in % over
    their intervals, at up to four of the k's."""
    analysis = analyse(comparison)
    shown = sorted({round(i) for i in np.linspace(0, len(analysis.ks) - 1, 4)})
    columns = [*(f"pass@{analysis.ks[i]}" for i in shown), "greedy"]
    table = percent_table(comparison.title, _table_caption(analysis), columns)
    for result in (analysis.before, *analysis.arms):
        intervals = [*(result.pass_at_k[i] for i in shown), result.greedy]
        cells = [two_lines(percent(i.estimate), span(i)) if i else Text("—") for i in intervals]
        table.add_row(two_lines(result.name, seed_names(result.seeds)), *cells)
    for name in analysis.unfinished:
        table.add_row(two_lines(name, "no finished run"), *[Text("—")] * (len(shown) + 1))
    for difference in analysis.differences:
        table.add_section()
        intervals = [difference.pass_at_k[i] for i in shown]
        cells = [
            two_lines(points(i.estimate), f"{points(i.low)}…{points(i.high)}", "bold" if i.sign else "")
            for i in intervals
        ]
        table.add_row(two_lines(f"{difference.first} − {difference.other}", "points"), *cells, Text(""))
    return table


# ---------------------------------------------------------------------------------------------------------
# Facts for the templates
# ---------------------------------------------------------------------------------------------------------


def _facts(comparison: Comparison, analysis: Analysis) -> dict[str, Any]:
    metrics = _training_metrics(comparison)
    return {
        "comparison": comparison,
        "analysis": analysis,
        "looks": {name: index for index, name in enumerate(comparison.arms)},
        "hues": plots.HUES,
        "finding": finding(analysis),
        "caveats": caveats(comparison, analysis),
        "level": level(analysis),
        "resamples": RESAMPLES,
        "samples": _samples(analysis),
        "metrics": metrics,
        "captions": CAPTIONS,
        "fifths": {name: _fifths(comparison, analysis, name) for name in metrics},
        "histogram_labels": HISTOGRAM_LABELS,
        "cost": [_cost(arm.name, comparison.of(arm.name)) for arm in analysis.arms],
        "failed": [run for run in comparison.runs if run.status == "failed"],
        "seeds": sorted({run.seed for run in comparison.runs}),
    }


def _samples(analysis: Analysis) -> str:
    results = (analysis.before, *analysis.arms)
    fewest, most = min(r.samples[0] for r in results), max(r.samples[1] for r in results)
    return count(most) if fewest == most else f"{count(fewest)} to {count(most)}"


def _training_metrics(comparison: Comparison) -> dict[str, tuple[str, bool]]:
    logged = {key for run in comparison.runs for key in TRAINING if len(plots.series(run, key)[0])}
    if "success_rate" in logged:
        logged.discard("reward")
    return {name: about for name, about in TRAINING.items() if name in logged}


def _fifths(comparison: Comparison, analysis: Analysis, metric: str) -> dict[str, list[float]]:
    """Mean of a metric over each fifth of training, per arm, for those who cannot see the curves."""
    means: dict[str, list[float]] = {}
    for arm in analysis.arms:
        _, values = plots.mean_series(comparison.of(arm.name), metric)
        if len(values) >= 5:
            means[arm.name] = [float(part.mean()) for part in np.array_split(values, 5)]
    return means


def _cost(name: str, runs: Sequence[RunRecord]) -> dict[str, Any]:
    seconds = sum(run.training_seconds for run in runs) / len(runs)
    tokens = sum(run.completion_tokens for run in runs) / len(runs)
    return {
        "name": name,
        "runs": len(runs),
        "seconds": seconds,
        "rollouts": round(sum(run.rollouts for run in runs) / len(runs)),
        "tokens": round(tokens),
        "tokens_per_second": round(tokens / seconds) if seconds > 0 else None,
        "evaluation_seconds": sum(run.evaluation.seconds for run in runs if run.evaluation) / len(runs),
    }


def _figures(facts: Mapping[str, Any]) -> dict[str, Any]:
    """All figures as markup that needs no escaping: matplotlib escapes the text in it."""
    comparison, analysis, looks = facts["comparison"], facts["analysis"], facts["looks"]
    figures: dict[str, Any] = {"pass_at_k": Markup(plots.pass_at_k_plot(analysis, looks))}
    if analysis.differences:
        figures["differences"] = Markup(plots.difference_plot(analysis, looks))
    figures["histograms"] = {
        arm.name: Markup(plots.histogram_plot(analysis, arm, looks[arm.name])) for arm in analysis.arms
    }
    figures["training"] = {
        name: Markup(plots.training_plot(name, label, comparison.runs, looks, unit))
        for name, (label, unit) in facts["metrics"].items()
    }
    return figures


def _table_caption(analysis: Analysis) -> str:
    return f"{level(analysis)} intervals over {analysis.problems} problems; they do not cover training seeds"
