"""What was found, in plain sentences from the numbers alone."""

from collections import Counter
from collections.abc import Sequence
from math import inf, isnan

from maxrl.experiments.intervals import FEW_SEEDS, Interval
from maxrl.experiments.reports.reading import RunData
from maxrl.experiments.reports.settings import Numbers
from maxrl.experiments.statistics import Analysis, Difference
from maxrl.experiments.wording import (
    gain_words,
    k_names,
    level,
    percent,
    plural,
    points,
    points_span,
    samples_sentence,
    times,
    times_span,
    versus,
)

VERDICTS = {
    "clear": "the interval over problems and training seeds excludes 0",
    "these models": "the interval over problems excludes 0, for the models that were trained; with other training seeds "
    "it may be otherwise",
    "open": "the interval over problems includes 0",
}
"""What a comparison can be said to show."""


def verdict(difference: Difference, index: int) -> str:
    """One of `VERDICTS`, at a k."""
    if difference.pass_at_k[index].sign == 0:
        return "open"
    wide = difference.over_seeds[index : index + 1]
    return "clear" if wide and wide[0].sign == difference.pass_at_k[index].sign else "these models"


# ---------------------------------------------------------------------------------------------------------
# What was found
# ---------------------------------------------------------------------------------------------------------


def finding(cells: Sequence[Numbers], runs: Sequence[RunData], shown: Sequence[int]) -> list[str]:
    """The result in plain sentences, from the numbers alone; `shown` are the k's to speak of."""
    analysed = [cell for cell in cells if cell.analysis]
    texts: list[str] = []
    if not analysed:
        texts.append(_not_evaluated(runs))
    elif len(cells) == 1:
        texts += _of_one(analysed[0])
    else:
        texts += _of_many(analysed, shown)
    states = Counter(run.state for run in runs if run.state != "done")
    if states:
        parts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        verb = "is" if sum(states.values()) == 1 else "are"
        texts.append(
            f"{sum(states.values())} of {plural(len(runs), 'run')} {verb} not done ({parts}) and in no average."
        )
    return texts


def _not_evaluated(runs: Sequence[RunData]) -> str:
    who = "The run has" if len(runs) == 1 else f"None of the {len(runs)} runs has"
    negated = "not been evaluated" if len(runs) == 1 else "been evaluated"
    return f"{who} {negated}, so that nothing can be said about pass@k; training curves and costs are below."


def _of_one(cell: Numbers) -> list[str]:
    analysis = cell.analysis
    assert analysis is not None
    ratios = {ratio.first: samples_sentence(analysis, ratio) for ratio in analysis.ratios}
    texts = [
        " ".join(
            part for part in (versus(analysis, d), ratios[d.first], _with_other_seeds(analysis, d)) if part
        )
        for d in analysis.differences
    ]
    if not texts and len(analysis.arms) == 1:
        arm = analysis.arms[0]
        ends = sorted({0, len(analysis.ks) - 1})
        levels = " and ".join(f"pass@{analysis.ks[i]} {percent(arm.pass_at_k[i].estimate)} %" for i in ends)
        alone = "there is no other arm to compare it with"
        if cell.apart:
            alone = (
                f"{', '.join(cell.apart)} cannot be compared with it, having been evaluated on other problems"
            )
        texts.append(
            f"{arm.name} comes to {levels} on {plural(analysis.problems, 'problem')} ({plural(len(arm.seeds), 'run')}); "
            f"{alone}."
        )
    if analysis.gains:
        gains = "; ".join(gain_words(analysis, gain) for gain in analysis.gains)
        texts.append(f"Against the warm start: {gains}.")
    return texts


def _with_other_seeds(analysis: Analysis, difference: Difference) -> str:
    if analysis.problems < 2:
        return ""
    if not difference.over_seeds:
        return (
            f"How much of the difference is the training seed's is unknown: {difference.first} and {difference.other} "
            "share fewer than two seeds."
        )
    ks = [k for i, k in enumerate(analysis.ks) if verdict(difference, i) == "clear"]
    number = len(difference.seeds)
    few = f", but {number} seeds say little about how much seeds vary" if number < FEW_SEEDS else ""
    if ks:
        held = f"{level(analysis)}, {number} seeds{few}"
        return f"Over training seeds, too, the interval excludes 0 at {k_names(ks)} ({held})."
    narrowest = min(interval.high - interval.low for interval in difference.over_seeds)
    return (
        f"At no k does the difference stand out from how much {number} training seeds vary (the interval is "
        f"{100 * narrowest:.0f} points wide at its narrowest{few})."
    )


