"""Pages of any template, escaped in both forms, and replaced as a whole; what stands on the terminal."""

import sys
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from rich.console import Console

from maxrl.experiments.pages import percent_table, two_lines, write_pages


def shout(text: str) -> str:
    return text.upper()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose templates use a filter of its own, a shared one and the shared style sheet."""
    name = "package_with_pages"
    templates = tmp_path / name / "templates"
    templates.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (templates / "page.html.j2").write_text(
        "<style>{% include 'report.css' %}</style><p>{{ title | shout }} {{ 0.5 | percent }}</p>{{ figures.one }}"
    )
    (templates / "page.md.j2").write_text("{{ title | shout }} {{ title | code_cell }} {{ more }}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_both_forms_are_written_and_escaped(package: str, tmp_path: Path) -> None:
    facts, figures = {"title": "a <b> | *c*", "more": 1}, {"one": Markup("<svg/>")}
    html, markdown = write_pages(
        tmp_path / "new" / "folder", "page", facts, figures, package=package, filters=(shout,)
    )
    assert [html.name, markdown.name] == ["report.html", "report.md"]
    assert "<p>A &lt;B&gt; | *C* 50.0</p><svg/>" in html.read_text()
    assert "--arm-0" in html.read_text(), "the shared style sheet"
    assert markdown.read_text() == "A \\<B\\> \\| \\*C\\* `a <b> \\| *c*` 1\n"
    assert sorted(path.name for path in html.parent.iterdir()) == ["report.html", "report.md"]


def test_a_page_that_cannot_be_made_leaves_both_as_they_were(package: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_pages(folder, "page", {"title": "old", "more": 1}, {"one": ""}, package=package, filters=(shout,))
    with pytest.raises(UndefinedError, match="'more' is undefined"):
        write_pages(folder, "page", {"title": "new"}, {"one": ""}, package=package, filters=(shout,))
    assert "OLD" in (folder / "report.html").read_text()


def test_a_page_is_replaced_as_a_whole(package: str, tmp_path: Path) -> None:
    """Who reads the old one while the new one is written reads it to its end."""
    facts = {"title": "old", "more": 1}
    _, markdown = write_pages(tmp_path, "page", facts, {"one": ""}, package=package, filters=(shout,))
    with markdown.open() as reader:
        write_pages(
            tmp_path, "page", {**facts, "title": "new"}, {"one": ""}, package=package, filters=(shout,)
        )
        assert reader.read() == "OLD `old` 1\n"
    assert markdown.read_text() == "NEW `new` 1\n"


def test_a_table_has_names_left_and_figures_right_and_takes_no_markup() -> None:
    table = percent_table("[b]title", "a caption", ["pass@1"])
    table.add_row(two_lines("[i]arm", "seed 0"), two_lines("51.0", "50.0–52.0", "bold"))
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[0].strip() == "[b]title"
    row = next(index for index, line in enumerate(lines) if "[i]arm" in line)
    assert lines[row].endswith("51.0")
    assert lines[row + 1].lstrip().startswith("seed 0")
    assert lines[row + 1].endswith("50.0–52.0")
    assert len(lines[row]) == len(lines[row + 1])
