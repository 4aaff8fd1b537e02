"""Options of a notebook: what its widgets begin with, and what its script takes after `--`.

And what widgets begin with that the page makes anew: what the reader had chosen.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Generic, NoReturn, TypeVar

from maxrl.errors import InputError, MaxRLError

Found = TypeVar("Found")

Flags = Mapping[str, tuple[Any, str]]
"""Name → default, whose type is the option's, and help."""


class ScriptParser(argparse.ArgumentParser):
    """Options of a notebook run as a script, whose errors are `InputError`s."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (-- --help shows what there is)")


def read_flags(argv: Sequence[str], prog: str, description: str, flags: Flags) -> SimpleNamespace:
    """The options of a notebook, given or default.

    Args:
        argv: the words after the notebook's name; a `--` among them is skipped.
        prog: the notebook's file.
        description: what it does.
        flags: its options.

    Raises:
        InputError: an unknown option, or a value of the wrong type.
        SystemExit: `--help`, after it was printed.
    """
    parser = ScriptParser(prog=prog, description=description, allow_abbrev=False)
    for name, (default, what) in flags.items():
        shown = f"{what} (default {default})" if default not in (None, "") else what
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=default,
            type=Path if default is None else type(default),
            metavar={int: "N", float: "X"}.get(type(default), "TEXT"),
            help=shown.replace("%", "%%"),
        )
    words = [word for word in argv if word != "--"]
    for index in range(len(words) - 1, 0, -1):  # argparse takes some negative numbers for options
        if words[index - 1].startswith("--") and "=" not in words[index - 1] and _is_number(words[index]):
            words[index - 1 : index + 1] = [f"{words[index - 1]}={words[index]}"]
    return SimpleNamespace(**vars(parser.parse_args(words)))


def or_exit(make: Callable[[], Found]) -> Found:
    """What `make` returns; an error raised on purpose ends a script with one line, and status 2 (1 for a failure)."""
    try:
        return make()
    except MaxRLError as error:
        bad_input = isinstance(error, InputError)
        print(f"{'error' if bad_input else 'failed'}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2 if bad_input else 1) from None


def with_value(offered: Iterable[Any], value: Any) -> list[Any]:
    """What a widget offers, with a value among it that was asked for; numbers in order."""
    values = list(dict.fromkeys([*offered, *([] if value is None else [value])]))
    return values if any(isinstance(one, str) for one in values) else sorted(values)


class Kept(Generic[Found]):
    """What a reader has chosen in a widget, for the one that takes its place when what it offers is read anew.

    No cell reacts to it, unlike to marimo's state, which would make the widget anew at every choice.
    """

    def __init__(self) -> None:
        self._value: Found | None = None

    def keep(self, value: Found) -> None:
        """For a widget's `on_change`."""
        self._value = value

    def among(self, offered: Collection[Found], otherwise: Found) -> Found:
        """What was chosen, as long as it is offered."""
        return self._value if self._value is not None and self._value in offered else otherwise


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
