"""`maxrl probe`."""

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxrl.cli.common import make_console, take_flags
from maxrl.cli.inspect_tables import folded
from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation.groups import ExpectedGroups, HardPrompts
from maxrl.experiments.environment import settle_threads
from maxrl.experiments.fields import help_text, option_given, read_fields
from maxrl.experiments.outlook import Judgement
from maxrl.experiments.probe import ProbeArguments, plan_probe, probe
from maxrl.experiments.probe_plots import bin_label
from maxrl.experiments.probe_records import Probe, Reading
from maxrl.experiments.quiet import quiet_libraries
from maxrl.experiments.recipe import resolved_fields, to_yaml
from maxrl.models import TinyModel
from maxrl.tasks import TASKS, task_class
from maxrl.training.warm_starts import WarmStart

INTRODUCTION = """\
Samples the recipe's model on its task, as training would, and says before
anybody spends a GPU-day what training has to work with: the pass rates of the
prompts; how many groups of N rollouts are dead (no success), mastered (no
failure) or live (both; for the estimators with a baseline the only ones with
signal), estimated without bias from eval_samples ≥ N samples of eval_problems
prompts; the signal of each estimator; the N that hard prompts need; and a
verdict, with reasons and what to change. The verdict does not look at the
estimator.

A recipe's other fields are checked and make no difference here. A success is
training's: with correctness_threshold, and overlong for truncated samples."""

EXAMPLES = """\
examples:
  maxrl probe --config recipes/subset_sum_tiny.yaml
  maxrl probe --config recipes/subset_sum_tiny.yaml \\
    --estimators maxrl grpo "maxrl(order=16)" --n 4,8,16,32,64
  maxrl probe --config recipes/subset_sum_qwen.yaml \\
    --sweep num_elements=4:10 max_value=10,20,50

A sweep measures the model on every combination of the values. A named model is
the same in all of them, trained or not. The tiny model takes its vocabulary
from the task: every combination has one of its own, warmed up to
warm_start_pass_rate, so that pass@1 hardly differs, and what does is how it
spreads over the prompts.

Problems are those of `maxrl eval`; temperature, top_p and top_k are training's.
All goes to --output_dir (runs/probe): probe.json, probe.png, the completions.
What is measured there is not measured again; Ctrl-C loses the setting under
way.

-q           no progress
--dry-run    print the resolved recipe and stop"""

MATTERS = {
    *("task", "cpu_threads", "eval_problems", "eval_samples", "eval_seed"),
    *(item.name for part in (TinyModel, WarmStart) for item in fields(part)),
    *("model_name_or_path", "model_revision", "model_init_kwargs", "trust_remote_code", "dtype"),
    *("attn_implementation", "load_in_8bit", "load_in_4bit", "rollout_backend", "use_cpu"),
    *("num_generations", "advantage_estimator", "advantage_estimator_kwargs"),
    *("correctness_threshold", "overlong", "max_completion_length", "temperature", "top_p", "top_k"),
    "output_dir",
}
"""Fields of a recipe that change what a probe does; with those of the task, its help shows no others."""

SETTING_COLUMNS = 24
"""Columns that a sweep's table has for all swept fields together, one below the other."""

BAR = 24
"""Columns of a bar; the tables fit a terminal of 80."""

NOT_ASKED = {
    "eval_temperature": "probe samples as training does: say --temperature, not --eval_temperature",
    "eval_top_p": "probe samples as training does: say --top_p, not --eval_top_p",
    "eval_top_k": "probe samples as training does: say --top_k, not --eval_top_k",
    "eval_greedy": "probe decodes nothing greedily, as training does not: leave out --eval_greedy",
    "eval_ks": "probe measures no pass@k: say --n for the groups to look at, not --eval_ks",
}
"""Options of evaluations that a probe does not follow → what to do. From a recipe file they are `maxrl eval`'s."""

TABLE_WIDTH = 80

FIELD_COLUMNS = 19
"""Columns that a sweep's table has for the swept fields, with their frames, where each has a column of its own."""

ESTIMATORS_A_TABLE = 5
"""More headings than that in one table would be folded to shreds."""


