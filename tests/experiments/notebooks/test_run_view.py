"""What notebooks show of a run's records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation, PassAtK, ProblemCounts
from maxrl.experiments.notebooks import run_view
from maxrl.experiments.store import StoredRun, find_runs


def evaluation(*verdicts: bool, passes: dict[int, float]) -> Evaluation:
    return Evaluation(
        problems=tuple(
            ProblemCounts(id=str(i), scored=4, correct=2, greedy_success=it) for i, it in enumerate(verdicts)
        ),
        pass_at_k=tuple(PassAtK(k=k, estimate=p, low=p - 0.1, high=p + 0.1) for k, p in passes.items()),
        greedy_accuracy=sum(verdicts) / len(verdicts) if verdicts else None,
        confidence=0.95,
        completion_tokens=1,
        seconds=1.0,
    )


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    """Eight steps; one more success in every step's second group."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("advantage_estimator: grpo\nseed: 4\nmax_steps: 8\nlora: [a, b]\n")
    write_lines(
        folder / "metrics.jsonl",
        [
            {
                "step": s,
                "elapsed": s,
                "success_rate": s / 10,
                "groups/dead": 0.5,
                "groups/live": 0.5,
                "groups/mastered": 0.0,
            }
            for s in range(1, 9)
        ],
    )
    write_lines(
        folder / "diagnostics.jsonl",
        [{"step": s, "k_histogram": [1, *(int(k == s) for k in range(1, 9))]} for s in range(1, 9)],
    )
    before = evaluation(True, False, passes={1: 0.2, 2: 0.3})
    after = evaluation(True, True, passes={1: 0.4, 4: 0.8})
    (folder / "eval_before.json").write_text(json.dumps(before.to_dict()))
    (folder / "eval.json").write_text(json.dumps(after.to_dict()))
    (folder / "run.json").write_text(json.dumps({"steps": 8}))
    sample = {"id": "a", "success": True, "error": None, "reason": None, "tokens": 2, "greedy": False}
    write_lines(
        folder / "samples.jsonl",
        [
            {**sample, "prompt": "1 2 = 3 :", "completion": "1 2"},
            {
                **sample,
                "prompt": [{"role": "user", "content": "hello"}],
                "completion": "9",
                "success": False,
                "reason": "wrong",
            },
            {**sample, "prompt": "x", "completion": "y", "success": False, "error": "crash", "greedy": True},
        ],
    )
    return StoredRun(folder)


def test_before_and_after_with_intervals(run: StoredRun) -> None:
    head, rows = run_view.before_and_after(run)
    assert head == ["", "before", "after"]
    table = {row[0]: row[1:] for row in rows}
    assert list(table) == ["greedy accuracy", "pass@1", "pass@2", "pass@4"]
    assert table["pass@1"] == ["20.0 % (10.0 … 30.0)", "40.0 % (30.0 … 50.0)"]
    assert table["pass@4"] == ["–", "80.0 % (70.0 … 90.0)"]
    assert table["greedy accuracy"][0].startswith("50.0 % (")
    assert "2 problems, 4 samples of each" in run_view.how_measured(run)
    first, *lines, last = run_view.in_text(run).splitlines()
    assert (first, last) == (run_view.headline(run), run_view.how_measured(run))
    assert [line.split()[:1] for line in lines] == [
        ["before"],
        ["greedy"],
        ["pass@1"],
        ["pass@2"],
        ["pass@4"],
    ]
    assert {len(line) for line in lines} == {18 + 2 * 28}


def test_wilson_s_interval_by_hand() -> None:
    # 40 of 50, z = 1.95996: (.8 + z²/100)/(1 + z²/50) ∓ z·√(.8·.2/50 + z²/10⁴)/(1 + z²/50) = .6696 … .8876.
    found = run_view.greedy_interval(evaluation(*[True] * 40, *[False] * 10, passes={}))
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((0.8, 0.66963, 0.88756), abs=1e-5)
    never = run_view.greedy_interval(evaluation(*[False] * 50, passes={}))
    assert never is not None
    assert (never.estimate, never.low) == (0, 0)
    assert never.high == pytest.approx(0.07135, abs=1e-5)
    assert run_view.greedy_interval(evaluation(passes={})) is None


def test_epochs_and_their_means(run: StoredRun) -> None:
    edges, means = run_view.epoch_means(run, 3)
    assert edges == [0, 3, 6, 8]
    assert means == pytest.approx([0.2, 0.5, 0.75])
    assert run_view.epoch_means(StoredRun(run.folder.parent), 3) == ([0], [])


def test_greedy_accuracy_before_while_and_after(run: StoredRun) -> None:
    assert run_view._greedy_points(run) == [(0.0, 0.5), (8.0, 1.0)]
    write_lines(run.folder / "evals.jsonl", [{"step": 4, "greedy_accuracy": 0.75, "pass_at_k": {}}])
    assert run_view._greedy_points(run) == [(0.0, 0.5), (4.0, 0.75), (8.0, 1.0)]


