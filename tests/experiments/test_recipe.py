"""Recipes: what a YAML file and a command line say, and what is refused before anything starts."""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import DatasetMixtureConfig, ModelConfig
from trl.scripts.grpo import make_parser

from maxrl.errors import InputError
from maxrl.evaluation import EvalSettings
from maxrl.experiments.fields import help_text, parse_recipe, read_fields, recipe_fields
from maxrl.experiments.recipe import Recipe, folder_name, make_recipe, resolved_fields, to_yaml
from maxrl.models import TinyModel
from maxrl.tasks import SubsetSum
from maxrl.training import MaxRLConfig
from maxrl.training.warm_starts import WarmStart

TINY_RECIPE = Path(__file__).parents[2] / "recipes" / "subset_sum_tiny.yaml"
TASK = ("--task", "subset_sum")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def parse(path: Path, text: str, *words: str) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return parse_recipe(["--config", str(path), *words])


def refused(words: Sequence[str]) -> str:
    """The one line that says why."""
    with pytest.raises(InputError) as caught:
        parse_recipe(words)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- where values come from ----------------------------------------------------------------------------------------


def test_options_win_over_the_file_and_the_file_over_the_defaults(recipe_file: Path) -> None:
    text = "task: subset_sum\nlearning_rate: 0.5\nmax_steps: 7\nnum_elements: 9\neval_greedy: false\n"
    recipe = parse(recipe_file, text, "--max_steps", "8", "--num_elements=10")
    assert recipe.training.learning_rate == 0.5
    assert recipe.training.max_steps == 8
    assert recipe.task == SubsetSum(num_elements=10, prompt_format="compact")
    assert recipe.evaluation == EvalSettings(eval_greedy=False)
    assert recipe.training.num_generations == 8  # TRL's default
    assert recipe.given["max_steps"] == 8


@pytest.mark.parametrize("spelling", [["--config", "{}"], ["--config={}"]])
@pytest.mark.parametrize("last", [False, True])
def test_the_file_may_be_named_anywhere(recipe_file: Path, spelling: list[str], last: bool) -> None:
    recipe_file.write_text("task: subset_sum\nmax_steps: 7\n")
    config = [word.format(recipe_file) for word in spelling]
    words = ["--max_steps", "8"]
    assert parse_recipe(words + config if last else config + words).training.max_steps == 8


def test_each_room_gets_its_fields(tmp_path: Path) -> None:
    recipe = parse_recipe(
        [
            *TASK,
            *("--max_value", "30", "--eval_samples", "5", "--tiny_layers", "2", "--warm_start_seed", "4"),
            *("--beta", "0.1", "--lora_r", "3", "--dataset_config", "c", "--overwrite_output_dir"),
            *("--task_seed", "9", "--output_dir", str(tmp_path / "run")),
        ]
    )
    assert recipe.task == SubsetSum(max_value=30, prompt_format="compact")
    assert recipe.evaluation == EvalSettings(eval_samples=5)
    assert recipe.tiny == TinyModel(tiny_layers=2)
    assert recipe.warm_start == WarmStart(warm_start_seed=4)
    assert isinstance(recipe.training, MaxRLConfig)
    assert recipe.training.beta == 0.1
    assert recipe.training.output_dir == str(tmp_path / "run")
    assert recipe.model == ModelConfig(lora_r=3)
    assert recipe.datasets == DatasetMixtureConfig()
    assert recipe.run.dataset_config == "c"
    assert recipe.run.overwrite_output_dir is True
    assert (recipe.model_name, recipe.task_seed) == ("tiny", 9)


def test_the_seed_of_the_problems_is_the_seed_of_the_run_unless_given() -> None:
    assert parse_recipe([*TASK, "--seed", "5"]).task_seed == 5
    assert parse_recipe([*TASK, "--seed", "5", "--task_seed", "0"]).task_seed == 0


def test_our_own_recipe_reads_as_it_is_written() -> None:
    written = yaml.safe_load(TINY_RECIPE.read_text())
    recipe = parse_recipe(["--config", str(TINY_RECIPE)])
    # Two fields follow from the others: where the run goes, and that fresh problems are taken in stream order.
    assert {**recipe.given, "output_dir": None} == {"output_dir": None, "shuffle_dataset": False, **written}
    parts = (recipe.task, recipe.evaluation, recipe.tiny, recipe.warm_start, recipe.model, recipe.training)
    for name in written.keys() - {"task", "report_to"}:
        [value] = [getattr(part, name) for part in parts if hasattr(part, name)]
        assert value == written[name], name


