"""Files that appear under their name only when they are complete."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def atomic_text(path: Path) -> Generator[TextIO, None, None]:
    """Open a text file for writing; it replaces `path` when the block ends without an error.

    Missing folders are made. A process killed in between leaves the old file, and a `….partial` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as sink:
        yield sink
    os.replace(partial, path)
