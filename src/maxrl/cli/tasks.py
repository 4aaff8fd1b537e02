"""`maxrl tasks`."""

import inspect
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn, cast

from rich import box
from rich.console import Console
from rich.table import Table
from transformers.hf_argparser import HfArgumentParser

from maxrl.cli.common import make_console
from maxrl.errors import InputError, MaxRLError, unknown_name
from maxrl.tasks import TASKS, Example, Task, get_task, judge, task_class
from maxrl.tasks.base import draw_examples
from maxrl.tasks.throughput import completions_per_second

HELP = """\
usage: maxrl tasks list
       maxrl tasks show NAME [--n 3] [--split train] [--seed 0] [--samples FILE] [--svg FILE] [--PARAMETER VALUE …]
       maxrl tasks check [NAME] [--problems 1000] [--seed 0] [--PARAMETER VALUE …]

list    every task: what it asks, how many problems it has, what this machine lacks for it
show    problems as the model sees them, the hidden truth, a right answer with its verdict, and a picture; with
        --samples what a model sampled for them instead: the samples.jsonl of a run or of `maxrl eval`
check   the verifier proves itself: right answers accepted, corrupted ones refused; and how fast it is

NAME is a task of maxrl's, or your own: my_task.py, my_task.py:Class, or module:Class.

examples:
  maxrl tasks show maze --maze_size 9 --n 1 --svg maze.svg
  maxrl tasks show maze --maze_size 9 --samples runs/maze-tiny-maxrl/samples.jsonl --n 1
  maxrl tasks check subset_sum --problems 10000
  maxrl tasks check                                   all tasks, as far as they need no network
  maxrl tasks show my_task.py --help                  the parameters of a task"""

ACTIONS = ("list", "show", "check")


@dataclass(frozen=True, kw_only=True)
class _Show:
    n: int = field(default=3, metadata={"help": "problems to show"})
    split: Literal["train", "eval"] | None = field(
        default=None, metadata={"help": "of which split; by default train, and eval with --samples"}
    )
    seed: int = field(default=0, metadata={"help": "of the problems"})
    samples: str | None = field(
        default=None,
        metadata={"help": "completions to show with the problems they are for: the samples.jsonl of a run"},
    )
    svg: str | None = field(
        default=None, metadata={"help": "where to draw the first problem, if it can be drawn"}
    )


@dataclass(frozen=True, kw_only=True)
class _Check:
    problems: int = field(
        default=1000, metadata={"help": "problems to generate; a data set gives all it has"}
    )
    seed: int = field(default=0, metadata={"help": "of the problems"})


def run(argv: Sequence[str]) -> int:
    """List, show or check tasks; a check that fails ends with status 1."""
    action = argv[0] if argv else "--help"
    named = len(argv) > 1 and not argv[1].startswith("-")
    if action in ("-h", "--help") or ({"-h", "--help"} & set(argv) and not named):
        print(HELP)
        return 0 if argv else 2
    if action not in ACTIONS:
        raise unknown_name("action of maxrl tasks", action, ACTIONS)
    name, words = (argv[1], argv[2:]) if named else (None, argv[1:])
    if action == "list":
        if len(argv) > 1:
            raise InputError(f"maxrl tasks list takes no options, but got '{argv[1]}'")
        _list()
    elif action == "show":
        if name is None:
            raise InputError(
                f"maxrl tasks show needs the name of a task: {', '.join(TASKS)}, or your own file"
            )
        _show(name, words)
    else:
        _check(name, words)
    return 0


def _list() -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("task", "what it asks", "problems", "here"):
        table.add_column(title)
    for name, cls in TASKS.items():
        summary = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        task = get_task(name, **cls.check_parameters)
        here = "ready; its data from the Hub or a file" if task.check_parameters else "ready"
        table.add_row(name, summary, _amount(task), task.missing() or here)
    Console().print(table)
    print("maxrl tasks show NAME --help lists a task's parameters")


