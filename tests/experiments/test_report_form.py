"""The form of the report: self-contained, escaped, well-formed, reproducible, and shown by a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from maxrl.experiments.records import Comparison
from maxrl.experiments.report import write_report

Render = Callable[[Comparison], Any]


def joined(token: Any) -> str:
    return "".join(child.content for child in token.children or ())


def test_the_page_loads_nothing_and_runs_nothing(pages: Any) -> None:
    html = pages.html
    loads = re.findall(
        r"""(?:src|href|srcset|action|data)\s*=\s*["']?([^"'\s>]+)""", html, flags=re.IGNORECASE
    )
    assert [load for load in loads if not load.startswith(("#", "data:,"))] == []
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", html))
    assert "@import" not in html
    assert "<script" not in html.lower()
    assert "http" not in re.sub(r"https?://www\.w3\.org/", "", html)


def test_references_inside_the_page_resolve_and_ids_are_unique(pages: Any) -> None:
    ids = re.findall(r'\bid="([^"]+)"', pages.html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', pages.html)) <= set(ids)


def test_figures_take_their_colours_from_the_page(pages: Any) -> None:
    html = pages.html
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", figures) == []
    for name in set(re.findall(r"var\((--[a-z0-9-]+)\)", html)):
        assert html.count(f"{name}:") >= 1, name
    assert "font-family: 'DejaVu" not in figures


def test_everything_is_escaped(comparison: Comparison, nasty: str, render: Render) -> None:
    def bad(where: str) -> str:
        return f"{nasty}-{where}"

    runs = [replace(r, estimator=bad("arm")) if r.estimator == "maxrl" else r for r in comparison.runs]
    runs[0] = replace(runs[0], folder=bad("folder"))
    runs[-1] = replace(runs[-1], error=bad("error") + "\n```\n" + bad("traceback"))
    page = render(
        replace(
            comparison,
            title=bad("title"),
            command=bad("command") + "\n```",
            arms=(bad("arm"), "grpo", "rloo"),
            runs=tuple(runs),
            settings={bad("field"): bad("value"), "task": bad("task")},
            environment={bad("name"): bad("version")},
        )
    )
    assert "<script" not in page.html
    flat = [child for token in page.tokens for child in (token, *(token.children or ()))]
    assert {t.type for t in flat}.isdisjoint({"html_inline", "html_block", "em_open", "link_open", "image"})
    shown = "\n".join(joined(token) or token.content for token in page.tokens)
    text = page.text
    for where in [
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
    ]:
        assert bad(where) in text, where
        assert bad(where) in shown, where
    assert bad("version") in text


def test_an_arm_with_options_is_shown_as_it_was_given(comparison: Comparison, render: Render) -> None:
    arm = "hybrid(first=grpo(eps=0.0, ddof=0), then=my_module:my_estimator, steps=100)"
    runs = tuple(replace(r, estimator=arm) if r.estimator == "grpo" else r for r in comparison.runs)
    page = render(replace(comparison, arms=("maxrl", arm, "rloo"), runs=runs))
    assert (
        f'<th scope="row"><span class="key" style="background: var(--arm-1)"></span><span class="long">{arm}'
        in page.html
    )
    assert f'<th scope="row"><span class="long">maxrl − {arm}</span></th>' in page.html, (
        "two lines, no wide column"
    )
    assert '"></span>maxrl</th>' in page.html
    names = {row[0] for row in page.rows}
    assert {arm, f"{arm}, seed 0", f"maxrl − {arm}"} <= names
    for table in page.tables:
        assert len({len(row) for row in table}) == 1


def test_markdown_tables_are_well_formed(pages: Any) -> None:
    markdown, found = pages.markdown, pages.tables
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
    comparison: Comparison, pages: Any, render: Render, tmp_path: Path
) -> None:
    plain = json.loads(json.dumps(comparison.to_dict()))
    (tmp_path / "comparison.json").write_text(json.dumps(plain))
    assert render(Comparison.load(tmp_path / "comparison.json")) == pages


def test_no_global_state_is_read_or_left_behind(comparison: Comparison, pages: Any, render: Render) -> None:
    state = np.random.get_state()[1].tolist()
    with matplotlib.rc_context({"font.size": 31.0, "svg.fonttype": "path", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert render(comparison) == pages
        assert dict(matplotlib.rcParams) == before
    assert np.random.get_state()[1].tolist() == state


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
