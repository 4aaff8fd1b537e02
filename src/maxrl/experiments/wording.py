"""The report's words: how numbers are written, and what was found.

Every sentence follows from the numbers of an `Analysis` and the records of its `Comparison`; the same
sentences stand in the HTML page and in the Markdown.
"""

import json
from collections.abc import Sequence
from math import inf, isnan

from maxrl.experiments.statistics import Analysis, ArmResult, Difference, Interval, SamplesRatio

# ---------------------------------------------------------------------------------------------------------
# How numbers are written
# ---------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share in %, without the sign: one decimal, two where one would hide that it is not 0 or 100.

    >>> percent(0.4821), percent(0.0044), percent(0.0), percent(0.9997)
    ('48.2', '0.44', '0.0', '99.97')
    """
    if isnan(share):
        return "—"
    value = 100 * share
    return f"{value:.2f}" if 0 < value < 0.95 or 99.95 <= value < 100 else f"{value:.1f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(0.031), points(-0.2), points(-0.0001)
    ('+3.1', '−20.0', '0.0')
    """
    if isnan(share):
        return "—"
    value = round(100 * share, 1)
    return f"{value:+.1f}".replace("-", "−") if value else "0.0"


def span(interval: Interval) -> str:
    """The bounds of an interval of shares; — where there are none."""
    return "—" if isnan(interval.low) else f"{percent(interval.low)}–{percent(interval.high)}"


def points_span(interval: Interval) -> str:
    """The bounds of an interval of differences; — where there are none."""
    return "—" if isnan(interval.low) else f"{points(interval.low)} to {points(interval.high)}"


def times(ratio: float, k: int, limit: int) -> str:
    """A ratio of samples; where it lies beyond what n = `limit` samples can show, the bound."""
    if isnan(ratio):
        return "—"
    if ratio == inf:
        return f">{_factor(limit / k)}"
    return _factor(ratio) if ratio else f"<{_factor(1 / k)}"


def times_span(interval: Interval, k: int, limit: int) -> str:
    """The bounds of a ratio of samples."""
    return f"{times(interval.low, k, limit)} – {times(interval.high, k, limit)}"