def _of_many(cells: Sequence[Numbers], shown: Sequence[int]) -> list[str]:
    pairs = dict.fromkeys((d.first, d.other) for cell in cells for d in cell.analysis.differences)
    texts = []
    for first, other in pairs:
        sentences = [_tally(cells, first, other, k) for k in shown]
        sentences.append(_ratio_range(cells, first, other))
        texts.append(" ".join(sentence for sentence in sentences if sentence))
    if not pairs:
        texts.append(
            f"{len(cells)} settings were evaluated; in none of them are there two arms on the same problems, so that no "
            "arm can be compared."
        )
    best = max(shown)
    rise = [
        (gain.pass_at_k[cell.analysis.ks.index(best)].estimate, gain.first, cell.number)
        for cell in cells
        if best in cell.analysis.ks
        for gain in cell.analysis.gains
    ]
    if rise:
        (low, low_arm, low_at), (high, high_arm, high_at) = min(rise), max(rise)
        texts.append(
            f"Since the warm start pass@{best} changed by {points(low)} ({low_arm}, setting {low_at}) to {points(high)} "
            f"points ({high_arm}, setting {high_at})."
        )
    return texts


def _tally(cells: Sequence[Numbers], first: str, other: str, k: int) -> str:
    """In how many settings who leads at k, and where most and least."""
    found = [
        (
            difference.pass_at_k[cell.analysis.ks.index(k)],
            verdict(difference, cell.analysis.ks.index(k)),
            cell,
        )
        for cell in cells
        if k in cell.analysis.ks
        for difference in cell.analysis.differences
        if (difference.first, difference.other) == (first, other)
    ]
    if not found:
        return ""
    ahead = sum(interval.sign > 0 for interval, _, _ in found)
    behind = sum(interval.sign < 0 for interval, _, _ in found)
    clear = sum(name == "clear" for _, name, _ in found)
    rest = len(found) - ahead - behind
    least = min(found, key=lambda one: one[0].estimate)
    most = max(found, key=lambda one: one[0].estimate)
    text = f"At pass@{k} {first} leads {other} in {ahead} of {plural(len(found), 'setting')}"
    text += f", {other} leads in {behind}" if behind else ""
    text += f", {rest} {'is' if rest == 1 else 'are'} open" if rest else ""
    if ahead + behind:
        text += f"; {clear or 'none'} of these {ahead + behind} {'stand' if clear != 1 else 'stands'} out over training "
        text += f"seeds, too{_of_seeds(cells, first, other)}"
    if len(found) > 1:
        return f"{text}. The difference runs from {_points_of(least[0], least[2])} to {_points_of(most[0], most[2])}."
    return f"{text}: {_points_of(most[0], most[2])}."


def _of_seeds(cells: Sequence[Numbers], first: str, other: str) -> str:
    """How many seeds there are where they are few; empty elsewhere."""
    numbers = [
        len(difference.seeds)
        for cell in cells
        for difference in cell.analysis.differences
        if (difference.first, difference.other) == (first, other)
    ]
    return f" (of which there are {min(numbers)})" if 1 < min(numbers) < FEW_SEEDS else ""


def _points_of(interval: Interval, cell: Numbers) -> str:
    return f"{points(interval.estimate)} points ({points_span(interval)}; setting {cell.number}: {cell.setting.label})"


def _ratio_range(cells: Sequence[Numbers], first: str, other: str) -> str:
    """Smallest and largest of the known ratios of samples, and in how many settings it lies beyond what can be seen."""
    found = [
        (interval, k, ratio.limit, cell.number)
        for cell in cells
        for ratio in cell.analysis.ratios
        if (ratio.first, ratio.other) == (first, other)
        for interval, k in zip(ratio.by_k, cell.analysis.ks, strict=True)
        if not isnan(interval.estimate)
    ]
    exact = sorted((one for one in found if 0 < one[0].estimate < inf), key=lambda one: one[0].estimate)
    parts = []
    if exact:
        ends = [
            f"{times(interval.estimate, k, limit)} ({times_span(interval, k, limit)}; k = {k}, setting {number})"
            for interval, k, limit, number in (exact[0], exact[-1])
        ]
        parts.append(f"{other} needs {' to '.join(dict.fromkeys(ends))} as many samples")
    for edge, bound, what in (
        (0.0, "high", f"less than one sample of {other} {{}} at some k"),
        (inf, "low", f"all samples of {other} {{}} at some k"),
    ):
        there = {number for interval, _, _, number in found if interval.estimate == edge}
        sure = {number for interval, _, _, number in found if getattr(interval, bound) == edge}
        certain, perhaps = ("would do", "may do") if edge == 0 else ("do not reach it", "may not reach it")
        for numbers, verb in ((there & sure, certain), (there - sure, perhaps)):
            if numbers:
                parts.append(f"in {plural(len(numbers), 'setting')} {what.format(verb)}")
    return f"For the pass@k of {first}, {'; '.join(parts)}." if parts else ""
