"""What the commands share: words that every one of them takes, and quiet libraries."""

import logging
import warnings
from collections.abc import Sequence

import datasets
import transformers
from rich.console import Console


def take_flags(argv: Sequence[str], *flags: str) -> tuple[list[str], set[str]]:
    """Take switches such as `-q` and `--dry-run` out of the words; they are no fields of a recipe."""
    found = {word for word in argv if word in flags}
    return [word for word in argv if word not in flags], found


def quiet_libraries() -> None:
    """Hide progress bars and deprecation notes that are not about the user's own doing."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|torch|peft)\.")
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def make_console(*, quiet: bool) -> Console:
    """Progress and remarks go to standard error, results to standard output."""
    return Console(stderr=True, quiet=quiet, highlight=False)
