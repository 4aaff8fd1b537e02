"""The numbers of settings: pairing, other problems, baselines, equal budgets, cost."""

from pathlib import Path

import numpy as np
import pytest
from tests.experiments.reports.synthetic import Maker

from maxrl.experiments.reports.grouping import group_runs
from maxrl.experiments.reports.reading import RunData, read_runs
from maxrl.experiments.reports.settings import (
    Numbers,
    choose_baseline,
    cost_of,
    measure_settings,
    value_at,
)
from maxrl.experiments.store import find_runs

MAKER = Maker(steps=10, problems=20, samples=8)


def measured(*folders: Path, baseline: str = "grpo") -> list[Numbers]:
    return measure_settings(group_runs(read_runs(find_runs(folders))), baseline, resamples=200)


def test_arms_are_paired_by_seed(tmp_path: Path) -> None:
    for arm, seeds in {"maxrl": (0, 1, 2), "grpo": (1, 2, 5)}.items():
        for seed in seeds:
            MAKER.run(tmp_path / f"{arm}{seed}", arm, seed)
    (cell,) = measured(tmp_path)
    (difference,) = cell.analysis.differences
    assert (difference.first, difference.other, difference.seeds) == ("maxrl", "grpo", (1, 2))
    maxrl, grpo = cell.result("maxrl"), cell.result("grpo")
    paired = maxrl.values_SPK[[1, 2]] - grpo.values_SPK[[0, 1]]
    assert [i.estimate for i in difference.pass_at_k] == pytest.approx(paired.mean(axis=(0, 1)))
    assert [i.estimate for i in difference.over_seeds] == pytest.approx(paired.mean(axis=(0, 1)))
    assert len(cell.analysis.ratios) == 1


def test_no_shared_seed_gives_no_interval_over_seeds(tmp_path: Path) -> None:
    MAKER.run(tmp_path / "a", "maxrl", 0)
    MAKER.run(tmp_path / "b", "grpo", 1)
    (difference,) = measured(tmp_path)[0].analysis.differences
    assert difference.seeds == ()
    assert difference.over_seeds == ()


def test_arms_on_other_problems_are_shown_but_not_compared(tmp_path: Path) -> None:
    MAKER.run(tmp_path / "a", "maxrl", 0, eval_seed=3)
    MAKER.run(tmp_path / "b", "grpo", 0)
    MAKER.run(tmp_path / "c", "rloo", 0)
    MAKER.run(tmp_path / "d", "rloo", 1)
    MAKER.run(tmp_path / "e", "rloo", 2, eval_seed=3)
    (cell,) = measured(tmp_path)
    assert list(cell.apart) == ["maxrl"]
    assert cell.result("maxrl") is not None
    assert cell.at("maxrl", 1) is not None
    assert [(d.first, d.other) for d in cell.analysis.differences] == [("rloo", "grpo")]
    assert [run.name for run in cell.otherwise] == ["e"]
    assert cell.result("rloo").seeds == (0, 1)


def test_only_finished_runs_are_measured(tmp_path: Path) -> None:
    MAKER.run(tmp_path / "a", "maxrl", 0)
    MAKER.run(tmp_path / "b", "maxrl", 1, state="failed")
    MAKER.run(tmp_path / "c", "maxrl", 2, evaluated=False)
    (MAKER.run(tmp_path / "d", "maxrl", 3) / "run.json").unlink()  # evaluated, but not done
    (cell,) = measured(tmp_path)
    assert cell.result("maxrl").seeds == (0,)
    assert len(cell.runs_of("maxrl")) == 4


def test_the_baseline_is_grpo_or_the_first() -> None:
    assert choose_baseline(["maxrl", "grpo", "rloo"]) == "grpo"
    assert choose_baseline(["maxrl", "rloo"]) == "maxrl"
    assert choose_baseline([]) is None


def a_run(arm: str, seed: int, *, every: int, speed: float, last: int, state: str = "done") -> RunData:
    """A straight line: at step s the success rate is s/100."""
    steps = np.arange(every, last + 1, every, dtype=float)
    return RunData(
        name=f"{arm}{seed}",
        config={"advantage_estimator": arm, "seed": seed},
        environment={},
        state=state,
        error=None,
        columns={
            "step": steps,
            "elapsed": speed * steps,
            "rollouts": 64 * steps,
            "success_rate": steps / 100,
        },
    )


def test_equal_budgets_are_the_largest_that_all_finished_runs_reached() -> None:
    runs = [
        a_run("maxrl", 0, every=1, speed=2.0, last=100),
        a_run("grpo", 0, every=1, speed=1.0, last=80),
        a_run("grpo", 1, every=1, speed=1.0, last=100),
        a_run("grpo", 2, every=1, speed=1.0, last=5, state="failed"),
    ]
    (cell,) = measure_settings(group_runs(runs), "grpo")
    budgets = {budget.axis: budget for budget in cell.budgets}
    assert list(budgets) == ["step", "rollouts", "elapsed"]  # tokens were not logged
    assert {axis: budget.size for axis, budget in budgets.items()} == {
        "step": 80,
        "rollouts": 5120,
        "elapsed": 80,
    }
    # In steps all read rows 72 … 80: mean 76. In 80 seconds maxrl makes 40 steps: rows of 36 … 40, mean 38.
    assert budgets["step"].arms["maxrl"].value == pytest.approx(0.76)
    assert budgets["step"].arms["grpo"].by_run == pytest.approx((0.76, 0.76))
    assert budgets["elapsed"].arms["maxrl"].value == pytest.approx(0.38)
    assert budgets["elapsed"].arms["grpo"].value == pytest.approx(0.76)


def test_nothing_is_read_before_the_first_row() -> None:
    run = a_run("maxrl", 0, every=10, speed=1.0, last=100)
    assert np.isnan(value_at(run, "step", "success_rate", 9.0))
    assert value_at(run, "step", "success_rate", 25.0) == pytest.approx(
        0.2
    )  # the last row before, however old


def test_cost_is_the_mean_of_finished_runs() -> None:
    runs = [
        a_run("maxrl", 0, every=1, speed=2.0, last=100),
        a_run("maxrl", 1, every=1, speed=4.0, last=100),
        a_run("maxrl", 2, every=1, speed=9.0, last=100, state="failed"),
    ]
    cost = cost_of(runs)
    assert (cost["runs"], cost["seconds"], cost["rollouts"]) == (2, 300.0, 6400)
    assert cost_of(runs[2:])["seconds"] is None
