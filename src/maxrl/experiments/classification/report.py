"""The report: one self-contained HTML page, the same facts as Markdown with a PNG, a terminal table.

Numbers come from `summary.summarise`, figures from `plots`, layout and style sheet from templates by way of `pages`.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from maxrl.experiments import plots as shared_plots
from maxrl.experiments.classification import plots
from maxrl.experiments.classification.objective import CROSS_ENTROPY
from maxrl.experiments.classification.summary import (
    TOP_1,
    ArmSummary,
    Difference,
    Results,
    Spread,
    Summary,
    summarise,
)
from maxrl.experiments.pages import percent_table, two_lines, write_pages
from maxrl.experiments.wording import percent, points, seed_names

PICTURE = "curves.png"

PAPER_COLUMNS = ("pass@1", "pass@128", TOP_1)
PAPER: dict[str, tuple[float, float, float]] = {
    "cross_entropy": (0.606, 0.948, 0.708),
    "maxrl@1024": (0.602, 0.943, 0.698),
    "maxrl@128": (0.378, 0.548, 0.422),
    "grpo@1024": (0.482, 0.631, 0.496),
    "grpo@128": (0.122, 0.158, 0.125),
    "reinforce@1024": (0.0019, 0.115, 0.0010),
}
"""What arXiv 2602.02710 reports of ResNet-50 on ImageNet: one run each, no seeds, no error bars."""

PAPER_MODEL = "resnet50"
"""The paper's model among ours, which are small beside it."""

