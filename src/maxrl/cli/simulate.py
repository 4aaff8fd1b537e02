"""`maxrl simulate`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxrl.cli.common import CommandParser
from maxrl.cli.inspect_tables import folded, order_label
from maxrl.errors import InputError
from maxrl.experiments.notebooks.toy import GOAL, Array, Lane, RaceSettings, ToyPolicy, race
from maxrl.experiments.notebooks.toy_plots import draw_race

SUFFIXES = (".svg", ".png", ".pdf")
DEFAULTS = RaceSettings()
ESTIMATORS = ["maxrl", "grpo", "rloo"]
MOST_ESTIMATORS = 6

SPARKS = " ▁▂▃▄▅▆▇█"
SPARK_WIDTH = 16
DESCRIPTION = """\
A race on a toy problem: which estimator gets a rarely solved prompt solved?

One prompt; a rollout succeeds with p = σ(θ)^d. Each step draws a group of N
rollouts and moves θ by lr × the estimator's gradient. No language model, no
download, under a second.

  expected  Every step takes the gradient that groups give on average, exactly:
            w(p)·dp/dθ, with the weight w of `maxrl inspect`.
  sampled   One random group a step; the middle and 5 … 95 % of --repeats.

What to look for: from a small p, plain reinforcement learning (rloo) hardly
moves, because its weight is 1 however rare success is. GRPO's is larger, and
MaxRL's, close to 1/p, larger still as long as 1/p is below N. With
--num_generations 2 MaxRL is rloo: the gain needs large groups."""

EXAMPLES = """\
examples:
  maxrl simulate
  maxrl simulate --p0 0.001 --num_generations 128 --steps 200
  maxrl simulate --estimators maxrl "maxrl(order=4)" grpo --plot race.svg
  maxrl simulate --theta0 -1 --difficulty 4    four steps that must all go right
  maxrl simulate --json > race.json

