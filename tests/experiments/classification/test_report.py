"""What the report says: means, ranges and differences added up by head; both forms whole, escaped and alone."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib import image
from rich.console import Console

from maxrl.experiments.classification.measures import Measures
from maxrl.experiments.classification.plots import picture
from maxrl.experiments.classification.report import caveats, finding, summary_table, write_report
from maxrl.experiments.classification.summary import Results, curve, summarise
from maxrl.objectives import effective_weight


def tables(markdown: str) -> list[list[list[str]]]:
    """Tables as GitHub reads them: rows of cells."""
    found: list[list[list[str]]] = []
    cell = False
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            cell = True
        elif token.type == "inline" and cell:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
            cell = False
    return found


@pytest.fixture
def pages(results: Results, tmp_path: Path) -> dict[str, str]:
    html = write_report(results, tmp_path / "new" / "folder")
    assert html.name == "report.html"
    return {name: (html.parent / name).read_text(encoding="utf-8") for name in ("report.html", "report.md")}


def test_results_survive_json(results: Results, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results.to_dict()))
    assert Results.load(tmp_path / "results.json") == results


def test_means_ranges_and_differences_are_those_of_the_seeds(pages: dict[str, str]) -> None:
    after, differences, weights, paper, runs, *_ = tables(pages["report.md"])
    rows = {row[0]: row[1:] for row in after}
    assert after[0] == ["%", "pass@1", "pass@128", "top-1", "training"]
    assert rows["cross_entropy"] == ["51.0 (50.0–52.0)", "91.0 (90.0–92.0)", "62.0 (60.0–64.0)", "15.0 s"]
    assert rows["maxrl@16, seed 1"][:3] == ["48.0", "84.0", "63.0"]
    assert rows["best possible"][:3] == ["80.0", "99.0", "87.0"]
    assert rows["grpo@2: no finished run"][:3] == ["—"] * 3
    assert [row[0] for row in differences[1:]] == [
        "maxrl@16 − cross_entropy",
        "reinforce@128 − cross_entropy",
    ]
    assert differences[1][1:] == ["−5.0 (−6.0 to −4.0)", "−9.0 (−10.0 to −8.0)", "0.0 (−1.0 to +1.0)"]
    assert [row[0] for row in paper[1:]] == ["cross_entropy"], "the paper has no other of these arms"
    assert paper[1][1:] == ["60.6", "94.8", "70.8"]
    assert [row[2] for row in runs[1:]].count("logits are not finite <at> step 3") == 2
    assert weights[0][1:] == ["p = 0.01", "p = 0.01", "p = 0.1", "p = 0.5", "p = 0.9"]


def test_weights_are_exact_and_left_out_where_p_does_not_decide_alone(results: Results) -> None:
    more = (*results.arms, "curve_rl@8", "success_weighted@8")
    found = summarise(replace(results, arms=more)).weights
    assert list(found) == list(results.arms)
    rates = summarise(results).rates
    assert found["cross_entropy"] == pytest.approx([1 / p for p in rates])
    assert found["maxrl@16"] == pytest.approx([effective_weight("maxrl", p, 16) for p in rates])


def test_only_seeds_that_both_finished_are_compared(results: Results) -> None:
    runs = tuple(run for run in results.runs if (run.arm, run.seed) != ("cross_entropy", 1))
    first, *_ = summarise(replace(results, runs=runs)).differences
    assert (first.other, first.first, first.seeds) == ("maxrl@16", "cross_entropy", (0,))
    assert first.columns["pass@1"].by_seed == pytest.approx((-0.06,))
    apart = tuple(run for run in results.runs if run.seed == (run.arm != "cross_entropy"))
    assert not summarise(replace(results, runs=apart)).differences


def test_curves_are_means_where_all_seeds_have_been_tested(results: Results) -> None:
    line = curve(results, "maxrl@16", "eval_pass@1")
    assert line.epochs == (0.0, 1.0)
    assert [s.mean for s in line.spreads] == pytest.approx([0.005, 0.105])
    assert [s.high - s.low for s in line.spreads] == pytest.approx([0.01, 0.01])
    assert curve(results, "grpo@2", "eval_pass@1").epochs == ()


def test_the_finding_follows_from_the_numbers(results: Results) -> None:
    texts = finding(results, summarise(results))
    assert texts[0].startswith(
        "pass@1 after training, best arm first: cross_entropy 51.0 %, maxrl@16 46.0 %, reinforce@128 1.2 %."
    )
    assert "Bayes' rule, with the true densities, has 80.0 %" in texts[0]
    assert texts[1] == (
        "maxrl@16 against cross_entropy: pass@1 −5.0 points (−6.0 to −4.0), top-1 0.0 points (−1.0 to +1.0)."
    )
    assert "reinforce@128 has not begun to learn" in texts[3]
    assert texts[-1] == "No finished run: grpo@2."
    assert not any("disagree" in text for text in texts)
    better = replace(
        results.runs[4], evaluation=results.runs[1].evaluation
    )  # cross-entropy's seed 1 falls to 44 %
    mixed = replace(results, runs=(*results.runs[:4], better, *results.runs[5:]))
    assert "the seeds disagree on the sign" in finding(mixed, summarise(mixed))[1]


def test_nothing_finished_is_said(results: Results, tmp_path: Path) -> None:
    none = replace(
        results, runs=tuple(replace(run, evaluation=None, error="x") for run in results.runs), best=None
    )
    write_report(none, tmp_path)
    assert (
        "No arm has a finished run, so there is nothing to compare." in (tmp_path / "report.md").read_text()
    )
    assert "no finished run" in (tmp_path / "report.html").read_text()


def test_caveats_have_a_reason_in_the_data(results: Results) -> None:
    def said(**changes: Any) -> str:
        changed = replace(results, **changes)
        return " ".join(caveats(changed, summarise(changed)))

    assert "2 of 8 runs diverged (grpo@2 seed 0, grpo@2 seed 1)" in said()
    assert "Seeds per arm: 2." in said()
    assert "made on the spot" in said()
    assert "made on the spot" not in said(settings={**results.settings, "data": "folder"})
    assert "equal steps, not equal draws" in said()
    assert "equal draws" not in said(arms=results.arms[:2], runs=results.runs[:2])


def test_what_differs_between_seeds_depends_on_the_data(results: Results) -> None:
    def said(arms: tuple[str, ...] = results.arms, seeds: tuple[int, ...] = (0, 1), **changes: Any) -> str:
        runs = tuple(run for run in results.runs if run.arm in arms and run.seed in seeds)
        changed = replace(results, arms=arms, runs=runs, settings={**results.settings, **changes})
        (text,) = [t for t in caveats(changed, summarise(changed)) if t.startswith("Seeds per arm")]
        return text

    assert "Seeds differ in weights, in the training examples and in the labels drawn;" in said()
    fixed = "Seeds differ in weights, in the order of the training examples and in the labels drawn;"
    assert fixed in said(fresh_examples=False)
    cropped = (
        "Seeds differ in weights, in the order and crops of the training examples and in the labels drawn;"
    )
    assert cropped in said(data="folder")
    assert "Seeds differ in weights and in the training examples;" in said(arms=("cross_entropy",))
    assert said(seeds=(1,)) == "Seeds per arm: 1. How much another seed would change is not to be seen."


@pytest.mark.parametrize(
    ("data", "model", "setting", "paper"),
    [
        (
            "synthetic",
            "mlp",
            "The data are made on the spot and the model is small: how far",
            "Other data and another model than here, so that",
        ),
        ("images", "resnet50", "The data are made on the spot: how far", "Other data than here, so that"),
        ("folder", "tiny", "The model is small: how far", "Another model than here, so that"),
        ("folder", "resnet50", None, None),
    ],
)
def test_what_sets_a_run_apart_from_the_papers_is_said_where_it_does(
    results: Results, tmp_path: Path, data: str, model: str, setting: str | None, paper: str | None
) -> None:
    changed = replace(results, settings={**results.settings, "data": data, "model": model})
    write_report(changed, tmp_path)
    for page in ((tmp_path / name).read_text() for name in ("report.html", "report.md")):
        assert "one run each, without seeds or error bars." in page
        assert ("a matter of this setting" in page) == (setting is not None)
        assert ("than here" in page) == (paper is not None)
        assert (setting or "") in page
        assert (paper or "") in page


def test_runs_are_counted_and_repeat_on_the_same_kind_of_processor(
    results: Results, pages: dict[str, str], tmp_path: Path
) -> None:
    write_report(replace(results, runs=results.runs[:1]), tmp_path)
    for name, page in pages.items():
        assert "· 8 runs ·" in page
        assert "· 1 run ·" in (tmp_path / name).read_text()
        assert "On a CPU of the same kind, with as many threads and the same versions, the same" in page


def test_failed_runs_are_counted_in_the_singular_too(results: Results) -> None:
    changed = replace(results, runs=results.runs[:4])
    texts = caveats(changed, summarise(changed))
    assert texts[0] == "1 of 4 runs diverged (grpo@2 seed 0) and is in no average."


@pytest.mark.parametrize(("ks", "count"), [((1,), 3), ((1, 8), 4), ((1, 8, 128), 4)])
def test_no_panel_of_the_picture_is_empty(results: Results, ks: tuple[int, ...], count: int) -> None:
    def cut(measures: Measures) -> Measures:
        return replace(measures, pass_at_k=dict.fromkeys(ks, 0.5))

    runs = tuple(
        replace(run, evaluation=cut(run.evaluation)) if run.evaluation else run for run in results.runs
    )
    assert results.best is not None
    fewer = replace(
        results, runs=runs, best=cut(results.best), settings={**results.settings, "eval_ks": [*ks]}
    )
    panels = picture(fewer, summarise(fewer)).axes
    assert len(panels) == count
    assert all(axes.get_ylabel() for axes in panels)
    assert panels[-1].get_xlabel() == "k, labels drawn"


def test_everything_is_escaped_and_the_page_stands_alone(pages: dict[str, str]) -> None:
    html = pages["report.html"]
    assert "<b>" not in html
    assert "Classes &lt;b&gt; &amp; |pipes|" in html
    loads = re.findall(r"""(?:src|href|srcset|action|data)\s*=\s*["']?([^"'\s>]+)""", html)
    assert [load for load in loads if not load.startswith(("#", "data:,"))] == []
    assert "<script" not in html
    assert "http" not in re.sub(r"https?://www\.w3\.org/", "", html)
    assert re.findall(r"#[0-9a-f]{6}\b", "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))) == []
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', html)
    assert labels == [
        "pass@k after training", "pass@1 of the test set over epochs", "pass@128 of the test set over epochs",
        "top-1 of the test set over epochs",
    ]  # fmt: skip
    flat = [
        c
        for t in MarkdownIt("commonmark").enable("table").parse(pages["report.md"])
        for c in (t.children or ())
    ]
    assert {token.type for token in flat}.isdisjoint({"html_inline", "em_open", "link_open"})
    for table in tables(pages["report.md"]):
        assert len({len(row) for row in table}) == 1
        assert len(table) > 1


def test_the_same_results_give_the_same_bytes_and_a_small_picture(results: Results, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        write_report(results, tmp_path / name)
        found.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())})
    assert found[0] == found[1]
    assert list(found[0]) == ["curves.png", "report.html", "report.md"]
    assert len(found[0]["curves.png"]) < 300_000
    pixels = image.imread(tmp_path / "one" / "curves.png")[:, :, :3]
    assert pixels[0, 0].tolist() == [1, 1, 1]
    blue = np.array([0x00, 0x72, 0xB2]) / 255
    assert (np.abs(pixels - blue).max(axis=2) < 0.01).sum() > 100, "the first arm's line is there"


