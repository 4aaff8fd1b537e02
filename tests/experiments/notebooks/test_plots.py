"""Markup that notebooks show inline."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from maxrl.errors import InputError
from maxrl.experiments.notebooks import plots as pictures
from maxrl.experiments.notebooks.flags import Kept, or_exit, read_flags, with_value
from maxrl.experiments.notebooks.toy import RaceSettings, race


def test_a_figure_brings_the_colours_of_both_themes() -> None:
    markup = pictures.race_figure(race(["maxrl", "grpo"], RaceSettings(steps=3, repeats=2)))
    used = set(re.findall(r"var\((--[\w-]+)\)", markup))
    assert {"--arm-0", "--arm-1", "--grid"} <= used <= set(pictures.COLOURS)
    for name, (light, dark) in pictures.COLOURS.items():
        assert f"{name}:light-dark({light},{dark})" in markup
    assert "currentColor" in markup
    ends = [lane.expected[-1] for lane in race(["maxrl", "grpo"], RaceSettings(steps=3, repeats=2))]
    assert f'data-end="{ends[0]:.4f},{ends[1]:.4f}"' in markup
    ElementTree.fromstring(markup.replace("xlink:href", "href"))


def test_a_figure_as_a_file(tmp_path: Path) -> None:
    markup = pictures.race_figure(race(["maxrl"], RaceSettings(steps=3, repeats=2)))
    path = pictures.save_figure(markup, tmp_path / "new" / "race.svg")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in path.read_text()
    assert "light-dark" not in path.read_text()


def test_tables_escape_what_they_show() -> None:
    markup = pictures.table(["a", "b"], [["<x>", 1], ["y", "2 & 3"]])
    assert "&lt;x&gt;" in markup
    assert "2 &amp; 3" in markup
    assert "<x>" not in markup
    assert len(re.findall("<tr>", markup)) == 3


def test_scores_at_the_start() -> None:
    settings = RaceSettings(theta0=-1.0, difficulty=3.0)
    head, rows = pictures.score_rows(settings, race(["maxrl"], settings))
    assert head == ["d = 3", "with S", "with r − σ(θ)"]
    assert float(rows[0][1]) == 0
    assert float(rows[0][2]) == pytest.approx(settings.p0 - 0.268941, abs=1e-5)
    assert rows[1][1] != rows[1][2]
    settings = RaceSettings(theta0=-1.0)
    [[_, right, naive], *others] = pictures.score_rows(settings, race(["maxrl"], settings))[1]
    assert float(right) == float(naive) == 0
    assert all(row[1] == row[2] for row in others)


def test_rows_of_a_race() -> None:
    lanes = race(["maxrl", "rloo"], RaceSettings())
    _, rows = pictures.race_rows(lanes)
    assert [row[0] for row in rows] == ["maxrl", "rloo"]
    assert rows[0][1] == f"{lanes[0].expected[-1]:.3f}"
    low, middle, high = (path[-1] for path in lanes[0].quantiles(0.05, 0.5, 0.95))
    assert rows[0][2] == f"{middle:.3f} ({low:.3f} … {high:.3f})"
    assert rows[1][3] == "never"


FLAGS = {
    "n": (16, "rollouts"),
    "rate": (0.5, "a rate of 5 %"),
    "name": ("x", "a name"),
    "folder": (None, "where"),
}


def test_flags_have_the_types_of_their_defaults() -> None:
    found = read_flags(["--", "--n", "4", "--rate", "-1e-3", "--folder", "here"], "x.py", "about", FLAGS)
    assert (found.n, found.rate, found.name, found.folder) == (4, -0.001, "x", Path("here"))
    assert read_flags([], "x.py", "about", FLAGS).folder is None


@pytest.mark.parametrize(
    ("words", "message"), [(["--n", "x"], "invalid int value"), (["--m", "1"], "unrecognized")]
)
def test_wrong_flags(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_flags(words, "x.py", "about", FLAGS)


def test_flags_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_flags(["--help"], "x.py", "about", FLAGS)
    text = capsys.readouterr().out
    assert "rollouts (default 16)" in text
    assert "a rate of 5 % (default 0.5)" in text


def test_a_script_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert or_exit(lambda: 3) == 3

    def fail() -> None:
        raise InputError("no\n such  thing")

    with pytest.raises(SystemExit) as ended:
        or_exit(fail)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such thing\n"


def test_widgets_offer_what_was_asked_for() -> None:
    assert with_value((1, 4, 8), 6) == [1, 4, 6, 8]
    assert with_value((1, 4), None) == [1, 4]
    assert with_value(["maxrl", "grpo"], "maxrl(order=4)") == ["maxrl", "grpo", "maxrl(order=4)"]


def test_what_was_chosen_stays_as_long_as_it_is_offered() -> None:
    kept = Kept[int]()
    assert kept.among(range(1, 9), 1) == 1
    kept.keep(5)
    assert kept.among(range(1, 9), 1) == 5
    assert kept.among(range(1, 3), 1) == 1
    assert kept.among(range(1, 9), 1) == 5
    kept.keep(0)
    assert kept.among(range(3), 2) == 0
