"""How every command shows its results: pages in HTML and Markdown, tables and bars on the terminal."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from maxrl.evaluation.files import atomic_text
from maxrl.experiments.wording import duration, percent, plain, points, seed_names

Filter = Callable[..., object]

# ---------------------------------------------------------------------------------------------------------
# Pages
# ---------------------------------------------------------------------------------------------------------


def write_pages(
    folder: Path,
    template: str,
    facts: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    package: str = "maxrl.experiments",
    filters: Sequence[Filter] = (),
) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` into `folder` (made if missing), each when it is complete; return their paths.

    Args:
        folder: where the pages go.
        template: `{template}.html.j2` and `{template}.md.j2`, in the templates of `package`; they may include those of
            `maxrl.experiments`, as the style sheet.
        facts: what both templates are given.
        figures: what the HTML is given beside them, as `figures`; markup must say that it is one (`Markup`).
        package: whose templates.
        filters: functions that the templates use by name, beside `FILTERS`.
    """
    html, markdown = _environments(package, tuple(filters))
    pages = {
        folder / "report.html": html.get_template(f"{template}.html.j2").render(**facts, figures=figures),
        folder / "report.md": markdown.get_template(f"{template}.md.j2").render(**facts),
    }
    for path, text in pages.items():
        with atomic_text(path) as sink:
            sink.write(text)
    return folder / "report.html", folder / "report.md"


def escape_markdown(value: object) -> str:
    """Text as GitHub shows it literally, on one line, also inside a table; `Markup` passes as it is."""
    if isinstance(value, Markup):
        return str(value)
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", _one_line(value))


def _one_line(value: object) -> str:
    return re.sub(r"[ \t\r\n]+", " ", str(value)).strip(" ")  # thin spaces stay


def code_cell(value: object) -> Markup:
    """Text as inline code for a table cell."""
    text = _one_line(value).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{ticks}{pad}{text}{pad}{ticks}" if text else "—")


def fenced(value: object) -> Markup:
    """Text as a code block."""
    text = str(value).strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{fence}text\n{text}\n{fence}")


FILTERS: tuple[Filter, ...] = (code_cell, duration, fenced, percent, plain, points, seed_names)
"""What every template may use."""


@cache
def _environments(package: str, filters: tuple[Filter, ...]) -> tuple[Environment, Environment]:
    """For HTML and for Markdown."""
    packages = dict.fromkeys((package, "maxrl.experiments"))
    options: dict[str, Any] = {
        "loader": ChoiceLoader([PackageLoader(name) for name in packages]),
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    found = Environment(**options, autoescape=True), Environment(**options, finalize=escape_markdown)
    for environment in found:
        environment.filters.update({function.__name__: function for function in (*FILTERS, *filters)})
    return found


# ---------------------------------------------------------------------------------------------------------
# The terminal
# ---------------------------------------------------------------------------------------------------------


def percent_table(title: str, caption: str, columns: Sequence[str]) -> Table:
    """A table without rows yet, for a terminal of 80 columns: names to the left, shares in % to the right."""
    table = Table(
        title=Text(title), caption=Text(caption), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False
    )
    table.add_column("%", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def two_lines(value: str, below: str, style: str = "") -> Text:
    """A cell: a value, and in the next line how far it can be trusted."""
    return Text.assemble((value, style), "\n", (below, "dim"))


def new_progress(console: Console) -> Progress:
    """A bar as all our commands draw it; tasks carry a `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
