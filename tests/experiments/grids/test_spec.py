"""Specs: every combination a run, the convention's names, and mistakes named where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxrl.errors import InputError
from maxrl.experiments.grids.drive import check_runs
from maxrl.experiments.grids.spec import Grid, load_grid

RECIPES = Path(__file__).parents[3] / "recipes"
Load = Callable[..., Grid]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a spec and loads it; `recipe` is a file's content beside it."""

    def write(recipe: dict[str, Any] | None = None, **spec: Any) -> Grid:
        if recipe is not None:
            (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            spec = {"recipe": "recipe.yaml", **spec}
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return load_grid(path)

    return write


RECIPE = {"task": "subset_sum", "model": "tiny", "num_generations": 8, "per_device_train_batch_size": 32}


def names(grid: Grid) -> list[str]:
    return [run.name for run in grid.runs]


def test_the_benchmark_is_its_fourteen_jobs_under_its_names() -> None:
    grid = load_grid(RECIPES / "grids" / "subset_sum_benchmark.yaml")
    expected = {
        f"Qwen2.5-0.5B-{method}-n{n}-bs4-gs{group}"
        for n, groups in ((5, (16, 32, 64)), (10, (16, 32, 64, 128)))
        for group in groups
        for method in ("maxrl", "grpo")
    }
    assert len(grid.runs) == 14
    assert set(names(grid)) == expected
    for run in grid.runs:
        hard = run.fields["num_elements"] == 10
        assert run.fields["max_value"] == (50 if hard else 20)
        assert run.fields["per_device_train_batch_size"] == 4 * run.fields["num_generations"]
        assert run.folder == Path("runs/subset-sum-benchmark") / run.name
        assert run.fields["lora_r"] == 8  # from the recipe


@pytest.mark.parametrize("name", sorted(path.name for path in (RECIPES / "grids").glob("*.yaml")))
def test_every_committed_spec_has_runs_that_can_be_made(name: str) -> None:
    grid = load_grid(RECIPES / "grids" / name)
    check_runs(grid)
    assert len(set(names(grid))) == len(grid.runs) > 1


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        (
            "rust_threshold",
            "advantage_estimator",
            ("threshold=15", "threshold=20", "threshold=25", "threshold=30"),
        ),
        ("rust_samples", "num_generations", (4, 8, 16, 32)),
        (
            "rust_temperature",
            "advantage_estimator",
            ("temperature=0.5", "temperature=1.0", "temperature=2.0"),
        ),
    ],
)
def test_the_ablations_of_the_rust_guide_are_its_numbers(
    name: str, field: str, values: tuple[Any, ...]
) -> None:
    grid = load_grid(RECIPES / "grids" / f"{name}.yaml")
    found = [run.fields[field] for run in grid.runs]
    for run, value, expected in zip(grid.runs, found, values, strict=True):
        assert expected in value if isinstance(value, str) else expected == value
        assert run.fields["max_steps"] == 100
        assert run.fields["advantage_estimator"].startswith("success_weighted(")


def test_axes_multiply_in_the_specs_order_and_exclude_takes_away(load: Load) -> None:
    grid = load(
        RECIPE, axes={"seed": [0, 1], "method": ["maxrl", "grpo"]}, exclude=[{"seed": 1, "method": "grpo"}]
    )
    assert [dict(run.point) for run in grid.runs] == [
        {"seed": 0, "method": "maxrl"},
        {"seed": 0, "method": "grpo"},
        {"seed": 1, "method": "maxrl"},
    ]
    assert names(grid) == [
        "tiny-maxrl-n6-bs4-gs8-seed0",
        "tiny-grpo-n6-bs4-gs8-seed0",
        "tiny-maxrl-n6-bs4-gs8-seed1",
    ]


def test_where_runs_go_is_asked_for_or_said_in_the_spec_or_follows_from_its_name(
    load: Load, tmp_path: Path
) -> None:
    assert load(RECIPE, axes={"seed": [0]}).folder == Path("runs/spec")
    assert load(RECIPE, name="mine", axes={"seed": [0]}).folder == Path("runs/mine")
    grid = load(RECIPE, name="mine", output_dir="said", axes={"seed": [0]})
    assert grid.folder == Path("said")
    assert grid.runs[0].folder.parent == Path("said")
    assert load_grid(tmp_path / "spec.yaml", output_dir="asked").folder == Path("asked")


def test_what_a_recipe_says_of_its_own_folder_is_not_the_grids(load: Load) -> None:
    recipe = {**RECIPE, "output_dir": "own", "overwrite_output_dir": True, "resume_from_checkpoint": "true"}
    (run,) = load(recipe, axes={"seed": [0]}).runs
    assert run.folder == Path("runs/spec") / run.name
    assert {"overwrite_output_dir", "resume_from_checkpoint"}.isdisjoint(run.fields)


