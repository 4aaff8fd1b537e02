"""Which runs are one arm's, which settings there are, what repeats what."""

from typing import Any

import pytest

from maxrl.experiments.reports.grouping import ARM, arm_of, group_runs, repeat_labels
from maxrl.experiments.reports.reading import RunData


def a_run(estimator: str = "maxrl", seed: int = 0, **fields: Any) -> RunData:
    config = {"task": "subset_sum", "advantage_estimator": estimator, "seed": seed, **fields}
    name = "-".join(str(value) for value in config.values())
    return RunData(name=name, config=config, environment={}, state="done", error=None)


def test_a_grid_is_sorted_into_settings_arms_and_seeds() -> None:
    runs = [
        a_run(estimator, seed, num_elements=n, max_value=5 * n, num_generations=g, per_device_train_batch_size=8 * g)
        for n in (10, 5) for g in (128, 16) for estimator in ("grpo", "maxrl") for seed in (0, 1)
    ]  # fmt: skip
    found = group_runs(runs)
    assert found.arms == ("maxrl", "grpo")
    assert [setting.values for setting in found.settings] == [
        {"num_elements": 5, "num_generations": 16}, {"num_elements": 5, "num_generations": 128},
        {"num_elements": 10, "num_generations": 16}, {"num_elements": 10, "num_generations": 128},
    ]  # fmt: skip
    assert [setting.number for setting in found.settings] == [1, 2, 3, 4]
    assert all(len(setting.runs) == 4 for setting in found.settings)
    assert found.settings[0].label == "num_elements 5, num_generations 16"
    assert found.roles == {
        "advantage_estimator": "arm", "seed": "repeats", "num_elements": "setting", "max_value": "follows",
        "num_generations": "setting", "per_device_train_batch_size": "follows",
    }  # fmt: skip
    assert found.follows["per_device_train_batch_size"] == ("num_generations",)
    assert found.values["num_generations"] == ("16", "128")


def test_a_field_that_goes_with_the_arm_spans_no_setting() -> None:
    runs = [a_run("maxrl", 0, learning_rate=1e-3), a_run("grpo", 0, learning_rate=1e-4)]
    found = group_runs(runs)
    assert len(found.settings) == 1
    assert found.roles["learning_rate"] == "with arm"
    # … also where it goes with the arm within each setting alone
    tuned = {("maxrl", 8): 1e-3, ("maxrl", 16): 2e-3, ("grpo", 8): 3e-3, ("grpo", 16): 4e-3}
    found = group_runs([a_run(arm, 0, num_generations=g, learning_rate=lr) for (arm, g), lr in tuned.items()])
    assert [setting.values for setting in found.settings] == [{"num_generations": 8}, {"num_generations": 16}]
    assert found.follows["learning_rate"] == (ARM, "num_generations")


def test_a_field_that_varies_within_an_arm_spans_settings() -> None:
    given = [("maxrl", 1e-3), ("maxrl", 1e-4), ("grpo", 1e-4)]
    runs = [a_run(arm, 0, learning_rate=rate) for arm, rate in given]
    assert [setting.values for setting in group_runs(runs).settings] == [
        {"learning_rate": 1e-4},
        {"learning_rate": 1e-3},
    ]


@pytest.mark.parametrize(
    "field",
    ["output_dir", "save_steps", "report_to", "cpu_threads", "eval_samples", "eval_seed", "task_seed"],
)
def test_what_does_not_change_training_spans_no_setting(field: str) -> None:
    assert len(group_runs([a_run(**{field: 1}), a_run(**{field: 2})]).settings) == 1


def test_options_of_an_estimator_belong_to_the_arm() -> None:
    assert arm_of(a_run("maxrl", advantage_estimator_kwargs={"order": 16})) == "maxrl(order=16)"
    assert arm_of(a_run("maxrl(order=4)")) == "maxrl(order=4)"
    found = group_runs([a_run("maxrl", advantage_estimator_kwargs={"order": n}) for n in (4, 16)])
    assert (len(found.settings), found.arms) == (1, ("maxrl(order=16)", "maxrl(order=4)"))


def test_runs_without_a_recipe_have_no_arm_and_no_setting() -> None:
    lost = RunData(name="lost", config={}, environment={}, state="failed", error="OSError: full")
    found = group_runs([lost, a_run()])
    assert found.arms == ("maxrl",)
    assert sum(len(setting.runs) for setting in found.settings) == 1
    assert group_runs([lost]).settings == ()


def test_repetitions_are_told_apart_by_as_much_as_it_takes() -> None:
    assert repeat_labels([[a_run(seed=1), a_run(seed=0)], [a_run(seed=0)]]) == [[1, 0], [0]]
    two = [a_run(seed=0, task_seed=3), a_run(seed=0, task_seed=4)]
    assert repeat_labels([two, [a_run(seed=0, task_seed=4)]]) == [["0/3", "0/4"], ["0/4"]]
    assert repeat_labels([[a_run(seed=0), a_run(seed=0)]]) == [["0", "0 (run 2)"]]


def test_runs_of_one_seed_on_other_problems_are_no_pair() -> None:
    assert repeat_labels([[a_run(seed=0, task_seed=3)], [a_run(seed=0, task_seed=4)]]) == [["0/3"], ["0/4"]]
