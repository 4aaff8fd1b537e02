"""From measurements to ratios."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from step_parts.rows import PRECISIONS, SIDES, Job, Row, forward_flops, necessary_flops

Result = dict[str, Any]
Summary = dict[str, Any]


class Measurements:
    """What came back, by row, side, precision and whether half of the groups were dead."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str, str, bool], list[Result]] = defaultdict(list)
        self.failed: list[str] = []

    def add(self, job: Job, result: Result) -> None:
        self._results[job.row.name, job.side, job.precision, job.dead].append(result)

    def of(self, row: Row, side: str, precision: str, *, dead: bool = False) -> list[Result]:
        return self._results.get((row.name, side, precision, dead), [])

    def all(self) -> Iterable[Result]:
        return (result for results in self._results.values() for result in results)

    def summary(self, row: Row, side: str, precision: str, *, dead: bool = False) -> Summary | None:
        """Medians over all measured steps of all processes; None where there is none."""
        results = self.of(row, side, precision, dead=dead)
        return summarise(row, precision, results) if results else None

    def fastest(self, row: Row, side: str) -> str | None:
        """The precision with the shortest step."""
        found = {p: s["step_s"] for p in PRECISIONS if (s := self.summary(row, side, p))}
        return min(found, key=found.__getitem__) if found else None


def median_peak(results: Iterable[Result], precision: str) -> float:
    return statistics.median(rate for result in results for rate in result["peaks"][precision])


def summarise(row: Row, precision: str, results: list[Result]) -> Summary:
    """One side in one precision: seconds of each phase, rates, memory."""
    steps = [step for result in results for step in result["steps"]]

    def median(*phases: str) -> float:
        return statistics.median(sum(step[phase] for phase in phases) for step in steps)

    rollout, update = median("rollout"), median("logprobs", "backward")
    peak = median_peak(results, precision)
    work = necessary_flops(row)
    return {
        "precision": precision,
        "step_s": median("step"),
        "rollout_s": rollout,
        "logprobs_s": median("logprobs"),
        "backward_s": median("backward"),
        "rest_s": median("rest"),
        "update_s": update,
        "tokens_per_s": row.rollouts * row.new_tokens / rollout,
        "rollout_peak_fraction": work["rollout"] / 1e9 / rollout / peak,
        "update_peak_fraction": work["update"] / 1e9 / update / peak,
        "peak_gflops": peak,
        "peak_memory_mb": statistics.median(result["peak_memory_mb"] for result in results),
        "base_memory_mb": statistics.median(result["base_memory_mb"] for result in results),
        "steps": len(steps),
    }


COMPARED = {
    "step_ratio": "step_s",
    "rollout_ratio": "rollout_s",
    "update_ratio": "update_s",
    "memory_ratio": "peak_memory_mb",
}


def compare_row(row: Row, measured: Measurements) -> Summary:
    """TRL over ours. Ours is its precision with the shorter step; TRL is whichever is better at the thing compared."""
    every = {side: {p: measured.summary(row, side, p) for p in PRECISIONS} for side in SIDES}
    fastest = {side: measured.fastest(row, side) for side in SIDES}
    ours = every["ours"].get(fastest["ours"] or "")
    theirs = [summary for summary in every["trl"].values() if summary]
    compared: Summary = {}
    against: dict[str, str] = {}
    for ratio, quantity in COMPARED.items():
        if ours and theirs:
            best = min(theirs, key=lambda summary: summary[quantity])
            compared[ratio] = best[quantity] / ours[quantity]
            against[ratio] = best["precision"]
        else:
            compared[ratio] = None
    return {
        **compared,
        "trl_micro_batch": row.micro_batch,
        "update_peak_fraction": ours and ours["update_peak_fraction"],
        "rollout_peak_fraction": ours and ours["rollout_peak_fraction"],
        "against": against,
        "step_ratio_by_precision": {
            p: mine and other and other["step_s"] / mine["step_s"]
            for p in PRECISIONS
            for mine, other in [(every["ours"][p], every["trl"][p])]
        },
        "dead_half_gain": {side: _gain(row, measured, side) for side in SIDES},
        "ours": ours,
        "trl": every["trl"].get(fastest["trl"] or ""),
        "all": every,
        "necessary_gflop": {phase: flops / 1e9 for phase, flops in necessary_flops(row).items()},
        "forward_gflop_per_group": forward_flops(row, groups=1) / 1e9,
    }


def _gain(row: Row, measured: Measurements, side: str) -> float | None:
    """How much faster a step is where half of the groups are dead, in the same precision."""
    for precision in PRECISIONS:
        live = measured.summary(row, side, precision)
        half = measured.summary(row, side, precision, dead=True)
        if live and half:
            return live["step_s"] / half["step_s"]
    return None


def compare_sizes(rows: list[Row], measured: Measurements) -> Summary:
    """Milliseconds of each phase per rollout, by rollouts per prompt; and what 256 cost against 64."""
    found: Summary = {}
    for precision in PRECISIONS:
        costs = {
            row.num_generations: {
                name: 1000 * summary[f"{name}_s"] / row.rollouts for name in ("rollout", "update", "step")
            }
            for row in rows
            if (summary := measured.summary(row, "ours", precision))
        }
        if not costs:
            continue
        found[precision] = {"ms_per_rollout": {str(n): cost for n, cost in costs.items()}}
        if 64 in costs and 256 in costs:
            found[precision]["ratio_256_64"] = {
                name: costs[256][name] / costs[64][name] for name in costs[64]
            }
    return found
