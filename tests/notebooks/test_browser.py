"""The main control of each notebook, moved in a real browser: the picture follows."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

pytestmark = pytest.mark.slow

OpenApp = Callable[..., Any]
"""See `open_app`."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_race_follows_its_sliders(open_app: OpenApp, scheme: str) -> None:
    app = open_app("toy_simulation.py", "--repeats", "20", "--steps", "50", scheme=scheme)
    ends = app.wait_for_data("race", "end", "")
    maxrl, grpo, rloo = map(float, ends.split(","))
    assert maxrl > grpo > rloo
    weights = app.drawn("weights")
    app.slide("group size N", "Home")
    pair = app.wait_for_data("race", "end", ends)
    maxrl, _, rloo = pair.split(",")
    assert maxrl == rloo  # with two rollouts MaxRL is plain reinforcement learning
    assert app.drawn("weights") != weights
    app.slide("difficulty d", "End")
    harder = app.wait_for_data("race", "end", pair)
    assert float(harder.split(",")[2]) < float(rloo)  # the same θ, six steps instead of one
    # Text and axes stand out against the page in either theme.
    pixels = image.imread(io.BytesIO(app.page.locator("#figure-race").screenshot()))[:, :, :3].mean(axis=2)
    paper = np.median(pixels)
    assert (paper > 0.95) if scheme == "light" else (paper < 0.2)
    assert (np.abs(pixels - paper) > 0.6).mean() > 0.002


def test_the_weight_follows_n_and_the_estimator(open_app: OpenApp) -> None:
    app = open_app("what_am_i_optimizing.py", width=390)
    weight = app.wait_for_data("weight", "weight", "")
    assert float(weight) == pytest.approx((1 - 0.95**15) / 0.05, abs=1e-6)  # w_15
    drawn = app.drawn("weight")
    app.slide("rollouts N", "ArrowRight")
    larger = app.wait_for_data("weight", "weight", weight)
    assert float(larger) == pytest.approx((1 - 0.95**23) / 0.05, abs=1e-6)  # N = 24
    assert app.drawn("weight") != drawn
    app.choose("estimator", "rloo")
    assert float(app.wait_for_data("weight", "weight", larger)) == 1
    app.wait_for_text("Order T = 1")
    app.choose("estimator", "hybrid")
    app.wait_for_text("hybrid has memory")
    app.choose("estimator", "success_weighted")
    app.wait_for_text("success_weighted looks at the whole batch")
    options = app.page.get_by_placeholder("order=16")
    options.fill("rank=2")
    options.press("Enter")
    app.wait_for_text("unknown option of estimator 'success_weighted'")
    app.choose("estimator", "maxrl")
    options.fill("order=64")
    options.press("Enter")
    app.wait_for_text("needs at least 64 rollouts per group, but N = 24")
    # Nothing is wider than a phone.
    assert app.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_histogram_follows_the_step(open_app: OpenApp, finished_run: Path) -> None:
    app = open_app("reading_a_run.py", "--run", str(finished_run))
    first = app.wait_for_data("histogram", "mean", "")
    assert app.data("histogram", "step") == "1"
    rows = [json.loads(line) for line in (finished_run / "diagnostics.jsonl").read_text().splitlines()]
    assert float(first) == pytest.approx(_mean(rows[0]["k_histogram"]), abs=1e-4)
    drawn = app.drawn("histogram")
    app.slide("step", "End")
    assert app.wait_for_data("histogram", "step", "1") == str(rows[-1]["step"])
    assert float(app.data("histogram", "mean")) == pytest.approx(_mean(rows[-1]["k_histogram"]), abs=1e-4)
    assert app.drawn("histogram") != drawn
    samples = [json.loads(line) for line in (finished_run / "samples.jsonl").read_text().splitlines()]
    app.wait_for_text(f"{len(samples)} completions")
    app.choose("verdict", "success")
    app.wait_for_text(f"{sum(row['success'] for row in samples)} completions")


def test_reading_again_keeps_what_was_chosen(open_app: OpenApp, finished_run: Path, tmp_path: Path) -> None:
    for name in "ab":
        shutil.copytree(finished_run, tmp_path / "runs" / name)
    app = open_app("reading_a_run.py", "--run", str(tmp_path / "runs"))
    app.wait_for_text("a: maxrl, seed 3")
    app.choose("run", "b")
    app.wait_for_text("b: maxrl, seed 3")
    app.slide("step", "End")
    last = app.wait_for_data("histogram", "step", "1")
    mean = app.data("histogram", "mean")
    for name in "abc":  # the last groups of every run become others, and there is a new run
        folder = tmp_path / "runs" / name
        if name == "c":
            shutil.copytree(finished_run, folder)
        *rows, row = map(json.loads, (folder / "diagnostics.jsonl").read_text().splitlines())
        row["k_histogram"] = [0, 0, sum(row["k_histogram"]), *[0] * (len(row["k_histogram"]) - 3)]
        (folder / "diagnostics.jsonl").write_text("".join(json.dumps(it) + "\n" for it in (*rows, row)))
    app.page.locator("marimo-refresh").get_by_role("button").first.click()
    assert app.wait_for_data("histogram", "mean", mean) == "2.0000"
    assert app.data("histogram", "step") == last
    assert app.page.get_by_role("heading", name="b", exact=True).count() == 1
    list_of_runs = app.page.locator("marimo-dropdown").filter(has_text="run").locator("select")
    assert list_of_runs.locator("option").all_inner_texts() == ["a", "b", "c"]


def test_number_boxes_may_be_empty_or_hold_a_fraction(open_app: OpenApp) -> None:
    app = open_app("toy_simulation.py", "--repeats", "20", "--steps", "20", "--seed", "3")
    app.wait_for_text("over 20 groups, seed 3.")
    app.fill("seed", "7.4")
    app.wait_for_text("over 20 groups, seed 7.")
    app.fill("seed", "")
    app.wait_for_text("over 20 groups, seed 0.")
    app = open_app("max_rl.py", "--model-id", "tiny", "--epochs", "3")
    app.wait_for_text("3 epochs of 10")
    app.fill("epochs", "")
    app.wait_for_text("2 epochs of 10")  # the recipe's
    app.fill("seed", "")
    app.wait_for_text("seed is empty")


def test_the_button_trains(open_app: OpenApp, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        "--model-id",
        "tiny",
        "--epochs",
        "2",
        "--steps-per-epoch",
        "2",
        "--batch-size",
        "2",
        "--eval-problems",
        "4",
    ]
    app = open_app("max_rl.py", *words, "--output-dir", str(folder))
    app.wait_for_text("each 2 problems × 16 rollouts = 32 rollouts")
    app.wait_for_text("Press Train")
    assert app.page.locator(".maxrl-figure").count() == 0
    app.slide("group size N", "ArrowLeft")
    app.wait_for_text("each 2 problems × 12 rollouts = 24 rollouts")
    app.page.get_by_role("button", name="Train").click()
    assert app.wait_for_data("success", "steps", "") == "4"
    app.wait_for_text("greedy accuracy")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["rollouts"] == 4 * 24
    # Other settings into the same folder are refused in a sentence.
    app.slide("group size N", "ArrowLeft")
    app.wait_for_text("each 2 problems × 8 rollouts = 16 rollouts")
    app.page.get_by_role("button", name="Train").click()
    app.wait_for_text("holds a run with other settings")


def _mean(counts: list[int]) -> float:
    return sum(k * count for k, count in enumerate(counts)) / sum(counts)
