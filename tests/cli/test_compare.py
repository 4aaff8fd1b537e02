"""`maxrl compare` for real: worker processes, paired runs, failures as rows, nothing done twice."""

import json
from html import escape
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.experiments import compare as compare_module
from maxrl.experiments.records import Comparison

pytestmark = pytest.mark.usefixtures("workplace")


def compare(workplace: Path, *words: str, **fields: object) -> int:
    recipe = write_recipe(workplace, **{"max_steps": 3, "save_steps": 1, **fields})
    return main(["compare", "--config", str(recipe), "--output_dir", "out", "-q", *words])


def test_arms_are_paired_and_nothing_is_done_twice(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(workplace, "--estimators", "maxrl", "grpo", "--seeds", "0", "1", "--jobs", "2") == 0
    out = capsys.readouterr().out
    assert out.strip().endswith("report: out/report.html")
    assert "warm start" in out
    comparison = Comparison.load(workplace / "out" / "comparison.json")
    assert [(run.estimator, run.seed) for run in comparison.runs] == [
        ("maxrl", 0), ("grpo", 0), ("maxrl", 1), ("grpo", 1),
    ]  # fmt: skip
    first = {(run.estimator, run.seed): dict(run.metrics[0]) for run in comparison.runs}
    drawn = ("success_rate", "completions/mean_length", "entropy", "num_tokens")
    for seed in (0, 1):  # same weights, problems, order and draws: the arms part only with the first update
        assert [first["maxrl", seed][name] for name in drawn] == [first["grpo", seed][name] for name in drawn]
        assert first["maxrl", seed]["grad_norm"] != first["grpo", seed]["grad_norm"]
    assert [first["maxrl", 0][n] for n in drawn] != [first["maxrl", 1][n] for n in drawn]
    ids = [[problem.id for problem in run.evaluation.problems] for run in comparison.runs if run.evaluation]
    assert ids == [[problem.id for problem in comparison.before.problems]] * 4
    html = (workplace / "out" / "report.html").read_text()
    assert "maxrl" in html
    assert (workplace / "out" / "report.md").is_file()

    # The same command again reads what is done …
    done = {
        run.folder: (workplace / "out" / run.folder / "run.json").stat().st_mtime_ns
        for run in comparison.runs
    }
    weights = (workplace / "out" / "grpo-seed1" / "model.safetensors").read_bytes()
    # … and finishes what died: here one run after its second step.
    died = workplace / "out" / "grpo-seed1"
    for name in (
        "run.json",
        "eval.json",
        "samples.jsonl",
        "model.safetensors",
        "checkpoint-3/trainer_state.json",
    ):
        (died / name).unlink()
    assert compare(workplace, "--estimators", "maxrl", "grpo", "--seeds", "0", "1", "--jobs", "1") == 0
    again = Comparison.load(workplace / "out" / "comparison.json")
    for run in again.runs:
        modified = (workplace / "out" / run.folder / "run.json").stat().st_mtime_ns
        assert (modified == done[run.folder]) == (run.folder != "grpo-seed1")
    assert (died / "model.safetensors").read_bytes() == weights
    assert [r.evaluation.problems for r in again.runs if r.evaluation] == [
        r.evaluation.problems for r in comparison.runs if r.evaluation
    ]

    # Runs of other settings are not mixed in.
    capsys.readouterr()
    assert compare(workplace, "--estimators", "maxrl", "--seeds", "0", learning_rate=1e-3) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_a_run_that_fails_stays_as_a_row(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "gloomy.py").write_text(
        "def minus(completions, **kwargs):\n    return [-5.0] * len(completions)\n"
    )
    status = compare(
        workplace,
        "--estimators",
        "maxrl",
        "rloo",
        "--seeds",
        "0",
        "--jobs",
        "1",
        "--reward_funcs",
        "gloomy:minus",
    )
    assert status == 1
    assert "1 of 2 runs failed; maxrl-seed0: RewardError" in capsys.readouterr().err
    failed, done = Comparison.load(workplace / "out" / "comparison.json").runs
    assert (failed.status, done.status) == ("failed", "done")
    assert "correctness_threshold" in str(failed.error)
    assert "Traceback" in (workplace / "out" / "maxrl-seed0" / "error.txt").read_text()
    assert "RewardError" in (workplace / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--estimators", "maxrl", "grop"], "unknown estimator 'grop'; did you mean 'grpo'?"),
        (["--estimators", "maxrl", "maxrl"], "estimators names something twice"),
        (["--estimators", "max_rl", "grpo", "maxrl"], "names something twice: max_rl and maxrl are the same"),
        (["--estimators", "maxrl", "maxrl(order=None)"], "maxrl and maxrl(order=None) are the same"),
        (["--estimators", "maxrl", "maxrl(order=5)"], "needs at least 5 rollouts per group"),
        (["--estimators", "maxrl", "maxrl(ordre=4)"], "did you mean 'order'?"),
        (["--estimators", "maxrl", "nowhere:rule"], "cannot load the estimator 'nowhere:rule'"),
        (
            ["--estimators", "maxrl", "grpo", '--advantage_estimator_kwargs={"order": 4}'],
            "go to every arm, which grpo cannot take",
        ),
        (
            ["--estimators", "maxrl", '--advantage_estimator_kwargs={"order": 4}', "--num_generations", "5"],
            "error: generation_batch_size (16) must be divisible by",
        ),
        (["--seeds", "0", "0"], "seeds names something twice"),
        (["--seeds", "zero"], "invalid int value: 'zero'"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--seed", "3"], "compare takes --seeds for all its runs, not --seed"),
        (["--advantage_estimator", "rloo"], "compare takes --estimators for all its runs"),
        (["--reward_funcs", "nosuch"], "unknown reward function 'nosuch'"),
        (["--estimator", "maxrl"], "unknown option '--estimator'; did you mean '--estimators'?"),
    ],
)
def test_bad_input_starts_nothing(
    workplace: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert compare(workplace, *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert not (workplace / "out").exists()


OWN = """
def bold(rewards_GN):
    return 3 * (rewards_GN - rewards_GN.nanmean(dim=1, keepdim=True))
"""


def test_options_and_an_estimator_of_ones_own_are_arms(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "rules.py").write_text(OWN)  # what the workers find from their working folder
    arms = ["maxrl(order=2)", "rules:bold", "hybrid(first=grpo(eps=0.0), then=maxrl(order=4), steps=1)"]
    assert compare(workplace, "--estimators", *arms, "--seeds", "0", "--jobs", "2") == 0
    assert "rules:bold" in capsys.readouterr().out
    comparison = Comparison.load(workplace / "out" / "comparison.json")
    assert comparison.arms == tuple(arms)
    assert [run.estimator for run in comparison.runs] == arms
    first, second, third = (run.folder for run in comparison.runs)
    assert (first, second) == ("maxrl-order-2-seed0", "rules-bold-seed0")
    assert third.startswith("hybrid-first-grpo-eps-0.0-then-maxrl-order-4-steps-1-")
    page, text = ((workplace / "out" / name).read_text() for name in ("report.html", "report.md"))
    for arm in arms:
        assert escape(arm) in page
        assert arm.replace("_", "\\_") in text
    # Each arm is what its name says: from the same rollouts other advantages.
    assert len({run.metrics[0]["success_rate"] for run in comparison.runs}) == 1
    assert len({run.metrics[0]["advantage_mass"] for run in comparison.runs}) == 3
    assert [row["estimator/grpo"] for row in comparison.runs[2].metrics] == [1.0, 0.0, 0.0]


def test_options_that_all_arms_have_go_to_all(workplace: Path) -> None:
    words = ["--estimators", "grpo", "--seeds", "0", '--advantage_estimator_kwargs={"ddof": 0}']
    assert compare(workplace, *words, max_steps=1) == 0
    settings = json.loads((workplace / "out" / "comparison.json").read_text())["settings"]
    assert settings["advantage_estimator_kwargs"] == '{"ddof": 0}'


def test_stages_are_not_compared(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(workplace, stages="[{}, {num_generations: 8}]") == 2
    assert "compare cannot train in stages yet" in capsys.readouterr().err
    assert not (workplace / "out").exists()


def test_dry_run_prints_the_shared_recipe(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(workplace, "--dry-run", "--seeds", "3") == 0
    out = capsys.readouterr().out
    assert "estimators:\n- maxrl\n- grpo" in out
    assert "seeds:\n- 3" in out
    assert "output_dir: out\n" in out
    assert not (workplace / "out").exists()


def test_the_comparison_is_json_and_all_of_it_computes_on_the_threads_asked_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, evaluated_on = compare_module.evaluate_policy, []

    def watched(*arguments: Any) -> Any:
        evaluated_on.append(torch.get_num_threads())
        return evaluate(*arguments)

    monkeypatch.setattr(compare_module, "evaluate_policy", watched)
    before = torch.get_num_threads()
    threads = before + 2
    words = ["--estimators", "rloo", "--seeds", "0", "--jobs", "1", f"--cpu_threads={threads}"]
    assert compare(workplace, *words) == 0
    data = json.loads((workplace / "out" / "comparison.json").read_text())
    assert data["arms"] == ["rloo"]
    assert data["settings"]["num_elements"] == 3
    assert "seed" not in data["settings"]
    run = json.loads((workplace / "out" / "rloo-seed0" / "environment.json").read_text())
    assert run["threads"] == str(threads)
    assert data["environment"] == run
    assert evaluated_on == [threads]
    assert torch.get_num_threads() == before
    assert "update_backend" in (workplace / "out" / "report.html").read_text()
