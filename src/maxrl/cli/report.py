"""`maxrl report`."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from maxrl.cli.common import CommandParser
from maxrl.errors import InputError
from maxrl.experiments.reports import report_runs
from maxrl.experiments.reports.reading import common_folder
from maxrl.experiments.store import find_runs

DESCRIPTION = """\
One page on any number of runs: report.html, self-contained, and report.md.

RUNS are folders of runs, or folders that hold some: a comparison's, a grid's.
Runs that differ in their seeds alone repeat each other, estimators are arms,
and what else varies spans settings; within a setting arms are compared, paired
over seeds and problems. Runs that are not done are rows with their state."""

EXAMPLES = """\
examples:
  maxrl report runs/compare
  maxrl report runs/grid --output results/grid --title "Easy and hard"
  maxrl report runs/a runs/b runs/c --baseline rloo"""


def run(argv: Sequence[str]) -> int:
    """Write the page and print its path."""
    parser = CommandParser(
        prog="maxrl report",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("runs", nargs="*", metavar="RUNS", type=Path, help="folders of runs")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the page goes (default: what holds all runs)"
    )
    parser.add_argument("--title", help="of the page (default: from arms and tasks)")
    parser.add_argument(
        "--baseline",
        metavar="ARM",
        help="the arm that the others are compared with (default: grpo, or the first where there is none)",
    )
    if {"-h", "--help"} & set(argv):
        print(parser.format_help(), end="")
        return 0
    given = parser.parse_args(list(argv))
    if not given.runs:
        raise InputError("maxrl report needs the folder of a run, or one that holds runs: maxrl report RUNS…")
    found = find_runs(given.runs)
    folder = given.output or _default_folder(given.runs, [one.folder for one in found])
    html, _ = report_runs(
        found,
        folder,
        title=given.title,
        command=shlex.join(["maxrl", "report", *argv]),
        baseline=given.baseline,
    )
    print(f"{len(found)} run{'s' if len(found) != 1 else ''}\nreport: {html}")
    return 0


def _default_folder(given: Sequence[Path], folders: Sequence[Path]) -> Path:
    """The folder that was given if it was one, else the deepest one that holds all runs.

    Raises:
        InputError: that lies above the working folder: the runs have nothing in common but where the user works.
    """
    folder = given[0] if len(given) == 1 else common_folder(folders)
    if len(given) > 1 and folder in Path.cwd().parents:
        raise InputError(
            f"these runs lie together only in {folder}: say where the page goes with --output DIR"
        )
    if (folder / "comparison.json").is_file():
        return folder / "report"
    return folder
