"""Recipes with stages: each goes on from the one before, and all of them together are one run that can be resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.smallest import write_recipe

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments.fields import read_fields
from maxrl.experiments.interrupts import Interrupted
from maxrl.experiments.recipe import Fields, make_recipe, to_yaml
from maxrl.experiments.runs import train_run
from maxrl.experiments.stages import SEED_STRIDE, Stages, make_stages, resolved_stages, train_stages

GUIDE = [
    {"advantage_estimator": "grpo", "num_generations": 4, "max_steps": 2},
    {"num_generations": 8, "max_steps": 3},
]
"""Another estimator, another N and another number of steps in each stage."""

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One warm start serves them all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the search path for modules is put back afterwards."""
    monkeypatch.setenv("MAXRL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def staged(folder: Path, stages: list[dict[str, Any]] | None = None, **fields: Any) -> Stages:
    """The smallest recipe, in stages, into `out`."""
    given = read_fields(["--config", str(write_recipe(folder, save_steps=1, learning_rate=1e-3))])
    return make_stages({**given, "output_dir": "out", **fields, "stages": stages or GUIDE})


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def summary(folder: Path) -> Fields:
    return json.loads((folder / "run.json").read_text())


# --- the recipes of the stages -------------------------------------------------------------------------------------


def test_a_stage_overrides_the_recipe_and_starts_from_the_one_before(tmp_path: Path) -> None:
    first, second = staged(tmp_path, seed=5).recipes
    assert (first.training.advantage_estimator, second.training.advantage_estimator) == ("grpo", "maxrl")
    assert (first.training.num_generations, second.training.num_generations) == (4, 8)
    assert (first.training.max_steps, second.training.max_steps) == (2, 3)
    assert first.training.learning_rate == second.training.learning_rate == 1e-3
    assert (first.model_name, second.model_name) == ("tiny", "out/stage-1")
    assert (first.training.output_dir, second.training.output_dir) == ("out/stage-1", "out/stage-2")
    assert first.task == second.task, "the compact prompts of a tiny model, in a folder now, too"
    assert (first.run.eval_before_training, second.run.eval_before_training) == (True, False)


def test_problems_order_and_draws_go_on(tmp_path: Path) -> None:
    first, second = staged(tmp_path, seed=5).recipes
    assert (first.training.seed, second.training.seed) == (5, 5 + SEED_STRIDE)
    assert (first.task_seed, second.task_seed) == (5, 5 + SEED_STRIDE)
    assert staged(tmp_path, seed=5, task_seed=9).recipes[1].task_seed == 9 + SEED_STRIDE
    # A fixed set of problems is one set, in another order.
    fixed = staged(tmp_path, seed=5, num_train_problems=20).recipes[1]
    assert (fixed.task_seed, fixed.training.seed) == (5, 5 + SEED_STRIDE)
    own = staged(tmp_path, [{}, {"task_seed": 3, "seed": 4}]).recipes[1]
    assert (own.task_seed, own.training.seed) == (3, 4)


def test_what_makes_the_model_is_the_first_stages_alone(tmp_path: Path) -> None:
    first, second, third = staged(tmp_path, [{}, {}, {}], use_peft=True, lora_r=2, bf16=False).recipes
    assert (first.model.use_peft, first.model.lora_r) == (True, 2)
    for recipe in (second, third):
        assert not recipe.model.use_peft
        assert not [name for name in recipe.given if name.startswith(("tiny_", "warm_start_", "lora_"))]
        assert recipe.training.bf16 is False
    assert third.model_name == "out/stage-2"


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (
            [{}, {"num_generation": 8}],
            "stage 2: unknown field 'num_generation'; did you mean 'num_generations'?",
        ),
        ([{"num_elements": 4}], "stage 1: num_elements belongs to the recipe, not to a stage"),
        ([{"model_name_or_path": "x"}], "model_name_or_path belongs to the recipe"),
        ([{"use_peft": True}], "use_peft belongs to the recipe"),
        ([{}, {"output_dir": "x"}], "stage 2: output_dir belongs to the recipe"),
        ([{}, {"task": "subset_sum"}], "stage 2: task belongs to the recipe"),
        ([{}, {"eval_samples": 9}], "stage 2: eval_samples belongs to the recipe"),
        ([{}, {"resume_from_checkpoint": "true"}], "resume_from_checkpoint belongs to the recipe"),
        # The batch of 16 rollouts holds no whole group of 3.
        ([{}, {"num_generations": 3}], "stage 2: generation_batch_size (16) must be divisible by"),
        ([{}, {"advantage_estimator": "maxrl(order=9)"}], "stage 2: MaxRL("),
        ([{}, {"reward_funcs": ["nosuch"]}], "stage 2: unknown reward function 'nosuch'"),
        ([{}, {"max_steps": -1}], "stage 2: a task never ends"),
        (["grpo"], "stages must be a list of mappings"),
    ],
)
def test_what_a_stage_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: list[Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        staged(tmp_path, stages)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("nothing", [[], {}, None, "two"])
def test_stages_are_a_list_of_mappings(tmp_path: Path, nothing: Any) -> None:
    given = read_fields(["--config", str(write_recipe(tmp_path))])
    with pytest.raises(
        InputError, match="stages must be a list of mappings of fields to values, one per stage"
    ):
        make_stages({**given, "stages": nothing})


def test_only_a_run_of_its_own_finds_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stages go on with --resume_from_checkpoint true"):
        staged(tmp_path, resume_from_checkpoint="out/stage-1/checkpoint-2")
    with pytest.raises(InputError, match="a recipe with stages is one run after another"):
        make_recipe({"task": "subset_sum", "stages": GUIDE})


def test_where_stages_go_by_default(tmp_path: Path) -> None:
    stages = [{"advantage_estimator": "grpo"}, {"advantage_estimator": "maxrl(order=4)"}]
    assert staged(tmp_path, stages, output_dir=None).folder == Path(
        "runs/subset_sum-tiny-grpo-then-maxrl-order-4"
    )


@pytest.mark.parametrize(
    "stages",
    [
        GUIDE,
        [{"max_steps": 4}, {"num_train_problems": 8, "max_steps": -1, "num_train_epochs": 2.0}],
        [{"seed": 3, "learning_rate": 1e-4}, {"advantage_estimator_kwargs": {"no_success": "penalize"}}],
    ],
)
def test_stages_written_down_are_the_same_stages(tmp_path: Path, stages: list[dict[str, Any]]) -> None:
    first = staged(tmp_path, stages)
    written = tmp_path / "written.yaml"
    written.write_text(to_yaml(resolved_stages(first)))
    second = make_stages(read_fields(["--config", str(written)]))
    assert to_yaml(resolved_stages(second)) == written.read_text()
    for one, other in zip(first.recipes, second.recipes, strict=True):
        assert (one.task, one.task_seed, one.run) == (other.task, other.task_seed, other.run)
        assert one.training.to_json_string() == other.training.to_json_string()


def test_the_guides_hybrid_keeps_its_proportions() -> None:
    first, second = make_stages(
        read_fields(["--config", str(RECIPES / "hybrid_subset_sum_tiny.yaml")])
    ).recipes
    estimators = [recipe.training.advantage_estimator for recipe in (first, second)]
    assert estimators == ["grpo", "maxrl"]
    assert (first.training.num_generations, second.training.num_generations) == (4, 8)
    assert second.training.max_steps == 4 * first.training.max_steps  # 200 and 800 there


# --- training ------------------------------------------------------------------------------------------------------


def test_the_second_stage_goes_on_where_the_first_ended(workplace: Path) -> None:
    record = train_stages(staged(workplace))
    out = workplace / "out"
    assert (out / "stage-1" / "eval_before.json").is_file()
    assert not (out / "stage-2" / "eval_before.json").exists()
    last = Evaluation.load(out / "stage-2" / "eval.json")
    assert record.evaluation is not None
    assert record.evaluation.problems == last.problems

    # The recipe of a stage is a run by itself: the same weights, and before training those of the first stage.
    alone = read_fields(["--config", "out/stage-2/config.yaml"])
    train_run(make_recipe({**alone, "output_dir": "alone", "eval_before_training": True}))
    assert same(weights(workplace / "alone"), weights(out / "stage-2"))
    assert not same(weights(out / "stage-1"), weights(out / "stage-2"))
    before, after = (
        Evaluation.load(workplace / name) for name in ("alone/eval_before.json", "out/stage-1/eval.json")
    )
    assert before.problems == after.problems

    whole, parts = summary(out), [summary(out / "stage-1"), summary(out / "stage-2")]
    assert whole["stages"] == parts
    assert (whole["estimator"], whole["seed"], whole["steps"]) == ("grpo, then maxrl", 42, 5)
    assert whole["rollouts"] == record.rollouts == 5 * 16
    for name in ("training_seconds", "completion_tokens"):
        assert whole[name] == parts[0][name] + parts[1][name] > parts[1][name]
        assert getattr(record, name) == whole[name]
    assert whole["pass_at_k"] == parts[1]["pass_at_k"]
    assert len(yaml.safe_load((out / "config.yaml").read_text())["stages"]) == 2


def test_an_adapter_goes_on_being_trained(workplace: Path) -> None:
    lora = {"use_peft": True, "lora_r": 2, "lora_target_modules": ["q_proj", "v_proj"]}
    train_stages(staged(workplace, **lora))
    out = workplace / "out"
    first, second = (weights(out / stage, "adapter_model.safetensors") for stage in ("stage-1", "stage-2"))
    assert first.keys() == second.keys()
    assert not same(first, second)
    assert not list(out.glob("stage-*/model.safetensors"))
    alone = read_fields(["--config", "out/stage-2/config.yaml"])
    train_run(make_recipe({**alone, "output_dir": "alone", "eval_before_training": True}))
    assert same(weights(workplace / "alone", "adapter_model.safetensors"), second)
    before, after = (
        Evaluation.load(workplace / name) for name in ("alone/eval_before.json", "out/stage-1/eval.json")
    )
    assert before.problems == after.problems


CTRL_C = f"""
import os, signal

calls = 0

def pressed(completions, **kwargs):
    global calls
    calls += 1
    if calls == int(os.environ["PRESS_AT"]):
        os.kill(os.getpid(), signal.{signal.SIGINT.name})
    return [0.0] * len(completions)
"""


def test_an_interrupted_stage_goes_on_and_done_ones_are_left_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "keys.py").write_text(CTRL_C)
    monkeypatch.delitem(sys.modules, "keys", raising=False)
    monkeypatch.setenv("PRESS_AT", "4")  # the second step of the second stage
    rewards = {"reward_funcs": ["keys:pressed"]}
    with pytest.raises(
        Interrupted, match=r"^stage 2: interrupted at step 2; go on with the same command and"
    ):
        train_stages(staged(workplace, **rewards))
    out = workplace / "out"
    assert not (out / "run.json").exists()
    assert not (out / "stage-2" / "run.json").exists()
    done = {path: os.stat(path).st_mtime_ns for path in (out / "stage-1").iterdir()}

    resumed = train_stages(staged(workplace, **rewards, resume_from_checkpoint="true"))
    assert {path: os.stat(path).st_mtime_ns for path in (out / "stage-1").iterdir()} == done
    assert sys.modules["keys"].calls == 5, "only the third step was left to make"
    undisturbed = train_stages(staged(workplace, **rewards, output_dir="undisturbed"))
    assert same(weights(out / "stage-2"), weights(workplace / "undisturbed" / "stage-2"))
    assert (resumed.rollouts, resumed.completion_tokens) == (
        undisturbed.rollouts,
        undisturbed.completion_tokens,
    )

    # Nothing is left to do, and nothing is done.
    files = {path: os.stat(path).st_mtime_ns for path in out.glob("stage-*/*")}
    again = train_stages(staged(workplace, **rewards, resume_from_checkpoint="true"))
    assert {path: os.stat(path).st_mtime_ns for path in out.glob("stage-*/*")} == files
    assert again.rollouts == resumed.rollouts
    assert summary(out)["steps"] == 5


