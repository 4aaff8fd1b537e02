"""Recipes with `tasks`: read, checked, trained, evaluated task by task, resumed, compared and staged."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.evaluation.records import ProblemCounts
from maxrl.experiments.compare import plan_comparison
from maxrl.experiments.data import load_data
from maxrl.experiments.fields import read_fields
from maxrl.experiments.folders import claim_folder
from maxrl.experiments.mixtures import by_task
from maxrl.experiments.recipe import make_recipe, resolved_fields, to_yaml
from maxrl.experiments.stages import make_stages
from maxrl.objectives import GRPO, MaxRL
from maxrl.tasks import SubsetSum
from maxrl.tasks.mixture import Mixture, Part

RECIPES = Path(__file__).parents[2] / "recipes"

TASKS = """
- {task: subset_sum, name: three, num_elements: 3, max_value: 4, share: 2, num_generations: 2, advantage_estimator: grpo}
- {task: subset_sum, num_elements: 4, max_value: 4, correctness_threshold: 0.5}
"""
"""Of each cycle two groups of two and one of four: 8 rows."""


def recipe_file(folder: Path, tasks: str = TASKS, **fields: Any) -> Path:
    """The smallest recipe, on these tasks in place of its own."""
    path = write_recipe(folder, per_device_train_batch_size=16, **fields)
    lines = [
        line
        for line in path.read_text().splitlines()
        if line.split(":")[0] not in ("task", "num_elements", "max_value")
    ]
    path.write_text("\n".join([*lines, "tasks:", tasks.strip("\n")]) + "\n")
    return path


def given(folder: Path, tasks: str = TASKS, **fields: Any) -> dict[str, Any]:
    return {
        **read_fields(["--config", str(recipe_file(folder, tasks))]),
        "output_dir": str(folder / "out"),
        **fields,
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One warm start serves them all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAXRL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_entry_becomes_a_part_and_settings(tmp_path: Path) -> None:
    recipe = make_recipe(given(tmp_path))
    three = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
    four = SubsetSum(num_elements=4, max_value=4, prompt_format="compact")
    assert recipe.task == Mixture(
        parts=(Part(name="three", task=three, share=2), Part(name="subset_sum", task=four))
    )
    tasks = recipe.training.tasks()
    assert (tasks["three"].estimator, tasks["subset_sum"].estimator) == (GRPO(), None)
    assert (tasks["three"].num_generations, tasks["subset_sum"].num_generations) == (2, 4)
    assert (tasks["three"].correctness_threshold, tasks["subset_sum"].correctness_threshold) == (None, 0.5)
    assert recipe.training.shuffle_dataset is False
    train, _, _ = load_data(recipe)
    assert Counter(train["task"]) == {"three": 6 * 4, "subset_sum": 6 * 2}, "six steps of two cycles"
    chat = make_recipe(given(tmp_path, model_name_or_path="somewhere/else"))
    assert isinstance(chat.task, Mixture)
    assert chat.task.part("three").task == SubsetSum(num_elements=3, max_value=4)


def test_the_resolved_recipe_is_the_same_run(tmp_path: Path) -> None:
    recipe = make_recipe(given(tmp_path))
    written = tmp_path / "config.yaml"
    written.write_text(to_yaml(resolved_fields(recipe)))
    again = make_recipe(read_fields(["--config", str(written)]))
    assert resolved_fields(again) == resolved_fields(recipe)
    assert again.task == recipe.task
    assert again.training.tasks() == recipe.training.tasks()
    (three, four) = yaml.safe_load(written.read_text())["tasks"]
    assert (three["prompt_format"], four["num_elements"], four["name"]) == ("compact", 4, "subset_sum")
    assert "task_settings" not in yaml.safe_load(written.read_text())


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ("- {task: subset_summ}", "recipe.yaml: task 1: unknown task 'subset_summ'; did you mean 'subset_sum'?"),
        ("- {task: subset_sum, num_elemens: 3}", "task 1: unknown field 'num_elemens'; did you mean 'num_elements'"),
        ("- {task: subset_sum, num_elements: many}", "task 1: argument --num_elements.*: invalid int value: 'many'"),
        ("- {task: subset_sum, num_elements: 1}", "task 1: num_elements=1 is not allowed"),
        ("- {task: subset_sum, share: half}", "task 1: argument --share: invalid float value: 'half'"),
        ("- {task: subset_sum, share: -1}", "share of task subset_sum must be a number above 0"),
        ("- {num_elements: 3}", "task 1: unknown field 'num_elements'"),
        ("- {share: 3}", "task 1: name it, as in `- task: subset_sum`"),
        ("- {task: subset_sum}\n- {task: subset_sum}", "several tasks are called subset_sum; give each a `name`"),
        ("- {task: subset_sum, name: a/b}", "a task cannot be called 'a/b'"),
        ("- {task: subset_sum, num_generations: 1}", "num_generations of task subset_sum must be .* at least 2"),
        ("- {task: subset_sum, num_generations: 3}", "set per_device_train_batch_size to 15 or 18"),
        ("- {task: subset_sum, advantage_estimator: gppo}", "task subset_sum: .*did you mean 'grpo'"),
        ("- subset_sum", "tasks must be a list of mappings of fields to values, .*but is"),
        ("  task: subset_sum", "tasks must be a list of mappings of fields to values"),
        ("  []", "tasks must be a list of mappings of fields to values"),
    ],
)  # fmt: skip
def test_entries_that_cannot_be_used_are_refused(tmp_path: Path, tasks: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_recipe(given(tmp_path, tasks))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"task": "subset_sum"}, "tasks lists what is trained on, and so does task"),
        ({"dataset_name": "rows.jsonl"}, "so does dataset_name"),
        ({"task_settings": {"a": {}}}, "so does task_settings"),
        ({"tasks": [{"task": "subset_sum", "num_elemnts": 3}]}, "'num_elemnts'; did you mean 'num_elements'"),
        ({"tasks": None}, "tasks must be a list"),
        ({"num_elements": 3}, "unknown field 'num_elements'"),
        ({"refill_dead_groups": 2}, "refill_dead_groups=2 is not possible with task_settings"),
    ],
)
def test_what_contradicts_tasks_is_refused(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_recipe({**given(tmp_path), **fields})


def train(workplace: Path, output: str, *words: str, **fields: Any) -> Path:
    recipe = recipe_file(workplace, **{"max_steps": 4, **fields})
    assert main(["train", "-q", f"--config={recipe}", f"--output_dir={output}", *words]) == 0
    return workplace / output


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Without what depends on the clock, on how long a run is meant to be, or on the reasons its process has seen."""
    others = ("elapsed", "step_time", "epoch", "verifier/")
    lines = (folder / name).read_text().splitlines()
    return [{key: v for key, v in json.loads(line).items() if not key.startswith(others)} for line in lines]