def test_the_terminal_table_fits(results: Results) -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table(results))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"cross_entropy +51\.0 +91\.0 +62\.0", text)
    assert re.search(r"seeds 0, 1 +50\.0–52\.0 +90\.0–92\.0", text)
    assert "grpo@2" in text
    assert "<b> & |pipes|" in text


def test_arms_that_stand_in_another_order_than_in_the_paper_are_named(results: Results) -> None:
    renamed = {
        "maxrl@16": "maxrl@128",
        "cross_entropy": "grpo@1024",
    }  # the paper has grpo@1024 ahead of maxrl@128
    runs = tuple(replace(run, arm=renamed.get(run.arm, run.arm)) for run in results.runs)
    ahead = replace(
        results, arms=("grpo@1024", "maxrl@128"), runs=tuple(r for r in runs if r.arm in renamed.values())
    )
    assert not any("other order" in text for text in finding(ahead, summarise(ahead)))
    other = {"grpo@1024": "maxrl@128", "maxrl@128": "grpo@1024"}
    behind = replace(ahead, runs=tuple(replace(run, arm=other[run.arm]) for run in ahead.runs))
    texts = finding(behind, summarise(behind))
    assert any(text.startswith("grpo@1024 and maxrl@128 stand in the other order") for text in texts)


def test_one_seed_has_no_range(results: Results, tmp_path: Path) -> None:
    write_report(replace(results, runs=results.runs[:4]), tmp_path)
    after = tables((tmp_path / "report.md").read_text())[0]
    assert after[1] == ["cross_entropy", "50.0", "90.0", "60.0", "10.0 s"]
    assert after[2][0] == "maxrl@16"
