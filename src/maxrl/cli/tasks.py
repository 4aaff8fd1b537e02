"""`maxrl tasks`."""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn

from rich.console import Console
from rich.table import Table
from transformers.hf_argparser import HfArgumentParser

from maxrl.cli.common import make_console
from maxrl.errors import InputError, MaxRLError, unknown_name
from maxrl.evaluation.files import atomic_text
from maxrl.tasks import TASKS, Example, Task, get_task, judge, task_class
from maxrl.tasks.throughput import completions_per_second

HELP = """\
usage: maxrl tasks list
       maxrl tasks show NAME [--n 3] [--split train] [--seed 0] [--svg FILE] [--PARAMETER VALUE …]
       maxrl tasks check [NAME] [--problems 1000] [--seed 0] [--PARAMETER VALUE …]

list    every task: what it asks, how many problems it has, what this machine lacks for it
show    problems as the model sees them, the hidden truth, a right answer with its verdict, and a picture
check   the verifier proves itself: right answers accepted, corrupted ones refused; and how fast it is

NAME is a task of maxrl's, or your own: my_task.py, my_task.py:Class, or module:Class.

examples:
  maxrl tasks show maze --maze_size 9 --n 1 --svg maze.svg
  maxrl tasks check subset_sum --problems 10000
  maxrl tasks check                                   all tasks, as far as they need no network
  maxrl tasks show my_task.py --help                  the parameters of a task"""

ACTIONS = ("list", "show", "check")


@dataclass(frozen=True, kw_only=True)
class _Show:
    n: int = field(default=3, metadata={"help": "problems to show"})
    split: Literal["train", "eval"] = field(default="train", metadata={"help": "of which split"})
    seed: int = field(default=0, metadata={"help": "of the problems"})
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
    table = Table(show_header=True)
    for title in ("task", "what it asks", "problems", "here"):
        table.add_column(title)
    for name, cls in TASKS.items():
        summary = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        task = get_task(name, **cls.check_parameters)
        sizes = {task.size("train"), task.size("eval")}
        # With parameters for a check a data set is a small one; what it has otherwise is not known before it is loaded.
        amount = "data set" if None not in sizes else "endless"
        table.add_row(name, summary, amount, task.missing() or "ready")
    Console().print(table)
    print("maxrl tasks show NAME --help lists a task's parameters")


def _show(name: str, words: Sequence[str]) -> None:
    options, task = _parsed(_Show, name, words, "show")
    if options.n < 1:
        raise InputError(f"--n must be at least 1, but is {options.n}")
    size = task.size(options.split)
    examples = task.examples(options.split, min(options.n, size or options.n), seed=options.seed)
    for example in examples:
        _print_example(task, example)
    if options.svg is not None:
        draw = getattr(task, "svg", None)
        if draw is None:
            raise InputError(f"task {task.name} draws no SVG; leave out --svg")
        with atomic_text(Path(options.svg)) as sink:
            sink.write(draw(examples[0], _golds(task, examples[0])))
        print(f"drawn: {options.svg}")


def _print_example(task: Task, example: Example) -> None:
    print(f"── {example.id} " + "─" * max(0, 76 - len(example.id)))
    if isinstance(example.prompt, str):
        print(example.prompt)
    else:
        for message in example.prompt:
            print(f"{message['role']}: {message['content']}")
    print(f"\nhidden truth: {dict(example.truth)}")
    golds = _golds(task, example)
    if lacks := task.missing():
        print(f"no verdict: {lacks}")
    else:
        for gold in golds:
            (verdict,) = judge(task, [example.truth], [gold])
            told = f"error: {verdict.error}" if verdict.error else f"reward {verdict.reward:g}"
            components = "".join(f"\n    {key}: {value:g}" for key, value in verdict.components.items())
            print(f"\na right answer ({told}):{components}\n{gold}")
    picture = task.picture(example, golds)
    if picture:
        print(f"\n{picture}")
    print()


def _golds(task: Task, example: Example) -> list[str]:
    return [task.demonstration(example)] if task.can_demonstrate() else []


def _check(name: str | None, words: Sequence[str]) -> None:
    if name is None:
        parser = _Parser([_Check])  # pyright: ignore[reportArgumentType]
        (options,) = parser.parse_args_into_dataclasses(list(words))
        tasks = [get_task(each, **TASKS[each].check_parameters) for each in TASKS]
    else:
        options, task = _parsed(_Check, name, words, "check", task_class(name).check_parameters)
        if lacks := task.missing():
            raise MaxRLError(f"task {name} cannot be checked here: {lacks}")
        tasks = [task]
    console = make_console(quiet=False)
    table = Table(show_header=True)
    for title in ("task", "right accepted", "wrong refused", "ways", "per second", ""):
        left = title in ("task", "")
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    wrong: list[str] = []
    for task in tasks:
        if lacks := task.missing():
            table.add_row(task.name, "", "", "", "", lacks)
            continue
        if not task.can_demonstrate():
            table.add_row(task.name, "", "", "", "", "has no demonstrations to check with")
            continue
        with console.status(f"checking {task.name}"):
            started = time.perf_counter()
            found = task.self_check(options.problems, seed=options.seed)
            rate = completions_per_second(task, min(found.problems, 200), seed=options.seed)
        table.add_row(
            task.name,
            f"{found.accepted:,}/{found.problems:,}",
            f"{sum(found.refused.values()):,}/{sum(found.tried.values()):,}",
            str(len(found.tried)),
            f"{rate:,.0f}",
            f"{'passed' if found.passed else 'FAILED'}, {time.perf_counter() - started:.1f} s",
        )
        wrong += [f"{task.name}: {failure}" for failure in found.failures]
    Console().print(table)
    for failure in wrong:
        print(failure)
    if wrong:
        raise MaxRLError(f"{len(wrong)} wrong verdicts are listed above: do not train on these verifiers")


def _parsed(
    options: type,
    name: str,
    words: Sequence[str],
    action: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Any, Task]:
    """The options of the command, and the task with the parameters that the words give, else `defaults`."""
    cls = task_class(name)
    parser = _Parser([options, cls], prog=f"maxrl tasks {action} {name}", allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    parser.set_defaults(**defaults)
    given, rest = parser.parse_known_args(list(words))
    if rest:
        known = [option for act in parser._actions for option in act.option_strings]
        raise unknown_name("option", rest[0].split("=")[0], known)
    asked = vars(given)
    own = {key: value for key, value in asked.items() if key in options.__dataclass_fields__}
    return options(**own), get_task(name, **{key: value for key, value in asked.items() if key not in own})


class _Parser(HfArgumentParser):
    """With errors instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)
