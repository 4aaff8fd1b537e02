"""The page: what it says, that nothing is lost, and its form."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.reports.conftest import column
from tests.experiments.reports.synthetic import ENVIRONMENT, Maker

from maxrl.errors import InputError
from maxrl.experiments.reports import report_runs
from maxrl.experiments.store import find_runs

SMALL = Maker(steps=6, problems=20, samples=8)


def test_a_grid_has_every_setting_arm_and_run(grid_page: Any, grid_folder: Path) -> None:
    settings = column(grid_page, ["setting", "num_elements", "num_generations"])
    assert settings == [
        ["1", "5", "16", "2 of 2", "2 of 2"],
        ["2", "5", "32", "2 of 2", "2 of 2"],
        ["3", "10", "16", "2 of 2", "2 of 2"],
        ["4", "10", "32", "2 of 3", "2 of 3"],
    ]
    assert len(column(grid_page, ["setting", "points"])) == 4 * 5  # at each k
    assert len(column(grid_page, ["setting", "samples of grpo"])) == 4
    assert len(column(grid_page, ["setting", "%", "seeds"])) == 12  # warm start and two arms each
    runs = column(grid_page, ["run", "arm"])
    assert [row[0] for row in runs] == [path.name for path in sorted(grid_folder.iterdir())]
    states = {row[0]: (row[3], row[8]) for row in runs}
    assert states["failed-run"] == ("failed", "RuntimeError: the loss is not finite")
    assert states["stopped-run"] == ("stopped", "")
    roles = {row[0]: row[1] for row in column(grid_page, ["varies"])}
    assert roles["max_value"] == "follows (num_elements)"
    assert roles["per_device_train_batch_size"] == "follows (num_generations)"
    for heading in ("Differences", "At equal budget", "Coverage", "Cost", "What cannot be concluded"):
        assert f">{heading}</h2>" in grid_page.html


def test_what_is_found_and_what_is_not(grid_page: Any) -> None:
    text = grid_page.text
    assert re.search(r"At pass@1 maxrl leads grpo in \d of 4 settings", text)
    assert "For the pass@k of maxrl, grpo needs" in text
    assert "2 of 18 runs are not done (1 failed, 1 stopped)" in text
    assert "1 of 18 runs failed (failed-run)" in text
    assert "The runs were not made alike: they differ in code" in text
    assert "1 of 18 runs were made by changed code that no commit holds" in text
    assert "0123456789ab+changes (1 run)" in text
    assert "two seeds say next to nothing about how much seeds vary" in text


def test_an_inconclusive_comparison_says_what_it_could_have_found(grid_page: Any, pair_page: Any) -> None:
    for page in (grid_page, pair_page):
        for row in column(page, ["setting", "points"] if page is grid_page else ["points"]):
            assert row[-1] in ("clear", "these models") or re.fullmatch(r"open \(detects \d+\.\d\)", row[-1])


def test_of_one_setting_every_open_k_is_among_what_cannot_be_concluded(
    tmp_path: Path, write: Callable[..., Any]
) -> None:
    for estimator in ("maxrl", "grpo"):
        Maker(steps=3, problems=12, samples=16, seed=3).run(tmp_path / estimator, estimator)
    page = write(tmp_path)
    still = [row[1] for row in column(page, ["points"]) if row[-1].startswith("open")]
    assert set(still) - {"1", "16"}, "of those there is none to be tested here"
    (told,) = re.findall(r"maxrl against grpo is open at k = ([\d, ]+), which does not prove", page.markdown)
    assert told.split(", ") == still
    assert len(re.findall(r"[\d.]+ points \(k = \d+\)", page.markdown)) == len(still)


def test_the_tables_hold_the_numbers_of_a_setting(pair_page: Any, pair_folder: Path) -> None:
    counts = [
        json.loads((pair_folder / f"maxrl-seed{seed}" / "eval.json").read_text())["problems"]
        for seed in range(3)
    ]
    rate = sum(row["correct"] / row["scored"] for rows in counts for row in rows) / 150
    row = next(row for row in column(pair_page, ["%", "seeds"]) if row[0] == "maxrl")
    assert row[1] == "seeds 0, 1, 2"
    assert row[2].startswith(f"{100 * rate:.1f} (")
    solved = sum(row["correct"] > 0 for rows in counts for row in rows) / 150
    assert row[-4].startswith(f"{100 * solved:.1f} (")
    rows = [
        json.loads(line) for line in (pair_folder / "maxrl-seed0" / "metrics.jsonl").read_text().splitlines()
    ]
    cost = next(row for row in column(pair_page, ["mean per finished run"]) if row[0] == "maxrl")
    assert cost[3].replace("\u202f", "") == str(rows[-1]["rollouts"])
    budget = {row[0]: row for row in column(pair_page, ["success rate, %"])}
    assert list(budget) == ["steps", "rollouts", "completion tokens", "seconds"]
    assert float(budget["seconds"][1]) == pytest.approx(
        rows[-1]["elapsed"], rel=0.01
    )  # maxrl is the faster one


def test_samples_for_the_same_pass_at_k_have_an_interval_at_every_k(pair_page: Any) -> None:
    ((arm, *ratios),) = column(pair_page, ["samples of grpo"])
    assert arm == "maxrl"
    assert len(ratios) == 5  # k = 1, 2, 4, 8, 16
    for ratio in ratios:
        assert re.fullmatch(r"\\?[<>]?[\d.]+× \(\\?[<>]?[\d.]+× – \\?[<>]?[\d.]+×\)", ratio), ratio
    assert re.search(r"grpo needs [\d.]+× \([<>]?[\d.]+× – [<>]?[\d.]+×; k = \d+\)", pair_page.text)


def test_runs_that_are_not_done_are_in_no_average(tmp_path: Path, write: Callable[..., Any]) -> None:
    def averages() -> list[list[list[str]]]:
        page = write(tmp_path)
        return [column(page, ["mean over each fifth"]), column(page, ["% of groups"])]

    for seed in (0, 1):
        SMALL.run(tmp_path / f"done{seed}", seed=seed)
    alone = averages()
    SMALL.run(tmp_path / "failed", seed=2, state="failed")
    SMALL.run(tmp_path / "stopped", seed=3, state="stopped")
    assert averages() == alone


def test_settings_may_have_been_evaluated_at_other_k(tmp_path: Path, write: Callable[..., Any]) -> None:
    for estimator in ("maxrl", "grpo"):
        SMALL.run(tmp_path / f"few-{estimator}", estimator, num_elements=4)
    Maker(steps=6, problems=20, samples=32).run(tmp_path / "many", num_elements=8)
    page = write(tmp_path)
    assert [row[2] for row in column(page, ["setting", "points"])] == ["1", "2", "4", "8"]
    assert "pass@1 against pass@8" in page.text


def test_an_evaluation_without_pass_at_1_has_its_front_too(tmp_path: Path, write: Callable[..., Any]) -> None:
    for estimator in ("maxrl", "grpo"):
        folder = SMALL.run(tmp_path / estimator, estimator)
        for name in ("eval.json", "eval_before.json"):
            evaluation = json.loads((folder / name).read_text())
            del evaluation["pass_at_k"][0]
            (folder / name).write_text(json.dumps(evaluation))
    html = write(tmp_path).html
    (front,) = re.findall(r'<svg[^>]*aria-label="pass@2 against pass@8.*?</svg>', html, flags=re.DOTALL)
    assert "pass@2, %" in front
    assert "var(--arm-1)" in front


def test_a_k_that_is_not_shown_is_named(tmp_path: Path, write: Callable[..., Any]) -> None:
    folder = SMALL.run(tmp_path / "a")
    evaluation = json.loads((folder / "eval.json").read_text())
    for problem in evaluation["problems"][:4]:
        problem |= {"scored": 7, "correct": min(7, problem["correct"]), "errors": 1}
    (folder / "eval.json").write_text(json.dumps(evaluation))
    page = write(folder)
    assert "k = 8 is not shown: more than a tenth of the problems have fewer verdicts" in page.text


def test_one_problem_decides_nothing(tmp_path: Path, write: Callable[..., Any]) -> None:
    for estimator in ("maxrl", "grpo"):
        for seed in (0, 1):
            Maker(steps=3, problems=1, samples=8).run(tmp_path / f"{estimator}{seed}", estimator, seed)
    page = write(tmp_path)
    assert {row[-1] for row in column(page, ["points"])} == {"open"}
    assert "There is one problem" in page.text
    assert "nan" not in page.text


def test_of_one_logged_row_there_is_a_point(tmp_path: Path, write: Callable[..., Any]) -> None:
    folder = Maker(steps=1, problems=10, samples=4).run(tmp_path / "short")
    html = write(folder).html
    curve = re.search(
        r'<svg[^>]*aria-label="success rate against training step".*?</svg>', html, flags=re.DOTALL
    )
    assert curve is not None
    assert "<use" in curve[0].split("var(--arm-0)", 1)[-1] or 'style="fill: var(--arm-0)' in curve[0]


def test_one_run_alone(tmp_path: Path, write: Callable[..., Any]) -> None:
    page = write(SMALL.run(tmp_path / "only"))
    assert "maxrl comes to pass@1" in page.text
    assert "there is no other arm to compare it with" in page.text
    assert "Differences" not in page.html
    assert "At equal budget" in page.html  # the curve stands against every axis


def test_runs_without_an_evaluation_keep_their_curves_and_cost(
    tmp_path: Path, write: Callable[..., Any]
) -> None:
    for seed in (0, 1):
        SMALL.run(tmp_path / f"run{seed}", seed=seed, evaluated=False, task=None, dataset_name="some/data")
    page = write(tmp_path)
    assert "None of the 2 runs has been evaluated" in page.text
    assert page.html.count("<svg") >= 8
    assert "maxrl on some/data" in page.markdown
    assert column(page, ["mean per finished run"])[0][1] == "2"


def test_an_arm_with_no_finished_run_is_named(tmp_path: Path, write: Callable[..., Any]) -> None:
    SMALL.run(tmp_path / "a", "maxrl", 0)
    SMALL.run(tmp_path / "b", "rloo", 0, state="failed")
    page = write(tmp_path)
    assert "Nothing can be said about rloo: no finished run." in page.text
    assert (
        next(row for row in column(page, ["%", "seeds"]) if row[0] == "rloo")[1]
        == "no finished run with an evaluation"
    )


def test_a_run_that_failed_before_it_had_a_recipe_is_a_row(tmp_path: Path, write: Callable[..., Any]) -> None:
    SMALL.run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "error.txt").write_text("Traceback\nOSError: no space\n")
    page = write(tmp_path)
    assert ["b", "—", "—", "failed", "0", "0.0 s", "0", "0", "OSError: no space"] in column(
        page, ["run", "arm"]
    )
    (tmp_path / "c").mkdir()
    shutil.move(tmp_path / "b", tmp_path / "c" / "b")
    assert "failed before there was a recipe" in write(tmp_path / "c").text  # nothing but that


def test_other_problems_are_said(tmp_path: Path, write: Callable[..., Any]) -> None:
    SMALL.run(tmp_path / "a", "maxrl", 0, eval_seed=9)
    SMALL.run(tmp_path / "b", "grpo", 0)
    page = write(tmp_path)
    assert "maxrl was evaluated on other problems (or sampled otherwise) than the baseline" in page.text
    assert "Differences" not in page.html
    assert "maxrl cannot be compared with it, having been evaluated on other problems" in page.text
    assert {row[0] for row in column(page, ["%", "seeds"])} == {"warm start", "maxrl\\*", "grpo"}


def test_the_baseline_can_be_chosen(pair_folder: Path, write: Callable[..., Any]) -> None:
    page = write(pair_folder, baseline="maxrl", title="Turned")
    assert [row[0] for row in column(page, ["points"])][:1] == ["grpo − maxrl"]
    assert page.markdown.startswith("# Turned\n")
    with pytest.raises(InputError, match="did you mean 'maxrl'"):
        write(pair_folder, baseline="maxlr")


def test_nothing_but_nan_is_survived(tmp_path: Path, write: Callable[..., Any]) -> None:
    folder = SMALL.run(tmp_path / "a")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.update({name: float("nan") for name in row if name != "step"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "diagnostics.jsonl").unlink()
    assert "No training metrics were recorded." in write(folder).text


def test_more_settings_than_are_drawn_are_all_in_the_tables(
    tmp_path: Path, write: Callable[..., Any]
) -> None:
    for number in range(10):
        for arm in ("maxrl", "grpo"):
            Maker(steps=3, problems=10, samples=4).run(
                tmp_path / f"{arm}{number}", arm, learning_rate=(number + 1) / 1000
            )
    page = write(tmp_path)
    assert "Drawn are 8 settings, spread over all; the tables have all 10." in page.text
    assert [row[1] for row in column(page, ["setting", "learning_rate"])] == [
        f"{(n + 1) / 1000}" for n in range(10)
    ]
    assert len(column(page, ["setting", "points"])) == 10 * 3  # at each k
    assert "<details><summary>10 comparisons</summary>" in page.html


# --- form -------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing(grid_page: Any) -> None:
    html = grid_page.html
    loads = re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']?([^"'\s>]+)""", html, flags=re.IGNORECASE)
    assert [load for load in loads if not load.startswith(("#", "data:,"))] == []
    assert "@import" not in html
    assert "<script" not in html.lower()
    assert "http" not in re.sub(r"https?://www\.w3\.org/", "", html)
    assert str(Path.cwd()) not in html