# --- types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("learning_rate: 1e-6", "learning_rate", 1e-6),  # to YAML 1.1 this is a string
        ("learning_rate: 1", "learning_rate", 1.0),
        ("max_steps: '12'", "max_steps", 12),
        ("gradient_checkpointing: yes", "gradient_checkpointing", True),
        ("gradient_checkpointing: 'false'", "gradient_checkpointing", False),
        ("gradient_checkpointing: 0", "gradient_checkpointing", False),
        ("log_completions: true", "log_completions", True),
        ("eval_ks: [1, 4]", "eval_ks", [1, 4]),
        ("eval_ks:\n- 2\n- 8", "eval_ks", [2, 8]),
        ("eval_ks: 4", "eval_ks", [4]),
        ("reward_weights: [1, 0.5]", "reward_weights", [1.0, 0.5]),
        ("lora_target_modules: [q_proj, v_proj]", "lora_target_modules", ["q_proj", "v_proj"]),
        ("num_train_problems: null", "num_train_problems", None),
        ("report_to: none", "report_to", "none"),
        ("resume_from_checkpoint: true", "resume_from_checkpoint", "true"),
        ("output_dir: --odd name", "output_dir", "--odd name"),
        (
            "advantage_estimator_kwargs: {no_success: penalize}",
            "advantage_estimator_kwargs",
            {"no_success": "penalize"},
        ),
        (
            "model_init_kwargs:\n  dtype: float32\n  rope: {factor: 2}",
            "model_init_kwargs",
            {"dtype": "float32", "rope": {"factor": 2}},
        ),
        ("liger_kernel_config: {rope: true}", "liger_kernel_config", {"rope": True}),
        ("report_to: [wandb, trackio]", "report_to", ["wandb", "trackio"]),
        ("optim_target_modules: [q_proj]", "optim_target_modules", ["q_proj"]),
        ("datasets:\n- path: a\n- path: b", "datasets", [{"path": "a"}, {"path": "b"}]),
    ],
)
def test_yaml_values_get_the_type_of_their_field(
    recipe_file: Path, line: str, field: str, value: Any
) -> None:
    recipe_file.write_text(f"task: subset_sum\n{line}\n")
    given = read_fields(["--config", str(recipe_file)])
    assert given == {"task": "subset_sum", field: value}
    assert type(given[field]) is type(value)


def test_mappings_reach_their_configuration(recipe_file: Path) -> None:
    recipe = parse(
        recipe_file,
        "task: subset_sum\nadvantage_estimator_kwargs: {no_success: penalize}\n"
        "model_init_kwargs: {dtype: float32}\n",
    )
    assert recipe.training.estimator().no_success == "penalize"
    assert recipe.training.model_init_kwargs == {"dtype": "float32"}


def test_mappings_can_be_given_on_the_command_line_as_json() -> None:
    recipe = parse_recipe([*TASK, "--advantage_estimator_kwargs", '{"control_variate": false}'])
    assert recipe.training.estimator().control_variate is False