def test_a_run_tells_its_tasks_apart_and_resumes_to_the_bit(workplace: Path) -> None:
    whole = train(workplace, "whole")
    for row in rows(whole, "metrics.jsonl"):
        assert row["tasks/three/frac_rollouts"] == row["tasks/subset_sum/frac_rollouts"] == 0.5
        parts = [row[f"tasks/{name}/success_rate"] for name in ("three", "subset_sum")]
        assert row["success_rate"] == pytest.approx(sum(parts) / 2)
    for label in ("", "_before"):
        every = Evaluation.load(whole / f"eval{label}.json")
        assert Counter(problem.id.split("/")[0] for problem in every.problems) == {
            "three": 4,
            "subset_sum": 2,
        }
        correct = Counter(
            row["id"] for row in rows(whole, f"samples{label}.jsonl") if row["success"] and not row["greedy"]
        )
        for name, elements in (("three", 3), ("subset_sum", 4)):
            own = Evaluation.load(whole / f"eval{label}.{name}.json")
            task = SubsetSum(num_elements=elements, max_value=4, prompt_format="compact")
            ids = [example.id for example in task.examples("eval", len(own.problems))]
            assert [problem.id for problem in own.problems] == ids
            counted = [problem.correct for problem in own.problems]
            assert counted == [correct[f"{name}/{id_}"] for id_ in ids]
            assert own.at(1).estimate == pytest.approx(sum(counted) / 4 / len(ids))
            assert own.settings["task"] == task.description()

    broken = train(workplace, "broken", max_steps=2)
    assert (broken / "eval.three.json").is_file()
    (broken / "eval.earlier.json").write_text("{}")
    train(workplace, "broken", "--resume_from_checkpoint", "true")
    assert not (broken / "eval.earlier.json").exists(), "a run that goes on is not done"
    assert rows(broken, "metrics.jsonl") == rows(whole, "metrics.jsonl")
    assert rows(broken, "diagnostics.jsonl") == rows(whole, "diagnostics.jsonl")
    for name, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(broken / "model.safetensors")[name], value), name
    for name in ("eval.json", "eval.three.json"):
        one, two = (json.loads((folder / name).read_text()) for folder in (whole, broken))
        assert one["problems"] == two["problems"]


