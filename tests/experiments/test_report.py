"""The report of a synthetic but plausible comparison: complete, self-contained, escaped, reproducible."""

import html as entities
import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib import image
from rich.console import Console

from maxrl.errors import InputError
from maxrl.evaluation.records import Evaluation, PassAtK, ProblemCounts
from maxrl.experiments.records import Comparison, RunRecord
from maxrl.experiments.report import summary_table, write_report
from maxrl.experiments.statistics import analyse
from maxrl.objectives import pass_at_k

KS = (1, 2, 4, 8, 16, 32, 64)
SAMPLES = 64
STEPS = 300
NASTY = "<script>alert('x')</script> | `tick` *bold* &amp; $x$"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def an_evaluation(logits: np.ndarray, rng: np.random.Generator, errors: int = 0) -> Evaluation:
    """Counts drawn at the given log-odds, in an order of its own."""
    correct = rng.binomial(SAMPLES, sigmoid(logits))
    greedy = logits + rng.normal(0, 0.5, len(logits)) > 0
    problems = [
        ProblemCounts(
            id=f"eval-0-{i}",
            scored=SAMPLES,
            correct=int(c),
            truncated=int(rng.integers(0, 3)),
            greedy_success=bool(g),
        )
        for i, (c, g) in enumerate(zip(correct, greedy, strict=True))
    ]
    for i in range(errors):
        problems[i] = replace(
            problems[i],
            scored=SAMPLES - 1,
            correct=min(problems[i].correct, SAMPLES - 1),
            errors=1,
            greedy_success=None,
        )
    order = rng.permutation(len(problems))
    return Evaluation(
        problems=tuple(problems[i] for i in order),
        pass_at_k=tuple(PassAtK(k=k, estimate=0.0, low=0.0, high=0.0) for k in KS),
        greedy_accuracy=float(np.mean(greedy)),
        confidence=0.95,
        completion_tokens=60 * SAMPLES * 9,
        seconds=21.0 + rng.random(),
        settings={"temperature": 1.0, "num_samples": SAMPLES},
    )