The same with sliders: marimo run notebooks/toy_simulation.py"""


def run(argv: Sequence[str]) -> int:
    """Run the race; print a table, or JSON, and draw it if asked to."""
    options = _parser().parse_args(_with_values_joined(argv))
    settings = _settings(options)
    names = list(options.estimators)
    if len(set(names)) < len(names) or len(names) > MOST_ESTIMATORS:
        raise InputError(
            f"--estimators takes up to {MOST_ESTIMATORS} different names, but got {', '.join(names)}"
        )
    if options.plot and options.plot.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot must end in {' or '.join(SUFFIXES)}, but is {options.plot}")
    lanes = race(names, settings)
    if options.json:
        print(json.dumps(_plain(lanes, settings)))
    else:
        console = Console(highlight=False)
        console.print(_table(lanes, settings))
    if options.plot:
        _draw(lanes, settings, options.plot)
        if not options.json:
            print(f"plot: {options.plot}")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="maxrl simulate",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=ESTIMATORS,
        metavar="NAME",
        help=f"who races, with options as in 'grpo(eps=0)' or without (default {' '.join(ESTIMATORS)})",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--p0", type=float, metavar="P", help="the pass rate at the start")
    start.add_argument(
        "--theta0",
        type=float,
        metavar="θ",
        help=f"or its θ (default {DEFAULTS.theta0:g}, p = {DEFAULTS.p0:.3f})",
    )
    parser.add_argument(
        "--difficulty",
        type=float,
        default=DEFAULTS.difficulty,
        metavar="D",
        help="d in p = σ(θ)^d: steps that must all go right (default 1)",
    )
    parser.add_argument(
        "--lr", "--learning_rate", type=float, default=DEFAULTS.learning_rate, help="default %(default)s"
    )
    for name, what in (
        ("steps", "gradient steps"),
        ("num_generations", "N, the rollouts of a group"),
        ("repeats", "sampled paths of each estimator"),
        ("seed", "of the sampled paths"),
    ):
        default = getattr(DEFAULTS, name)
        dashed = name.replace("_", "-")
        spellings = dict.fromkeys((f"--{name}", f"--{dashed}"))
        parser.add_argument(
            *spellings, type=int, default=default, metavar="N", help=f"{what} (default {default})"
        )
    parser.add_argument(
        "--plot", "--svg", type=Path, metavar="FILE", help="also draw the race (.svg, .png or .pdf)"
    )
    parser.add_argument("--json", action="store_true", help="settings, paths and figures as JSON")
    return parser


def _with_values_joined(argv: Sequence[str]) -> list[str]:
    """`--theta0 -1e-3` as one word: argparse takes some negative numbers for options."""
    words = list(argv)
    for index in range(len(words) - 1, 0, -1):
        if words[index - 1] == "--theta0":
            words[index - 1 : index + 1] = [f"--theta0={words[index]}"]
    return words


def _settings(options: argparse.Namespace) -> RaceSettings:
    theta0 = DEFAULTS.theta0 if options.theta0 is None else options.theta0
    if options.p0 is not None:
        theta0 = ToyPolicy(difficulty=options.difficulty).theta_at(options.p0)
    return RaceSettings(
        theta0=theta0,
        difficulty=options.difficulty,
        learning_rate=options.lr,
        steps=options.steps,
        num_generations=options.num_generations,
        repeats=options.repeats,
        seed=options.seed,
    )


def _table(lanes: Sequence[Lane], settings: RaceSettings) -> Table:
    steps, repeats = settings.steps, settings.repeats
    table = Table(
        title=Text(_headline(settings)),
        caption=Text(
            f"Bars from 0 to 1. In brackets: 5 … 95 % of {repeats} sampled paths, seed {settings.seed}. "
            f"Share: sampled paths that get to {GOAL:g} within {steps} steps."
        ),
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("estimator", overflow="fold")
    table.add_column("p over steps,\nexpected", no_wrap=True)
    table.add_column(f"p after {steps}\nexpected", justify="right")
    table.add_column("\nsampled", justify="right")
    table.add_column(f"step of\np = {GOAL:g}", justify="right")
    table.add_column("\nshare", justify="right")
    for lane in lanes:
        expected, middle, between, reached, share = lane.outcome()
        table.add_row(
            Text.assemble(folded(lane.name, 14), "\n", (order_label(lane.exact), "dim")),
            spark(lane.expected),
            expected,
            Text.assemble(f"{middle}\n", (between, "dim")),
            reached,
            share,
        )
    return table


def _headline(settings: RaceSettings) -> str:
    power = "" if settings.difficulty == 1 else f"^{settings.difficulty:g}"
    return (
        f"p = σ(θ){power} from {settings.p0:.3g}, N = {settings.num_generations}, "
        f"learning rate {settings.learning_rate:g}"
    )


def spark(values: Array) -> str:
    """A path between 0 and 1 as a line of bars, its last value in the last one."""
    width = min(SPARK_WIDTH, len(values))
    shown = [values[round(i * (len(values) - 1) / max(1, width - 1))] for i in range(width)]
    top = len(SPARKS) - 1
    return "".join(SPARKS[min(top, max(1, round(float(value) * top)))] for value in shown)


def _plain(lanes: Sequence[Lane], settings: RaceSettings) -> dict[str, object]:
    return {
        "settings": {**asdict(settings), "p0": settings.p0},
        "goal": GOAL,
        "lanes": [
            {
                "estimator": lane.name,
                "order": lane.exact.target_order(),
                "expected": lane.expected.tolist(),
                "sampled": dict(
                    zip(
                        ("q05", "q50", "q95"),
                        (q.tolist() for q in lane.quantiles(0.05, 0.5, 0.95)),
                        strict=True,
                    )
                ),
                "steps_to_goal": lane.steps_to(GOAL),
                "share_at_goal": lane.share_at(GOAL),
            }
            for lane in lanes
        ],
    }


def _draw(lanes: Sequence[Lane], settings: RaceSettings, path: Path) -> None:
    figure = Figure(figsize=(7, 4.4))
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.13)
    draw_race(axes, lanes, lambda index: f"C{index}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"step; {_headline(settings)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