def test_axes_beyond_the_convention_are_suffixes_and_no_others(load: Load) -> None:
    grid = load(
        RECIPE,
        axes={
            "temperature": [0.7, 1.0],
            "learning_rate": [1e-5, 0.001],
            "size": {
                "easy": {"num_elements": 4, "max_value": 9},
                "hard": {"num_elements": 8, "max_value": 9},
            },
            "lr_scheduler_type": ["constant", "linear"],
        },
    )
    assert names(grid)[0] == "tiny-maxrl-n4-bs4-gs8-t0.7-lr1e-05-constant"
    assert names(grid)[-1] == "tiny-maxrl-n8-bs4-gs8-t1-lr0.001-linear"


def test_null_and_signs_tell_runs_apart(load: Load) -> None:
    grid = load(
        RECIPE,
        axes={
            "correctness_threshold": [None, 0.5],
            "top_k": [1, -1],
            "shift": {"-1": {"max_value": 9}, "1": {"max_value": 90}},
            "learning_rate": [1e-6, 1e6],
        },
    )
    suffixes = [name.removeprefix("tiny-maxrl-n6-bs4-gs8-") for name in names(grid)]
    assert suffixes[0] == "thresholdNone-top_k1-shift-1-lr1e-06"
    assert suffixes[-1] == "threshold0.5-top_k-1-shift1-lr1e06"


def test_labels_that_the_convention_cannot_tell_apart_are_suffixes(load: Load) -> None:
    labels = {"near": {"max_value": 9}, "far": {"max_value": 90}, "3": {"max_value": 99}}
    assert names(load(RECIPE, axes={"range": labels})) == [
        "tiny-maxrl-n6-bs4-gs8-near",
        "tiny-maxrl-n6-bs4-gs8-far",
        "tiny-maxrl-n6-bs4-gs8-range3",
    ]


def test_options_of_an_estimator_are_its_name_or_the_labels(load: Load) -> None:
    assert (
        names(load(RECIPE, axes={"method": ["maxrl", "maxrl(order=4)"]}))[1]
        == "tiny-maxrl-order-4-n6-bs4-gs8"
    )
    arms = {"low": {"method": "maxrl(order=2)"}, "high": {"method": "maxrl(order=8)"}}
    assert names(load(RECIPE, axes={"arm": arms})) == [
        "tiny-maxrl-n6-bs4-gs8-low",
        "tiny-maxrl-n6-bs4-gs8-high",
    ]


