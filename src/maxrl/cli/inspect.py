"""`maxrl inspect`."""

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from maxrl.cli.common import CommandParser
from maxrl.cli.inspect_plots import SUFFIXES, draw
from maxrl.cli.inspect_tables import advantage_table, exact_table, weight_table
from maxrl.errors import InputError
from maxrl.objectives import (
    ESTIMATORS,
    Estimator,
    EstimatorWithMemory,
    ExactAnalysis,
    analyse,
    as_estimator,
    looks_at_batch,
)

ROLLOUTS = 16
MOST_ROLLOUTS = 4096
"""Exact sums over all K take seconds there."""

PASS_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
"""Where the tables evaluate, unless --p says where."""

DESCRIPTION = """\
What an estimator really optimises. On 0/1 rewards and with N rollouts a group
all of this follows from the estimator's own code, exactly, without sampling:

  effective weight w(p)  The expected update is w(p) times the gradient of the
                         pass rate p. Maximum likelihood is w = 1/p, plain
                         reinforcement learning w = 1: the faster w grows as p
                         falls, the more a hard prompt counts.
  order T                w(p) = (1 − (1 − p)^T)/p lies between the two: T = 1
                         is plain reinforcement learning, T → ∞ maximum
                         likelihood. Found in the advantages themselves.
  utility J(p)           The objective that is climbed: J' = w, J(0) = 0. Of
                         order T it is the sum of pass@k/k for k up to T.
  second moment E(Σ A²)  Of the advantages of a group. Of two estimators with
                         one weight, the one with less is less noisy.
  advantage mass E|A|    The mean size of an advantage: where it is largest are
                         the prompts that pull hardest.

With --rewards, the advantages of one group instead, rollout by rollout."""

EXAMPLES = """\
examples:
  maxrl inspect --estimator maxrl --n 16
  maxrl inspect --estimator maxrl --n 16 --vs grpo --plot objective.svg
  maxrl inspect --estimator "maxrl(order=4)" --vs "pass_at_k(k=4)" --p 0.001,0.1
  maxrl inspect --estimator hybrid --state '{"step": 250}'
  maxrl inspect --estimator success_weighted --n 4 --batch "1,0,0,0;1,1,0,0"
  maxrl inspect --estimator maxrl --rewards 1,0,0,1 --vs grpo
  maxrl inspect --rewards 28.6,28.0,-4.5,5.0,25.1 --threshold 20 --vs grpo

A function of your own, from rewards (groups, rollouts) to as many advantages:
  maxrl inspect --estimator my_module:my_function --vs maxrl"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is inspected."""

    estimator: Estimator
    """Without memory: the one that the next batch meets."""
    described: str
    """Name, what it is given its state, formula."""


def run(argv: Sequence[str]) -> int:
    """Print what the estimators optimise, or their advantages."""
    options = _parser().parse_args(_joined(argv))
    names = [options.estimator] + ([options.vs] if options.vs else [])
    if len(set(names)) < len(names):
        raise InputError(f"--vs names the same estimator as --estimator, {options.vs}: name another one")
    chosen = _choose(names, None if options.state is None else _state(options.state))
    batch = None if options.batch is None else _batch(options.batch)
    if options.rewards is None:
        rollouts = ROLLOUTS if options.n is None else options.n
        _show_objective(chosen, options, rollouts, batch)
    else:
        rewards = _numbers(options.rewards, "--rewards", missing=True)
        rollouts = len(rewards)
        _show_advantages(chosen, options, rewards, batch or [])
    if batch is None:
        for name, one in chosen.items():
            if looks_at_batch(one.estimator, rollouts):
                console = Console(width=min(80, Console().width))
                console.print(
                    f"{name} looks at the whole batch. These figures are for a group alone in one; --batch gives it others.",
                    markup=False,
                    highlight=False,
                )
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="maxrl inspect",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    known = ", ".join(ESTIMATORS)
    parser.add_argument(
        "--estimator",
        default="maxrl",
        metavar="NAME",
        help=f"one of {known}, with options as in 'grpo(eps=0)' or without; or your own module:function",
    )
    parser.add_argument("--vs", metavar="NAME", help="another estimator beside it")
    parser.add_argument("--n", type=int, metavar="N", help=f"rollouts per group (default {ROLLOUTS})")
    parser.add_argument("--p", metavar="P,P,…", help="pass rates of the tables, between 0 and 1")
    parser.add_argument(
        "--state",
        metavar="JSON|FILE",
        help="what an estimator with memory remembers; without, it is at its beginning",
    )
    parser.add_argument(
        "--batch",
        metavar="R,R,…;R,…",
        help="rewards of the other groups of the batch, for estimators that look at them; 'none' for a missing one",
    )
    parser.add_argument("--rewards", metavar="R,R,…", help="rewards of one group; 'none' for a missing one")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="with --rewards: success is a reward above T"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw weight, utility, second moment and mass (.svg, .png or .pdf)",
    )
    return parser


