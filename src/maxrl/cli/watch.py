"""`maxrl watch`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from maxrl.cli.common import CommandParser
from maxrl.errors import InputError
from maxrl.experiments.store.watch import watch

DESCRIPTION = """\
How a run stands, read from its folder: progress, success rate, live groups,
speed, time left, and what the model said last. Of a folder that holds several
runs, as a grid's, a line for each.

Ends when the run does, or none of several is at work any more; one that was
stopped is not waited for. Ctrl-C ends the watching, never a run. Where the
output is no terminal one look is printed."""

EXAMPLES = """\
examples:
  maxrl watch runs/demo/maxrl-seed0
  maxrl watch runs/grid --interval 10
  maxrl watch runs/demo/maxrl-seed0 --once"""


def run(argv: Sequence[str]) -> int:
    """Watch until the run ends, or for one look."""
    parser = CommandParser(
        prog="maxrl watch",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run's folder, or one that holds runs (default: runs/)",
    )
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )
    parser.add_argument("--once", action="store_true", help="one look only")
    if {"-h", "--help"} & set(argv):
        print(parser.format_help(), end="")
        return 0
    given = parser.parse_args(list(argv))
    if not 0.1 <= given.interval < float("inf"):
        raise InputError(f"--interval must be at least 0.1 seconds, but is {given.interval}")
    if given.run is None and not Path("runs").is_dir():
        raise InputError("there is no folder runs/ here; name a run's folder, or one that holds runs")
    watch(given.run or Path("runs"), Console(highlight=False), interval=given.interval, once=given.once)
    return 0