def test_a_folder_is_cleared_of_the_tasks_it_held(workplace: Path) -> None:
    recipe = make_recipe(
        {**given(workplace), "output_dir": str(workplace / "out"), "overwrite_output_dir": True}
    )
    folder = workplace / "out"
    folder.mkdir()
    for name in ("eval.json", "eval.other.json", "eval_before.other.json", "eval-notes.json"):
        (folder / name).write_text("{}")
    assert claim_folder(recipe, folder) is None
    assert [path.name for path in folder.iterdir()] == ["eval-notes.json"]


def test_problems_are_dealt_out_by_task() -> None:
    mixture = Mixture(parts=tuple(Part(name=name, task=SubsetSum()) for name in ("a", "a.b", "c")))
    problems = (
        ProblemCounts(id="a/1", scored=4, correct=4, greedy_success=True),
        ProblemCounts(id="a.b/1", scored=4, correct=1),
        ProblemCounts(id="a/2", scored=4, correct=2, greedy_success=False),
    )
    every = Evaluation(
        problems=problems, pass_at_k=(), greedy_accuracy=0.5, confidence=0.9, completion_tokens=7, seconds=1.0,
        settings={"eval_ks": [1, 4], "task": mixture.description(), "eval_problems": 3},
    )  # fmt: skip
    found = by_task(every, mixture)
    assert list(found) == ["a", "a.b"], "c has none"
    assert [problem.id for problem in found["a"].problems] == ["1", "2"]
    assert [(entry.k, entry.estimate) for entry in found["a"].pass_at_k] == [(1, 0.75), (4, 1.0)]
    assert [(entry.k, entry.estimate) for entry in found["a.b"].pass_at_k] == [(1, 0.25), (4, 1.0)]
    assert (found["a"].greedy_accuracy, found["a.b"].greedy_accuracy) == (0.5, None)
    assert found["a"].settings["eval_problems"] == 2
    assert found["a"].settings["part_of"] == mixture.description()


def test_an_arm_of_a_comparison_is_the_estimator_of_every_task(tmp_path: Path) -> None:
    plain = TASKS.replace(", advantage_estimator: grpo", "")
    _, shared, jobs = plan_comparison(
        {**given(tmp_path, plain), "estimators": ["maxrl", "grpo"], "seeds": [0]}
    )
    assert isinstance(shared.task, Mixture)
    recipes = [make_recipe(job.fields) for job in jobs]
    assert [recipe.training.estimator() for recipe in recipes] == [MaxRL(), GRPO()]
    assert all(own.estimator is None for recipe in recipes for own in recipe.training.tasks().values())
    with pytest.raises(InputError, match="gives every task the arm's estimator, but three names its own"):
        plan_comparison(given(tmp_path))


def test_stages_keep_the_tasks(tmp_path: Path) -> None:
    stages = make_stages(
        {**given(tmp_path), "stages": [{"max_steps": 1}, {"max_steps": 2, "learning_rate": 1e-3}]}
    )
    first, second = stages.recipes
    assert first.task == second.task
    assert isinstance(second.task, Mixture)
    assert second.task.part("three").task == SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
    assert second.training.tasks() == first.training.tasks()


def test_the_published_recipe_holds_whole_groups_of_both() -> None:
    recipe = make_recipe(read_fields(["--config", str(RECIPES / "two_tasks_tiny.yaml")]))
    tasks = recipe.training.tasks()
    assert {name: (own.share, own.num_generations) for name, own in tasks.items()} == {
        "short": (2, 8),
        "long": (1, 32),
    }
    assert recipe.training.groups_per_generation == 30
