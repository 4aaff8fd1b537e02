"""`maxrl compare`."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from maxrl.cli.common import make_console, take_flags
from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.compare import CompareArguments, compare, plan_comparison, shared_settings
from maxrl.experiments.fields import help_text, option_given, read_fields
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import to_yaml
from maxrl.experiments.report import summary_table

EXAMPLES = """\
examples:
  maxrl compare --config recipes/subset_sum_tiny.yaml
  maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo rloo --seeds 0 1 2 --output_dir runs/three
  maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl "maxrl(order=4)" my_module:my_estimator

Done runs are kept and died ones resumed when the same command is given again; --overwrite_output_dir starts anew.
-q           no progress
--dry-run    print the recipe that all runs share and stop"""


def run(argv: Sequence[str]) -> int:
    """Compare, print the table and the path of the report."""
    if {"-h", "--help"} & set(argv):
        print(help_text(argv, "maxrl compare", (CompareArguments,)), EXAMPLES, sep="\n\n")
        return 0
    words, flags = take_flags(argv, "-q", "--quiet", "--dry-run", "--dry_run")
    quiet_libraries()
    for single, several in {"seed": "seeds", "advantage_estimator": "estimators"}.items():
        if option_given(words, single) is not None:
            raise InputError(f"compare takes --{several} for all its runs, not --{single}")
    given = read_fields(words, (CompareArguments,))
    if flags & {"--dry-run", "--dry_run"}:
        arguments, shared, _ = plan_comparison(given)
        own = {"estimators": arguments.estimators, "seeds": arguments.seeds}
        folder = {"output_dir": str(Path(shared.training.output_dir).parent)}
        print(to_yaml({**own, **shared_settings(shared, given), **folder}), end="")
        return 0
    comparison, report = compare(
        given,
        command=shlex.join(["maxrl", "compare", *words]),
        console=make_console(quiet=bool(flags & {"-q", "--quiet"})),
    )
    Console().print(summary_table(comparison))
    print(f"report: {report}")
    failed = [run for run in comparison.runs if run.status == "failed"]
    if failed:
        first = failed[0]
        raise MaxRLError(
            f"{len(failed)} of {len(comparison.runs)} runs failed; {first.folder}: {first.error}"
        )
    return 0