def _amount(task: Task) -> str:
    sizes = task.size("train"), task.size("eval")
    if task.check_parameters and None not in sizes:
        return "a data set"  # how large is not known before it is loaded
    return "endless" if None in sizes else f"{sizes[0]} + {sizes[1]} for evaluation"


def _show(name: str, words: Sequence[str]) -> None:
    options, task = _parsed(_Show, name, words, "show")
    if options.n < 1:
        raise InputError(f"--n must be at least 1, but is {options.n}")
    draw = getattr(task, "svg", None)
    if options.svg is not None and draw is None:
        raise InputError(f"task {task.name} draws no SVG; leave out --svg")
    if options.svg is not None and Path(options.svg).is_dir():
        raise InputError(f"--svg {options.svg} is a folder; give the name of a file")
    split = options.split or ("eval" if options.samples else "train")
    size = task.size(split)
    examples = draw_examples(task, split, min(options.n, size or options.n), seed=options.seed)
    sampled = _sampled(options.samples, examples) if options.samples else {}
    for example in examples:
        _print_example(task, example, sampled.get(example.id) if options.samples else None)
    if len(examples) < options.n:
        print(f"{split} has {len(examples)} problems; all are shown")
    if options.svg is not None:
        ways = sampled.get(examples[0].id, []) if options.samples else _golds(task, examples[0])
        Path(options.svg).write_text(draw(examples[0], ways), encoding="utf-8")
        print(f"drawn: {options.svg}")


def _sampled(file: str, examples: Sequence[Example]) -> dict[str, list[str]]:
    """The completions in a samples.jsonl that are for these problems, by their ids."""
    wanted = {example.id: example.prompt for example in examples}
    found: dict[str, list[str]] = {}
    for number, line in enumerate(Path(file).read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            id_, prompt, completion = row["id"], row["prompt"], row["completion"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file}, line {number} is no sample ({type(error).__name__}: {error}); give the samples.jsonl of a run"
            ) from error
        if wanted.get(id_) == prompt:
            found.setdefault(id_, []).append(completion)
    if not found:
        raise InputError(
            f"{file} has nothing for these problems; give the parameters of the task, --split and --seed as they were when "
            "it was sampled (config.yaml beside it has them; seed is eval_seed)"
        )
    return found


def _print_example(task: Task, example: Example, sampled: Sequence[str] | None) -> None:
    """A problem and its right answer; or, where there are samples, what became of them."""
    print(f"── {example.id} " + "─" * max(0, 76 - len(example.id)))
    if isinstance(example.prompt, str):
        print(example.prompt)
    else:
        for message in example.prompt:
            print(f"{message['role']}: {message['content']}")
    print(f"\nhidden truth: {dict(example.truth)}")
    answers = _golds(task, example) if sampled is None else sampled
    if lacks := task.missing():
        print(f"no verdict: {lacks}")
    elif sampled is None:
        _print_golds(task, example, answers)
    else:
        _print_outcomes(task, example, sampled)
    picture = task.picture(example, answers)
    if picture:
        print(f"\n{picture}")
    print()


def _print_golds(task: Task, example: Example, golds: Sequence[str]) -> None:
    for gold, verdict in zip(golds, judge(task, [example.truth] * len(golds), golds), strict=True):
        told = f"error: {verdict.error}" if verdict.error else f"reward {verdict.reward:g}"
        components = "".join(f"\n    {key}: {value:g}" for key, value in verdict.components.items())
        print(f"\na right answer ({told}):{components}\n{gold}")


def _print_outcomes(task: Task, example: Example, sampled: Sequence[str]) -> None:
    verdicts = judge(task, [example.truth] * len(sampled), sampled)
    outcomes = Counter("right" if verdict.success else verdict.reason or "error" for verdict in verdicts)
    counted = ", ".join(f"{many} {outcome}" for outcome, many in outcomes.most_common())
    print(f"\n{len(sampled)} sampled: {counted or 'nothing'}")
    shown = {verdict.success: text for verdict, text in zip(verdicts, sampled, strict=True)}
    for success, text in sorted(shown.items(), reverse=True):
        print(f"\none that is {'right' if success else 'not'}:\n{text}")


