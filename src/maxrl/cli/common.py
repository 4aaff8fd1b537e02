"""What the commands share: words that every one of them takes, and where they write."""

from collections.abc import Sequence

from rich.console import Console


def take_flags(argv: Sequence[str], *flags: str) -> tuple[list[str], set[str]]:
    """Take switches such as `-q` and `--dry-run` out of the words; they are no fields of a recipe."""
    found = {word for word in argv if word in flags}
    return [word for word in argv if word not in flags], found


def make_console(*, quiet: bool) -> Console:
    """Progress and remarks go to standard error, results to standard output."""
    return Console(stderr=True, quiet=quiet, highlight=False)