def test_the_environment_block_sets_variables(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_TEST_A", "before")
    monkeypatch.setenv("MAXRL_TEST_B", "before")
    recipe = parse(recipe_file, "env: {MAXRL_TEST_A: 1, MAXRL_TEST_B: text}\ntask: subset_sum\n")
    assert (os.environ["MAXRL_TEST_A"], os.environ["MAXRL_TEST_B"]) == ("1", "text")
    assert "env" not in recipe.given


# --- spellings -----------------------------------------------------------------------------------------------------


def test_hyphens_are_as_good_as_underscores() -> None:
    recipe = parse_recipe([*TASK, "--learning-rate", "1e-4", "--num-elements=4", "--eval-samples", "3"])
    assert recipe.training.learning_rate == 1e-4
    assert recipe.task == SubsetSum(num_elements=4, prompt_format="compact")
    assert recipe.evaluation.eval_samples == 3


@pytest.mark.parametrize(
    ("words", "greedy"),
    [
        ([], True),
        (["--no_eval_greedy"], False),
        (["--no-eval-greedy"], False),
        (["--eval_greedy", "false"], False),
        (["--eval_greedy=no"], False),
        (["--eval_greedy"], True),
        (["--no_eval_greedy", "--eval_greedy"], True),  # the last one counts
    ],
)
def test_booleans(words: list[str], greedy: bool) -> None:
    assert parse_recipe([*TASK, *words]).evaluation.eval_greedy is greedy


def test_what_trl_grpo_accepts_is_accepted() -> None:
    no_word_will_do = {"liger_kernel_config", "parallelism_config"}  # TRL's parser converts no word to these
    actions = [
        action
        for action in make_parser()._actions
        if action.dest not in {*no_word_will_do, "help"} and action.option_strings
    ]
    assert len(actions) > 200
    switches = [action for action in actions if action.nargs == 0]  # `--no_…`
    for group, spelling in itertools.product((switches, [a for a in actions if a.nargs != 0]), (0, -1)):
        words: list[str] = []
        expected: dict[str, Any] = {}
        for action in group:
            words.append(action.option_strings[spelling])
            if action.nargs == 0:
                expected[action.dest] = action.const
                continue
            word = str(next(iter(action.choices))) if action.choices else "1"
            word = "underflow_overflow" if action.dest == "debug" else word
            value = (action.type or str)(word)  # pyright: ignore[reportCallIssue]
            words.append(word)
            expected[action.dest] = [value] if action.nargs == "+" else value
        assert read_fields(words) == expected


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--learnin_rate", "1"], "unknown option '--learnin_rate'; did you mean '--learning_rate'?"),
        (["--learning_rat", "1"], "did you mean '--learning_rate'?"),  # no guessing at abbreviations
        (["--num_elments", "4"], "unknown option '--num_elments'; did you mean '--num_elements'?"),
        (["--zzz"], "unknown option '--zzz'; `--help` lists every option"),
        (["oops"], "unexpected word 'oops'; options start with --"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--max_steps", "1.5"], "invalid int value: '1.5'"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--eval_greedy", "perhaps"], "got perhaps but expected one of yes/no"),
        (["--eval_ks", "1", "two"], "invalid int value: 'two'"),
        (["--max_steps"], "--max_steps/--max-steps: expected one argument"),
        (["--prompt_format", "chatty"], "invalid choice: 'chatty' (choose from 'chat', 'compact')"),
        (["--num_elements", "1"], "num_elements=1 is not allowed; give a whole number from 2 to 32"),
        (["--eval_top_p", "2"], "eval_top_p must lie in (0, 1], but is 2.0"),
        (["--num_train_problems", "0"], "num_train_problems must be at least 1, but is 0"),
        (["--advantage_estimator", "gpro"], "unknown estimator 'gpro'; did you mean 'grpo'?"),
        (["--num_generations", "1"], "num_generations must be at least 2, but is 1"),
        (["--eval_strategy", "sometimes"], "eval_strategy"),  # transformers' own check
        # TRL's own check: 6 is not a multiple of the 8 rollouts of a group
        (["--per_device_train_batch_size", "6"], "generation_batch_size (6) must be divisible by"),
        (["--config"], "--config needs a path to a YAML file"),
        (["--config", "a.yaml", "--config=b.yaml"], "--config was given twice"),
        (["--config", "no/such.yaml"], "recipe no/such.yaml does not exist; give the path of a YAML file"),
    ],
)
def test_bad_words_are_refused(words: list[str], says: str) -> None:
    assert says in refused([*TASK, *words])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "task: subset_sum\nlearnin_rate: 1\n",
            "unknown field 'learnin_rate'; did you mean 'learning_rate'?",
        ),
        (
            "task: subset_sum\nlearning-rate: 1\n",
            "unknown field 'learning-rate'; did you mean 'learning_rate'",
        ),
        ("task: subset_sum\n1: 2\n", "unknown field '1'"),
        ("task: subset_sum\nmax_steps: many\n", "invalid int value: 'many'"),
        ("task: subset_sum\nmax_steps: 1.5\n", "invalid int value: '1.5'"),
        ("task: subset_sum\nmax_steps: true\n", "invalid int value: 'true'"),
        ("task: subset_sum\nmax_steps: [1, 2]\n", "max_steps must be a single value, but is [1, 2]"),
        ("task: subset_sum\nmax_steps: {a: 1}\n", "max_steps must be a single value, but is {'a': 1}"),
        ("task: subset_sum\neval_ks: [1, two]\n", "invalid int value: 'two'"),
        ("task: subset_sum\neval_ks: [[1]]\n", "eval_ks must be a single value"),
        ("task: subset_sum\nbf16: maybe\n", "got maybe but expected one of yes/no"),
        ("task: subset_sum\nenv: 3\n", "env must be a mapping of names to values"),
        ("- task\n- subset_sum\n", "must be a mapping of fields to values, but is a list"),
        ("subset_sum\n", "must be a mapping of fields to values, but is a str"),
        ("task: [\n", "is not valid YAML: while parsing a flow node"),
    ],
)
def test_bad_files_are_refused_by_their_path(recipe_file: Path, text: str, says: str) -> None:
    recipe_file.write_text(text)
    message = refused(["--config", str(recipe_file)])
    assert says in message
    assert str(recipe_file) in message


