"""`maxrl report`: folders in, pages out, one line for every mistake."""

from pathlib import Path

import pytest
from tests.experiments.reports.synthetic import Maker

from maxrl.cli import main

SMALL = Maker(steps=4, problems=10, samples=4)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for arm in ("maxrl", "grpo"):
        SMALL.run(tmp_path / "runs" / arm, arm)
    return tmp_path / "runs"


def test_the_page_goes_where_the_runs_are_and_says_how_to_repeat_it(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "runs"]) == 0
    assert capsys.readouterr().out == "2 runs\nreport: runs/report.html\n"
    assert "<pre>maxrl report runs</pre>" in (runs / "report.html").read_text()
    assert "maxrl report runs\n" in (runs / "report.md").read_text()
    assert main(["report", "runs", "--title", "A & B", "--baseline", "maxrl", "--output", "page"]) == 0
    html = (runs.parent / "page" / "report.html").read_text()
    assert "<title>A &amp; B</title>" in html
    assert "maxrl report runs --title &#39;A &amp; B&#39; --baseline maxrl --output page" in html


def test_of_several_folders_it_goes_to_what_holds_them_all(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "runs/maxrl", "runs/grpo"]) == 0
    assert capsys.readouterr().out.endswith("runs/report.html\n")
    assert (runs / "report.md").is_file()


def test_the_report_of_a_comparison_is_not_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "comparison.json").write_text("{}")
    assert main(["report", "runs"]) == 0
    assert capsys.readouterr().out.endswith("report: runs/report/report.html\n")
    assert not (runs / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs the folder of a run"),
        (["nowhere"], "nowhere is no folder"),
        (["empty"], "empty holds no run"),
        (["runs", "--baseline", "grop"], "did you mean 'grpo'"),
        (["runs", "--outptu", "x"], "unrecognized arguments: --outptu"),
        (["runs", "--title"], "--title: expected one argument"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (runs.parent / "empty").mkdir()
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_file_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "grpo" / "eval.json").write_text('{"problems": [')
    assert main(["report", "runs"]) == 2
    assert "grpo/eval.json is damaged" in capsys.readouterr().err
    assert not (runs / "report.html").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--baseline" in out
    assert "examples:" in out