def test_instruct_stays_where_it_tells_models_apart(load: Load) -> None:
    recipe = {**RECIPE, "prompt_format": "chat"}
    both = load(recipe, axes={"model": ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"]})
    assert [name.split("-maxrl")[0] for name in names(both)] == ["Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct"]
    one = load(recipe, fields={"model": "Qwen/Qwen2.5-0.5B-Instruct"}, axes={"seed": [1]})
    assert names(one) == ["Qwen2.5-0.5B-maxrl-n6-bs4-gs8"]


def test_a_task_without_elements_has_none_in_its_name(load: Load) -> None:
    recipe = {key: value for key, value in RECIPE.items() if key != "task"}
    tasks = {"task": ["maze", "subset_sum"]}
    assert names(load(recipe, axes=tasks)) == ["tiny-maxrl-bs4-gs8", "tiny-maxrl-n6-bs4-gs8"]


def test_batch_size_counts_prompts(load: Load) -> None:
    grid = load(
        {**RECIPE, "gradient_accumulation_steps": 2}, axes={"batch_size": [2, 4], "group_size": [4, 16]}
    )
    sizes = [(run.fields["num_generations"], run.fields["per_device_train_batch_size"]) for run in grid.runs]
    assert sizes == [(4, 4), (16, 16), (4, 8), (16, 32)]
    assert [name.split("n6-")[1] for name in names(grid)] == ["bs2-gs4", "bs2-gs16", "bs4-gs4", "bs4-gs16"]


def test_the_tiny_models_fields_apply_where_the_spec_asks_for_it(load: Load) -> None:
    recipe = {**RECIPE, "model": "some/model-1B", "learning_rate": 1e-6, "tiny": {"learning_rate": 0.5}}
    grid = load(recipe, axes={"model": ["some/model-1B", "tiny"]})
    assert [run.fields["learning_rate"] for run in grid.runs] == [1e-6, 0.5]
    (mine,) = load(recipe, fields={"model": "tiny", "learning_rate": 0.25}).runs
    assert mine.fields["learning_rate"] == 0.25


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"axes": {"temperatur": [1, 2]}}, "did you mean 'temperature'?"),
        ({"axes": {"num_element": [1, 2]}}, "did you mean 'num_elements'?"),
        ({"axis": {"seed": [1]}}, "did you mean 'axes'?"),
        ({"learning_rate": 1}, "belong under fields (one value) or axes (several)"),
        ({"axes": {"seed": 3}}, "axis seed must be a list of values or a mapping of labels"),
        ({"axes": {"seed": []}}, "axis seed has no values"),
        ({"axes": {"seed": [1, 1]}}, "axis seed has 1 twice"),
        ({"axes": {"seed": [1, "1"]}}, "axis seed has 1 twice"),
        ({"axes": {"size": {1: {"max_value": 8}, "1": {"max_value": 9}}}}, "axis size has 1 twice"),
        (
            {"axes": {"at": {"a": {"method": "grpo", "advantage_estimator": "maxrl"}}}},
            "has advantage_estimator twice",
        ),
        ({"fields": {"group_size": 4, "num_generations": 8}}, "fields has num_generations twice"),
        ({"axes": {1: [1], "1": [2]}}, "axes has 1 twice"),
        ({"axes": {"grop_size": [2, 4]}}, "unknown field 'grop_size'; did you mean 'group_size'?"),
        ({"fields": {"batch_siz": 2}}, "did you mean 'batch_size'?"),
        (
            {"axes": {"group_size": [None, 4], "batch_size": [2]}},
            "num_generations must be at least 1, but is None",
        ),
        ({"axes": {"group_size": [0, 4]}}, "num_generations must be at least 1, but is 0"),
        ({"axes": {"gradient_accumulation_steps": [None]}}, "gradient_accumulation_steps must be at least 1"),
        ({"axes": {"seed": ["one"]}}, "seed one"),
        ({"axes": {"level": {"a": 3}}}, "a must be a mapping of fields to values, but is 3"),
        ({"axes": {"level": {"a": {"num_element": 3}}}}, "did you mean 'num_elements'?"),
        ({"axes": {"seed": {"a": {"seed": 1}}}}, "has the name of a field that it sets"),
        ({"axes": {"seed": [1]}, "exclude": [{"sed": 1}]}, "did you mean 'seed'?"),
        ({"axes": {"seed": [1, 2]}, "exclude": [{"seed": 3}]}, "unknown value of axis seed '3'"),
        ({"axes": {"seed": [1]}, "exclude": [{"seed": 1}]}, "exclude leaves no run"),
        ({"axes": {"seed": [1]}, "exclude": {"seed": 1}}, "exclude must be a list of mappings"),
        ({"axes": [1]}, "axes must be a mapping"),
        ({"fields": {"output_dir": "here"}}, "output_dir is the grid's business"),
        ({"fields": {"batch_size": 0}}, "batch_size must be a whole number of prompts from 1"),
        ({"fields": {"batch_size": 2, "per_device_train_batch_size": 16}}, "leave one out"),
        ({"fields": {"batch_size": 1, "gradient_accumulation_steps": 3}}, "cannot be divided among"),
        ({"runners": {"local": 3}}, "local must be a mapping of its options"),
        ({"fields": {"num_elements": "many"}}, "num_elements"),
        ({"axes": {"method": ["maxrl"], "advantage_estimator": ["maxrl"]}}, "both set advantage_estimator"),
    ],
)
def test_mistakes_are_named(load: Load, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load(RECIPE, **spec)
    assert says in str(caught.value)
    assert "spec.yaml" in str(caught.value)


def test_what_a_run_cannot_be_made_with_is_said_before_any_is_started(load: Load) -> None:
    grid = load({**RECIPE, "max_steps": 1}, axes={"method": ["maxrl", "maxrl(order=16)"]})
    with pytest.raises(InputError, match=r"run tiny-maxrl-order-16\S*: .*16"):
        check_runs(grid)  # groups have 8 rollouts


def test_labels_that_are_numbers_are_excluded_by_them(load: Load) -> None:
    sizes = {3: {"num_elements": 3}, 4: {"num_elements": 4}}
    grid = load(RECIPE, axes={"size": sizes, "seed": [0, 1]}, exclude=[{"size": 3, "seed": 1}])
    assert names(grid) == [
        "tiny-maxrl-n3-bs4-gs8-seed0",
        "tiny-maxrl-n4-bs4-gs8-seed0",
        "tiny-maxrl-n4-bs4-gs8-seed1",
    ]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (("a b", "a-b"), "both be called tiny-maxrl-n6-bs4-gs8-a-b"),
        (("a", "b" * 200), "give the axes' values labels"),
    ],
)
def test_names_that_cannot_be_folders_are_refused(load: Load, labels: tuple[str, str], says: str) -> None:
    axis = {label: {"learning_rate": 1e-3 * number} for number, label in enumerate(labels, 1)}
    with pytest.raises(InputError, match=says):
        load(RECIPE, axes={"rate": axis})


def test_a_spec_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_grid(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("axes: [")
    with pytest.raises(InputError, match="not valid YAML"):
        load_grid(bad)
    bad.write_text("- 1")
    with pytest.raises(InputError, match="must be a mapping"):
        load_grid(bad)
    for twice in (
        "axes: {d: {easy: {seed: 1}, easy: {seed: 2}}}",
        "axes:\n  d: [0]\n  easy: [1]\n  easy: [2]",
    ):
        bad.write_text(twice)
        with pytest.raises(InputError, match="not valid YAML: easy is there twice"):
            load_grid(bad)
    bad.write_text("recipe: nowhere.yaml\n")
    with pytest.raises(InputError, match=r"nowhere\.yaml does not exist"):
        load_grid(bad)
