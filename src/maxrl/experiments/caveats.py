"""What cannot be concluded from a comparison, each sentence for a reason found in its data."""

from math import inf, isnan

import numpy as np

from maxrl.experiments.records import Comparison
from maxrl.experiments.statistics import Analysis, ArmResult, Difference
from maxrl.experiments.wording import count, k_names, percent, plain, seed_counts, seed_names


def caveats(comparison: Comparison, analysis: Analysis) -> list[str]:
    """What the numbers do not show, each sentence for a reason found in the data."""
    return [
        text
        for text in (
            *_failures(comparison, analysis),
            about_seeds(analysis),
            *(inconclusive(analysis, difference) for difference in analysis.differences),
            many_intervals(analysis),
            about_samples(analysis),
            *about_ceiling(analysis),
            *_about_scoring(comparison, analysis),
            _about_setting(comparison, analysis),
        )
        if text
    ]


def _failures(comparison: Comparison, analysis: Analysis) -> list[str]:
    failed = [run for run in comparison.runs if run.status == "failed"]
    texts = []
    if failed:
        names = ", ".join(f"{run.estimator} seed {run.seed}" for run in failed)
        texts.append(
            f"{len(failed)} of {len(comparison.runs)} runs failed ({names}). They are in no average; if runs "
            "fail because of what they have learned, the averages of the others flatter their arm."
        )
    if analysis.unfinished:
        texts.append(f"Nothing can be said about {', '.join(analysis.unfinished)}: no finished run.")
    uneven = [d for d in analysis.differences if d.seeds != _arm(analysis, d.first).seeds]
    uneven += [
        d for d in analysis.differences if d.seeds != _arm(analysis, d.other).seeds and d not in uneven
    ]
    for difference in uneven:
        pair = f"{difference.first} and {difference.other}"
        if difference.seeds:
            texts.append(f"{pair} are compared on {seed_names(difference.seeds)} alone, which both finished.")
        else:
            texts.append(
                f"{pair} share no finished seed: their difference is paired over problems, not over seeds."
            )
    return texts


def _results(analysis: Analysis) -> list[ArmResult]:
    return [*([analysis.before] if analysis.before else []), *analysis.arms]


def _arm(analysis: Analysis, name: str) -> ArmResult:
    return next(arm for arm in analysis.arms if arm.name == name)


def about_seeds(analysis: Analysis) -> str:
    """What the intervals do not cover."""
    counts = sorted({len(arm.seeds) for arm in analysis.arms})
    if not counts:
        return ""
    text = (
        f"Intervals cover which problems were asked, for these trained models. They do not cover training "
        f"seeds, of which there {'is' if counts == [1] else 'are'} {seed_counts(analysis)}"
    )
    spreads = [
        (max(column) - min(column), arm.name, k)
        for arm in analysis.arms
        if len(arm.seeds) > 1
        for k, column in zip(analysis.ks, zip(*arm.by_seed, strict=True), strict=True)
    ]
    if not spreads:
        return text + ": another seed may give another order of the arms."
    widest, name, k = max(spreads)
    few = "too few to estimate how much seeds vary" if counts[-1] < 5 else "which are listed one by one"
    return (
        text + f", {few}. The widest spread between seeds of one arm is {100 * widest:.1f} points "
        f"({name}, pass@{k}); a difference of that size between arms may be the seed's."
    )


def inconclusive(analysis: Analysis, difference: Difference) -> str:
    """That a difference is open, and how large it would have to be to be found; empty where it is not open."""
    open_at = [i for i, interval in enumerate(difference.pass_at_k) if interval.sign == 0]
    sizes = [difference.detectable[i] for i in open_at if not isnan(difference.detectable[i])]
    if not open_at:
        return ""
    text = (
        f"{difference.first} against {difference.other} is open at "
        f"{k_names([analysis.ks[i] for i in open_at])}: the interval includes 0, which does not prove that "
        "they are equal."
    )
    if not sizes:
        return text
    low, high = (f"{100 * size:.1f}" for size in (min(sizes), max(sizes)))
    extent = low if low == high else f"{low} to {high} (depending on k)"
    return text + (
        f" With {analysis.problems} problems a true difference has to be about {extent} points "
        "to be found 4 times in 5."
    )


