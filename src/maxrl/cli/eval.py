"""`maxrl eval`."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from maxrl.cli.common import make_console, take_flags
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments.environment import settle_threads
from maxrl.experiments.fields import help_text, option_given, read_fields
from maxrl.experiments.policies import prepare_policy
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import make_recipe, resolved_fields, to_yaml
from maxrl.experiments.runs import announce_warm_start, evaluate_policy
from maxrl.experiments.store.weights import require_adapter, require_weights

EXAMPLES = """\
examples:
  maxrl eval runs/demo/maxrl-seed0 --eval_samples 256      a run's model on the run's own task
  maxrl eval runs/demo/maxrl-seed0/checkpoint-50           one of its checkpoints
  maxrl eval --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --task subset_sum --max_completion_length 64

The first word may be a run's folder, or one of its checkpoints: the run's config.yaml gives the task and everything else,
options win over it. Results go to --output_dir, by default evals/ in the folder evaluated. A folder whose weights are not
all there is refused."""


def run(argv: Sequence[str]) -> int:
    """Evaluate, print the curve and where the samples are."""
    if {"-h", "--help"} & set(argv):
        print(help_text(argv, "maxrl eval [RUN]"), EXAMPLES, sep="\n\n")
        return 0
    words, flags = take_flags(argv, "-q", "--quiet", "--dry-run", "--dry_run")
    quiet_libraries()
    recipe = make_recipe(_fields(words))
    if recipe.task is None:
        raise InputError("eval needs a task: name one with --task, or give a run's folder")
    if flags & {"--dry-run", "--dry_run"}:
        print(to_yaml(resolved_fields(recipe)), end="")
        return 0
    folder = Path(recipe.training.output_dir)
    console = make_console(quiet=bool(flags & {"-q", "--quiet"}))
    if chosen := settle_threads(recipe.run.cpu_threads):
        console.print(chosen)
    measured = Path(recipe.model_name)
    if measured.is_dir():
        require_weights(measured)
    with warnings.catch_warnings():
        # peft goes on without weights that it misses; `require_adapter` does not.
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        policy = prepare_policy(recipe, progress=announce_warm_start(recipe, console))
    require_adapter(policy.model, measured)
    result = evaluate_policy(recipe, policy, folder, console)
    Console().print(curve_table(result, recipe.model_name))
    print(f"samples: {folder / 'samples.jsonl'}")
    return 0


def _fields(words: list[str]) -> dict[str, object]:
    """The fields of the run that the first word names, and of the other words, which win."""
    if not words or words[0].startswith("-"):
        given = read_fields(words)
        model = Path(str(given.get("model_name_or_path", "tiny")))
        default = model / "evals" if model.is_dir() else Path("runs") / f"eval-{model.name}"
        return {**given, "output_dir": option_given(words, "output_dir") or str(default)}
    folder = Path(words[0])
    if not folder.is_dir():
        require_weights(folder)  # which says what there is instead
    of_checkpoint = folder.name.startswith("checkpoint-") and not (folder / "config.yaml").is_file()
    run = folder.parent if of_checkpoint else folder
    config = run / "config.yaml"
    if not config.is_file() and not any(word.startswith("--config") for word in words):
        raise InputError(f"{run} holds no config.yaml; name the recipe with --config, or give a run's folder")
    from_run = read_fields(["--config", str(config)]) if config.is_file() else {}
    from_run.pop("ddp_backend", None)  # of processes that meet; here is one
    return {
        **from_run,
        **read_fields(_with_task(words[1:], from_run)),
        "model_name_or_path": str(folder),
        # A recipe's output_dir is its run's: what is measured now must not replace what the run left there.
        "output_dir": option_given(words, "output_dir") or str(folder / "evals"),
    }


def _with_task(words: list[str], from_run: dict[str, object]) -> list[str]:
    """The task must be known for its parameters to be options."""
    if "task" in from_run and not any(word.startswith(("--task", "--config")) for word in words):
        return [*words, f"--task={from_run['task']}"]
    return words


def curve_table(result: Evaluation, title: str) -> Table:
    """pass@k with intervals, and what else was counted."""
    table = Table(title=title)
    table.add_column("k", justify="right")
    table.add_column("pass@k", justify="right")
    table.add_column(f"{result.confidence:.0%} interval", justify="right")
    for entry in result.pass_at_k:
        table.add_row(str(entry.k), f"{entry.estimate:.4f}", f"{entry.low:.4f} … {entry.high:.4f}")
    errors = sum(problem.errors for problem in result.problems)
    truncated = sum(problem.truncated for problem in result.problems)
    greedy = "" if result.greedy_accuracy is None else f"greedy accuracy {result.greedy_accuracy:.3f}; "
    table.caption = f"{len(result.problems)} problems; {greedy}{truncated} truncated completions, {errors} verifier errors"
    return table