def test_groups_by_their_successes(run: StoredRun) -> None:
    history = run_view.group_history(run)
    assert history is not None
    assert history.n == 8
    for step in range(1, 9):
        shares, first, last = history.around(step)
        assert (first, last) == (step, step)
        assert shares.tolist() == [0.5, *(0.5 * (k == step) for k in range(1, 9))]
    assert f'data-mean="{2.5:.4f}"' in run_view.histogram_figure(history, 5)
    assert 'data-step="5"' in run_view.histogram_figure(history, 5)


def test_neighbouring_steps_count_in_long_runs() -> None:
    counts = np.zeros((101, 3))
    counts[:, 0] = 1
    counts[60:, 2] = 3
    history = run_view.GroupHistory(np.arange(1, 102), counts, np.full(101, 2))
    shares, first, last = history.around(
        61
    )  # 5 % of 100 steps to either side: 56 … 66, of which six have three more
    assert (first, last) == (56, 66)
    assert shares.tolist() == pytest.approx([11 / 29, 0, 18 / 29])


def test_a_generation_may_serve_several_steps() -> None:
    history = run_view.GroupHistory(np.array([1, 9]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.ones(2, int))
    assert history.around(4)[1:] == (1, 1)
    assert history.around(6)[1:] == (9, 9)


def test_groups_of_different_sizes(tmp_path: Path) -> None:
    # Two rollouts each, then four: of the first groups those with K = 2 are mastered, of the others they are live.
    rows = [{"step": 1, "k_histogram": [1, 0, 3]}, {"step": 2, "k_histogram": [1, 0, 1, 0, 2]}]
    write_lines(tmp_path / "diagnostics.jsonl", rows)
    history = run_view.group_history(StoredRun(tmp_path))
    assert history is not None
    assert (history.n, history.sizes.tolist()) == (4, [2, 4])
    shares = {name: values.tolist() for name, values in history.shares().items()}
    assert shares == {"K = 0": [0.25, 0.25], "0 < K < N": [0.0, 0.25], "K = N": [0.75, 0.5]}
    assert "<svg" in run_view.history_figure(history, 1)
    assert "N = 2 … 4" in run_view.histogram_figure(history, 1)


def test_figures_of_a_run_and_of_nothing(run: StoredRun, tmp_path: Path) -> None:
    for markup in (
        run_view.success_figure(run, 3),
        run_view.groups_figure(run),
        run_view.pass_at_k_figure(run),
        run_view.metric_figure(run, "success_rate", "success"),
    ):
        assert markup is not None
        assert "<svg" in markup
    assert run_view.metric_figure(run, "entropy", "entropy") is None
    nothing = StoredRun(tmp_path)
    assert "<svg" in run_view.success_figure(nothing, 3)
    assert run_view.groups_figure(nothing) is None
    assert run_view.pass_at_k_figure(nothing) is None
    assert run_view.group_history(nothing) is None
    assert run_view.before_and_after(nothing) == ([""], [])
    assert run_view.how_measured(nothing) == "This run has not been evaluated."


def test_samples_by_verdict_and_text(run: StoredRun) -> None:
    rows = run_view.sample_rows(run, "after")
    assert [row["verdict"] for row in rows] == ["success", "failure", "no verdict"]
    assert [row["why"] for row in rows] == ["", "wrong", "crash"]
    assert rows[1]["prompt"] == "user: hello"
    assert rows[2]["how"] == "greedy"
    for verdict, kept in (("success", [0]), ("failure", [1]), ("no verdict", [2]), ("all", [0, 1, 2])):
        assert run_view.sample_rows(run, "after", verdict) == [rows[i] for i in kept]
    assert run_view.sample_rows(run, "after", containing="hello") == [rows[1]]
    assert run_view.sample_rows(run, "before") == []
    with pytest.raises(InputError, match="by verdict"):
        run_view.sample_rows(run, "after", "right")


def test_what_a_run_is_called(run: StoredRun) -> None:
    assert run_view.headline(run) == "mine: grpo, seed 4, done at step 8 of 8"
    (run.folder / "error.txt").write_text("Traceback\nValueError: no\n")
    assert run_view.headline(run).endswith("; ValueError: no")
    below = run.folder.parent
    assert list(run_view.run_folders(find_runs([below]), below)) == ["mine"]
    assert list(run_view.run_folders(find_runs([run.folder]), run.folder)) == ["mine"]
    assert run_view.fact_rows(run.config)[-1] == ["lora", "a, b"]


def test_intervals_read_in_percent() -> None:
    assert run_view.interval(PassAtK(k=1, estimate=0.5, low=0.25, high=1.0)) == "50.0 % (25.0 … 100.0)"