def _golds(task: Task, example: Example) -> list[str]:
    return [task.demonstration(example)] if task.can_demonstrate() else []


def _check(name: str | None, words: Sequence[str]) -> None:
    if name is None:
        parser = _Parser([_Check], prog="maxrl tasks check", allow_abbrev=False)  # pyright: ignore[reportArgumentType]
        options = _Check(**vars(_known(parser, words)))
        tasks = [get_task(each, **TASKS[each].check_parameters) for each in TASKS]
    else:
        options, task = _parsed(_Check, name, words, "check", task_class(name).check_parameters)
        if lacks := task.missing():
            raise MaxRLError(f"task {name} cannot be checked here: {lacks}")
        tasks = [task]
    if options.problems < 1:
        raise InputError(f"--problems must be at least 1, but is {options.problems}")
    console = make_console(quiet=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for title in ("task", "right accepted", "wrong refused", "ways", "per second", ""):
        table.add_column(title, justify="left" if title in ("task", "") else "right", overflow="fold")
    wrong: list[str] = []
    for task in tasks:
        with console.status(f"checking {task.name}"):
            row, failures = _checked(task, options)
        table.add_row(task.name, *row)
        wrong += [f"{task.name}: {failure}" for failure in failures]
    Console().print(table)
    for failure in wrong:
        print(failure)
    if wrong:
        raise MaxRLError(f"{len(wrong)} wrong verdicts are listed above: do not train on these verifiers")


def _checked(task: Task, options: _Check) -> tuple[list[str], Sequence[str]]:
    """A row of the table behind the task's name, and the failures to be told below it."""
    if lacks := task.missing():
        return ["", "", "", "", lacks], []
    if not task.can_demonstrate():
        return ["", "", "", "", "has no demonstrations to check with"], []
    found = task.self_check(options.problems, seed=options.seed)
    rate = completions_per_second(task, min(found.problems, 200), seed=options.seed)
    return [
        f"{found.accepted:,}/{found.problems:,}",
        f"{sum(found.refused.values()):,}/{sum(found.tried.values()):,}",
        str(len(found.tried)),
        f"{rate:,.0f}",
        "passed" if found.passed else "FAILED",
    ], found.failures


def _parsed(
    options: type,
    name: str,
    words: Sequence[str],
    action: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Any, Task]:
    """The options of the command, and the task with the parameters that the words give, else `defaults`."""
    cls = task_class(name)
    taken = sorted(
        {item.name for item in fields(cast(Any, cls)) if item.init} & options.__dataclass_fields__.keys()
    )
    if taken:
        raise InputError(
            f"task {name} has a parameter named {', '.join(taken)}, which is an option of maxrl tasks {action}; give it "
            "another name"
        )
    parser = _Parser([options, cls], prog=f"maxrl tasks {action} {name}", allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    parser.set_defaults(**defaults)
    asked = vars(_known(parser, words))
    own = {key: value for key, value in asked.items() if key in options.__dataclass_fields__}
    return options(**own), get_task(name, **{key: value for key, value in asked.items() if key not in own})


def _known(parser: "_Parser", words: Sequence[str]) -> Namespace:
    """The words as options; the first that is none is refused."""
    given, rest = parser.parse_known_args(list(words))
    if rest and not rest[0].startswith("-"):
        raise InputError(f"{parser.prog} takes options alone, but got '{rest[0]}'")
    if rest:
        # Each has a spelling with dashes, too, which need not be listed.
        known = [option for act in parser._actions for option in act.option_strings[:1]]
        raise unknown_name("option", rest[0].split("=")[0], known)
    return given


class _Parser(HfArgumentParser):
    """With errors instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)