def _show_advantages(
    chosen: Mapping[str, Chosen],
    options: argparse.Namespace,
    rewards: list[float],
    batch: list[list[float]],
) -> None:
    if options.plot:
        raise InputError("--plot draws objectives, not advantages: leave out --rewards")
    if options.n is not None or options.p:
        raise InputError(
            "--n and --p are of objectives; --rewards shows the advantages of one group: leave them out"
        )
    rows = _padded([rewards, *batch])
    threshold = options.threshold
    if threshold is not None:
        rows = [[r if math.isnan(r) else float(r > threshold) for r in row] for row in rows]
    advantages = {name: one.estimator(rows)[0].tolist() for name, one in chosen.items()}
    shown = {"reward": rewards, **({} if threshold is None else {f"reward > {threshold:g}": rows[0]})}
    table = advantage_table(shown, advantages)
    Console().print(table, *(one.described for one in chosen.values()), sep="\n", markup=False)


def _show_objective(
    chosen: Mapping[str, Chosen], options: argparse.Namespace, n: int, batch: list[list[float]] | None
) -> None:
    if options.threshold is not None:
        raise InputError("--threshold applies to --rewards")
    if options.plot and options.plot.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot must end in {' or '.join(SUFFIXES)}, but is {options.plot}")
    if not 1 <= n <= MOST_ROLLOUTS:
        raise InputError(f"--n must lie between 1 and {MOST_ROLLOUTS}, but is {n}")
    for name, one in chosen.items():
        if one.estimator.least_rollouts > n:
            raise InputError(
                f"{name} needs at least {one.estimator.least_rollouts} rollouts per group, but --n is {n}; with fewer its "
                "order is lowered: ask for that one"
            )
    pass_rates = _numbers(options.p, "--p") if options.p else list(PASS_RATES)
    if any(not 0 < p <= 1 for p in pass_rates):
        raise InputError(f"--p must lie between 0 and 1, but is {options.p}")
    others = None if batch is None else _padded(batch)
    exact: dict[str, ExactAnalysis] = {
        name: analyse(one.estimator, n, batch=others) for name, one in chosen.items()
    }
    where = f"N = {n}" + ("" if batch is None else f", other groups in the batch: {len(batch)}")
    console = Console()
    console.print(weight_table(exact, pass_rates, where))
    console.print(*(one.described for one in chosen.values()), sep="\n", markup=False)
    console.print()
    console.print(exact_table(exact, pass_rates, where))
    if options.plot:
        print(f"plot: {draw(exact, where, options.plot)}")


def _choose(names: Sequence[str], state: dict[str, Any] | None) -> dict[str, Chosen]:
    built = {name: as_estimator(name) for name in names}
    if state is not None and not any(isinstance(it, EstimatorWithMemory) for it in built.values()):
        with_memory = ", ".join(
            name for name, it in ESTIMATORS.items() if issubclass(it, EstimatorWithMemory)
        )
        raise InputError(
            f"--state is for an estimator with memory ({with_memory}), not for {', '.join(names)}"
        )
    chosen: dict[str, Chosen] = {}
    for name, it in built.items():
        if isinstance(it, EstimatorWithMemory):
            met = it.given(state)
            when = "at its beginning" if state is None else "in the given state"
            which = "" if met.name == it.name else f" is {met.name}"
            chosen[name] = Chosen(estimator=met, described=f"{name} {when}{which}: A = {met.formula}")
        else:
            chosen[name] = Chosen(estimator=it, described=f"{name}: A = {it.formula}")
    return chosen


def _joined(argv: Sequence[str]) -> list[str]:
    """`--rewards -1,0` as one word: argparse takes a list that begins with a minus for an option."""
    words = list(argv)
    for index in range(len(words) - 1, 0, -1):
        if words[index - 1] in ("--rewards", "--batch") and re.match(r"-[\d.]", words[index]):
            words[index - 1 : index + 1] = [f"{words[index - 1]}={words[index]}"]
    return words


def _numbers(text: str, option: str, *, missing: bool = False) -> list[float]:
    values: list[float] = []
    for word in text.split(","):
        if missing and word.strip().lower() in ("none", "nan"):
            values.append(math.nan)
            continue
        try:
            values.append(float(word))
        except ValueError:
            raise InputError(f"{option} must be numbers separated by commas, but has '{word}'") from None
    return values


def _batch(text: str) -> list[list[float]]:
    return [_numbers(row, "--batch", missing=True) for row in text.split(";")]


def _padded(rows: list[list[float]]) -> list[list[float]]:
    width = max(map(len, rows))
    return [[*row, *[math.nan] * (width - len(row))] for row in rows]


def _state(text: str) -> dict[str, Any]:
    """A JSON object as it is, or what a file holds."""
    try:
        written = text if text.lstrip().startswith("{") else Path(text).read_text()
        state = json.loads(written)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--state must be a JSON object such as '{{\"step\": 200}}', or a file that holds one: {error}"
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"--state must be a JSON object, but {text} holds {written.strip():.80}")
    return state