def test_a_file_that_is_no_text_is_refused(recipe_file: Path) -> None:
    recipe_file.write_bytes(b"task: \xff\xfe")
    assert "is not valid YAML" in refused(["--config", str(recipe_file)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: subsetsum\n", "unknown task 'subsetsum'; did you mean 'subset_sum'? (known: "),
        ("task: [subset_sum]\n", "unknown task '['subset_sum']'"),
        ("task: 5\n", "unknown task '5'"),
        ("max_steps: 5\n", "nothing to train on: name a task (--task subset_sum | "),
        ("", "nothing to train on"),
        ("num_elements: 5\n", "unknown field 'num_elements'"),  # of no task
        ("task: subset_sum\nnum_elements: null\n", "num_elements=None is not allowed"),
        ("task: subset_sum\neval_ks: [1, 900]\n", "eval_ks must lie between 1 and eval_samples (64)"),
        ("task: subset_sum\ntiny_width: 30\n", "tiny_width (30) must be a multiple of twice tiny_heads (4)"),
        ("task: subset_sum\nwarm_start_pass_rate: 1\n", "warm_start_pass_rate must lie between 0 and 1"),
    ],
)
def test_recipes_that_cannot_run_are_refused(recipe_file: Path, text: str, says: str) -> None:
    recipe_file.write_text(text)
    assert says in refused(["--config", str(recipe_file)])


def test_fields_from_python_are_checked_as_well() -> None:
    with pytest.raises(InputError, match="unknown field 'max_step'; did you mean 'max_steps'"):
        make_recipe({"task": "subset_sum", "max_step": 3})


# --- what follows from what ----------------------------------------------------------------------------------------


def test_a_tiny_model_reads_the_compact_form() -> None:
    def prompt_format(*words: str) -> str:
        task = parse_recipe([*TASK, *words]).task
        assert isinstance(task, SubsetSum)
        return task.prompt_format

    assert prompt_format() == "compact"
    assert prompt_format("--model_name_or_path", "tiny") == "compact"
    assert prompt_format("--prompt_format", "chat") == "chat"
    assert prompt_format("--model_name_or_path", "some/model") == "chat"
    assert prompt_format("--model_name_or_path", "some/model", "--prompt_format", "compact") == "compact"


def test_a_data_set_needs_a_model_and_nothing_else() -> None:
    recipe = parse_recipe(["--dataset_name", "some/data", "--model_name_or_path", "some/model"])
    assert (recipe.task, recipe.model_name) == (None, "some/model")


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (TASK, "runs/subset_sum-tiny-maxrl"),
        ((*TASK, "--advantage_estimator", "grpo"), "runs/subset_sum-tiny-grpo"),
        ((*TASK, "--model_name_or_path", "Qwen/Qwen2.5-0.5B/"), "runs/subset_sum-Qwen2.5-0.5B-maxrl"),
        (("--dataset_name", "org/sums", "--model_name_or_path", "org/m"), "runs/sums-m-maxrl"),
        ((*TASK, "--advantage_estimator", "maxrl(order=4)"), "runs/subset_sum-tiny-maxrl-order-4"),
        ((*TASK, "--output_dir", "elsewhere"), "elsewhere"),
    ],
)
def test_where_a_run_goes(words: Sequence[str], folder: str) -> None:
    recipe = parse_recipe(words)
    assert recipe.training.output_dir == folder
    assert recipe.given["output_dir"] == folder


