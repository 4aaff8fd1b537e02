"""What the commands share: words that every one of them takes, and where they write."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from maxrl.errors import InputError


class CommandParser(argparse.ArgumentParser):
    """Options of a command: no abbreviations, texts as they are written, and errors in one line, as everywhere."""

    def __init__(self, *, prog: str, description: str = "", epilog: str = "", add_help: bool = True) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            add_help=add_help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (`{self.prog} --help` explains)")


def take_flags(argv: Sequence[str], *flags: str) -> tuple[list[str], set[str]]:
    """Take switches such as `-q` and `--dry-run` out of the words; they are no fields of a recipe."""
    found = {word for word in argv if word in flags}
    return [word for word in argv if word not in flags], found


def make_console(*, quiet: bool) -> Console:
    """Progress and remarks go to standard error, results to standard output."""
    return Console(stderr=True, quiet=quiet, highlight=False)
