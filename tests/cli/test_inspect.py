"""`maxrl inspect` prints what the estimators' own code computes."""

import json
import math
import re
import shlex
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.cells import cell_len

from maxrl.cli import main
from maxrl.cli.inspect import PASS_RATES
from maxrl.objectives import (
    ESTIMATORS,
    SuccessWeighted,
    advantage_mass,
    effective_weight,
    second_moment,
    utility,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _terminal_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def inspect(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def tables(text: str) -> list[str]:
    """What stands between the top and the bottom of each table."""
    return re.findall(r"┏.*?└", text, flags=re.DOTALL)


def rows(text: str, table: int = 0) -> list[list[str]]:
    """Cells of the body of a table."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in tables(text)[table].splitlines()
        if line.startswith("│")
    ]


def header(text: str, table: int = 0) -> list[str]:
    """Words of the head of a table, column by column."""
    lines = [line.strip("┃").split("┃") for line in tables(text)[table].splitlines() if line.startswith("┃")]
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
            assert drawn == pytest.approx(7 * weight / largest, abs=0.51)
    assert "maxrl: A = (r − r̂) / r̂, 0 when K = 0" in text
    assert "grpo: A = (r − r̂) / (σ̂ + 0.0001), σ̂ with divisor N − 1" in text


def test_a_weight_from_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    # N = 16, p = .05: practical MaxRL is w_15 = (1 − .95^15)/.05 = 10.7342; the likelihood's weight is 1/.05.
    [row] = rows(inspect(capsys, "--n", "16", "--p", "0.05"))
    assert (row[0], row[1], row[-1]) == ("0.05", "10.7342", "20.0000")


LONG = "maxrl(order=16, control_variate=False)"


WIDE = [*ESTIMATORS, "success_weighted(scope='group', threshold=-1.0)"]


@pytest.mark.parametrize(
    ("estimator", "vs", "n"),
    [
        *((estimator, None, "1024") for estimator in WIDE),
        *((estimator, LONG, "16") for estimator in WIDE),
        ("adaptive_switch", "success_weighted", "1024"),
        (LONG, "mmpo(order=1024)", "1024"),
        ("mmpo(order=1024)", "pass_at_k(k=1023)", "1024"),
    ],
)
def test_the_tables_fit_80_columns(
    estimator: str, vs: str | None, n: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--estimator", estimator, "--n", n, *(["--vs", vs] if vs else [])]
    text = inspect(capsys, *words, "--p", "0.000123456789,0.05,0.5,0.95")
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "…" not in text
    both = vs not in (None, estimator)
    table = [line for line in text.splitlines() if line.startswith(tuple("┏┃┡│└"))]
    assert all(line[-1] in "┓┃┩│┘" for line in table)  # nothing is cut off on the right
    assert {len(row) for row in rows(text)} == {6 if both else 4}
    assert {len(row) for row in rows(text, 1)} == {7 if both else 4}
    assert all(cell or column in (2, 4) for row in rows(text) for column, cell in enumerate(row))
    assert all(float(cell) >= 0 for row in rows(text, 1) for cell in row)  # in one piece
    assert header(text)[-1] == "likelihood 1/p"


def test_names_break_at_their_punctuation(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--estimator", LONG, "--vs", "adaptive_switch", "--p", "0.5")
    named = [column.replace(" ", "") for column in header(text)]
    assert named[1] == LONG.replace(" ", "") + "orderT=16"
    assert header(text)[3] == "adaptive_ switch no order"
    assert header(text, 1)[2] == "J(p) adaptive _switch"


def test_utility_and_moments_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--n", "8", "--vs", "grpo")
    quantities = {"J(p)": utility, "E(Σ A²)": second_moment, "E|A|": advantage_mass}
    assert header(text, 1) == ["p", *(f"{q} {name}" for q in quantities for name in ("maxrl", "grpo"))]
    expected = [[f"{p:g}"] for p in PASS_RATES]
    for quantity in quantities.values():
        for name in ("maxrl", "grpo"):
            for row, p in zip(expected, PASS_RATES, strict=True):
                row.append(f"{quantity(name, p, 8):.4f}")
    assert rows(text, 1) == expected


def test_options_within_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--estimator", "maxrl(order=4)", "--vs", "maxrl(order=16)", "--p", "0.05")
    # w_4(.05) = (1 − .95⁴)/.05 = 3.7099, w_16 = 11.1975.
    assert [rows(text)[0][column] for column in (1, 3)] == ["3.7099", "11.1975"]
    assert header(text)[1] == "maxrl(order=4) order T = 4"
    assert "maxrl(order=4): A = N/(N−1) · ω (r − r̂), ω = Σ_(j<4) P(j others failed)" in text


def test_no_signal_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--n", "1")
    assert header(text)[1] == "maxrl no signal"
    assert {row[1] for row in rows(text)} == {"0.0000"}


def own_estimators(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working folder."""
    (folder / "my_estimators.py").write_text(
        "def doubled(rewards_GN):\n    return 2 * rewards_GN\n\n\n"
        "def large(rewards_GN):\n    return 1e3 * rewards_GN\n\n\n"
        "def huge(rewards_GN):\n    return 1e6 * rewards_GN\n\n\n"
        "def whitened(rewards_GN):\n    return rewards_GN - rewards_GN.nanmean()\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_estimators", raising=False)


def test_a_function_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_estimators(tmp_path, monkeypatch)
    text = inspect(capsys, "--estimator", "my_estimators:doubled", "--vs", "reinforce", "--p", "0.5")
    assert [rows(text)[0][column] for column in (1, 3)] == ["2.0000", "1.0000"]
    assert header(text)[1::2] == [
        "my_estimators: doubled no order",
        "reinforce order T = 1",
        "likelihood 1/p",
    ]
    assert "my_estimators:doubled: A = my_estimators:doubled" in text
    assert "--batch" not in text
    # E ΣA² = N p a²: as many decimals as eight columns hold.
    for name, shown in (("doubled", "2.0000"), ("large", "500000"), ("huge", "5.0e+11")):
        text = inspect(capsys, "--estimator", f"my_estimators:{name}", "--n", "1", "--p", "0.5")
        assert rows(text, 1)[0][2] == shown


def test_given_the_state_of_an_estimator_with_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--estimator", "hybrid(first=rloo)", "--n", "8", "--p", "0.05"]
    text = inspect(capsys, *words)
    assert rows(text)[0][1] == "1.0000"
    assert "hybrid(first=rloo) at its beginning is rloo: A = N/(N−1) · (r − r̂)" in text
    text = inspect(capsys, *words, "--state", '{"step": 200}')
    assert rows(text)[0][1] == "6.0333"
    assert header(text)[1].endswith("order T = 7")
    assert "hybrid(first=rloo) in the given state is maxrl: A = (r − r̂) / r̂" in text
    remembered = {"pass_rates": [[0.25, 0.5], [0.75]]}
    path = tmp_path / "state.json"
    path.write_text(json.dumps(remembered))
    text = inspect(capsys, "--estimator", "maxrl", "--vs", "curve_rl", "--p", "0.2", "--state", str(path))
    weight = effective_weight("curve_rl", 0.2, 16, state=remembered)
    assert rows(text)[0][3] == f"{weight:.4f}"
    assert weight != effective_weight("curve_rl", 0.2, 16)
    assert "curve_rl in the given state: A = f/F (r − r̂), f the histogram of 3 pass rates" in text


def test_given_the_other_groups(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--estimator", "success_weighted", "--n", "4", "--p", "0.3"]
    alone = inspect(capsys, *words)
    assert rows(alone)[0][1] == f"{effective_weight(SuccessWeighted(), 0.3, 4):.4f}"
    assert "success_weighted looks at the whole batch. These figures are for a group alone" in alone
    text = inspect(capsys, *words, "--batch", "1,0,none,0;1,1")
    batch = [[1, 0, None, 0], [1, 1, None, None]]
    assert rows(text)[0][1] == f"{effective_weight(SuccessWeighted(), 0.3, 4, batch=batch):.4f}"
    assert header(text)[1] == "success_ weighted no order"
    assert "other groups in the batch: 2" in " ".join(text.split())
    assert "--batch" not in text
    assert "--batch" not in inspect(capsys, "--vs", "grpo")


def test_advantages_among_other_groups_and_given_a_state(capsys: pytest.CaptureFixture[str]) -> None:
    # Seven rollouts, five successes: 7/5 each; the threshold applies to all of them.
    words = ["--rewards", "5,9", "--estimator", "success_weighted", "--threshold", "6"]
    text = inspect(capsys, *words, "--batch", "-1,7,none,7,7,7")
    assert [row[-1] for row in rows(text)] == ["+0.0000", "+1.4000"]
    assert "looks at the whole batch" in inspect(capsys, *words)
    words = ["--rewards", "1,0,0,0", "--estimator", "hybrid(first=rloo)"]
    assert rows(inspect(capsys, *words))[0][-1] == "+1.0000"
    text = inspect(capsys, *words, "--state", '{"step": 500}')
    assert rows(text)[0][-1] == "+3.0000"
    assert "hybrid(first=rloo) in the given state is maxrl: A = (r − r̂) / r̂" in text


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
        (["--estimator", "maxrl(order=0)"], "order must be an integer of at least 1"),
        (["--estimator", "no_module:f"], "cannot load the estimator 'no_module:f'"),
        (["--estimator", "maxlr"], "unknown estimator 'maxlr'; did you mean 'maxrl'?"),
        (["--vs", "gpro"], "unknown estimator 'gpro'; did you mean 'grpo'?"),
        (["--n", "0"], "--n must lie between 1 and 4096, but is 0"),
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
        (["--vs", "maxrl"], "--vs names the same estimator as --estimator, maxrl"),
        (["--rewards", "1,0", "--n", "16"], "--n and --p are of objectives"),
        (["--rewards", "1,0", "--p", "0.5"], "--n and --p are of objectives"),
        (["--n", "4097"], "--n must lie between 1 and 4096, but is 4097"),
        (
            ["--n", "4", "--estimator", "maxrl(order=5)"],
            "maxrl(order=5) needs at least 5 rollouts per group, but --n is 4",
        ),
        (
            ["--n", "4", "--vs", "pass_at_k(k=4)"],
            "pass_at_k(k=4) needs at least 5 rollouts per group, but --n is 4",
        ),
        (["--rewards", "1,0", "--plot", "x.svg"], "--plot draws objectives, not advantages"),
        (
            ["--state", '{"step": 1}'],
            "--state is for an estimator with memory (curve_rl, hybrid, adaptive_switch)",
        ),
        (["--estimator", "hybrid", "--state", '{"above": true}'], "is no state of estimator 'hybrid'"),
        (["--estimator", "hybrid", "--state", '{"step": 1'], "--state must be a JSON object such as"),
        (
            ["--estimator", "hybrid", "--state", "no/such.json"],
            "a file that holds one: [Errno 2] No such file",
        ),
        (["--estimator", "hybrid", "--state", __file__], "a file that holds one: Extra data"),
        (["--batch", "1,0;1,x"], "--batch must be numbers separated by commas, but has 'x'"),
        (["--batch", ""], "--batch must be numbers separated by commas, but has ''"),
        (["--batch", "-1,0"], "not defined on negative rewards"),
        (["--bogus"], "unrecognized arguments: --bogus (`maxrl inspect --help` explains)"),
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


def curve(picture: ElementTree.Element, panel: int, style: str) -> list[float]:
    """Coordinates x, y, x, y, … of the first line of this style in a panel."""
    axes = next(it for it in picture.iter(f"{SVG}g") if it.get("id") == f"axes_{panel + 1}")
    drawn = next(it for it in axes.iter(f"{SVG}path") if style in it.get("style", ""))
    return [float(number) for number in re.findall(r"-?[0-9.]+", drawn.get("d", ""))]


LINES = {"maxrl": "stroke: #1f77b4; stroke-width: 2", "grpo": "stroke: #ff7f0e; stroke-width: 2"}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> ElementTree.Element:
    path = tmp_path_factory.mktemp("plot") / "new" / "objective.svg"
    assert main(["inspect", "--n", "8", "--vs", "grpo", "--plot", str(path)]) == 0
    return ElementTree.parse(path).getroot()


def test_a_plot_is_a_picture_of_the_weights(picture: ElementTree.Element) -> None:
    likelihood = curve(picture, 0, "stroke: #000000; stroke-width: 1.5")
    # Logarithmic axes: 1/p is a straight line, from the grid's first p to its last, and gives the scale.
    first, last = 0.001 * 0.999, 0.999
    per_decade = (likelihood[-1] - likelihood[1]) / math.log10(first / last)
    for name, style in LINES.items():
        points = curve(picture, 0, style)
        assert (points[0], points[-2]) == pytest.approx((likelihood[0], likelihood[-2]))
        for height, p in ((points[1], first), (points[-1], last)):
            drawn = math.log10(1 / last) + (height - likelihood[-1]) / per_decade
            assert drawn == pytest.approx(math.log10(effective_weight(name, p, 8)), abs=1e-3)


@pytest.mark.parametrize(("panel", "quantity"), [(1, utility), (2, second_moment), (3, advantage_mass)])
def test_a_plot_shows_utility_and_moments(
    panel: int, quantity: Callable[..., float], picture: ElementTree.Element
) -> None:
    """Two curves of one panel share its scale: heights at p = .5 over MaxRL's, from the bottom of both at p = 0."""
    points = {name: np.array(curve(picture, panel, style)).reshape(-1, 2).T for name, style in LINES.items()}
    (left, *_, right), (bottom, *_) = points["maxrl"]

    def height(name: str, p: float) -> float:
        return float(np.interp(left + p * (right - left), *points[name])) - bottom

    assert points["grpo"][1][0] == bottom
    unit = height("maxrl", 0.5) / quantity("maxrl", 0.5, 8)
    for name in LINES:
        for p in (0.1, 0.25, 0.5, 0.9):
            assert height(name, p) / unit == pytest.approx(quantity(name, p, 8), rel=5e-3)


def test_a_plot_has_one_legend_and_labelled_axes(
    picture: ElementTree.Element, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "objective.svg"
    text = inspect(capsys, "--n", "8", "--vs", "grpo", "--plot", str(path))
    assert f"plot: {path}" in text.replace("\n", "")
    written = path.read_text()  # beside the letters, which are drawn as shapes
    for label in ("maxrl: order T = 7", "grpo: no order", "maximum likelihood: w = 1/p"):
        assert written.count(f"<!-- {label} -->") == 1
    for label in ("w(p)", "J(p)", "E(Σ A²)", "E|A|"):
        assert written.count(f"<!-- {label} -->") == 1
    assert written.count("<!-- pass rate p -->") == 4
    assert {it.get("id") for it in picture.iter(f"{SVG}g")} >= {"axes_1", "axes_4", "legend_1"}


@pytest.mark.parametrize(
    ("estimator", "n"),
    [("maxrl", "1"), ("maxrl", "1024"), ("pass_at_k(k=1000)", "1024"), ("mmpo(order=1024)", "1024")],
)
def test_a_plot_of_weights_from_nothing_to_a_million(
    estimator: str, n: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings, of logarithms of 0 or of empty axes, are errors here."""
    inspect(capsys, "--estimator", estimator, "--n", n, "--p", "0.5", "--plot", str(tmp_path / "weights.svg"))
    assert "-->" in (tmp_path / "weights.svg").read_text()


def test_a_plot_may_be_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.png"
    inspect(capsys, "--n", "4", "--plot", str(path))
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1350, 1050)  # 9 × 7 inches at 150 dots


@pytest.mark.parametrize(
    ("name", "says"),
    [("weights.txt", "--plot must end in .svg or .png or .pdf"), ("file/weights.svg", "cannot write")],
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
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as caught:
        main(["inspect", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    examples = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("  maxrl ")]
    assert len(examples) == 8
    (tmp_path / "my_module.py").write_text("def my_function(rewards_GN):\n    return rewards_GN\n")
    for words in examples:
        assert main(words) == 0