def test_a_null_output_dir_is_one_not_given(recipe_file: Path) -> None:
    recipe = parse(recipe_file, "task: subset_sum\noutput_dir: null\n")
    assert recipe.training.output_dir == "runs/subset_sum-tiny-maxrl"


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        ("maxrl", "maxrl"),
        ("max_rl", "max_rl"),
        ("maxrl(order=16)", "maxrl-order-16"),
        ("grpo( eps = 0, ddof = 0 )", "grpo-eps-0-ddof-0"),
        ("my_module:my_estimator", "my_module-my_estimator"),
        ("pack.age:rule", "pack.age-rule"),
    ],
)
def test_a_folder_is_named_after_its_estimator(estimator: str, name: str) -> None:
    assert folder_name(estimator) == name


def test_no_two_estimators_share_a_folder() -> None:
    specs = [
        "power_weight(q=0.5)", "power_weight(q=-0.5)",
        "adaptive_switch(below=grpo(eps=0), at=0.4)", "adaptive_switch(below=grpo(eps=0, at=0.4))",
        "maxrl:order", "maxrl(order=16)", "maxrl_order:16", "grpo(eps=1e4)", "grpo(eps=1e-4)", "grpo(eps=1, e=4)",
        "ä:f", "ö:f", "../up", "up", f"grpo(eps=0.{'0' * 300}1)", f"grpo(eps=0.{'0' * 300}2)",
    ]  # fmt: skip
    names = [folder_name(spec) for spec in specs]
    assert len({name.lower() for name in names}) == len(specs)
    for name in names:
        assert re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII), "safe on every file system"


# --- stages --------------------------------------------------------------------------------------------------------


def test_stages_are_typed_like_the_rest_and_words_win_over_them(recipe_file: Path) -> None:
    recipe_file.write_text(
        "task: subset_sum\nlearning_rate: 1e-3\nstages:\n"
        "- {advantage_estimator: grpo, max_steps: '2', learning_rate: 1e-4}\n"
        "- {advantage_estimator: maxrl, advantage_estimator_kwargs: {order: 4}, bf16: no}\n"
    )
    assert read_fields(["--config", str(recipe_file)]) == {
        "task": "subset_sum",
        "learning_rate": 1e-3,
        "stages": [
            {"advantage_estimator": "grpo", "max_steps": 2, "learning_rate": 1e-4},
            {"advantage_estimator": "maxrl", "advantage_estimator_kwargs": {"order": 4}, "bf16": False},
        ],
    }
    given = read_fields(["--config", str(recipe_file), "--max_steps", "7"])
    assert given["max_steps"] == 7
    assert [stage.get("max_steps") for stage in given["stages"]] == [None, None]


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("[{}, {max_step: 1}]", "stage 2: unknown field 'max_step'; did you mean 'max_steps'?"),
        ("[{max_steps: many}]", "stage 1: argument --max_steps/--max-steps: invalid int value: 'many'"),
        ("[{stages: []}]", "stage 1: unknown field 'stages'"),
        ("{max_steps: 1}", "stages must be a list of mappings of fields to values, but is {'max_steps': 1}"),
        ("[grpo, maxrl]", "stages must be a list of mappings of fields to values, but is ['grpo', 'maxrl']"),
        ("[{}]", "a recipe with stages is one run after another, which `maxrl train` makes"),
    ],
)
def test_bad_stages_are_refused(recipe_file: Path, stages: str, says: str) -> None:
    recipe_file.write_text(f"task: subset_sum\nstages: {stages}\n")
    message = refused(["--config", str(recipe_file)])
    assert says in message
    assert says.startswith("a recipe") or str(recipe_file) in message


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"hub_token": "hf_SECRET"}, "hub_token"),
        ({"model_init_kwargs": {"token": "hf_SECRET"}}, "model_init_kwargs.token"),
        (
            {"model_init_kwargs": {"a": [{"use_auth_token": "hf_SECRET"}]}},
            "model_init_kwargs.a.use_auth_token",
        ),
        ({"model_init_kwargs": '{"token": "hf_SECRET"}'}, "model_init_kwargs.token"),
    ],
)
def test_a_token_is_refused_since_recipes_are_written_down(given: dict[str, Any], named: str) -> None:
    fields = {"task": "subset_sum", **given}
    stages = {"task": "subset_sum", "stages": [{"max_steps": 1}, given]}
    for refuse in (
        lambda: make_recipe(fields),
        lambda: recipe_fields(None, fields, "here"),
        lambda: recipe_fields(None, stages, "here"),
    ):
        with pytest.raises(InputError, match=r"HF_TOKEN or log in with `hf auth login`") as caught:
            refuse()
        assert f"{named}: a recipe is kept where others can read it" in str(caught.value)
        assert "SECRET" not in str(caught.value)


