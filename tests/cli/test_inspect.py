"""`maxrl inspect` prints what the estimators' own code computes."""

import math
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from maxrl.cli import main
from maxrl.cli.inspect import PASS_RATES
from maxrl.objectives import ESTIMATORS, effective_weight

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _terminal_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def inspect(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def rows(text: str) -> list[list[str]]:
    """Cells of the body of a table."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def header(text: str) -> list[str]:
    """Words of the head of a table, column by column."""
    lines = [line.strip("┃").split("┃") for line in text.splitlines() if line.startswith("┃")]
    return [" ".join(" ".join(cells).split()) for cells in zip(*lines, strict=True)]


def test_weights_are_exact_and_bars_in_proportion(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--estimator", "maxrl", "--n", "8", "--vs", "grpo")
    assert header(text) == ["p", "maxrl order T = 7", "", "grpo no order", "", "likelihood 1/p"]
    table = rows(text)
    assert [row[0] for row in table] == [f"{p:g}" for p in PASS_RATES]
    weights = {name: [effective_weight(name, p, 8) for p in PASS_RATES] for name in ("maxrl", "grpo")}
    assert [row[1] for row in table] == [f"{w:.4f}" for w in weights["maxrl"]]
    assert [row[3] for row in table] == [f"{w:.4f}" for w in weights["grpo"]]
    assert [row[5] for row in table] == [f"{1 / p:.4f}" for p in PASS_RATES]
    largest = max(map(max, weights.values()))
    for column, name in ((2, "maxrl"), (4, "grpo")):
        for row, weight in zip(table, weights[name], strict=True):
            drawn = row[column].count("█")
            assert drawn == pytest.approx(8 * weight / largest, abs=0.51)
    assert "maxrl: A = (r − r̂) / r̂, 0 when K = 0" in text
    assert "grpo: A = (r − r̂) / (σ̂ + 0.0001), σ̂ with divisor N − 1" in text


def test_a_weight_from_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    # N = 16, p = .05: practical MaxRL is w_15 = (1 − .95^15)/.05 = 10.7342; the likelihood's weight is 1/.05.
    [row] = rows(inspect(capsys, "--n", "16", "--p", "0.05"))
    assert (row[0], row[1], row[-1]) == ("0.05", "10.7342", "20.0000")


@pytest.mark.parametrize("vs", [None, *ESTIMATORS])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n", ["2", "16", "1024"])
def test_the_table_fits_80_columns(
    estimator: str, vs: str | None, n: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--estimator", estimator, "--n", n, *(["--vs", vs] if vs else [])]
    text = inspect(capsys, *words)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    columns = 4 if vs in (None, estimator) else 6
    table = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
    assert all(line[-1] in "┓┃┩│┘" for line in table)  # nothing is cut off on the right
    assert {len(row) for row in rows(text)} == {columns}
    assert header(text)[-1] == "likelihood 1/p"


def test_advantages_rollout_by_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--rewards", "1,0,0,1", "--vs", "grpo")
    assert header(text) == ["rollout", "reward", "maxrl", "grpo"]
    # r̂ = 1/2: MaxRL (1 − ½)/½ = 1 and (0 − ½)/½ = −1. GRPO: σ̂² = 4·¼/3, ½/(√⅓ + 1e-4) = .8659.
    assert rows(text) == [
        ["0", "1", "+1.0000", "+0.8659"],
        ["1", "0", "-1.0000", "-0.8659"],
        ["2", "0", "-1.0000", "-0.8659"],
        ["3", "1", "+1.0000", "+0.8659"],
    ]


@pytest.mark.parametrize("missing", ["none", "None", "nan"])
def test_a_missing_rollout_leaves_its_group(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Two successes of three: r̂ = 2/3, (1 − ⅔)/⅔ = ½, (0 − ⅔)/⅔ = −1.
    assert rows(inspect(capsys, "--rewards", f"1, 0,{missing},1")) == [
        ["0", "1", "+0.5000"],
        ["1", "0", "-1.0000"],
        ["2", "missing", "+0.0000"],
        ["3", "1", "+0.5000"],
    ]


def test_a_threshold_turns_graded_rewards_into_success(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--rewards", "28.6,20,-4.5,none", "--threshold", "20", "--vs", "dr_grpo")
    assert header(text) == ["rollout", "reward", "reward > 20", "maxrl", "dr_grpo"]
    # One success of three (20 is not above 20): r̂ = ⅓; MaxRL 2 and −1, mean-centred ⅔ and −⅓.
    assert rows(text) == [
        ["0", "28.6", "1", "+2.0000", "+0.6667"],
        ["1", "20", "0", "-1.0000", "-0.3333"],
        ["2", "-4.5", "0", "-1.0000", "-0.3333"],
        ["3", "missing", "missing", "+0.0000", "+0.0000"],
    ]


@pytest.mark.parametrize("words", [["--rewards", "-1.5,0,0.5"], ["--rewards=-1.5,0,0.5"]])
def test_rewards_may_begin_with_a_minus(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # mean −1/3
    assert rows(inspect(capsys, *words, "--estimator", "dr_grpo")) == [
        ["0", "-1.5", "-1.1667"],
        ["1", "0", "+0.3333"],
        ["2", "0.5", "+0.8333"],
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--estimator", "maxlr"], "unknown estimator 'maxlr'; did you mean 'maxrl'?"),
        (["--vs", "gpro"], "unknown estimator 'gpro'; did you mean 'grpo'?"),
        (["--n", "0"], "--n must be at least 1, but is 0"),
        (["--n", "many"], "invalid int value: 'many'"),
        (["--p", "0.5,0"], "--p must lie between 0 and 1, but is 0.5,0"),
        (["--p", "1.1"], "--p must lie between 0 and 1, but is 1.1"),
        (["--p", "nan"], "--p must lie between 0 and 1, but is nan"),
        (["--p", "half"], "--p must be numbers separated by commas, but has 'half'"),
        (["--p", "none"], "--p must be numbers separated by commas, but has 'none'"),
        (["--rewards", "1,x"], "--rewards must be numbers separated by commas, but has 'x'"),
        (["--rewards", ""], "--rewards must be numbers separated by commas, but has ''"),
        (["--rewards", "1,-1"], "not defined on negative rewards"),
        (["--rewards", "1,inf"], "infinite rewards have no mean"),
        (["--rewards"], "expected one argument"),
        (["--rewards", "--vs", "grpo"], "expected one argument"),
        (["--threshold", "1"], "--threshold applies to --rewards"),
        (["--rewards", "1,0", "--plot", "x.svg"], "--plot draws weights, not advantages"),
        (["--bogus"], "unrecognized arguments: --bogus (maxrl inspect --help shows what there is)"),
        (["--est", "grpo"], "unrecognized arguments: --est grpo"),
        (["grpo"], "unrecognized arguments: grpo"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("maxrl: error: ")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_a_plot_is_a_picture_of_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "weights.svg"
    text = inspect(capsys, "--n", "8", "--vs", "grpo", "--plot", str(path))
    assert f"plot: {path}" in text.replace("\n", "")
    assert "maxrl (order T = 7)" in path.read_text()  # beside the letters, which are drawn as shapes
    picture = ElementTree.parse(path).getroot()
    assert picture.tag == f"{SVG}svg"

    def curve(style: str) -> list[float]:
        """Coordinates x, y, x, y, … of the first line of this style; the legend's comes later."""
        drawn = next(it for it in picture.iter(f"{SVG}path") if style in it.get("style", ""))
        return [float(number) for number in re.findall(r"-?[0-9.]+", drawn.get("d", ""))]

    likelihood = curve("stroke-dasharray: 1.5")
    # Logarithmic axes: 1/p is a straight line, from the grid's first p to its last, and gives the scale.
    first, last = 0.001 * 0.999, 0.999
    per_decade = (likelihood[-1] - likelihood[1]) / math.log10(first / last)
    for name, colour in (("maxrl", "#1f77b4"), ("grpo", "#ff7f0e")):
        points = curve(f"stroke: {colour}; stroke-width: 2")
        assert (points[0], points[-2]) == pytest.approx((likelihood[0], likelihood[-2]))
        for height, p in ((points[1], first), (points[-1], last)):
            drawn = math.log10(1 / last) + (height - likelihood[-1]) / per_decade
            assert drawn == pytest.approx(math.log10(effective_weight(name, p, 8)), abs=1e-3)


def test_a_plot_may_be_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.png"
    inspect(capsys, "--n", "4", "--plot", str(path))
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1050, 675)  # 7 × 4.5 inches at 150 dots


@pytest.mark.parametrize(
    ("name", "says"),
    [("weights.txt", "--plot must end in .svg, .png or .pdf"), ("file/weights.svg", "cannot write")],
)
def test_a_plot_that_cannot_be_written_is_refused(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(["inspect", "--n", "4", "--plot", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_help_has_examples_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["inspect", "--help"])
    assert caught.value.code == 0
    examples = [
        line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  maxrl ")
    ]
    assert len(examples) == 4
    for words in examples:
        assert main(words) == 0
