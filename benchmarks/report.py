"""`maxrl report` on hundreds of runs: the whole command, imports included.

    python benchmarks/report.py [--runs 200] [--steps 1000] [--problems 200] [--repeats 3] [--keep DIR]

The runs are synthetic, in the formats of real ones: easy and hard problems, 25 settings in all, two estimators, seeds.
Generating them is not measured. Run it on an idle machine. Medians over repeats; the last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def make_runs(folder: Path, runs: int, steps: int, problems: int) -> None:
    """Write the runs: as many seeds of 5 × 5 settings × 2 estimators as it takes."""
    sys.path.insert(0, str(ROOT))
    synthetic: Any = import_module("tests.experiments.reports.synthetic")
    maker = synthetic.Maker(steps=steps, problems=problems, samples=64, prompts=16)
    made = 0
    for seed in range(runs):
        for elements in (4, 5, 6, 8, 10):
            for group in (8, 16, 32, 64, 128):
                for estimator in ("maxrl", "grpo"):
                    if made == runs:
                        return
                    made += 1
                    maker.run(
                        folder / f"tiny-{estimator}-n{elements}-gs{group}-seed{seed}",
                        estimator,
                        seed,
                        num_elements=elements,
                        max_value=5 * elements,
                        num_generations=group,
                        per_device_train_batch_size=16 * group,
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="default 200")
    parser.add_argument("--steps", type=int, default=1000, help="per run (default 1000)")
    parser.add_argument("--problems", type=int, default=200, help="per evaluation (default 200)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements (default 3)")
    parser.add_argument("--keep", type=Path, help="write the runs there, or use those that are there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "runs"
        if not folder.is_dir():
            make_runs(folder, options.runs, options.steps, options.problems)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{options.runs} runs, {size / 1e6:,.0f} MB")
        seconds = []
        for _ in range(options.repeats):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "maxrl.cli", "report", str(folder), "--output", f"{temporary}/report"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - started)
            print(f"{seconds[-1]:8.1f} s")
        html = (Path(temporary) / "report" / "report.html").stat().st_size
    median = statistics.median(seconds)
    print(
        json.dumps(
            {"runs": options.runs, "steps": options.steps, "seconds": round(median, 2), "html_bytes": html}
        )
    )


if __name__ == "__main__":
    main()