def test_a_stage_that_died_without_a_checkpoint_begins_anew(workplace: Path) -> None:
    train_stages(staged(workplace, save_strategy="no"))
    before = weights(workplace / "out" / "stage-2")
    for name in ("run.json", "model.safetensors"):  # between its evaluation and its end
        (workplace / "out" / "stage-2" / name).unlink()
    train_stages(staged(workplace, save_strategy="no", resume_from_checkpoint="true"))
    assert same(weights(workplace / "out" / "stage-2"), before)


SHORT = [{"max_steps": 1}, {"max_steps": 1}]
QUICK: Fields = {"eval_before_training": False, "eval_samples": 1, "eval_ks": [1]}
RESUME = {**QUICK, "resume_from_checkpoint": "true"}


def test_what_the_folder_holds_is_not_mixed_up(workplace: Path) -> None:
    train_stages(staged(workplace, SHORT, **QUICK))
    with pytest.raises(InputError, match=r"out already holds a run \(run\.json\)"):
        train_stages(staged(workplace, SHORT, **QUICK))
    with pytest.raises(InputError, match=r"out/stage-1 holds a run with other settings \(learning_rate\)"):
        train_stages(staged(workplace, SHORT, **RESUME, learning_rate=1e-4))
    with pytest.raises(
        InputError, match=r"out/stage-2 has begun, but stage-1 is not done, has now another length"
    ):
        train_stages(staged(workplace, [{"max_steps": 2}, {"max_steps": 1}], **RESUME))
    with pytest.raises(
        InputError, match=r"out/stage-2 has begun, but stage-1 .* is the last that is asked for"
    ):
        train_stages(staged(workplace, SHORT[:1], **RESUME))
    (workplace / "out" / "run.json").unlink()
    one = make_recipe(read_fields(["--config", str(write_recipe(workplace)), "--output_dir", "out"]))
    with pytest.raises(InputError, match=r"out already holds a run \(stage-1\)"):
        train_run(one)
    train_stages(staged(workplace, SHORT[:1], **QUICK, overwrite_output_dir=True))
    assert [path.name for path in (workplace / "out").glob("stage-*")] == ["stage-1"]
    assert summary(workplace / "out")["steps"] == 1