def test_ids_are_unique_and_figures_have_text_alternatives(grid_page: Any) -> None:
    ids = re.findall(r'\bid="([^"]+)"', grid_page.html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', grid_page.html)) <= set(ids)
    figures = re.findall(r"<svg[^>]*>", grid_page.html)
    assert len(figures) > 20
    assert all('role="img"' in figure and re.search(r'aria-label="[^"]+"', figure) for figure in figures)
    for table in re.findall(r"<table>.*?</table>", grid_page.html, flags=re.DOTALL):
        assert '<th scope="col"' in table
        assert '<th scope="row"' in table


def test_colours_come_from_the_page(grid_page: Any) -> None:
    figures = "".join(re.findall(r"<svg.*?</svg>", grid_page.html, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", figures) == []
    for name in set(re.findall(r"var\((--[a-z0-9-]+)\)", grid_page.html)):
        assert grid_page.html.count(f"{name}:") >= 1, name
    assert "var(--rate-3)" in figures


def test_markdown_tables_are_well_formed(grid_page: Any, pair_page: Any) -> None:
    for page in (grid_page, pair_page):
        lines = page.markdown.splitlines()
        for above, line in pairwise(lines):
            if re.match(r"\| (:--|--:) ", line):
                assert line.count("|") == len(re.findall(r"(?<!\\)\|", above)), above
        inside = [line for line in lines if line.startswith("|")]
        assert sum(len(table) for table in page.tables) == len(inside) - len(page.tables)
        assert all(len({len(row) for row in table}) == 1 for table in page.tables)
        assert "\n\n\n" not in page.markdown


def test_everything_is_escaped(tmp_path: Path, nasty: str, write: Callable[..., Any]) -> None:
    name = nasty.replace("/", "")
    environment = {**ENVIRONMENT, "code": nasty}
    SMALL.run(
        tmp_path / "runs" / name,
        f"mine:{nasty}",
        0,
        environment=environment,
        prompt_format=nasty,
        eval_seed=nasty,
    )
    failed = SMALL.run(tmp_path / "runs" / "b", "grpo", 0, state="failed", num_elements=3)
    (failed / "error.txt").write_text(f"{nasty}\n```\n{nasty}")
    page = write(tmp_path, title=nasty, command=f"maxrl report {nasty}\n```")
    assert "<script" not in page.html
    flat = [child for token in page.tokens for child in (token, *(token.children or ()))]
    assert {t.type for t in flat}.isdisjoint({"html_inline", "html_block", "em_open", "link_open", "image"})
    assert page.text.count(nasty) > 5


def test_the_same_records_give_the_same_bytes(
    grid_folder: Path, grid_page: Any, write: Callable[..., Any]
) -> None:
    assert write(grid_folder) == grid_page


@pytest.mark.slow
def test_a_browser_shows_it_on_a_phone_in_the_dark_and_on_paper(grid_folder: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    html, _ = report_runs(find_runs([grid_folder]), tmp_path, command="maxrl report runs")
    said: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(html.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            red, green, blue = map(
                int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
            )
            assert (max(red, green, blue) < 60) if scheme == "dark" else (min(red, green, blue) > 240)
            ink = page.evaluate("getComputedStyle(document.querySelector('figure svg')).color")
            assert ink == page.evaluate("getComputedStyle(document.body).color")
            page.close()
        page = browser.new_page()
        page.goto(html.as_uri())
        folded = "document.querySelector('details:not([open]) table').checkVisibility()"
        assert not page.evaluate(folded)
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(folded)  # what is folded is printed
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert len(page.pdf(format="A4")) > 10_000
        browser.close()
    assert said == []
    assert [url for url in asked if url != html.as_uri() and not url.startswith("data:")] == []
