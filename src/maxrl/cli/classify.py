"""`maxrl classify`."""

import shlex
from collections.abc import Sequence

from rich.console import Console

from maxrl.cli.common import make_console, take_flags
from maxrl.errors import MaxRLError
from maxrl.experiments.classification.config import help_text, read_config, resolved
from maxrl.experiments.classification.experiment import classify
from maxrl.experiments.classification.report import summary_table
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import to_yaml

INTRODUCTION = """\
Image classification as reinforcement learning: per image N labels are drawn
from the model's softmax, and a draw is rewarded where it is right. Here maximum
likelihood can be computed, as cross-entropy, so that every estimator can be held
against what it estimates; and so can pass@k, as 1 − (1 − p_y)^k. The setting is
the MaxRL paper's (arXiv 2602.02710): in small by default, on ImageNet with
recipes/imagenet_resnet50.yaml.

An arm is cross_entropy, or an estimator with the N labels it draws per image."""

EXAMPLES = """\
examples:
  maxrl classify --config recipes/classification_synthetic.yaml
  maxrl classify --arms cross_entropy maxrl@64 grpo@64 "maxrl(order=8)@64" --num_classes 100 --seeds 0 1 --output_dir out
  maxrl classify --config recipes/imagenet_resnet50.yaml --image_folder imagenet
  maxrl classify --config recipes/imagenet_resnet50.yaml --model tiny       a trial, in seconds

An image folder holds train/CLASS/*.jpg and val/CLASS/*.jpg. Runs are made one
after the other; Ctrl-C saves a checkpoint, and the same command goes on with
--resume_from_checkpoint true, with further --arms and --seeds, too.

-q           no progress
--dry-run    print the resolved options and stop"""


def run(argv: Sequence[str]) -> int:
    """Train and compare, print the table and the path of the report."""
    if {"-h", "--help"} & set(argv):
        print(INTRODUCTION, help_text("maxrl classify"), EXAMPLES, sep="\n\n")
        return 0
    words, flags = take_flags(argv, "-q", "--quiet", "--dry-run", "--dry_run")
    quiet_libraries()
    config, trial = read_config(words)
    if flags & {"--dry-run", "--dry_run"}:
        print(to_yaml(resolved(config)), end="")
        return 0
    console = make_console(quiet=bool(flags & {"-q", "--quiet"}))
    if trial:
        changed = ", ".join(f"{name} {value}" for name, value in trial.items() if value is not None)
        console.print(f"--model tiny makes this a trial: {changed}; options given beside it win")
    results, report = classify(config, command=shlex.join(["maxrl", "classify", *words]), console=console)
    Console().print(summary_table(results))
    print(f"report: {report}")
    failed = [run for run in results.runs if run.error]
    if failed:
        raise MaxRLError(
            f"{len(failed)} of {len(results.runs)} runs failed; {failed[0].folder}: {failed[0].error}"
        )
    return 0