def many_intervals(analysis: Analysis) -> str:
    """That intervals are not corrected for their number."""
    number = len(analysis.differences) * len(analysis.ks)
    if number < 2:
        return ""
    misses = f"{100 * (1 - analysis.confidence):.3g} %"
    return (
        f"The {number} intervals of the paired differences are not corrected for their number; each alone "
        f"misses the truth in about {misses} of repetitions, and neighbouring k rise and fall together."
    )


def about_samples(analysis: Analysis) -> str:
    """How far pass@k can be read from so many samples."""
    fewest = min(result.samples[0] for result in _results(analysis))
    text = f"pass@k is estimated from {count(fewest)} samples per problem"
    near = [k for k in analysis.ks if 2 * k > fewest]
    if near:
        text += f"; at {k_names(near)} this is close to the limit, and each problem's estimate is coarse"
    unreached = [r for r in analysis.ratios if any(i.high == inf for i in r.by_k)]
    if unreached:
        text += (
            f". Ratios that start with > are bounds: {count(min(r.limit for r in unreached))} samples of the "
            "other arm do not reach that pass@k"
        )
    return text + "."


def about_ceiling(analysis: Analysis) -> list[str]:
    """Where nothing can be told apart because everything, or nothing, is solved."""
    results = _results(analysis)
    texts = []
    for edge, what in ((1.0, "above 98 %"), (0.0, "below 2 %")):
        ks = [
            k
            for i, k in enumerate(analysis.ks)
            if all(abs(result.pass_at_k[i].estimate - edge) < 0.02 for result in results)
        ]
        if ks:
            texts.append(f"At {k_names(ks)} everything lies {what}, where no arm can show that it is better.")
    if analysis.problems == 1:
        texts.append("There is one problem: nothing can be said about others, and there are no intervals.")
    flat = [
        f"{result.name} pass@{k}"
        for result in results
        for k, interval in zip(analysis.ks, result.pass_at_k, strict=True)
        if interval.high - interval.low < 1e-9
    ]
    if flat:
        texts.append(
            f"An interval without width ({', '.join(flat)}) means that all problems scored the same, not "
            "that the value is certain."
        )
    return texts


def _about_scoring(comparison: Comparison, analysis: Analysis) -> list[str]:
    evaluations = [comparison.before, *(run.evaluation for run in comparison.runs if run.evaluation)]
    rows = [problem for evaluation in evaluations for problem in evaluation.problems]
    samples = sum(problem.scored + problem.errors for problem in rows)
    errors, truncated = sum(p.errors for p in rows), sum(p.truncated for p in rows)
    texts = []
    if analysis.left_out:
        texts.append(
            f"{analysis.left_out} of {analysis.left_out + analysis.problems} problems are left out "
            f"everywhere, because some evaluation has fewer than {max(analysis.ks)} verdicts on them."
        )
    if analysis.dropped_ks:
        texts.append(
            f"{k_names(analysis.dropped_ks)} is not shown: more than a tenth of the problems have fewer "
            "verdicts than that in some evaluation."
        )
    if errors:
        texts.append(
            f"On {count(errors)} of {count(samples)} samples the verifier failed; they count as neither."
        )
    if truncated > 0.01 * samples:
        share = percent(truncated / samples)
        texts.append(
            f"{share} % of the samples ran into the length limit; a longer limit may rank arms anew."
        )
    return texts


def _about_setting(comparison: Comparison, analysis: Analysis) -> str:
    def named(field: str) -> str:
        value = comparison.settings.get(field)
        return f" ({plain(value)})" if value is not None else ""

    steps = max((row.get("step", 0) for run in comparison.runs for row in run.metrics), default=0)
    length = f"{count(int(steps))} training steps" if steps else "the training steps"
    text = (
        f"One model{named('model_name_or_path') or named('model')} on one task{named('task')}: other models, "
        "tasks and difficulties may rank the arms differently."
    )
    if len(comparison.arms) < 2:
        return text
    seconds = [np.mean([run.training_seconds for run in comparison.of(arm.name)]) for arm in analysis.arms]
    text += (
        f" All arms had the same {length} and the same settings, among them a learning rate"
        f"{named('learning_rate')} that was not tuned for each; longer training may change the order"
    )
    if len(seconds) > 1 and min(seconds) > 0 and max(seconds) > 1.1 * min(seconds):
        ratio = max(seconds) / min(seconds)
        text += f". Equal steps are not equal time: the slowest arm took {ratio:.1f}× as long as the fastest"
    return text + "."
