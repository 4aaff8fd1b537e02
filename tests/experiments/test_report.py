"""What the report of a synthetic comparison says: numbers, finding, caveats, odd data."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from maxrl.errors import InputError
from maxrl.evaluation.records import ProblemCounts
from maxrl.experiments.records import Comparison
from maxrl.experiments.report import summary_table, write_report
from maxrl.experiments.statistics import analyse
from maxrl.objectives import pass_at_k

KS = (1, 2, 4, 8, 16, 32, 64)
Render = Callable[[Comparison], Any]


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


def test_every_section_is_there_in_both(pages: Any) -> None:
    html, markdown = pages.html, pages.markdown
    assert re.findall(r"<h[23]>(.*?)</h[23]>", html) == list(SECTIONS)
    assert re.findall(r"^##+ (.*)$", markdown, flags=re.MULTILINE) == list(SECTIONS)


def test_every_figure_is_there(pages: Any) -> None:
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', pages.html)
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


def test_numbers_of_the_table_are_those_of_the_counts(comparison: Comparison, pages: Any) -> None:
    rows = {row[0]: row[1:] for row in pages.tables[0]}
    start, arms = rows["warm start"], {name: rows[name] for name in ("maxrl", "grpo")}
    html = pages.text
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


def test_differences_are_those_of_the_counts(comparison: Comparison, pages: Any) -> None:
    table = pages.tables[1]
    row = next(row for row in table if row[0] == "maxrl − grpo")
    for k, cell in zip(KS, row[1:], strict=True):
        means = {
            arm: np.mean([share(run.evaluation.problems, k) for run in comparison.of(arm)])
            for arm in ("maxrl", "grpo")
        }
        assert float(cell.split()[0].replace("−", "-")) == pytest.approx(
            100 * (means["maxrl"] - means["grpo"]), abs=0.051
        )


def test_the_finding_follows_from_the_numbers(comparison: Comparison, pages: Any) -> None:
    difference = analyse(comparison).differences[0]
    ahead = ", ".join(str(k) for k, i in zip(KS, difference.pass_at_k, strict=True) if i.low > 0)
    level = ", ".join(str(k) for k, i in zip(KS, difference.pass_at_k, strict=True) if i.low <= 0 <= i.high)
    assert ahead
    assert level
    for page in (pages.text, pages.markdown):
        assert f"maxrl leads grpo at k = {ahead}; the gap is widest at k = " in page
        assert f"maxrl and grpo cannot be told apart at k = {level}: the difference" in page
        assert re.search(
            r"For the pass@k of maxrl, grpo needs [\d.]+× \([<>\d.]+× – [<>\d.]+×; k = \d+\)", page
        )


def test_the_other_arm_may_lead(comparison: Comparison, render: Render) -> None:
    page = render(replace(comparison, arms=("grpo", "maxrl", "rloo")))
    assert "maxrl leads grpo at k = " in page.text
    assert "grpo leads maxrl" not in page.text
    assert re.search(r"maxrl leads [^.]*\.\d % against [^:]*, \+\d", page.text)


def test_the_finding_names_seeds_that_differ_more_than_the_arms(
    comparison: Comparison, render: Render
) -> None:
    """maxrl's seed 1 gets the warm start's counts: the arm still leads, by less than its seeds differ."""
    runs = list(comparison.runs)
    runs[1] = replace(runs[1], evaluation=comparison.before)
    changed = replace(comparison, runs=tuple(runs))
    arm, difference = analyse(changed).arms[0], analyse(changed).differences[0]
    widest = max(range(len(KS)), key=lambda i: difference.pass_at_k[i].estimate)
    assert difference.pass_at_k[widest].sign == 1
    spread = abs(arm.by_seed[0][widest] - arm.by_seed[1][widest])
    assert spread > difference.pass_at_k[widest].estimate
    text = render(changed).text
    assert f"the seeds of one arm differ by up to {100 * spread:.1f} points there" in text
    assert "the seeds of one arm differ" not in render(comparison).text


def test_equal_arms_cannot_be_told_apart(comparison: Comparison, render: Render) -> None:
    runs = [run for run in comparison.runs if run.estimator == "maxrl"]
    twins = [replace(run, estimator="grpo", folder=f"grpo-{run.seed}") for run in runs]
    page = render(replace(comparison, runs=(*runs, *twins), arms=("maxrl", "grpo")))
    for text in (page.text, page.markdown):
        assert "maxrl and grpo cannot be told apart at any k: the difference at k = 1 is 0.0 points" in text
        assert "leads" not in text


def test_failed_runs_are_rows_with_their_error(pages: Any) -> None:
    html, markdown = pages.text, pages.markdown
    rows = pages.rows
    assert ["grpo", "2", "failed", "24.0 s", "0", "0", "grpo-2"] in [row[:7] for row in rows]
    assert "RuntimeError: the loss is not finite at step 97" in html
    assert any(row[-1] == "RuntimeError: the loss is not finite at step 97" for row in rows)
    assert any(row[0] == "rloo: no finished run" for row in rows)
    assert "rloo no finished run" in html
    for page in (html, markdown):
        assert "2 of 6 runs failed (grpo seed 2, rloo seed 0)" in page
        assert "Nothing can be said about rloo" in page


def test_caveats_name_what_the_data_shows(pages: Any) -> None:
    page = pages.text
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


def test_training_table_averages_seeds_without_the_missing_values(comparison: Comparison, pages: Any) -> None:
    runs = [
        np.array([row["success_rate"] for row in run.metrics if "success_rate" in row])
        for run in comparison.of("maxrl")
    ]
    values = np.mean(runs, axis=0)  # NaN at one step
    fifths = [part.mean() for part in np.array_split(values[np.isfinite(values)], 5)]
    row = ["success rate, %", "maxrl", *(f"{100 * part:.1f}" for part in fifths)]
    assert row in pages.rows


def test_cost_repeat_and_settings(pages: Any) -> None:
    rows = pages.rows
    mean = ["grpo", "2", "82.0 s", "153\u202f600", "1\u202f228\u202f800", "14\u202f985"]  # (79 + 85)/2 s
    assert mean in [row[:6] for row in rows]
    assert ["stop_words", '["DONE"]'] in rows
    assert ["bf16", "false"] in rows
    for page in (pages.text, pages.markdown):
        assert "maxrl compare --config recipes/subset_sum_tiny.yaml --estimators maxrl grpo rloo" in page
        assert "Seeds: 0, 1, 2." in page
        assert "x86_64, 2 cores" in page


# --- odd data ---------------------------------------------------------------------------------------------


def test_no_finished_run_still_gives_a_report(comparison: Comparison, render: Render) -> None:
    failed = tuple(
        replace(r, status="failed", evaluation=None, error="died", metrics=()) for r in comparison.runs
    )
    broken = replace(comparison, runs=failed)
    page = render(broken)
    for text in (page.text, page.markdown):
        assert "No arm has a finished run (maxrl, grpo, rloo), so there is nothing to compare." in text
        assert "died" in text
        assert "Paired differences" not in text
    assert "no finished run" in console_text(broken)


def test_no_runs_at_all(comparison: Comparison, render: Render) -> None:
    page = render(replace(comparison, runs=(), arms=(), settings={}, environment={}))
    assert "No arm has a finished run (none was asked for)" in page.text


def test_the_first_arm_failed(comparison: Comparison, render: Render) -> None:
    runs = [run for run in comparison.runs if run.estimator == "grpo"]
    page = render(replace(comparison, runs=tuple(runs)))
    assert "The arms could not be compared: maxrl, rloo have no finished run." in page.text
    assert "Against the warm start: under grpo, pass@1 rose by" in page.text


def test_one_arm_one_seed_one_problem(make_comparison: Callable[..., Comparison], render: Render) -> None:
    small = make_comparison(problems=1)
    page = render(replace(small, runs=small.runs[:1], arms=("maxrl",)))
    for text in (page.text, page.markdown):
        assert "of which there is 1 per arm: another seed may give another order" in text
        assert "There is one problem: nothing can be said about others" in text
        assert "Paired differences" not in text


def test_runs_are_counted(comparison: Comparison, pages: Any, render: Render) -> None:
    one = render(replace(comparison, runs=comparison.runs[:1]))
    for form in ("text", "markdown"):
        assert "· 6 runs ·" in getattr(pages, form)
        assert "· 1 run ·" in getattr(one, form)


def test_ragged_data(make_comparison: Callable[..., Comparison], render: Render) -> None:
    """Verifier errors, other lengths of training, no greedy verdicts, no entropy, reward alone."""
    ragged = make_comparison(errors=4)
    runs = list(ragged.runs)
    runs[0] = replace(runs[0], metrics=runs[0].metrics[:150], training_seconds=0.0)
    runs[1] = replace(runs[1], metrics=())
    runs[2] = replace(runs[2], metrics=tuple({"step": r["step"], "reward": 0.5} for r in runs[2].metrics))
    assert runs[3].evaluation is not None
    mute = tuple(replace(p, greedy_success=None) for p in runs[3].evaluation.problems)
    runs[3] = replace(runs[3], evaluation=replace(runs[3].evaluation, problems=mute))
    page = render(replace(ragged, runs=tuple(runs)))
    for text in (page.text, page.markdown):
        assert "4 of 60 problems are left out everywhere" in text
        assert "On 8 of 19\u202f200 samples the verifier failed" in text  # 5 evaluations × 60 × 64
        assert "nan" not in text.lower()
    greedy = {row[0]: row[-2] for row in page.tables[0]}
    assert greedy["grpo"] == "—"
    assert greedy["maxrl"] != "—"


def test_reward_stands_in_for_success_rate(comparison: Comparison, render: Render) -> None:
    only = tuple({"step": step, "reward": 2.0 * step} for step in range(1, 11))
    runs = tuple(replace(run, metrics=only if run.status == "done" else ()) for run in comparison.runs)
    page = render(replace(comparison, runs=runs))
    assert 'aria-label="reward during training"' in page.html
    assert ["reward", "maxrl", "3", "7", "11", "15", "19"] in page.rows


def test_many_arms_repeat_colours_with_other_dashes(comparison: Comparison, render: Render) -> None:
    runs, names = [], []
    for i in range(8):
        names.append(f"arm{i}")
        runs.append(replace(comparison.runs[i % 4], estimator=f"arm{i}", folder=f"f{i}", seed=0))
    page = render(replace(comparison, arms=tuple(names), runs=tuple(runs)))
    assert set(re.findall(r"--arm-\d", page.html)) == {f"--arm-{i}" for i in range(6)}
    assert "stroke-dasharray" in page.html


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


# --- terminal ---------------------------------------------------------------------------------------------


def console_text(comparison: Comparison) -> str:
    console = Console(width=80, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table(comparison))
    return capture.get()


def test_summary_table_fits_eighty_columns_uncut(comparison: Comparison, pages: Any) -> None:
    text = console_text(comparison)
    assert max(map(len, text.splitlines())) <= 80
    table = {row[0]: row[1:] for row in pages.tables[0]}
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