def run(argv: Sequence[str]) -> int:
    """Probe, print what was found and where it is."""
    if {"-h", "--help"} & set(argv):
        named = option_given(argv, "task")
        own = {
            item.name for task in ([task_class(named)] if named else TASKS.values()) for item in fields(task)
        }
        options = help_text(argv, "maxrl probe", (ProbeArguments,), only=MATTERS | own)
        print(INTRODUCTION, options, EXAMPLES, sep="\n\n")
        return 0
    words, flags = take_flags(argv, "-q", "--quiet", "--dry-run", "--dry_run")
    quiet_libraries()
    for name, instead in NOT_ASKED.items():
        if _is_given(words, name):
            raise InputError(instead)
    given = read_fields(words, (ProbeArguments,))
    # A recipe's output_dir is its run's.
    plan = plan_probe({**given, "output_dir": option_given(words, "output_dir") or "runs/probe"})
    if flags & {"--dry-run", "--dry_run"}:
        asked = {"n": list(plan.rollouts), "estimators": list(plan.estimators)}
        asked |= {"sweep": given["sweep"]} if plan.swept else {}
        print(to_yaml({**asked, **resolved_fields(plan.recipe)}), end="")
        return 0
    console = make_console(quiet=bool(flags & {"-q", "--quiet"}))
    if chosen := settle_threads(plan.recipe.run.cpu_threads):
        console.print(chosen)
    result = probe(plan, command=shlex.join(["maxrl", "probe", *words]), console=console)
    show(result, Console(highlight=False, markup=False))
    folder = Path(plan.recipe.training.output_dir)
    print(f"probe: {folder / 'probe.json'}, {folder / 'probe.png'}")
    failed = [row for row in result.rows if row.error]
    if failed:
        raise MaxRLError(f"{len(failed)} of {len(result.rows)} settings failed; the first: {failed[0].error}")
    return 0


def _is_given(words: Sequence[str], name: str) -> bool:
    """Also without a value, as a switch."""
    spellings = (f"--{name}", f"--{name.replace('_', '-')}")
    return any(word.partition("=")[0] in spellings for word in words)


def show(result: Probe, console: Console) -> None:
    """Print a probe: everything about its only setting, or a row for each."""
    drawn = result.settings
    how = f"{drawn['eval_problems']} prompts × {drawn['eval_samples']} samples, temperature {drawn['eval_temperature']:g}"
    if drawn.get("correctness_threshold") is not None:
        how += f", success above {drawn['correctness_threshold']:g}"
    if drawn.get("overlong", "keep") != "keep":
        how += f", truncated samples {'are failures' if drawn['overlong'] == 'zero' else 'left out'}"
    print(wrapped(f"{result.task} with {result.model}: {how}", console.width))
    if result.swept:
        console.print(sweep_table(result))
        return
    reading = result.rows[0].reading
    assert reading is not None, "the only setting of a probe is measured or an error"
    error = reading.pass_at_1_error
    spread = "" if error is None else f" ± {error:.3f} (standard error over prompts)"
    console.print(f"pass@1 {reading.pass_at_1:.3f}{spread}")
    console.print(histogram_table(reading))
    console.print(groups_table(reading.groups, result.rollouts))
    if result.estimators:
        for start in range(0, len(result.estimators), ESTIMATORS_A_TABLE):
            names = result.estimators[start : start + ESTIMATORS_A_TABLE]
            console.print(signal_table(names, reading.groups, result.rollouts))
        print(wrapped(signal_notes(result, reading), console.width))
    print(wrapped(f"Hard prompts: {hard_sentence(reading.hard)}.", console.width))
    for line in verdict_lines(reading.judgement, result.rollouts):
        print(wrapped(line, console.width))
    print(f"samples: {Path(drawn['output_dir']) / result.rows[0].folder / 'samples.jsonl'}")


def histogram_table(reading: Reading) -> Table:
    """Prompts by pass rate, with bars."""
    most = max(bin_.prompts for bin_ in reading.histogram)
    table = Table(title="prompts by pass rate")
    table.add_column("pass rate", justify="right")
    table.add_column("prompts", justify="right")
    table.add_column("", min_width=BAR)
    for bin_ in reading.histogram:
        bar = "█" * round(BAR * bin_.prompts / most) or ("▏" if bin_.prompts else "")
        table.add_row(bin_label(bin_), str(bin_.prompts), bar)
    return table


def groups_table(groups: Sequence[ExpectedGroups], own: int) -> Table:
    """Dead, live and mastered groups over N, with bars."""
    table = Table(title="groups expected of N rollouts (█ live, ▒ dead, ░ mastered)")
    table.add_column("N", justify="right")
    for kind in ("dead", "live", "mastered"):
        table.add_column(kind, justify="right")
    table.add_column("", min_width=BAR)
    for one in groups:
        live, dead = round(BAR * one.live), round(BAR * (one.live + one.dead))
        bar = "█" * live + "▒" * (dead - live) + "░" * (BAR - dead)
        table.add_row(
            _marked(one.rollouts, own), *(f"{x:.1%}" for x in (one.dead, one.live, one.mastered)), bar
        )
    table.caption = "→ the recipe's num_generations"
    left_out = max(one.prompts for one in groups) - min(one.prompts for one in groups)
    if left_out:
        table.caption += f"; up to {left_out} prompts with fewer verdicts than N are left out"
    return table