def _factor(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio >= 0.95 else f"{ratio:.2g}×"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def plural(number: int, what: str) -> str:
    """So many of a thing, e.g. `1 run`, `2 runs`."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def plain(value: object) -> str:
    """A setting as it would stand in a YAML file."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def seed_names(seeds: Sequence[int | str]) -> str:
    """E.g. `seeds 0, 1`."""
    if not seeds:
        return "before training"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def k_names(ks: Sequence[int]) -> str:
    return f"k = {', '.join(map(str, ks))}"


def level(analysis: Analysis) -> str:
    return f"{100 * analysis.confidence:g} %"


# ---------------------------------------------------------------------------------------------------------
# What was found
# ---------------------------------------------------------------------------------------------------------


def finding(analysis: Analysis) -> list[str]:
    """The result in plain sentences, one paragraph per comparison, from the numbers alone."""
    if not analysis.arms:
        start = analysis.before.pass_at_k
        arms = ", ".join(analysis.unfinished) or "none was asked for"
        return [
            f"No arm has a finished run ({arms}), so there is nothing to compare. The warm start has "
            f"pass@{analysis.ks[0]} {percent(start[0].estimate)} % and pass@{analysis.ks[-1]} "
            f"{percent(start[-1].estimate)} % on {analysis.problems} problems."
        ]
    ratios = {ratio.other: samples_sentence(analysis, ratio) for ratio in analysis.ratios}
    texts = [f"{versus(analysis, d)} {ratios[d.other]}".strip() for d in analysis.differences]
    if not texts and analysis.unfinished:
        has = "has" if len(analysis.unfinished) == 1 else "have"
        names = ", ".join(analysis.unfinished)
        texts = [f"The arms could not be compared: {names} {has} no finished run."]
    elif analysis.unfinished:
        texts.append(f"No finished run: {', '.join(analysis.unfinished)}.")
    gains = "; ".join(gain_words(analysis, gain) for gain in analysis.gains)
    seeds = seed_counts(analysis)
    return [
        *texts,
        f"Against the warm start: {gains}.",
        f"The intervals say how much depends on which problems were asked, not on the training seed ({seeds}).",
    ]


def seed_counts(analysis: Analysis) -> str:
    """How many seeds an arm has, e.g. `2 per arm`."""
    counts = sorted({len(arm.seeds) for arm in analysis.arms})
    return f"{' to '.join(str(number) for number in sorted({counts[0], counts[-1]}))} per arm"


def versus(analysis: Analysis, difference: Difference) -> str:
    """Who leads at which k and by how much, or that the two cannot be told apart."""
    first, other = difference.first, difference.other
    by_sign: dict[int, list[int]] = {1: [], -1: [], 0: []}
    for index, interval in enumerate(difference.pass_at_k):
        by_sign[interval.sign].append(index)
    sentences = []
    for sign, leader, follower in ((1, first, other), (-1, other, first)):
        if where := by_sign[sign]:
            widest = max(where, key=lambda i: sign * difference.pass_at_k[i].estimate)
            ks = k_names([analysis.ks[i] for i in where])
            at = f"; the gap is widest at k = {analysis.ks[widest]}" if len(where) > 1 else ""
            sentences.append(
                f"{leader} leads {follower} at {ks}{at}: {_both(analysis, difference, widest, leader)}."
            )
    if where := by_sign[0]:
        ks = [analysis.ks[i] for i in where]
        scope = "at any k" if len(ks) == len(analysis.ks) else f"at {k_names(ks)}"
        example = f" at k = {ks[0]}" if len(ks) > 1 else ""
        interval = difference.pass_at_k[where[0]]
        sentences.append(
            f"{first} and {other} cannot be told apart {scope}: the difference{example} is "
            f"{points(interval.estimate)} points ({level(analysis)} interval {points_span(interval)})."
        )
    return " ".join(sentences)


def _both(analysis: Analysis, difference: Difference, index: int, leader: str) -> str:
    """The two levels, their difference as the leader sees it, and whether the seeds agree."""
    interval = difference.pass_at_k[index]
    own = [seed[index] for seed in difference.by_seed]
    if leader != difference.first:
        interval = Interval(-interval.estimate, -interval.high, -interval.low)
    follower = difference.other if leader == difference.first else difference.first
    arms = {arm.name: arm for arm in analysis.arms}
    text = f"{points(interval.estimate)} points ({level(analysis)} interval {points_span(interval)})"
    if all(arms[name].seeds == difference.seeds for name in (leader, follower)):
        higher, lower = (percent(arms[name].pass_at_k[index].estimate) for name in (leader, follower))
        text = f"{higher} % against {lower} %, {text}"
    if len(own) > 1 and min(own) < 0 < max(own):
        text += ", though the seeds disagree on who leads there"
    spread = max(_spread(arms[name], index) for name in (leader, follower))
    if spread > interval.estimate:
        text += f"; the seeds of one arm differ by up to {100 * spread:.1f} points there"
    return text


def _spread(arm: ArmResult, index: int) -> float:
    values = [seed[index] for seed in arm.by_seed]
    return max(values) - min(values)


def samples_sentence(analysis: Analysis, ratio: SamplesRatio) -> str:
    """How many times as many samples the other arm needs; empty where nothing can be said."""
    known = [(i, k) for i, k in zip(ratio.by_k, analysis.ks, strict=True) if not isnan(i.estimate)]
    exact = sorted((one for one in known if 0 < one[0].estimate < inf), key=lambda one: one[0].estimate)
    parts = []
    if exact:
        extent = [
            f"{times(i.estimate, k, ratio.limit)} ({times_span(i, k, ratio.limit)}; k = {k})"
            for i, k in (exact[0], exact[-1])
        ]
        parts.append(f"{ratio.other} needs {' to '.join(dict.fromkeys(extent))} as many samples")
    unreached = [(i.low == inf, k) for i, k in known if i.estimate == inf]
    for sure, verb in ((True, "do not reach it"), (False, "do not reach it here, but may")):
        if ks := [k for certain, k in unreached if certain == sure]:
            parts.append(f"at {k_names(ks)} the {count(ratio.limit)} samples of {ratio.other} {verb}")
    exceeded = [(i.high == 0, k) for i, k in known if i.estimate == 0]
    for sure, verb in ((True, "would do"), (False, "would do here, but may not always")):
        if ks := [k for certain, k in exceeded if certain == sure]:
            parts.append(f"at {k_names(ks)} less than one sample of {ratio.other} {verb}")
    return f"For the pass@k of {ratio.first}, {'; '.join(parts)}." if parts else ""


def gain_words(analysis: Analysis, gain: Difference) -> str:
    """What became of pass@k at the smallest and the largest k since the warm start."""
    parts = []
    for index in sorted({0, len(analysis.ks) - 1}):
        interval, k = gain.pass_at_k[index], analysis.ks[index]
        verb = {1: "rose by", -1: "fell by", 0: "shows no clear change:"}[interval.sign]
        size = points(interval.estimate) if interval.sign == 0 else f"{abs(100 * interval.estimate):.1f}"
        parts.append(f"pass@{k} {verb} {size} points ({points_span(interval)})")
    return f"under {gain.first}, " + " and ".join(parts)
