"""What the notebooks show of a run, finished or not, from the records in its folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation, PassAtK
from maxrl.experiments import plots
from maxrl.experiments.notebooks.plots import figure
from maxrl.experiments.notebooks.toy_plots import legend_above
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.metrics_file import read_metrics

VERDICTS = ("all", "success", "failure", "no verdict")
"""What samples can be filtered by."""

_FEW_STEPS = 20
"""With no more than these a curve needs no mean."""

WINDOW = 0.05
"""Share of the steps, to either side of the one that is looked at, whose groups the K histogram counts."""


def interval(entry: PassAtK) -> str:
    """An estimate with its interval, in percent."""
    return f"{100 * entry.estimate:.1f} % ({100 * entry.low:.1f} … {100 * entry.high:.1f})"


def greedy_interval(evaluation: Evaluation) -> PassAtK | None:
    """Greedy accuracy with Wilson's interval, which has a width at 0 and 1, too; None where nothing was decoded greedily."""
    verdicts = [it.greedy_success for it in evaluation.problems if it.greedy_success is not None]
    if not verdicts:
        return None
    n, share = len(verdicts), sum(verdicts) / len(verdicts)
    z = NormalDist().inv_cdf((1 + evaluation.confidence) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return PassAtK(k=1, estimate=share, low=max(0.0, centre - reach), high=min(1.0, centre + reach))


def before_and_after(run: StoredRun) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: greedy accuracy and pass@k before and after training, each with its interval."""
    evaluations = {
        name: it for name, it in (("before", run.before), ("after", run.evaluation)) if it is not None
    }
    rows: list[list[str]] = []
    greedy = {name: greedy_interval(it) for name, it in evaluations.items()}
    if any(greedy.values()):
        rows.append(["greedy accuracy", *(interval(it) if it else "–" for it in greedy.values())])
    for k in sorted({entry.k for it in evaluations.values() for entry in it.pass_at_k}):
        found = [
            next((interval(entry) for entry in it.pass_at_k if entry.k == k), "–")
            for it in evaluations.values()
        ]
        rows.append([f"pass@{k}", *found])
    return ["", *evaluations], rows


def in_text(run: StoredRun) -> str:
    """Headline, that table and how it was measured, as a script prints them."""
    head, rows = before_and_after(run)
    lines = ["".join([f"{row[0]:<18}", *(f"{cell:>28}" for cell in row[1:])]) for row in (head, *rows)]
    return "\n".join([headline(run), *lines, how_measured(run)])


def how_measured(run: StoredRun) -> str:
    """A sentence under that table."""
    found = run.evaluation or run.before
    if found is None:
        return "This run has not been evaluated."
    samples = max((problem.scored for problem in found.problems), default=0)
    return (
        f"{len(found.problems)} problems, {samples} samples of each; in brackets {found.confidence:.0%} intervals over "
        "problems: Wilson's for greedy accuracy, a bootstrap's for pass@k."
    )


# ---------------------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------------------


def success_figure(run: StoredRun, steps_per_epoch: int | None = None) -> str:
    """Success rate at each step, with the mean of each epoch where epochs are asked for; greedy accuracy beside it.

    Greedy accuracy is that before, while (`evals.jsonl`) and after training, as far as it was measured.
    """
    steps, values = plots.series(run, "success_rate")  # pyright: ignore[reportArgumentType]
    greedy = _greedy_points(run)

    def draw(axes: Axes) -> None:
        alone = not steps_per_epoch and len(steps) <= _FEW_STEPS
        look = {"linewidth": 1.8} if alone else {"linewidth": 0.8, "alpha": 0.6}
        axes.plot(steps, values, color=plots.colour(0), label="success rate of a step", **look)
        if steps_per_epoch and len(steps):
            edges, means = epoch_means(run, steps_per_epoch)
            for edge in edges[1:-1]:
                axes.axvline(edge + 0.5, color=plots.GRID, linewidth=1, linestyle=":")
            for (low, high), mean in zip(pairwise(edges), means, strict=True):
                axes.plot(
                    [low + 0.5, high + 0.5],
                    [mean, mean],
                    color=plots.colour(0),
                    linewidth=2.4,
                    solid_capstyle="butt",
                )
            axes.plot([], [], color=plots.colour(0), linewidth=2.4, label="mean of an epoch")
        elif not alone:
            axes.plot(steps, plots.smooth(values), color=plots.colour(0), linewidth=2.2, label="running mean")
        if greedy:
            axes.plot(
                *zip(*greedy, strict=True),
                "D",
                color=plots.colour(1),
                markersize=4.5,
                label="greedy accuracy",
            )
        axes.set(xlabel="step", ylabel="share of completions", ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(axes)

    return figure("success", "Success rate over training", draw, data={"steps": len(steps)})


def epoch_means(run: StoredRun, steps_per_epoch: int) -> tuple[list[int], list[float]]:
    """Edges of the epochs (0, then the last step of each), and the mean success rate of each; the last may be unfinished."""
    steps, values = plots.series(run, "success_rate")  # pyright: ignore[reportArgumentType]
    if not len(steps):
        return [0], []
    epochs = (steps.astype(int) - 1) // steps_per_epoch
    numbers = sorted(set(epochs.tolist()))
    edges = [numbers[0] * steps_per_epoch, *(min((n + 1) * steps_per_epoch, int(steps[-1])) for n in numbers)]
    return edges, [float(values[epochs == number].mean()) for number in numbers]


def _greedy_points(run: StoredRun) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    if run.before is not None and run.before.greedy_accuracy is not None:
        points.append((0.0, run.before.greedy_accuracy))
    for row in read_metrics(run.folder / "evals.jsonl"):
        if row.get("greedy_accuracy") is not None:
            points.append((float(row["step"]), float(row["greedy_accuracy"])))
    if run.evaluation is not None and run.evaluation.greedy_accuracy is not None:
        points.append((float(run.summary.get("steps", run.step)), run.evaluation.greedy_accuracy))
    return points


def groups_figure(run: StoredRun) -> str | None:
    """Shares of dead, live and mastered groups, stacked; None where none were logged."""
    kinds = ("live", "mastered", "dead")
    found = [plots.series(run, f"groups/{kind}") for kind in kinds]  # pyright: ignore[reportArgumentType]
    if not all(len(steps) == len(found[0][0]) > 0 for steps, _ in found):
        return None
    width = max(1.0, float(found[0][0][-1]) / plots.POINTS)
    thinned = [plots.thin(*one, width) for one in found]

    def draw(axes: Axes) -> None:
        tints = (plots.colour(2), plots.colour(0), plots.BEFORE)
        axes.stackplot(
            thinned[0][0],
            *(values for _, values in thinned),
            colors=tints,
            alpha=0.75,
            labels=kinds,
            linewidth=0,
        )
        axes.set(xlabel="step", ylabel="share of groups", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0)
        legend_above(axes, columns=3)

    return figure("groups", "Dead, live and mastered groups over training", draw)


def metric_figure(run: StoredRun, metric: str, label: str) -> str | None:
    """One metric over steps; None where it was not logged."""
    steps, values = plots.series(run, metric)  # pyright: ignore[reportArgumentType]
    if not len(steps):
        return None

    def draw(axes: Axes) -> None:
        axes.plot(steps, values, color=plots.colour(0), linewidth=0.8, alpha=0.6)
        axes.plot(steps, plots.smooth(values), color=plots.colour(0), linewidth=2.2)
        axes.set(xlabel="step", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return figure(metric.replace("_", "-").replace("/", "-"), f"{label} over training", draw)


def pass_at_k_figure(run: StoredRun) -> str | None:
    """pass@k before and after training, with bands; None without any evaluation."""
    evaluations = {
        name: it for name, it in (("before", run.before), ("after", run.evaluation)) if it is not None
    }
    if not evaluations:
        return None

    def draw(axes: Axes) -> None:
        for name, evaluation in evaluations.items():
            tint, dash = (plots.BEFORE, "--") if name == "before" else (plots.colour(0), "-")
            ks = [entry.k for entry in evaluation.pass_at_k]
            low, high = [e.low for e in evaluation.pass_at_k], [e.high for e in evaluation.pass_at_k]
            axes.fill_between(ks, low, high, color=tint, alpha=0.15, linewidth=0)
            axes.plot(
                ks,
                [e.estimate for e in evaluation.pass_at_k],
                "o",
                color=tint,
                linestyle=dash,
                markersize=4,
                label=name,
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(k) for k in ks])
        axes.set(xlabel="k, samples per problem", ylabel="pass@k")
        legend_above(axes)

    return figure("pass-at-k", "pass@k before and after training", draw)


# ---------------------------------------------------------------------------------------------------------
# The groups of training, by their successes
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupHistory:
    """How many groups had K successes, generation by generation."""

    steps: np.ndarray
    """The step that each generation was drawn for: (generations,)."""
    counts: np.ndarray
    """Groups with K = 0 … N successes: (generations, largest N + 1)."""
    sizes: np.ndarray
    """N, the rollouts of each group of a generation: (generations,)."""

    @property
    def n(self) -> int:
        """The largest N."""
        return self.counts.shape[1] - 1

    def shares(self) -> dict[str, np.ndarray]:
        """Of the groups without, with some and with only successes in each generation: (generations,)."""
        totals = np.maximum(1, self.counts.sum(axis=1))
        none, only = self.counts[:, 0], self.counts[np.arange(len(self.sizes)), self.sizes]
        kinds = {"K = 0": none, "0 < K < N": self.counts.sum(axis=1) - none - only, "K = N": only}
        return {name: groups / totals for name, groups in kinds.items()}

    def around(self, step: int) -> tuple[np.ndarray, int, int]:
        """Shares by K of the groups within `WINDOW` of a step, and its first and last step: (N + 1,)."""
        reach = max(0, round(WINDOW * (int(self.steps[-1]) - int(self.steps[0]))))
        near = np.abs(self.steps - step) <= reach
        if not near.any():  # a generation may serve several steps
            near = self.steps == self.steps[np.abs(self.steps - step).argmin()]
        counts = self.counts[near].sum(axis=0)
        return counts / max(1, counts.sum()), int(self.steps[near][0]), int(self.steps[near][-1])


def group_history(run: StoredRun) -> GroupHistory | None:
    """From `diagnostics.jsonl`; None where no generation has been counted yet."""
    rows = [row for row in run.diagnostics if row.get("k_histogram")]
    if not rows:
        return None
    sizes = np.array([len(row["k_histogram"]) - 1 for row in rows])
    counts = np.zeros((len(rows), sizes.max() + 1))
    for index, row in enumerate(rows):
        counts[index, : len(row["k_histogram"])] = row["k_histogram"]
    return GroupHistory(np.array([int(row["step"]) for row in rows]), counts, sizes)


def histogram_figure(history: GroupHistory, step: int) -> str:
    """The groups around a step by their successes, over those of the whole run; `data-mean` is their mean K."""
    shares, first, last = history.around(step)
    overall = history.counts.sum(axis=0) / max(1.0, history.counts.sum())
    mean = float(shares @ np.arange(history.n + 1))

    def draw(axes: Axes) -> None:
        tints = [plots.BEFORE, *[plots.colour(2)] * (history.n - 1), plots.colour(0)]
        axes.bar(range(history.n + 1), shares, width=0.86, color=tints, alpha=0.8)
        axes.stairs(
            overall,
            np.arange(history.n + 2) - 0.5,
            color=plots.INK,
            linestyle="--",
            linewidth=1.2,
            label="whole run",
        )
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        where = f"step {first}" if first == last else f"steps {first} to {last}"
        n = history.n if history.sizes.min() == history.n else f"{history.sizes.min()} … {history.n}"
        axes.set(xlabel=f"K, successes among N = {n}; {where}", ylabel="share of groups")
        legend_above(axes)

    data = {"step": step, "mean": f"{mean:.4f}"}
    return figure("histogram", f"Groups by successes around step {step}", draw, data=data)


def history_figure(history: GroupHistory, step: int) -> str:
    """Shares of the groups without, with some and with only successes over training, with the chosen step marked."""
    tints = (plots.BEFORE, plots.colour(2), plots.colour(0))
    width = max(1.0, float(history.steps[-1]) / plots.POINTS)

    def draw(axes: Axes) -> None:
        for (name, values), tint in zip(history.shares().items(), tints, strict=True):
            steps, thinned = plots.thin(history.steps.astype(float), values, width)
            axes.plot(steps, plots.smooth(thinned), color=tint, label=name)
        axes.axvline(step, color=plots.INK, linewidth=0.9)
        axes.set(xlabel="step", ylabel="share of groups", ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(axes, columns=3)

    return figure("history", "Groups without, with some and with only successes", draw)


HISTORY_FIGURES = (histogram_figure, history_figure)
"""Pictures of a history and a step in it."""

# ---------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------


def headline(run: StoredRun) -> str:
    """One line: what it is and how it stands."""
    of = f" of {run.max_steps}" if run.max_steps else ""
    text = f"{run.name}: {run.estimator}, seed {run.seed}, {run.state} at step {run.step}{of}"
    return f"{text}; {run.error}" if run.error else text


def sample_rows(
    run: StoredRun, which: str, verdict: str = "all", containing: str = ""
) -> list[dict[str, Any]]:
    """Completions of an evaluation as rows of a table.

    Args:
        run: whose.
        which: `before` or `after` training.
        verdict: one of `VERDICTS`.
        containing: text that prompt or completion must contain; any by default.
    """
    if verdict not in VERDICTS or which not in ("before", "after"):
        raise InputError(f"samples are those before or after, by verdict {', '.join(VERDICTS)}")
    rows = read_metrics(run.folder / ("samples_before.jsonl" if which == "before" else "samples.jsonl"))
    shown = [
        {
            "problem": row["id"],
            "prompt": prompt_text(row["prompt"]),
            "completion": row["completion"],
            "verdict": _verdict(row),
            "why": row.get("error") or row.get("reason") or "",
            "how": "greedy" if row.get("greedy") else "sampled",
            "tokens": row.get("tokens"),
        }
        for row in rows
    ]
    return [
        row
        for row in shown
        if verdict in ("all", row["verdict"]) and containing in f"{row['prompt']} {row['completion']}"
    ]


def _verdict(row: dict[str, Any]) -> str:
    if row.get("error"):
        return "no verdict"
    return "success" if row.get("success") else "failure"


def prompt_text(prompt: Any) -> str:
    """A prompt as text; of messages the role stands before each."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in prompt)


def fact_rows(facts: dict[str, Any]) -> list[list[str]]:
    """Names and values of a flat mapping, as rows of a table."""
    return [[name, ", ".join(map(str, v)) if isinstance(v, list) else str(v)] for name, v in facts.items()]


def run_folders(runs: Sequence[StoredRun], below: Path) -> dict[str, StoredRun]:
    """Runs by what tells them apart: their path below the folder that was named."""
    base = below.resolve()
    named = {str(run.folder.resolve().relative_to(base)): run for run in runs}
    return {run.name if name == "." else name: run for name, run in named.items()}
