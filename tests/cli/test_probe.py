"""`maxrl probe` from its words to what it prints and leaves."""

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.cli.probe import hard_sentence, live_from, signal_table, sweep_table
from maxrl.evaluation import ProblemCounts
from maxrl.evaluation.groups import HardPrompts, expect_groups
from maxrl.experiments.probe import read_counts
from maxrl.experiments.probe_records import Probe, Row
from maxrl.experiments.sweeps import settings_of

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(autouse=True)
def _terminal_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def cells(text: str) -> list[list[str]]:
    """Bodies of the tables, row by row."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_one_setting(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace, eval_problems=20, eval_samples=8, output_dir="the-runs-own"))
    estimators = ["--estimators", "maxrl", "maxrl(order=3)", "success_weighted"]
    assert main(["probe", "-q", "--config", recipe, *estimators]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert not (workplace / "the-runs-own").exists()
    record = json.loads((workplace / "runs" / "probe" / "probe.json").read_text())
    reading = record["rows"][0]["reading"]
    assert record["command"].startswith("maxrl probe --config ")
    out = said.out
    assert max(map(len, out.splitlines())) <= 80
    assert "subset_sum with tiny: 20 prompts × 8 samples, temperature 1\n" in out
    assert (
        f"pass@1 {reading['pass_at_1']:.3f} ± {reading['pass_at_1_error']:.3f} (standard error over prompts)"
        in out
    )

    table = cells(out)
    histogram, groups, signal = table[:7], table[7:10], table[10:]
    assert [line[0] for line in histogram] == [
        "0",
        "1/8 – 1/4",
        "1/4 – 1/2",
        "1/2 – 3/4",
        "3/4 – 7/8",
        "7/8 – 1",
        "1",
    ]
    prompts = [bin_["prompts"] for bin_ in reading["histogram"]]
    assert [int(line[1]) for line in histogram] == prompts
    for line, number in zip(histogram, prompts, strict=True):
        assert line[2].count("█") == round(24 * number / max(prompts))
    for line, one in zip(groups, reading["groups"], strict=True):
        shares = (one["dead"], one["live"], one["mastered"])
        assert line[1:4] == [f"{share:.1%}" for share in shares]
        assert [line[4].count(mark) / 24 for mark in "▒█░"] == pytest.approx(shares, abs=1 / 24)
    assert [line[0] for line in groups] == [line[0] for line in signal] == ["2", "→ 4", "8"]
    for line, one in zip(signal, reading["groups"], strict=True):
        assert line[1:] == ["—" if s is None else f"{s:.3f}" for s in one["signal"].values()]
    assert signal[0][2] == "—"
    words = " ".join(out.split())
    assert "—: the estimator needs more rollouts. success_weighted: as if each group were a batch." in words
    assert "Training with N = 4 " in words
    for sentence in (*reading["judgement"]["reasons"], *reading["judgement"]["advice"]):
        assert f"- {' '.join(sentence.split())}" in words
    assert f"samples: runs/probe/{record['rows'][0]['folder']}/samples.jsonl" in out
    assert out.endswith("probe: runs/probe/probe.json, runs/probe/probe.png\n")
    width, height = png_size(workplace / "runs" / "probe" / "probe.png")
    assert width > 2 * height


def test_a_sweep(workplace: Path, policy_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(
        write_recipe(workplace, model_name_or_path=policy_folder, prompt_format="compact", num_generations=2)
    )
    words = [
        "probe",
        "--config",
        recipe,
        "--sweep",
        "num_elements=2:3",
        "max_value=3,4",
        "--output_dir",
        "out",
    ]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "4/4: num_elements=3, max_value=4" in first.err
    record = json.loads((workplace / "out" / "probe.json").read_text())
    assert record["swept"] == {"num_elements": [2, 3], "max_value": [3, 4]}
    table = [line for line in cells(first.out) if line[0]]  # a verdict may take several lines
    assert [line[:2] for line in table] == [["2", "3"], ["2", "4"], ["3", "3"], ["3", "4"]]
    for line, one in zip(table, record["rows"], strict=True):
        groups = one["reading"]["groups"][0]
        assert line[2:6] == [
            f"{one['reading']['pass_at_1']:.3f}",
            *(f"{groups[kind]:.0%}" for kind in ("dead", "live", "mastered")),
        ]
    assert max(map(len, first.out.splitlines())) <= 80
    assert "…" not in first.out
    pictures = png_size(workplace / "out" / "probe.png")
    when = {path: path.stat().st_mtime_ns for path in (workplace / "out").glob("measured/*/*")}
    assert len(when) == 4 * 4
    assert main(words) == 0  # reads what is there
    assert {path: path.stat().st_mtime_ns for path in when} == when
    assert capsys.readouterr().out == first.out
    assert main([*words[:3], "--sweep", "max_value=3,4", "--output_dir", "out"]) == 0
    assert png_size(workplace / "out" / "probe.png") != pictures


def test_a_sweep_in_which_settings_failed_says_so_at_the_end(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace, warm_start_max_steps=1, warm_start_pass_rate=0.9))
    assert main(["probe", "-q", "--config", recipe, "--sweep", "max_value=3,4"]) == 1
    said = capsys.readouterr()
    assert [line[-1] for line in cells(said.out)] == ["failed", "failed"]
    assert said.err.startswith("maxrl: failed: 2 of 2 settings failed; the first: the warm start solved 0.")
    assert said.err.count("\n") == 1


def test_a_dry_run_shows_what_would_be_asked(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace))
    assert main(["probe", "--config", recipe, "--dry-run", "--sweep", "max_value=3:4"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["n"], shown["estimators"], shown["sweep"]) == ([2, 4], ["maxrl", "grpo"], ["max_value=3:4"])
    assert (shown["num_elements"], shown["output_dir"]) == (3, "runs/probe")
    for sweep in ([], ["max_value=3:4"]):
        shown.pop("sweep", None)
        shown |= {"sweep": sweep} if sweep else {}
        (workplace / "shown.yaml").write_text(yaml.safe_dump(shown))
        assert main(["probe", "--config", "shown.yaml", "--dry-run"]) == 0
        assert yaml.safe_load(capsys.readouterr().out) == shown
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--n", "8"], "raise --eval_samples to 8 or more"),
        (["--eval_temperature", "1"], "probe samples as training does: say --temperature, not --eval_temperature"),
        (["--eval-top-k=3"], "say --top_k, not --eval_top_k"),
        (["--eval_greedy"], "leave out --eval_greedy"),
        (["--eval-ks", "1"], "say --n for the groups to look at, not --eval_ks"),
        (["--min_p", "0.1"], "probe cannot sample as training would with min_p=0.1"),
        (["--sweep", "max_valeu=3"], "did you mean 'max_value'?"),
        (["--sweep"], "expected at least one argument"),
        (["--estimators", "gpro"], "did you mean 'grpo'?"),
        (["--num_element", "3"], "did you mean '--num_elements'?"),
        (["--model_name_or_path", "./nowhere", "--prompt_format", "compact"], "does not exist"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(
    workplace: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["probe", "-q", "--config", str(write_recipe(workplace)), *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert said.err.count("\n") == 1


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--help"]) == 0
    out = capsys.readouterr().out
    for word in (
        "dead (no success)",
        "--sweep",
        "--estimators",
        "--n N",
        "warmed up to warm_start_pass_rate",
        "Ctrl-C",
    ):
        assert word in " ".join(out.split())
    assert out.count("  maxrl probe --config ") == 3
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) < 220
    for option in (
        "--task",
        "--num_elements",
        "--num_generations",
        "--tiny_width",
        "--temperature",
        "--overlong",
    ):
        assert f"\n  {option} " in out
    for option in (
        "--dataset_name",
        "--reward_funcs",
        "--learning_rate",
        "--eval_temperature",
        "--lora_r",
        "data sets:",
    ):
        assert option not in out


def test_without_anything_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 2
    said = capsys.readouterr().err
    assert "--config" in said
    assert "--task" in said


def table_text(table: Table) -> str:
    console = Console(width=80, record=True, highlight=False, markup=False, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_headings_of_signals_are_whole(number: int) -> None:
    names = [f"hybrid(first=grpo(eps=0.0), then=maxrl(order={order}))" for order in range(2, 2 + number)]
    groups = [expect_groups([ProblemCounts(id="", scored=1024, correct=3)], n, {}) for n in (2, 1024)]
    groups = [replace(one, signal=dict.fromkeys(names, 12.3456)) for one in groups]
    text = table_text(signal_table(names, groups, 1024))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    heading = [line.split("┃")[2:-1] for line in text.splitlines() if line.startswith("┃")]
    columns = ["".join(column).replace(" ", "") for column in zip(*heading, strict=True)]
    assert columns == [name.replace(" ", "") for name in names]  # blanks at which a line breaks are gone
    assert "12.346" in text


def test_more_signals_than_a_table_holds_are_in_the_next(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace))
    estimators = [f"maxrl(order={order})" for order in range(1, 5)] + ["grpo", "rloo"]
    assert main(["probe", "-q", "--config", recipe, "--estimators", *estimators]) == 0
    out = capsys.readouterr().out
    assert out.count("expected signal") == 2
    assert [len(row) for row in cells(out)][-4:] == [6, 6, 2, 2]


SWEPT = {"num_elements": [4, 10], "max_value": [10, 1000], "prompt_format": ["chat", "compact"]}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_sweep_over_any_number_of_fields_is_readable(number: int) -> None:
    swept = dict(list(SWEPT.items())[:number])
    reading = read_counts(
        [ProblemCounts(id="", scored=64, correct=c) for c in (0, 0, 20)],
        rollouts=[32], training=32, estimators={}, tiny=False,
    )  # fmt: skip
    rows = tuple(Row(fields=own, folder="", reading=reading) for own in settings_of(swept))
    rows = (*rows, replace(rows[-1], reading=None, error="it broke"))
    result = Probe(
        command="", task="t", model="m", rollouts=32, estimators=(), over_batch=(), swept=swept, settings={},
        rows=rows, seconds=0.0, environment={},
    )  # fmt: skip
    text = table_text(sweep_table(result))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert {line[-1] for line in text.splitlines()[1:-1]} == set("┓┃┩│┘") | ({"┤"} if number == 3 else set())
    words = text.replace("┃", "│").replace("│", " ").split()
    assert {"unlikely:", "too", "hard", "33%", "0.104", "failed"} <= set(words)
    if number == 3:
        assert words.count("num_elements=10") == words.count("max_value=1000") == 5
        assert words.count("prompt_format=compact") == 5
    else:
        assert {"elements", "10"} <= set(words)


def test_how_samples_count_is_said(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace))
    assert (
        main(["probe", "-q", "--config", recipe, "--correctness_threshold", "0.5", "--overlong", "zero"]) == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "temperature 1, success above 0.5, truncated samples are failures pass@1" in out


def test_the_sentence_about_hard_prompts() -> None:
    some = HardPrompts(prompts=3, median=0.125, rollouts_to_live=6)
    assert hard_sentence(some).endswith("has pass rate 12.5%, and half of its groups are live from N = 6 on")
    assert live_from(some) == "6"
    never = HardPrompts(
        prompts=3, median=0.0, rollouts_to_live=None, never_in=64, at_most=0.0457, at_least=15
    )
    sentence = hard_sentence(never)
    assert "never did in 64 samples" in sentence
    assert "below 4.6% (95 % confidence)" in sentence
    assert "N = 15 on at the earliest" in sentence
    assert "more than 64" in sentence
    assert live_from(never) == "> 64"
    assert hard_sentence(some).startswith("3 succeed less than every second time; the median one has")
    one = HardPrompts(prompts=1, median=0.125, rollouts_to_live=6)
    assert hard_sentence(one).startswith("1 succeeds less than every second time; it has pass rate 12.5%")
    none = HardPrompts(prompts=0, median=None, rollouts_to_live=None)
    assert hard_sentence(none) == "none; every prompt succeeds at least every second time"
    assert live_from(none) == "—"