def test_the_last_stage_may_go_on_and_another_one_may_follow(workplace: Path) -> None:
    longer = [{"max_steps": 1}, {"max_steps": 2}, {"max_steps": 1}]
    train_stages(staged(workplace, SHORT, **QUICK))
    train_stages(staged(workplace, longer, **RESUME))
    train_stages(staged(workplace, longer, **QUICK, output_dir="at-once"))
    for stage in ("stage-2", "stage-3"):
        assert same(weights(workplace / "out" / stage), weights(workplace / "at-once" / stage))


@pytest.mark.slow
def test_two_ranks_train_in_stages_together(workplace: Path) -> None:
    stages = "[{advantage_estimator: grpo, num_generations: 8, max_steps: 1}, {max_steps: 2}]"
    recipe = write_recipe(workplace, save_steps=1, stages=stages, eval_before_training="false")
    whole = ["-m", "maxrl.cli", "train", "-q", f"--config={recipe}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # The tiny model is made by one process.
    made = [sys.executable, *whole, "--output_dir=policy", "--overwrite_output_dir"]
    subprocess.run(made, env=environment, check=True, capture_output=True, timeout=200)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    own = [
        "--model_name_or_path=policy/stage-1",
        "--prompt_format=compact",
        "--per_device_train_batch_size=8",
        "--use_cpu",
    ]

    def launch(*words: str) -> None:
        done = subprocess.run(
            [*launcher, *whole, *own, "--output_dir=out", *words],
            env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.count("run: out") == 1

    launch()
    out = workplace / "out"
    assert summary(out)["rollouts"] == 3 * 16
    before = weights(out / "stage-2")
    written = os.stat(out / "stage-1" / "run.json").st_mtime_ns
    (out / "stage-2" / "run.json").unlink()
    launch("--resume_from_checkpoint=true")
    assert same(weights(out / "stage-2"), before)
    assert os.stat(out / "stage-1" / "run.json").st_mtime_ns == written


def test_a_failure_names_its_stage(workplace: Path) -> None:
    (workplace / "gloomy.py").write_text(
        "def minus(completions, **_):\n    return [-5.0] * len(completions)\n"
    )
    stages: list[dict[str, Any]] = [{"max_steps": 1}, {"max_steps": 1, "reward_funcs": ["gloomy:minus"]}]
    with pytest.raises(InputError, match=r"^stage 2: MaxRL divides by the group's mean reward"):
        train_stages(staged(workplace, stages, eval_before_training=False))
