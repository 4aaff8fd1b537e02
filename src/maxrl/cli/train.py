"""`maxrl train`."""

from collections.abc import Sequence
from pathlib import Path

from maxrl.cli.common import make_console, take_flags
from maxrl.experiments.environment import settle_threads
from maxrl.experiments.fields import help_text, read_fields
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import make_recipe, resolved_fields, to_yaml
from maxrl.experiments.runs import train_run
from maxrl.experiments.stages import make_stages, resolved_stages, train_stages

EXAMPLES = """\
examples:
  maxrl train --config recipes/subset_sum_tiny.yaml
  maxrl train --config recipes/subset_sum_tiny.yaml --advantage_estimator grpo --learning_rate 1e-4 --dry-run
  maxrl train --config recipes/subset_sum_tiny.yaml --resume_from_checkpoint true
  maxrl train --config recipes/hybrid_subset_sum_tiny.yaml      in stages, each from the weights of the one before

-q           no progress
--dry-run    print the resolved recipe and stop
Ctrl-C finishes the step, saves a checkpoint and stops; the second stops at once."""


def run(argv: Sequence[str]) -> int:
    """Train, evaluate, and print what changed."""
    if {"-h", "--help"} & set(argv):
        print(help_text(argv, "maxrl train"), EXAMPLES, sep="\n\n")
        return 0
    words, flags = take_flags(argv, "-q", "--quiet", "--dry-run", "--dry_run")
    quiet_libraries()
    given = read_fields(words)
    stages = make_stages(given) if "stages" in given else None
    recipe = stages.recipes[0] if stages else make_recipe(given)
    if flags & {"--dry-run", "--dry_run"}:
        print(to_yaml(resolved_stages(stages) if stages else resolved_fields(recipe)), end="")
        return 0
    console = make_console(quiet=bool(flags & {"-q", "--quiet"}))
    resumed = Path(recipe.training.output_dir) if given.get("resume_from_checkpoint") else None
    if chosen := settle_threads(recipe.run.cpu_threads, resumed):
        console.print(chosen)
    record = train_stages(stages, console=console) if stages else train_run(recipe, console=console)
    if recipe.training.process_index == 0:
        if record.evaluation is not None:
            curve = "  ".join(f"pass@{entry.k} {entry.estimate:.3f}" for entry in record.evaluation.pass_at_k)
            print(f"after training: {curve}")
        print(f"run: {stages.folder if stages else recipe.training.output_dir}")
    return 0