STARTED = 3
"""An arm whose pass@1 is not above so many times chance has not begun to learn."""


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.html`, `report.md` and `curves.png` into `folder` and return the first.

    Runs that diverged are rows, arms without a finished run are named. The same results give the same bytes.
    """
    summary = summarise(results)
    figures = {name: Markup(svg) for name, svg in plots.svg_figures(results, summary).items()}
    html, _ = write_pages(
        folder,
        "classification",
        _facts(results, summary),
        figures,
        package="maxrl.experiments.classification",
        filters=(differences, points_span, shares, span, weight),
    )
    plots.write_png(results, summary, folder / PICTURE)
    return html


def summary_table(results: Results) -> Table:
    """The arms for a terminal of 80 columns: means over seeds in %, the range of the seeds below."""
    summary = summarise(results)
    columns = _few(summary)
    caption = "mean over seeds, below it the lowest and the highest of them"
    table = percent_table(results.title, caption, columns)
    for arm in summary.arms:
        cells = [two_lines(percent(arm.columns[c].mean), span(arm.columns[c])) for c in columns]
        table.add_row(two_lines(arm.name, seed_names(arm.seeds)), *cells)
    for name in summary.unfinished:
        table.add_row(two_lines(name, "no finished run"), *[Text("—")] * len(columns))
    if summary.best:
        table.add_section()
        table.add_row(Text("best possible"), *[Text(percent(summary.best[c])) for c in columns])
    return table


def _few(summary: Summary) -> list[str]:
    """pass@1, two more and top-1."""
    ks = summary.ks
    shown = sorted({ks[0], ks[len(ks) // 2], ks[-1]} | ({128} & set(ks)))
    return [*(f"pass@{k}" for k in shown), TOP_1]


def span(spread: Spread) -> str:
    """The lowest and the highest seed, in %; nothing where there is one."""
    return f"{percent(spread.low)}–{percent(spread.high)}" if len(spread.by_seed) > 1 else ""


def points_span(spread: Spread) -> str:
    """The lowest and the highest difference, in points; nothing where there is one."""
    return f"{points(spread.low)} to {points(spread.high)}" if len(spread.by_seed) > 1 else ""


def shares(spread: Spread) -> str:
    """Mean and range of shares, in %."""
    return _with_range(percent(spread.mean), span(spread))


def differences(spread: Spread) -> str:
    """Mean and range of differences, in points."""
    return _with_range(points(spread.mean), points_span(spread))


def _with_range(mean: str, extent: str) -> str:
    return f"{mean} ({extent})" if extent else mean


def weight(value: float) -> str:
    """A weight with three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


# ---------------------------------------------------------------------------------------------------------
# Facts and sentences
# ---------------------------------------------------------------------------------------------------------


def _facts(results: Results, summary: Summary) -> dict[str, Any]:
    return {
        "results": results,
        "summary": summary,
        "looks": {name: index for index, name in enumerate(results.arms)},
        "hues": shared_plots.HUES,
        "panels": plots.panels(summary),
        "finding": finding(results, summary),
        "caveats": caveats(results, summary),
        "paper": {name: PAPER[name] for name in results.arms if name in PAPER},
        "paper_columns": PAPER_COLUMNS,
        "paper_note": paper_note(results),
        "seconds": sum(run.training_seconds for run in results.runs),
        "seeds": sorted({run.seed for run in results.runs}),
        "picture": PICTURE,
    }


def finding(results: Results, summary: Summary) -> list[str]:
    """The result in plain sentences, from the numbers alone."""
    if not summary.arms:
        return ["No arm has a finished run, so there is nothing to compare."]
    ranked = sorted(summary.arms, key=lambda arm: -arm.columns["pass@1"].mean)
    order = ", ".join(f"{arm.name} {percent(arm.columns['pass@1'].mean)} %" for arm in ranked)
    texts = [f"pass@1 after training, best arm first: {order}."]
    if summary.best:
        texts[0] += f" Bayes' rule, with the true densities, has {percent(summary.best['pass@1'])} %."
    texts += [_versus(difference) for difference in summary.differences]
    if asleep := [arm for arm in summary.arms if not _has_started(arm, results.classes)]:
        names = " and ".join(arm.name for arm in asleep)
        verb = "has" if len(asleep) == 1 else "have"
        texts.append(
            f"{names} {verb} not begun to learn: pass@1 is within {STARTED} times chance ({percent(1 / results.classes)} %)."
        )
    texts += [
        f"{first} and {second} stand in the other order than in the paper: there {first} is ahead, here {second}."
        for first, second in _turned(results)
    ]
    if summary.unfinished:
        texts.append(f"No finished run: {', '.join(summary.unfinished)}.")
    return texts


def _turned(results: Results) -> list[tuple[str, str]]:
    """Arms of which the paper has the first ahead by pass@1, and every seed here the second."""
    pass_1 = {
        (run.arm, run.seed): run.evaluation.pass_at_k[1] for run in results.runs if run.evaluation is not None
    }
    known = sorted((name for name in results.arms if name in PAPER), key=lambda name: -PAPER[name][0])
    found = []
    for first, second in combinations(known, 2):
        both = [seed for name, seed in pass_1 if name == first and (second, seed) in pass_1]
        if both and all(pass_1[first, seed] < pass_1[second, seed] for seed in both):
            found.append((first, second))
    return found


def paper_note(results: Results) -> str:
    """What the paper's numbers are of, and why they can be compared with ours in their order alone."""
    text = "ResNet-50 on ImageNet, 20 epochs (arXiv 2602.02710): one run each, without seeds or error bars."
    # Whether a folder holds ImageNet's pictures is not to be seen from the settings.
    unlike = [
        *(["other data"] if results.settings["data"] != "folder" else []),
        *(["another model"] if results.settings["model"] != PAPER_MODEL else []),
    ]
    if not unlike:
        return text
    return f"{text} {' and '.join(unlike).capitalize()} than here, so that only the order can be compared."


def _versus(difference: Difference) -> str:
    parts = [
        f"{column} {_with_range(f'{points(spread.mean)} points', points_span(spread))}"
        for column, spread in difference.columns.items()
        if column in ("pass@1", TOP_1)
    ]
    agree = "; the seeds disagree on the sign" if _disagree(difference.columns["pass@1"]) else ""
    return f"{difference.other} against {difference.first}: {', '.join(parts)}{agree}."


def _disagree(spread: Spread) -> bool:
    return spread.low < 0 < spread.high


def _has_started(arm: ArmSummary, classes: int) -> bool:
    return arm.columns["pass@1"].mean > STARTED / classes


def caveats(results: Results, summary: Summary) -> list[str]:
    """What the numbers do not show, each for a reason found in the settings or the runs."""
    texts = []
    if failed := [run for run in results.runs if run.evaluation is None]:
        names = ", ".join(f"{run.arm} seed {run.seed}" for run in failed)
        are = "is" if len(failed) == 1 else "are"
        texts.append(f"{len(failed)} of {len(results.runs)} runs diverged ({names}) and {are} in no average.")
    texts += _about_seeds(results, summary)
    if unlike := [
        *(["the data are made on the spot"] if results.settings["data"] != "folder" else []),
        *(["the model is small"] if results.settings["model"] != PAPER_MODEL else []),
    ]:
        reason = " and ".join(unlike)
        texts.append(
            f"{reason[0].upper()}{reason[1:]}: how far the arms are apart is a matter of this setting. What carries over is "
            "which arms climb toward maximum likelihood, which the weights say."
        )
    texts.append(
        f"All arms have the same optimizer and learning rate ({results.settings['learning_rate']:g}). Estimators differ in "
        "the scale of their gradient, too: with a learning rate of its own, an arm with small weights may do better."
    )
    if len({result.rpartition("@")[2] for result in results.arms if "@" in result}) > 1:
        texts.append(
            "Arms with more labels per image cost more draws; the arms have equal steps, not equal draws."
        )
    return texts


def _about_seeds(results: Results, summary: Summary) -> list[str]:
    """How many there are, and what they decide."""
    counts = sorted({len(arm.seeds) for arm in summary.arms})
    if not counts:
        return []
    if counts[-1] == 1:
        return ["Seeds per arm: 1. How much another seed would change is not to be seen."]
    fresh = results.settings["data"] != "folder" and results.settings["fresh_examples"]
    crops = " and crops" if results.settings["data"] == "folder" else ""
    differ = ["weights", "the training examples" if fresh else f"the order{crops} of the training examples"]
    if any(arm.name != CROSS_ENTROPY for arm in summary.arms):
        differ.append("the labels drawn")
    how_many = " to ".join(str(count) for count in sorted({counts[0], counts[-1]}))
    return [
        f"Seeds per arm: {how_many}. Ranges show those seeds, and are no intervals. Seeds differ in "
        f"{', in '.join(differ[:-1])} and in {differ[-1]}; classes and test set are the same for all."
    ]
