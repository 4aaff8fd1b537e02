"""What cannot be concluded, each sentence for a reason in the records."""

from collections import Counter
from collections.abc import Sequence

from maxrl.experiments.caveats import about_ceiling, about_samples
from maxrl.experiments.reports.grouping import ARM, NO_ARM, Grouping, arm_of
from maxrl.experiments.reports.reading import RunData
from maxrl.experiments.reports.sentences import verdict
from maxrl.experiments.reports.settings import Numbers
from maxrl.experiments.statistics import Analysis, Difference
from maxrl.experiments.wording import count, k_names, percent, plural


def caveats(grouping: Grouping, cells: Sequence[Numbers], runs: Sequence[RunData]) -> list[str]:
    """What the numbers do not show. `open_differences` are listed apart."""
    analyses = [cell.analysis for cell in cells if cell.analysis]
    texts = [
        *_unfinished(runs, grouping),
        *_environments(runs),
        *_otherwise_measured(cells),
        _unpaired(analyses),
        _seeds(analyses),
        _differing_fields(grouping),
        _many(analyses),
        *_scoring(runs),
        _setting(runs),
    ]
    if len(analyses) == 1:
        texts += [about_samples(analyses[0]), *about_ceiling(analyses[0])]
    if several := [cell.number for cell in cells if cell.warm_starts > 1]:
        texts.append(
            f"The runs of {_settings(several)} began with different warm starts (or these were measured differently); "
            "the first one stands for all."
        )
    return [text for text in texts if text]


def open_differences(cells: Sequence[Numbers], shown: Sequence[int]) -> list[str]:
    """For each comparison that is inconclusive at some shown k: the smallest true difference that it would have found."""
    texts = []
    for cell in cells:
        for difference in cell.analysis.differences if cell.analysis else ():
            at = [i for i, k in enumerate(cell.analysis.ks) if k in shown]
            where = f"Setting {cell.number}: " if len(cells) > 1 else ""
            if still := [i for i in at if verdict(difference, i) == "open"]:
                texts.append(where + _still_open(difference, still, cell.analysis))
            elif unsure := [i for i in at if verdict(difference, i) == "these models"]:
                texts += [where + text for text in _unsure(difference, unsure, cell.analysis)]
    return texts


def _still_open(difference: Difference, at: Sequence[int], analysis: Analysis) -> str:
    text = (
        f"{difference.first} against {difference.other} is open at {k_names([analysis.ks[i] for i in at])}, which "
        "does not prove that they are equal"
    )
    sizes = _sizes(difference.detectable, at, analysis)
    if not sizes:
        return f"{text}; how large a true difference would have to be to be found cannot be estimated."
    over = _sizes(difference.detectable_over_seeds, at, analysis)
    return (
        f"{text}: with {plural(analysis.problems, 'problem')} a true difference has to be about {sizes} to be found 4 "
        f"times in 5{f'; over {len(difference.seeds)} training seeds, too, about {over}' if over else ''}."
    )


def _unsure(difference: Difference, at: Sequence[int], analysis: Analysis) -> list[str]:
    sizes = _sizes(difference.detectable_over_seeds, at, analysis)
    if not sizes:
        return []
    return [
        f"{difference.first} against {difference.other} at {k_names([analysis.ks[i] for i in at])} holds for these "
        f"models, but not beyond how much training seeds vary: with {len(difference.seeds)} of them a true difference "
        f"has to be about {sizes} to be found 4 times in 5."
    ]


def _sizes(detectable: Sequence[float], at: Sequence[int], analysis: Analysis) -> str:
    """Detectable differences; empty where there are none, as with one problem or where all problems scored the same."""
    if not detectable or not all(detectable[i] > 0 for i in at):
        return ""
    return ", ".join(f"{100 * detectable[i]:.1f} points (k = {analysis.ks[i]})" for i in at)


def _unfinished(runs: Sequence[RunData], grouping: Grouping) -> list[str]:
    texts = []
    failed = [run.name for run in runs if run.state == "failed"]
    if failed:
        texts.append(
            f"{len(failed)} of {len(runs)} runs failed ({_some(failed)}). They are in no average; if runs fail "
            "because of what they have learned, the averages of the others flatter their arm."
        )
    if early := [run.name for run in runs if run.state in ("running", "stopped")]:
        texts.append(
            f"{len(early)} of {len(runs)} runs are still running or were stopped ({_some(early)}); the page may read "
            "otherwise when they are done."
        )
    done = {arm_of(run) for run in runs if run.state == "done"}
    if missing := [arm for arm in grouping.arms if arm not in done]:
        texts.append(f"Nothing can be said about {', '.join(missing)}: no finished run.")
    if lost := [run.name for run in runs if arm_of(run) == NO_ARM]:
        texts.append(f"{_some(lost)} failed before there was a recipe: which arm and setting is unknown.")
    if bare := [run.name for run in runs if run.state == "done" and run.after is None]:
        texts.append(
            f"{plural(len(bare), 'finished run')} without an evaluation ({_some(bare)}): curves are all there is of them."
        )
    return texts


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _settings(numbers: Sequence[int]) -> str:
    return f"setting{'s' if len(numbers) > 1 else ''} {_some([str(number) for number in numbers])}"