def test_that_there_is_a_token_is_no_secret() -> None:
    recipe = make_recipe({"task": "subset_sum", "model_init_kwargs": {"token": True}, "hub_token": None})
    assert resolved_fields(recipe)["model_init_kwargs"] == {"token": True}


def test_a_field_that_is_there_twice_is_refused_unless_it_is_merged(recipe_file: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.yaml is not valid YAML: seed is there twice.*line 3"):
        parse(recipe_file, "seed: 1\ntask: subset_sum\nseed: 2\n")
    merged = "task: subset_sum\nstages:\n- &one {max_steps: 2, beta: 0.5}\n- {<<: *one, max_steps: 3}\n"
    recipe_file.write_text(merged)
    assert read_fields(["--config", str(recipe_file)])["stages"][1] == {"max_steps": 3, "beta": 0.5}


# --- writing a run down --------------------------------------------------------------------------------------------


def contents(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Every field of every part; the model's name as the run uses it."""
    parts = {
        name: {field: str(value) for field, value in vars(getattr(recipe, name)).items()}
        for name in ("run", "tiny", "warm_start", "evaluation", "training", "model", "datasets")
    }
    parts["training"].pop("distributed_state", None)  # an object of this process
    parts["model"]["model_name_or_path"] = recipe.model_name
    return {**parts, "task": {"task": str(recipe.task), "seed": str(recipe.task_seed)}}


@pytest.mark.parametrize(
    "text",
    [
        "task: subset_sum\n",
        TINY_RECIPE.read_text(),
        "task: subset_sum\nmax_completion_length: null\nloss_type: dapo\n",  # a null against a default
        "task: subset_sum\nlearning_rate: 3e-7\neval_ks: [1, 3]\neval_greedy: false\nseed: 3\ntask_seed: 0\n"
        "advantage_estimator: grpo\nadvantage_estimator_kwargs: {ddof: 0}\nnum_iterations: 2\nbeta: 0.04\n"
        "lr_scheduler_type: cosine\nsave_strategy: 'no'\nreport_to: none\n",
        "task: subset_sum\nmodel_name_or_path: some/model\nuse_peft: true\nlora_target_modules: [q_proj, v_proj]\n"
        "model_init_kwargs: {dtype: float32}\ncorrectness_threshold: 0.5\n",
        "datasets:\n- path: some/data\n  split: 'train[:10]'\n- path: more\nmodel_name_or_path: some/model\n",
    ],
    ids=["defaults", "tiny", "null", "many", "lora", "mixture"],
)
def test_a_run_written_down_is_the_same_run(recipe_file: Path, text: str) -> None:
    first = parse(recipe_file, text)
    written = to_yaml(resolved_fields(first))
    second = parse(recipe_file, written)
    assert contents(second) == contents(first)
    assert to_yaml(resolved_fields(second)) == written


def test_what_is_written_down_says_what_a_reader_wants_to_know() -> None:
    fields = resolved_fields(parse_recipe([*TASK, "--max_steps", "5"]))
    assert fields["learning_rate"] == 1e-6
    assert fields["advantage_estimator"] == "maxrl"
    assert fields["model_name_or_path"] == "tiny"
    assert fields["tiny_width"] == 128
    assert (fields["num_elements"], fields["prompt_format"]) == (6, "compact")
    assert fields["max_steps"] == 5
    named = resolved_fields(parse_recipe([*TASK, "--model_name_or_path", "some/model"]))
    assert not [name for name in named if name.startswith(("tiny_", "warm_start_"))]


def test_help_names_the_options_of_every_part() -> None:
    text = help_text(TASK, "maxrl train")
    for option in (
        "--task TASK",
        "--num_elements",
        "--eval_samples",
        "--tiny_width",
        "--warm_start_pass_rate",
    ):
        assert option in text
    for option in ("--advantage_estimator ", "--learning_rate", "--lora_r", "--dataset_name"):
        assert option in text
    assert "show this help" not in text
    assert text.startswith("usage: maxrl train [--config RECIPE.yaml]")


OWN_TASK = """
from dataclasses import dataclass, field
from typing import ClassVar
from maxrl.tasks import Example, Task, Verdict

@dataclass(frozen=True, kw_only=True)
class Echo(Task):
    name: ClassVar[str] = "echo"
    PARAMETER: int = field(default=3, metadata={"help": "how many letters"})

    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=f"{split}-{seed}-{start + i}", prompt="a" * self.PARAMETER, truth={}) for i in range(count)]

    def score(self, truth, completion):
        return Verdict(success=True, reward=1.0)
"""


def test_a_task_of_ones_own_and_its_parameters_are_fields(tmp_path: Path) -> None:
    file = tmp_path / "echo.py"
    file.write_text(OWN_TASK.replace("PARAMETER", "letters"))
    recipe = parse_recipe([f"--task={file}", "--letters", "5", "--max_steps", "1"])
    assert recipe.task is not None
    assert recipe.task.examples("train", 1)[0].prompt == "aaaaa"
    assert recipe.training.output_dir == "runs/echo-tiny-maxrl"
    assert "--letters" in help_text([f"--task={file}"], "maxrl train")
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(resolved_fields(recipe)))
    assert parse_recipe(["--config", str(again)]).task == recipe.task
    with pytest.raises(InputError, match="did you mean '--letters'"):
        parse_recipe([f"--task={file}", "--leters", "5", "--max_steps", "1"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seed", "rename its parameter `seed`, which is an option of every command"),
        *(
            (name, f"its parameter `{name}` has the name of a field of recipes; rename it")
            for name in ("model", "eval_seed", "stages")
        ),
    ],
)
def test_a_parameter_named_like_a_field_of_recipes_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    file = tmp_path / f"echo_{name}.py"
    file.write_text(OWN_TASK.replace("PARAMETER", name))
    with pytest.raises(InputError, match=message):
        parse_recipe([f"--task={file}", "--max_steps", "1"])


@pytest.mark.parametrize(
    "words", [["--model", "org/a"], ["--model=org/a"], ["--model_name_or_path", "org/a"]]
)
def test_model_is_short_for_its_long_name(words: list[str], tmp_path: Path) -> None:
    assert parse_recipe([*TASK, *words]).model_name == "org/a"
    file = tmp_path / "recipe.yaml"
    file.write_text("task: subset_sum\nmax_steps: 1\nmodel: org/b\n")
    assert parse_recipe(["--config", str(file)]).model_name == "org/b"
    assert parse_recipe(["--config", str(file), *words]).model_name == "org/a"


WITH_TINY = """
task: subset_sum
model_name_or_path: org/large
use_peft: true
num_generations: 64
per_device_train_batch_size: 64
max_steps: 9
tiny:
  num_generations: 4
  per_device_train_batch_size: 8
  tiny_width: 32
"""


def test_a_recipe_says_what_is_different_for_the_tiny_model(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(WITH_TINY)
    large = parse_recipe(["--config", str(file)])
    assert (large.model_name, large.model.use_peft, large.training.num_generations) == ("org/large", True, 64)
    tiny = parse_recipe(["--config", str(file), "--model", "tiny"])
    assert (tiny.model_name, tiny.model.use_peft, tiny.training.num_generations) == ("tiny", False, 4)
    assert (tiny.tiny.tiny_width, tiny.training.max_steps) == (32, 9)
    words = parse_recipe(["--config", str(file), "--model", "tiny", "--num_generations", "8"])
    assert words.training.num_generations == 8
    assert "tiny:" not in to_yaml(resolved_fields(tiny))


def test_a_recipe_of_the_tiny_model_keeps_its_own_shape_unless_the_words_ask(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(WITH_TINY.replace("org/large", "tiny").replace("use_peft: true", "tiny_width: 256"))
    assert parse_recipe(["--config", str(file)]).tiny.tiny_width == 256
    assert parse_recipe(["--config", str(file), "--model", "tiny"]).tiny.tiny_width == 32


@pytest.mark.parametrize(
    ("block", "message"),
    [("tiny: 3", "tiny must be a mapping"), ("tiny: {max_stepz: 3}", "did you mean 'max_steps'")],
)
def test_what_a_recipe_says_of_the_tiny_model_is_checked(tmp_path: Path, block: str, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"task: subset_sum\nmax_steps: 1\n{block}\n")
    with pytest.raises(InputError, match=message):
        parse_recipe(["--config", str(file)])