def signal_table(estimators: Sequence[str], groups: Sequence[ExpectedGroups], own: int) -> Table:
    """Mean |A| over N, a column for each estimator."""
    table = Table(title="expected signal")
    table.add_column("N", justify="right")
    # Beside N's column of up to 9; two blanks and a line frame each of the others.
    width = (TABLE_WIDTH - 10) // len(estimators) - 3
    for name in estimators:
        table.add_column(Text.from_markup(folded(name, width)), justify="right")
    for one in groups:
        signals = [one.signal[name] for name in estimators]
        table.add_row(_marked(one.rollouts, own), *("—" if s is None else f"{s:.3f}" for s in signals))
    return table


def signal_notes(result: Probe, reading: Reading) -> str:
    """How to read the table of signals."""
    notes = [
        "Signal is the mean |A| of a rollout; compare within a column, the learning rate absorbs an estimator's scale."
    ]
    if any(signal is None for one in reading.groups for signal in one.signal.values()):
        notes.append("—: the estimator needs more rollouts.")
    if result.over_batch:
        notes.append(f"{', '.join(result.over_batch)}: as if each group were a batch.")
    return " ".join(notes)


def _marked(rollouts: int, own: int) -> str:
    return f"→ {rollouts}" if rollouts == own else str(rollouts)


def hard_sentence(hard: HardPrompts) -> str:
    """What the prompts that fail more often than they succeed need."""
    if hard.median is None:
        return "none; every prompt succeeds at least every second time"
    who = f"{hard.prompts} succeed less than every second time; the median one"
    if hard.prompts == 1:
        who = "1 succeeds less than every second time; it"
    if hard.never_in is not None:
        assert hard.at_most is not None, "comes with never_in"
        return (
            f"{who} never did in {hard.never_in} samples. Its pass rate is below {hard.at_most:.1%} (95 % confidence), so "
            f"that half of its groups can be live from N = {hard.at_least} on at the earliest; as far as was seen it takes "
            f"more than {hard.never_in}"
        )
    return f"{who} has pass rate {hard.median:.1%}, and half of its groups are live from N = {hard.rollouts_to_live} on"


def live_from(hard: HardPrompts) -> str:
    """The N at which the median hard prompt becomes live, in a word."""
    if hard.never_in is not None:
        return f"> {hard.never_in}"
    return "—" if hard.rollouts_to_live is None else str(hard.rollouts_to_live)


def verdict_lines(judgement: Judgement, rollouts: int) -> list[str]:
    """The verdict, its reasons, and what to change."""
    words = {
        "likely": "is likely to help",
        "doubtful": f"may help, with doubts ({judgement.why})",
        "unlikely": f"is unlikely to help ({judgement.why})",
    }
    advice = (
        ["What would change it:", *(f"- {text}" for text in judgement.advice)] if judgement.advice else []
    )
    reasons = [f"- {text}" for text in judgement.reasons]
    return [f"Training with N = {rollouts} {words[judgement.outlook]}:", *reasons, *advice]


def wrapped(line: str, width: int) -> str:
    """A line that breaks where the terminal ends."""
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def sweep_table(result: Probe) -> Table:
    """A row for each setting, at the recipe's N; fields that leave no room for the rest share a column."""
    table = Table(title=f"at the recipe's N = {result.rollouts}")
    words = [[*name.split("_"), *map(str, values)] for name, values in result.swept.items()]
    apart = sum(max(map(len, both)) + 3 for both in words) <= FIELD_COLUMNS
    for name in result.swept if apart else ():
        table.add_column(name.replace("_", "_\n"), justify="right")
    if not apart:
        table.add_column("setting", no_wrap=True)
        table.show_lines = True  # a setting takes several
    kinds = ("dead", "live", "mastered") if apart else ("dead", "live")
    for title in ("pass@1", *kinds, "hard live\nfrom N"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("training helps", min_width=11)
    for row in result.rows:
        own: list[str | Text] = [str(value) for value in row.fields.values()]
        if not apart:
            lines = [folded(f"{name}={value}", SETTING_COLUMNS) for name, value in row.fields.items()]
            own = [Text.from_markup("\n".join(lines))]
        if row.reading is None:
            table.add_row(*own, *[""] * (2 + len(kinds)), "failed")
            continue
        one, judgement = row.reading.at(result.rollouts), row.reading.judgement
        verdict = (
            judgement.outlook if judgement.outlook == "likely" else f"{judgement.outlook}: {judgement.why}"
        )
        shares = [f"{getattr(one, kind):.0%}" for kind in kinds]
        table.add_row(*own, f"{row.reading.pass_at_1:.3f}", *shares, live_from(row.reading.hard), verdict)
    table.caption = "hard live from N: for half the groups of the median hard prompt to be live"
    return table