def some_metrics(final: float, dead: float, entropy: float, steps: int, rng: np.random.Generator) -> Any:
    """Rows as TRL logs them: every step, a few without a metric, a last one of the whole run."""
    rows: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        share = 1 - np.exp(-3 * step / STEPS)
        rows.append(
            {
                "step": step,
                "success_rate": float(np.clip(0.42 + (final - 0.42) * share + rng.normal(0, 0.05), 0, 1)),
                "reward": 0.5,
                "frac_reward_zero_mean": float(
                    np.clip(0.2 + (dead - 0.2) * share + rng.normal(0, 0.06), 0, 1)
                ),
                "frac_reward_all_success": float(np.clip(0.1 + 0.2 * share + rng.normal(0, 0.05), 0, 1)),
                "entropy": float(1.3 + (entropy - 1.3) * share + rng.normal(0, 0.03)),
                "elapsed": 0.25 * step,
            }
        )
    del rows[steps // 2]["entropy"]
    rows[steps // 3]["success_rate"] = float("nan")
    return (*rows, {"step": steps, "train_runtime": 75.0})


def a_comparison(*, seed: int = 0, problems: int = 60, errors: int = 0) -> Comparison:
    """maxrl (2 seeds), grpo (2 of 3 seeds), rloo (its only seed failed at once)."""
    rng = np.random.default_rng(seed)
    start = rng.normal(-0.6, 2.0, problems)
    runs = []
    shapes = {"maxrl": (1.0, 0.6, 0.5, 0.05, 1.0), "grpo": (1.7, 1.1, 0.52, 0.2, 0.3)}
    for estimator, (slope, shift, final, dead, entropy) in shapes.items():
        for run_seed in (0, 1):
            logits = slope * start + shift + rng.normal(0, 0.5, problems)
            runs.append(
                RunRecord(
                    estimator=estimator,
                    seed=run_seed,
                    folder=f"{estimator}-{run_seed}",
                    status="done",
                    metrics=some_metrics(final, dead, entropy, STEPS, rng),
                    evaluation=an_evaluation(logits, rng, errors if run_seed else 0),
                    training_seconds=70.0 + 6 * run_seed + (9.0 if estimator == "grpo" else 0.0),
                    rollouts=STEPS * 512,
                    completion_tokens=STEPS * 512 * 8 + run_seed,
                )
            )
    runs.append(
        RunRecord(
            estimator="grpo",
            seed=2,
            folder="grpo-2",
            status="failed",
            error="RuntimeError: the loss is not finite\nat step 97",
            metrics=some_metrics(0.5, 0.2, 0.3, 97, rng),
            training_seconds=24.0,
        )
    )
    runs.append(RunRecord(estimator="rloo", seed=0, folder="rloo-0", status="failed", error=NASTY))
    return Comparison(
        title="MaxRL and GRPO on subset-sum",
        command="maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo rloo --seeds 0 1 2",
        settings={
            "task": "subset_sum",
            "num_elements": 6,
            "max_value": 20,
            "model_name_or_path": "tiny",
            "learning_rate": 3e-4,
            "num_generations": 32,
            "max_steps": STEPS,
            "beta": 0.0,
            "bf16": False,
            "stop_words": ["DONE"],
            "report_to": None,
        },
        arms=("maxrl", "grpo", "rloo"),
        before=an_evaluation(start, rng),
        runs=tuple(runs),
        seconds=312.4,
        environment={"python": "3.11.2", "torch": "2.13.0", "machine": "x86_64, 2 cores"},
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return a_comparison()


@pytest.fixture(scope="module")
def pages(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    html, markdown = write_report(comparison, tmp_path_factory.mktemp("report") / "new" / "folder")
    assert (html.name, markdown.name) == ("report.html", "report.md")
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def written(comparison: Comparison, folder: Path) -> tuple[str, str]:
    html, markdown = write_report(comparison, folder)
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def text_of(html: str) -> str:
    """What a reader sees of a page, figures left out, white space evened."""
    html = re.sub(r"<(style|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"[ \n]+", " ", entities.unescape(re.sub(r"<[^>]*>", " ", html)))


def tables(markdown: str) -> list[list[list[str]]]:
    """Tables of a Markdown text as GitHub reads them: rows of cells, as text."""
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
            found[-1][-1].append(joined(token))
            cell = False
    return found


def share(problems: tuple[ProblemCounts, ...], k: int) -> float:
    return float(np.mean([pass_at_k(p.scored, p.correct, k) for p in problems]))


# --- content ----------------------------------------------------------------------------------------------

SECTIONS = (
    "pass@k",
    "Paired differences",
    "Change since the warm start",
    "Samples for equal pass@k",
    "Pass rates, problem by problem",
    "Training",
    "Cost",
    "Runs",
    "What cannot be concluded",
    "Settings",
    "How to repeat it",
)


def test_every_section_is_there_in_both(pages: tuple[str, str]) -> None:
    html, markdown = pages
    assert re.findall(r"<h[23]>(.*?)</h[23]>", html) == list(SECTIONS)
    assert re.findall(r"^##+ (.*)$", markdown, flags=re.MULTILINE) == list(SECTIONS)


def test_every_figure_is_there(pages: tuple[str, str]) -> None:
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', pages[0])
    assert labels == [
        "pass@k against k for the warm start and each arm",
        "Paired differences of pass@k with intervals",
        "Pass rates over problems before and after maxrl",
        "Pass rates over problems before and after grpo",
        "success rate during training",
        "dead groups during training",
        "groups solved throughout during training",
        "entropy, nats per token during training",
    ]


def test_numbers_of_the_table_are_those_of_the_counts(comparison: Comparison, pages: tuple[str, str]) -> None:
    rows = {row[0]: row[1:] for row in tables(pages[1])[0]}
    start, arms = rows["warm start"], {name: rows[name] for name in ("maxrl", "grpo")}
    html = text_of(pages[0])
    for i, k in enumerate(KS):
        assert start[i].split()[0] == f"{100 * share(comparison.before.problems, k):.1f}"
        for name, cells in arms.items():
            by_seed = [share(run.evaluation.problems, k) for run in comparison.of(name) if run.evaluation]
            assert len(by_seed) == 2
            assert cells[i].split()[0] == f"{100 * np.mean(by_seed):.1f}"
            assert [rows[f"{name}, seed {s}"][i] for s in (0, 1)] == [f"{100 * v:.1f}" for v in by_seed]
        interval = re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", arms["maxrl"][i])
        assert interval is not None
        assert float(interval[2]) <= float(interval[1]) <= float(interval[3])
        assert f"{interval[1]} {interval[2]}–{interval[3]}" in html
    solved = np.mean([p.correct > 0 for p in comparison.before.problems])
    assert start[-1].split()[0] == f"{100 * solved:.1f}"
    assert start[-2].split()[0] == f"{100 * comparison.before.greedy_accuracy:.1f}"


def test_differences_are_those_of_the_counts(comparison: Comparison, pages: tuple[str, str]) -> None:
    table = tables(pages[1])[1]
    row = next(row for row in table if row[0] == "maxrl − grpo")
    for k, cell in zip(KS, row[1:], strict=True):
        means = {
            arm: np.mean([share(run.evaluation.problems, k) for run in comparison.of(arm)])
            for arm in ("maxrl", "grpo")
        }
        assert float(cell.split()[0].replace("−", "-")) == pytest.approx(
            100 * (means["maxrl"] - means["grpo"]), abs=0.051
        )


def test_the_finding_follows_from_the_numbers(comparison: Comparison, pages: tuple[str, str]) -> None:
    difference = analyse(comparison).differences[0]
    ahead = ", ".join(str(k) for k, i in zip(KS, difference.pass_at_k, strict=True) if i.low > 0)
    level = ", ".join(str(k) for k, i in zip(KS, difference.pass_at_k, strict=True) if i.low <= 0 <= i.high)
    assert ahead
    assert level
    for page in (text_of(pages[0]), pages[1]):
        assert f"maxrl leads grpo at k = {ahead}; the gap is widest at k = " in page
        assert f"maxrl and grpo cannot be told apart at k = {level}: the difference" in page
        assert re.search(r"For the pass@k of maxrl, grpo needs [\d.]+× \(k = \d+\)", page)


def test_the_other_arm_may_lead(comparison: Comparison, tmp_path: Path) -> None:
    html, _ = written(replace(comparison, arms=("grpo", "maxrl", "rloo")), tmp_path)
    assert "maxrl leads grpo at k = " in text_of(html)
    assert "grpo leads maxrl" not in text_of(html)
    assert re.search(r"maxrl leads [^.]*\.\d % against [^:]*, \+\d", text_of(html))


def test_equal_arms_cannot_be_told_apart(comparison: Comparison, tmp_path: Path) -> None:
    runs = [run for run in comparison.runs if run.estimator == "maxrl"]
    twins = [replace(run, estimator="grpo", folder=f"grpo-{run.seed}") for run in runs]
    html, markdown = written(replace(comparison, runs=(*runs, *twins), arms=("maxrl", "grpo")), tmp_path)
    for page in (text_of(html), markdown):
        assert "maxrl and grpo cannot be told apart at any k: the difference at k = 1 is 0.0 points" in page
        assert "leads" not in page


def test_failed_runs_are_rows_with_their_error(pages: tuple[str, str]) -> None:
    html, markdown = text_of(pages[0]), pages[1]
    rows = [row for table in tables(markdown) for row in table]
    assert ["grpo", "2", "failed", "24.0 s", "0", "0", "grpo-2"] in [row[:7] for row in rows]
    assert "RuntimeError: the loss is not finite at step 97" in html
    assert any(row[-1] == "RuntimeError: the loss is not finite at step 97" for row in rows)
    assert any(row[0] == "rloo: no finished run" for row in rows)
    assert "rloo no finished run" in html
    for page in (html, markdown):
        assert "2 of 6 runs failed (grpo seed 2, rloo seed 0)" in page
        assert "Nothing can be said about rloo" in page


def test_caveats_name_what_the_data_shows(pages: tuple[str, str]) -> None:
    page = text_of(pages[0])
    for phrase in (
        "They do not cover training seeds, of which there are 2 per arm",
        "With 60 problems a true difference has to be about",
        "The 7 intervals of the paired differences are not corrected",
        "pass@k is estimated from 64 samples per problem; at k = 64",
        "of the samples ran into the length limit",
        "One model (tiny) on one task (subset_sum)",
        "the same 300 training steps",
        "a learning rate (0.0003) that was not tuned for each",
        "the slowest arm took 1.1× as long as the fastest",
    ):
        assert phrase in page


def test_cost_repeat_and_settings(pages: tuple[str, str]) -> None:
    rows = [row for table in tables(pages[1]) for row in table]
    mean = ["grpo", "2", "82.0 s", "153\u202f600", "1\u202f228\u202f800", "14\u202f985"]  # (79 + 85)/2 s
    assert mean in [row[:6] for row in rows]
    assert ["stop_words", '["DONE"]'] in rows
    assert ["bf16", "false"] in rows
    for page in (text_of(pages[0]), pages[1]):
        assert "maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo rloo" in page
        assert "Seeds: 0, 1, 2." in page
        assert "x86_64, 2 cores" in page


# --- form -------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing(pages: tuple[str, str]) -> None:
    html = pages[0]
    loads = re.findall(
        r"""(?:src|href|srcset|action|data)\s*=\s*["']?([^"'\s>]+)""", html, flags=re.IGNORECASE
    )
    assert [load for load in loads if not load.startswith(("#", "data:,"))] == []
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", html))
    assert "@import" not in html
    assert "<script" not in html.lower()
    assert "http" not in re.sub(r"https?://www\.w3\.org/", "", html)


def test_references_inside_the_page_resolve_and_ids_are_unique(pages: tuple[str, str]) -> None:
    ids = re.findall(r'\bid="([^"]+)"', pages[0])
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', pages[0])) <= set(ids)


def test_figures_take_their_colours_from_the_page(pages: tuple[str, str]) -> None:
    html = pages[0]
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", figures) == []
    for name in set(re.findall(r"var\((--[a-z0-9-]+)\)", html)):
        assert html.count(f"{name}:") >= 1, name
    assert "font-family: 'DejaVu" not in figures


def test_everything_is_escaped(comparison: Comparison, tmp_path: Path) -> None:
    def nasty(where: str) -> str:
        return f"{NASTY}-{where}"

    runs = [replace(r, estimator=nasty("arm")) if r.estimator == "maxrl" else r for r in comparison.runs]
    runs[0] = replace(runs[0], folder=nasty("folder"))
    runs[-1] = replace(runs[-1], error=nasty("error") + "\n```\n" + nasty("traceback"))
    html, markdown = written(
        replace(
            comparison,
            title=nasty("title"),
            command=nasty("command") + "\n```",
            arms=(nasty("arm"), "grpo", "rloo"),
            runs=tuple(runs),
            settings={nasty("field"): nasty("value"), "task": nasty("task")},
            environment={nasty("name"): nasty("version")},
        ),
        tmp_path,
    )
    assert "<script" not in html
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    flat = [child for token in tokens for child in (token, *(token.children or ()))]
    assert {t.type for t in flat}.isdisjoint({"html_inline", "html_block", "em_open", "link_open", "image"})
    shown = "\n".join(joined(token) or token.content for token in tokens)
    page = text_of(html)
    for where in (
        "arm",
        "folder",
        "error",
        "traceback",
        "title",
        "command",
        "field",
        "value",
        "task",
        "name",
    ):
        assert nasty(where) in page, where
        assert nasty(where) in shown, where
    assert nasty("version") in page


def joined(token: Any) -> str:
    return "".join(child.content for child in token.children or ())


def test_markdown_tables_are_well_formed(pages: tuple[str, str]) -> None:
    markdown = pages[1]
    found = tables(markdown)
    assert len(found) == 10
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert len(table) > 1
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    for above, line in pairwise(lines):
        if line.startswith("| :--"):  # GitHub shows no table where the counts differ
            assert line.count("|") == len(re.findall(r"(?<!\\)\|", above))
    assert sum(len(table) for table in found) == len(lines) - len(found)
    assert "![" not in markdown
    assert "\n\n\n" not in markdown


def test_the_same_records_give_the_same_bytes(
    comparison: Comparison, pages: tuple[str, str], tmp_path: Path
) -> None:
    plain = json.loads(json.dumps(comparison.to_dict()))
    (tmp_path / "comparison.json").write_text(json.dumps(plain))
    assert written(Comparison.load(tmp_path / "comparison.json"), tmp_path) == pages


def test_no_global_state_is_left_behind(comparison: Comparison, tmp_path: Path) -> None:
    before, state = dict(matplotlib.rcParams), np.random.get_state()[1].tolist()
    write_report(comparison, tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert np.random.get_state()[1].tolist() == state


# --- odd data ---------------------------------------------------------------------------------------------


def test_no_finished_run_still_gives_a_report(comparison: Comparison, tmp_path: Path) -> None:
    failed = tuple(
        replace(r, status="failed", evaluation=None, error="died", metrics=()) for r in comparison.runs
    )
    broken = replace(comparison, runs=failed)
    html, markdown = written(broken, tmp_path)
    for page in (text_of(html), markdown):
        assert "No arm has a finished run (maxrl, grpo, rloo), so there is nothing to compare." in page
        assert "died" in page
        assert "Paired differences" not in page
    assert "no finished run" in console_text(broken)


def test_no_runs_at_all(comparison: Comparison, tmp_path: Path) -> None:
    html, _ = written(replace(comparison, runs=(), arms=(), settings={}, environment={}), tmp_path)
    assert "No arm has a finished run (none was asked for)" in text_of(html)


def test_the_first_arm_failed(comparison: Comparison, tmp_path: Path) -> None:
    runs = [run for run in comparison.runs if run.estimator == "grpo"]
    html, _ = written(replace(comparison, runs=tuple(runs)), tmp_path)
    assert "The arms could not be compared: maxrl, rloo have no finished run." in text_of(html)
    assert "Against the warm start: under grpo, pass@1 rose by" in text_of(html)


def test_one_arm_one_seed_one_problem(comparison: Comparison, tmp_path: Path) -> None:
    small = a_comparison(problems=1)
    html, markdown = written(replace(small, runs=small.runs[:1], arms=("maxrl",)), tmp_path)
    for page in (text_of(html), markdown):
        assert "of which there is 1 per arm: another seed may give another order" in page
        assert "An interval without width" in page
        assert "Paired differences" not in page


def test_ragged_data(tmp_path: Path) -> None:
    """Verifier errors, other lengths of training, no greedy verdicts, no entropy, reward alone."""
    ragged = a_comparison(errors=4)
    runs = list(ragged.runs)
    runs[0] = replace(runs[0], metrics=runs[0].metrics[:150], training_seconds=0.0)
    runs[1] = replace(runs[1], metrics=())
    runs[2] = replace(runs[2], metrics=tuple({"step": r["step"], "reward": 0.5} for r in runs[2].metrics))
    assert runs[3].evaluation is not None
    mute = tuple(replace(p, greedy_success=None) for p in runs[3].evaluation.problems)
    runs[3] = replace(runs[3], evaluation=replace(runs[3].evaluation, problems=mute))
    html, markdown = written(replace(ragged, runs=tuple(runs)), tmp_path)
    for page in (text_of(html), markdown):
        assert "4 of 60 problems are left out everywhere" in page
        assert "On 8 of 19\u202f200 samples the verifier failed" in page  # 5 evaluations × 60 × 64
        assert "nan" not in page.lower()
    greedy = {row[0]: row[-2] for row in tables(markdown)[0]}
    assert greedy["grpo"] == "—"
    assert greedy["maxrl"] != "—"


def test_reward_stands_in_for_success_rate(comparison: Comparison, tmp_path: Path) -> None:
    only = tuple({"step": step, "reward": 2.0 * step} for step in range(1, 11))
    runs = tuple(replace(run, metrics=only if run.status == "done" else ()) for run in comparison.runs)
    html, markdown = written(replace(comparison, runs=runs), tmp_path)
    assert 'aria-label="reward during training"' in html
    assert ["reward", "maxrl", "3", "7", "11", "15", "19"] in [row for t in tables(markdown) for row in t]


def test_many_arms_repeat_colours_with_other_dashes(comparison: Comparison, tmp_path: Path) -> None:
    runs, names = [], []
    for i in range(8):
        names.append(f"arm{i}")
        runs.append(replace(comparison.runs[i % 4], estimator=f"arm{i}", folder=f"f{i}", seed=0))
    html, _ = written(replace(comparison, arms=tuple(names), runs=tuple(runs)), tmp_path)
    assert set(re.findall(r"--arm-\d", html)) == {f"--arm-{i}" for i in range(6)}
    assert "stroke-dasharray" in html


def test_different_problems_are_refused_and_nothing_is_written(
    comparison: Comparison, tmp_path: Path
) -> None:
    run = comparison.runs[0]
    assert run.evaluation is not None
    fewer = replace(run.evaluation, problems=run.evaluation.problems[1:])
    odd = replace(comparison, runs=(replace(run, evaluation=fewer), *comparison.runs[1:]))
    with pytest.raises(InputError, match="maxrl-0 was evaluated on other problems"):
        write_report(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- terminal and browser ---------------------------------------------------------------------------------


def console_text(comparison: Comparison) -> str:
    console = Console(width=80, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table(comparison))
    return capture.get()


def test_summary_table_fits_eighty_columns_uncut(comparison: Comparison, pages: tuple[str, str]) -> None:
    text = console_text(comparison)
    assert max(map(len, text.splitlines())) <= 80
    table = {row[0]: row[1:] for row in tables(pages[1])[0]}
    lines = [line.split() for line in text.splitlines()]
    shown = [KS.index(k) for k in (1, 4, 16, 64)]
    for name in ("maxrl", "grpo"):
        cells = [table[name][i] for i in (*shown, -2)]
        assert [name, *(cell.split()[0] for cell in cells)] in lines
        assert ["seeds", "0,", "1", *(cell.split()[1].strip("()") for cell in cells)] in lines
    assert lines.index(next(line for line in lines if line[:2] == ["warm", "start"])) < lines.index(
        next(line for line in lines if line[:1] == ["maxrl"])
    )
    assert any(line[:3] == ["maxrl", "−", "grpo"] for line in lines)
    assert "do not cover training seeds" in text


def test_summary_table_shows_markup_literally(comparison: Comparison) -> None:
    assert "[bold]x[/]" in console_text(replace(comparison, title="[bold]x[/]"))


def requests_of_the_page(net_log: str) -> list[str]:
    """Addresses that the page asked for, from Chromium's net log; the browser's own calls home left out."""
    try:
        events = json.loads(net_log)["events"]
    except json.JSONDecodeError:  # cut off when the browser ended
        events = json.loads(net_log.rstrip().rstrip(",") + "]}")["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return [p["url"] for p in asked if p["initiator"] != "not an origin" and p["url"].startswith("http")]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_shows_it_without_errors_or_requests(
    comparison: Comparison, tmp_path: Path, scheme: int
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    html, _ = write_report(comparison, tmp_path)
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--enable-logging=stderr",
            f"--screenshot={tmp_path / 'page.png'}",
            f"--log-net-log={log}",
            "--window-size=600,3000",
            html.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert requests_of_the_page(log.read_text()) == []
    pixels = image.imread(tmp_path / "page.png")[:, :, :3]
    corner = pixels[:20, :20].mean()
    assert (corner < 0.2) if scheme == 0 else (corner > 0.9)
    assert pixels.std() > 0.02