def differing_environments(runs: Sequence[RunData]) -> dict[str, dict[str, int]]:
    """Facts of the environment in which runs differ: values, with how many runs have each."""
    names = dict.fromkeys(name for run in runs for name in run.environment)
    found = {
        name: Counter(run.environment.get(name, "not recorded") for run in runs if run.environment)
        for name in names
    }
    return {name: dict(values) for name, values in found.items() if len(values) > 1}


def _environments(runs: Sequence[RunData]) -> list[str]:
    texts = []
    if differing := differing_environments(runs):
        texts.append(
            f"The runs were not made alike: they differ in {', '.join(differing)} (see “How to repeat it”). "
            "What looks like an arm's or a setting's may be theirs."
        )
    if dirty := [run.name for run in runs if run.environment.get("code", "").endswith("+changes")]:
        texts.append(
            f"{len(dirty)} of {len(runs)} runs were made by changed code that no commit holds: they cannot be "
            "repeated exactly."
        )
    if bare := [run.name for run in runs if not run.environment]:
        texts.append(
            f"Of {plural(len(bare), 'run')} there is no record of versions and code ({_some(bare)})."
        )
    return texts


def _otherwise_measured(cells: Sequence[Numbers]) -> list[str]:
    texts = []
    for cell in cells:
        where = f"in setting {cell.number} " if len(cells) > 1 else ""
        if cell.apart:
            texts.append(
                f"{', '.join(cell.apart)} {where}was evaluated on other problems (or sampled otherwise) than "
                "the baseline: its own numbers are shown (a * marks them in the table), a difference is not."
            )
        if cell.otherwise:
            names = [run.name for run in cell.otherwise]
            texts.append(
                f"{_some(names)} {where}{'was' if len(names) == 1 else 'were'} evaluated otherwise than the rest of the "
                "arm: in no number."
            )
        if cell.analysis and cell.analysis.left_out:
            texts.append(
                f"{plural(cell.analysis.left_out, 'problem')} {where}{'is' if cell.analysis.left_out == 1 else 'are'} left "
                f"out, because some run has fewer than {max(cell.analysis.ks)} verdicts there."
            )
        if cell.analysis and cell.analysis.dropped_ks:
            texts.append(
                f"{k_names(cell.analysis.dropped_ks)} {where}is not shown: more than a tenth of the problems have fewer "
                "verdicts than that in some run."
            )
    return texts


def _unpaired(analyses: Sequence[Analysis]) -> str:
    alone = [d for analysis in analyses for d in analysis.differences if not d.seeds]
    if not alone:
        return ""
    return (
        f"{len(alone)} of {plural(sum(len(a.differences) for a in analyses), 'comparison')} share no seed: these are "
        "paired over problems, not over seeds."
    )


def _seeds(analyses: Sequence[Analysis]) -> str:
    counts = sorted({len(arm.seeds) for analysis in analyses for arm in analysis.arms})
    if not counts:
        return ""
    extent = " to ".join(str(number) for number in sorted({counts[0], counts[-1]}))
    verb, plural = "is" if counts == [1] else "are", "s" if counts[-1] > 1 else ""
    text = f"There {verb} {extent} finished run{plural} per arm and setting. "
    if counts[-1] == 1:
        return text + "Nothing can be said about how much another training seed would change."
    text += "Intervals over problems hold for these trained models; those over seeds and problems hold for training anew"
    if counts[0] == 2 or (counts[0] == 1 and counts[-1] == 2):
        text += ", but two seeds say next to nothing about how much seeds vary: such intervals are mostly very wide, and "
        text += "where the two happen to agree, too narrow to be relied on"
    return text + "."


def _differing_fields(grouping: Grouping) -> str:
    names = [name for name, deciding in grouping.follows.items() if ARM in deciding]
    if not names:
        return ""
    return (
        f"The arms differ in more than their estimator: {', '.join(names)}. A difference between them may be due to "
        "that."
    )


def _many(analyses: Sequence[Analysis]) -> str:
    number = sum(len(analysis.differences) * len(analysis.ks) for analysis in analyses)
    if number < 2:
        return ""
    misses = f"{100 * (1 - analyses[0].confidence):.3g} %"
    return (
        f"The {count(number)} intervals of differences are not corrected for their number; each alone misses the truth "
        f"in about {misses} of repetitions."
    )


def _scoring(runs: Sequence[RunData]) -> list[str]:
    counted = [run.after for run in runs if run.after]
    samples = sum(int(one.scored_P.sum()) + one.errors for one in counted)
    errors, truncated = sum(one.errors for one in counted), sum(one.truncated for one in counted)
    texts = []
    if errors:
        texts.append(
            f"On {count(errors)} of {count(samples)} samples the verifier failed; they count as neither."
        )
    if truncated > 0.01 * samples:
        texts.append(
            f"{percent(truncated / samples)} % of the samples ran into the length limit; a longer limit may rank "
            "arms anew."
        )
    return texts


def _setting(runs: Sequence[RunData]) -> str:
    known = [run.config for run in runs if run.config]
    models = sorted({str(config.get("model_name_or_path", "tiny")) for config in known})
    tasks = sorted({str(config.get("task") or config.get("dataset_name") or "a mixture") for config in known})
    if not known:
        return ""
    return (
        f"{', '.join(models)} on {', '.join(tasks)}: other models, tasks and difficulties may rank the arms differently, "
        "and so may longer training. Equal steps are not equal cost; see “At equal budget”."
    )
