"""A training step of MaxRLTrainer against one of TRL's GRPOTrainer: same model, weights, prompts, N and precision.

    python benchmarks/step.py [--rows maze9 maze17] [--repeats 3] [--device cpu|cuda] [--threads T] [--micro_batch M]
    python benchmarks/step.py --quick     # maze9 and maze17 once, at most 4 minutes
    python benchmarks/step.py --sweep     # maxrl alone, cost of a rollout for N from 8 to 256

Both sides are the whole trainers, run by `train()`, on random weights that never draw the stop token, so that all
lengths are equal. Every measurement has a process of its own; the sides take turns. A step is the time from one
optimizer step to the next, fetching prompts included, and is split into

  rollout     `_generate_single_turn` (TRL: transformers' generate)
  log-probs   `_get_per_token_logps_and_entropies`
  backward    `accelerator.backward`
  rest        all else: rewards, loss, clipping, optimizer

"update" is log-probs and backward. "peak" is the fraction of the matmul peak, measured in the same processes and the
same precision before and after the steps, reached on the necessary work: each distinct prompt token and each token
fed in once forward, and twice backward in the update (the formula: `forward_flops` in benchmarks/step_parts/rows.py).
One rollout in eight succeeds, in every group; the gain from skipping dead groups is a measurement of its own, with
every other group dead. Ratios set maxrl in the precision of its shorter step against TRL in whichever precision is
better at the thing compared. A table, and JSON as the last line.

Memory is the peak of the process (on a GPU, of its tensors while it trains). TRL's depends on the micro-batch, the
rows that its update forwards at once, which is the benchmark's choice: so many that 20 GB last, or `--micro_batch`.
It stands beside the memory, and as `trl_micro_batch` in the JSON. All rollouts of a step it samples at once, whatever
the micro-batch. Ours is bounded by maxrl's own token budgets, left at their defaults.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from step_parts.rows import PRECISIONS, ROWS, SIDES, SWEEP, Job, Row
from step_parts.summary import Measurements, compare_row, compare_sizes, median_peak
from step_parts.tables import NAMES, seconds, show_rows, show_sweep

QUICK_ROWS = ("maze9", "maze17")
QUICK_SECONDS = 230.0
"""Within four minutes, with some to spare for the start and the tables."""
REPEATS = 3
SWEEP_STEPS = 3
IDLE_LOAD = 0.5
"""Load average above which something else is running."""
FOREIGN_CORES = 0.15

Runner = Callable[[Job, float | None], dict[str, Any]]


class Failed(Exception):
    """A measurement that did not come to an end."""


def run_in_process(job: Job, limit: float | None = None) -> dict[str, Any]:
    """The measurement, in a process of its own.

    Raises:
        Failed: it ended with an error, or took longer than `limit` seconds.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }
    words = [sys.executable, str(Path(__file__)), "--measure", json.dumps(job.to_json())]
    with tempfile.TemporaryFile("w+") as errors:
        try:
            answer = subprocess.run(
                words,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed("ran out of time") from None
        if answer.returncode:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["no message"]
            raise Failed(f"exit status {answer.returncode}: {last[0]}")
    return json.loads(answer.stdout.strip().splitlines()[-1])


class Session:
    """Runs jobs, says what comes back, keeps it."""

    def __init__(self, runner: Runner, console: Console, budget: float | None = None) -> None:
        self.measured = Measurements()
        self.took: dict[tuple[str, str], float] = {}
        self._runner = runner
        self._console = console
        self._end = None if budget is None else time.monotonic() + budget

    @property
    def left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()

    def measure(self, job: Job) -> None:
        name = f"{job.row.name} N={job.row.num_generations} {NAMES[job.side]} {job.precision}"
        name += ", half of the groups dead" if job.dead else ""
        if self.left is not None and self.left <= 0:
            return self._failed(name, "no time left")
        began = time.monotonic()
        try:
            result = self._runner(job, self.left)
        except Failed as error:
            return self._failed(name, str(error))
        self.took[job.row.name, job.side] = time.monotonic() - began
        self.measured.add(job, result)
        steps = ", ".join(seconds(step["step"]) for step in result["steps"])
        self._console.print(f"{name}: {steps}")
        if (result["other_cores"] or 0) > FOREIGN_CORES:
            self._console.print(
                f"  [yellow]other processes kept {result['other_cores']:.2f} cores busy meanwhile"
            )
        for remark in result["remarks"]:
            self._console.print(f"  [yellow]{remark}", soft_wrap=True)
        return None

    def _failed(self, name: str, why: str) -> None:
        self.measured.failed.append(f"{name}: {why}")
        self._console.print(f"[red]{name}: {why}", soft_wrap=True)


def compare(
    rows: Sequence[Row], base: Job, session: Session, *, repeats: int, precisions: Sequence[str]
) -> None:
    """All combinations, the sides taking turns; then, half dead, each side in its faster precision."""
    for row in rows:
        for repeat in range(repeats):
            for precision in precisions:
                for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                    session.measure(replace(base, row=row, side=side, precision=precision))
        for side in SIDES:
            precision = session.measured.fastest(row, side)
            if precision:
                session.measure(replace(base, row=row, side=side, precision=precision, dead=True))


def compare_quickly(rows: Sequence[Row], base: Job, session: Session) -> None:
    """Each combination once; TRL in the precision of the lower matmul peak only where the time lasts.

    What was left out is missing from the JSON and named in the table: nothing is claimed of it.
    """
    for row in rows:
        job = replace(base, row=row, small_warm_up=True)
        for precision in PRECISIONS:
            session.measure(replace(job, side="ours", precision=precision))
        results = list(session.measured.all())
        order = sorted(PRECISIONS, key=lambda p: -median_peak(results, p)) if results else PRECISIONS
        session.measure(replace(job, side="trl", precision=order[0]))
        before = session.took.get((row.name, "trl"))
        if before is None or session.left is None or session.left > 2 * before:
            session.measure(replace(job, side="trl", precision=order[1]))


def sweep(
    rows: Sequence[Row], base: Job, session: Session, *, repeats: int, precisions: Sequence[str]
) -> None:
    for row in rows:
        for _ in range(repeats):
            for sized in sizes(row):
                for precision in precisions:
                    session.measure(replace(base, row=sized, side="ours", precision=precision))


def sizes(row: Row) -> list[Row]:
    """The row with as many prompts and fewer or more rollouts of each; a name for each size."""
    return [
        replace(row, name=f"{row.name}/{n}", num_generations=n, steps=max(row.steps, SWEEP_STEPS))
        for n in SWEEP
    ]


class Parser(argparse.ArgumentParser):
    """Mistakes take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = Parser(
        prog="step.py",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add(
        "--rows",
        nargs="+",
        choices=ROWS,
        metavar="ROW",
        help=f"rows to measure: {', '.join(ROWS)} (default all)",
    )
    add("--repeats", type=_positive, help=f"processes per combination (default {REPEATS})")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to run (default cpu)")
    add("--threads", type=_positive, default=cores, help=f"threads of torch (default all cores: {cores})")
    add("--precisions", nargs="+", choices=PRECISIONS, help="default both")
    add(
        "--micro_batch",
        type=_positive,
        help="rows that TRL's update forwards at once; has to divide the rollouts of each row "
        f"(default: {', '.join(f'{row.name} {row.micro_batch}' for row in ROWS.values())})",
    )
    add(
        "--quick",
        action="store_true",
        help="maze9 and maze17 once, warmed up by a small step, at most 4 minutes",
    )
    add("--sweep", action="store_true", help="instead: maxrl alone at N = 8 to 256 (default row: maze17)")
    add("--measure", help=argparse.SUPPRESS)  # what the processes are started with
    return settle(parser.parse_args(words), parser)


def settle(options: argparse.Namespace, parser: Parser) -> argparse.Namespace:
    """Refuse what would be ignored, fill in defaults, and turn names into rows."""
    if options.quick and options.sweep:
        parser.error("--quick and --sweep exclude each other")
    if options.quick and options.repeats:
        parser.error("--quick measures each combination once and takes no --repeats")
    if options.quick and options.precisions:
        parser.error("--quick measures both precisions where the time lasts and takes no --precisions")
    if options.sweep and options.micro_batch:
        parser.error("--sweep measures maxrl alone and takes no --micro_batch, which is TRL's")
    options.repeats = options.repeats or REPEATS
    options.precisions = [p for p in PRECISIONS if p in (options.precisions or PRECISIONS)]
    default = QUICK_ROWS if options.quick else ("maze17",) if options.sweep else tuple(ROWS)
    options.rows = [ROWS[name] for name in dict.fromkeys(options.rows or default)]
    if options.micro_batch:
        for row in options.rows:
            if row.rollouts % options.micro_batch:
                parser.error(
                    f"--micro_batch {options.micro_batch} does not divide {row.name}'s {row.rollouts} rollouts"
                )
        options.rows = [replace(row, micro_batch=options.micro_batch) for row in options.rows]
    return options


def _positive(word: str) -> int:
    if not word.isdigit() or not int(word):
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of at least 1")
    return int(word)


def answer(options: argparse.Namespace, session: Session) -> dict[str, Any]:
    """Measure what was asked for, and sum it up."""
    measured = session.measured
    base = Job(
        options.rows[0], SIDES[0], PRECISIONS[0], options.device, options.threads, peak_size=options.peak_size
    )
    found: dict[str, Any] = {"rows": {}}
    if options.sweep:
        sweep(options.rows, base, session, repeats=options.repeats, precisions=options.precisions)
        found["sweep"] = {row.name: compare_sizes(sizes(row), measured) for row in options.rows}
    else:
        if options.quick:
            compare_quickly(options.rows, base, session)
        else:
            compare(options.rows, base, session, repeats=options.repeats, precisions=options.precisions)
        found["rows"] = {row.name: compare_row(row, measured) for row in options.rows}
    results = list(measured.all())
    found["peak_gflops"] = {p: median_peak(results, p) for p in PRECISIONS} if results else {}
    found["environment"] = results[0]["environment"] if results else {}
    found["device"], found["threads"] = options.device, options.threads
    found["other_cores"] = max((result["other_cores"] or 0.0 for result in results), default=None)
    found["remarks"] = sorted({remark for result in results for remark in result["remarks"]})
    found["failed"] = measured.failed
    return found


def cuda_available() -> bool:
    import torch  # takes seconds, and nothing else here needs it

    return torch.cuda.is_available()


def main(words: Sequence[str] | None = None) -> int:
    options = parse(words)
    if options.measure:
        from step_parts.measure import measure  # takes seconds, and memory

        print(json.dumps(measure(Job.from_json(json.loads(options.measure)))))
        return 0
    if options.device == "cuda" and not cuda_available():
        print("step.py: --device cuda, but torch finds no CUDA device", file=sys.stderr)
        return 2
    options.peak_size = 8192 if options.device == "cuda" else 2048  # 2048³ does not fill a GPU
    remarks = Console(stderr=True, highlight=False)
    load = os.getloadavg()[0]
    if load > IDLE_LOAD:
        remarks.print(
            f"[yellow]the load average is {load:.2f}: other work is running, and will be measured with this"
        )
    found = answer(options, Session(run_in_process, remarks, QUICK_SECONDS if options.quick else None))
    found["load_average_at_start"] = round(load, 2)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    show_sweep(console, found["sweep"]) if options.sweep else show_rows(console, found["rows"])
    peaks = ", ".join(f"{rate:,.0f} in {precision}" for precision, rate in found["peak_gflops"].items())
    console.print(f"matmul peak, GFLOP/s with {options.threads} threads: {peaks or 'not measured'}")
    print(json.dumps(found))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
