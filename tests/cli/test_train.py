"""`maxrl train` and `maxrl eval` from the command line's first word to the files they leave."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.evaluation import Evaluation

pytestmark = pytest.mark.usefixtures("workplace")


def fails(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> str:
    """The one line that a command with this status says."""
    assert main(list(words)) == status
    streams = capsys.readouterr()
    lines = streams.err.strip().splitlines()
    assert len(lines) == 1, streams.err
    return lines[0]


def test_a_run_leaves_everything_it_promises(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(workplace)
    assert main(["train", "--config", str(recipe), "--output_dir", "run", "-q"]) == 0
    out = capsys.readouterr().out
    folder = workplace / "run"
    evaluation = Evaluation.load(folder / "eval.json")
    assert f"pass@1 {evaluation.at(1).estimate:.3f}" in out
    assert out.strip().endswith("run: run")
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 6 * (4 + 1)  # four sampled, one greedy
    assert [entry.k for entry in evaluation.pass_at_k] == [1, 2, 4]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    summary = json.loads((folder / "run.json").read_text())
    assert summary["rollouts"] == 6 * 16
    lengths = sum(row["completions/mean_length"] for row in rows)
    assert summary["completion_tokens"] == round(16 * lengths)
    assert summary["estimator"] == "maxrl"
    environment = json.loads((folder / "environment.json").read_text())
    assert {"torch", "trl", "code", "machine"} <= environment.keys()
    backends = {name: environment[name] for name in ("rollout_backend", "update_backend")}
    assert backends == {"rollout_backend": "engine", "update_backend": "engine"}
    assert environment["processes"] == "1"
    assert Evaluation.load(folder / "eval_before.json").problems[0].id == evaluation.problems[0].id

    # The resolved recipe repeats the run to the bit.
    assert main(["train", "--config", str(folder / "config.yaml"), "--output_dir", "again", "-q"]) == 0
    again = load_file(workplace / "again" / "model.safetensors")
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(again[name], value), name


def test_a_folder_holds_one_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace, max_steps=2, eval_before_training="false"))
    assert main(["train", "--config", recipe, "--output_dir", "run", "-q"]) == 0
    capsys.readouterr()
    line = fails(capsys, 2, "train", "--config", recipe, "--output_dir", "run", "-q")
    assert "already holds a run" in line
    assert "--overwrite_output_dir" in line
    assert main(["train", "--config", recipe, "--output_dir", "run", "-q", "--overwrite_output_dir"]) == 0
    # A finished run that is resumed has nothing left to do.
    assert (
        main(["train", "--config", recipe, "--output_dir", "run", "-q", "--resume_from_checkpoint", "true"])
        == 0
    )


def test_eval_measures_what_the_run_measured(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace, eval_before_training="false"))
    assert main(["train", "--config", recipe, "--output_dir", "run", "-q"]) == 0
    assert main(["eval", "run", "-q"]) == 0
    assert "samples: run/evals/samples.jsonl" in capsys.readouterr().out
    run, evaluated = (Evaluation.load(workplace / name) for name in ("run/eval.json", "run/evals/eval.json"))
    assert evaluated.problems == run.problems
    assert (
        main(["eval", "run", "-q", "--eval_samples", "8", "--num_elements", "2", "--output_dir", "wider"])
        == 0
    )
    wider = Evaluation.load(workplace / "wider" / "eval.json")
    assert {problem.scored for problem in wider.problems} == {8}
    prompts = {
        json.loads(line)["prompt"] for line in (workplace / "wider/samples.jsonl").read_text().splitlines()
    }
    assert all(len(prompt.split("=")[0].split()) == 2 for prompt in prompts)


def test_dry_run_prints_a_recipe_and_writes_nothing(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace))
    assert main(["train", "--config", recipe, "--advantage_estimator", "grpo", "--dry-run"]) == 0
    fields = yaml.safe_load(capsys.readouterr().out)
    assert fields["advantage_estimator"] == "grpo"
    assert fields["learning_rate"] == 0.01
    assert fields["prompt_format"] == "compact"
    assert list(workplace.iterdir()) == [workplace / "recipe.yaml"]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for word in (
        "--num_elements",
        "--advantage_estimator",
        "--tiny_width",
        "--eval_samples",
        "--use_peft",
        "examples:",
    ):
        assert word in out


REWARDS = """
from datasets import Dataset

def right_length(prompts, completions, **kwargs):
    return [float(len(c) > 3) for c in completions]

def nothing(prompts, completions, **kwargs):
    return []

class Judge:
    right_length = staticmethod(right_length)

LEVEL = 3
"""


def test_a_data_set_with_a_reward_function_trains(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace, max_steps=1, eval_before_training="false"))
    assert main(["train", "--config", recipe, "--output_dir", "policy", "-q"]) == 0
    (workplace / "user_rewards.py").write_text(REWARDS)
    (workplace / "prompts.jsonl").write_text('{"prompt": "1 2 3 = 3 :"}\n' * 8)
    words = [
        "train", "-q", "--dataset_name", "prompts.jsonl", "--model_name_or_path", "policy", "--max_steps", "2",
        "--num_generations", "4", "--per_device_train_batch_size", "8", "--max_completion_length", "5",
        "--report_to", "none", "--logging_steps", "1", "--bf16", "false", "--activation_checkpointing", "false",
    ]  # fmt: skip
    assert main([*words, "--reward_funcs", "user_rewards:right_length", "--output_dir", "out"]) == 0
    assert "rewards/right_length/mean" in (workplace / "out" / "metrics.jsonl").read_text()
    assert main([*words, "--reward_funcs", "user_rewards.nothing", "--output_dir", "out2"]) == 0
    rows = [json.loads(row) for row in (workplace / "out2" / "metrics.jsonl").read_text().splitlines()]
    assert [
        row["verifier/nothing: verifier returned nonsense"] for row in rows if "verifier/errors" in row
    ] == [
        1,
        1,
    ]
    line = fails(capsys, 2, *words, "--reward_funcs", "user_rewards:missing", "--output_dir", "out3")
    assert "cannot load the reward function 'user_rewards:missing'" in line
    assert "needs a reward" in fails(capsys, 2, *words, "--output_dir", "out4")
    assert main([*words, "--reward_funcs", "user_rewards.py:Judge.right_length", "--output_dir", "out5"]) == 0
    assert "rewards/right_length/mean" in (workplace / "out5" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "user_rewards.py:wrong_length",
            "unknown function of user_rewards.py 'wrong_length'; did you mean 'right_length'?",
        ),
        (
            "user_rewards:Judge",
            "it is a class, whose call makes an object and no rewards; name a function, or an object",
        ),
        ("user_rewards:LEVEL", "it is a int, no function"),
        ("absent.py:right", "reward file absent.py does not exist (looked for /"),
        (
            "absent:right",
            "cannot load the reward function 'absent:right': ModuleNotFoundError: No module named 'absent'",
        ),
        ("user_rewards.py", "unknown reward function 'user_rewards.py'; name one of TRL's"),
        ("user_rewards:", "unknown reward function 'user_rewards:'; name one of TRL's"),
        ("accuracy_rewards", "unknown reward function 'accuracy_rewards'; name one of TRL's"),
        ("get_cosine_scaled_reward", "name one of TRL's (accuracy_reward, get_soft_overlong_punishment"),
        ("..user_rewards:right", "'..user_rewards' is no name of a module"),
        ("raising:right", "ValueError: bad licence (raising.py, line 1)"),
        (
            "raising.py:right",
            "cannot load the reward file raising.py: ValueError: bad licence (raising.py, line 1)",
        ),
        ("leaving:right", "SystemExit: no licence (leaving.py, line 1)"),
        ("broken:right", "SyntaxError"),
    ],
)
def test_a_reward_function_that_cannot_be_used_is_one_line_before_a_model_is_made(
    workplace: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    files = {
        "user_rewards": REWARDS,
        "raising": "raise ValueError('bad licence')\n",
        "leaving": "raise SystemExit('no licence')\n",
        "broken": "def right(:\n",
    }
    for file, text in files.items():
        (workplace / f"{file}.py").write_text(text)
    sys.modules.pop("user_rewards", None)  # another test's
    (workplace / "prompts.jsonl").write_text('{"prompt": "1 2 3 = 3 :"}\n' * 8)
    assert says in fails(capsys, 2, *ON_DATA, "prompts.jsonl", "--reward_funcs", name)
    assert not (workplace / "out").exists()


ON_DATA = (
    "train", "-q", "--model_name_or_path", "tiny", "--max_steps", "2", "--num_generations", "4",
    "--per_device_train_batch_size", "8", "--output_dir", "out", "--report_to", "none", "--bf16", "false", "--dataset_name",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"question": "1", "answer": "1"}\n', "no column 'prompt' (it has question, answer)"),
        ("a.jsonl", '{"prompt": 5}\n', "has a int as its first prompt; give a text, or messages like"),
        ("a.jsonl", '{"prompt": ["a"]}\n', "has a list as its first prompt"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "cannot load the data set 'a.jsonl': "),
        ("a.jsonl", "", "cannot load the data set 'a.jsonl': it holds no rows"),
        ("a.parquet", "no parquet", "cannot load the data set 'a.parquet': "),
        ("a.csv", "prompt\n", "cannot load the data set 'a.csv': it holds no rows"),
        ("a.txt", "a", "data file a.txt must end in .jsonl"),
        ("absent.jsonl", None, "data file absent.jsonl does not exist (looked for /"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_one_line_before_a_model_is_made(
    workplace: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (workplace / name).write_text(text)
    assert says in fails(capsys, 2, *ON_DATA, name, "--reward_funcs", "accuracy_reward")
    assert not (workplace / "out").exists()


def test_a_stream_that_breaks_is_one_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "data").mkdir()
    (workplace / "data" / "train.jsonl").write_text("{prompt\n")
    words = [*ON_DATA, "data", "--reward_funcs", "accuracy_reward", "--dataset_streaming", "true"]
    assert "cannot load the data set 'data'" in fails(capsys, 2, *words)


def test_a_split_that_a_data_set_lacks_is_named(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "data").mkdir()
    (workplace / "data" / "train.jsonl").write_text('{"prompt": "a"}\n')
    line = fails(
        capsys, 2, *ON_DATA, "data", "--reward_funcs", "accuracy_reward", "--dataset_train_split", "trian"
    )
    assert "data set 'data' has no split 'trian': name one of train with --dataset_train_split" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--num_generation", "4"], "unknown option '--num_generation'; did you mean '--num_generations'?"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--config", "nowhere.yaml"], "recipe nowhere.yaml does not exist"),
        (["--num_elements", "1"], "num_elements=1 is not allowed"),
        (["--advantage_estimator", "maxlr"], "unknown estimator 'maxlr'; did you mean 'maxrl'?"),
        (["--model_name_or_path", "./empty"], "is no model"),
        (["--model_name_or_path", "./nowhere"], "does not exist"),
        (["--model_name_or_path", "nobody/no-such-model"], "cannot load the model 'nobody/no-such-model'"),
        (["--task", "subset_sun"], "unknown task 'subset_sun'; did you mean 'subset_sum'?"),
        (["--num_generations", "1"], "num_generations must be at least 2"),
        (["--num_generations", "3"], "must be divisible by"),
        (["--eval_ks", "5"], "eval_ks must lie between 1 and eval_samples"),
        (["--max_steps", "-1"], "set --max_steps"),
        (["--resume_from_checkpoint", "empty"], "no complete checkpoint"),
        (["--cpu_threads", "0"], "cpu_threads must be at least 1, but is 0"),
        (["stray"], "unexpected word 'stray'"),
        (["--stages", "2"], "unknown option '--stages'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (workplace / "empty").mkdir()
    config = [] if "--config" in words else ["--config", str(write_recipe(workplace))]
    assert says in fails(capsys, 2, "train", "-q", *config, *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "run folder nowhere does not exist"),
        (["."], "holds no config.yaml"),
        (["--task", "subset_sum", "--model_name_or_path", "./nowhere"], "does not exist"),
        ([], "nothing to train on"),
    ],
)
def test_eval_refuses_what_it_cannot_measure(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in fails(capsys, 2, "eval", *words)


def test_evaluating_a_checkpoint_leaves_the_runs_own_evaluation_alone(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace, eval_before_training="false"))
    assert main(["train", "--config", recipe, "--output_dir", "run", "-q"]) == 0
    own = {name: (workplace / "run" / name).read_bytes() for name in ("eval.json", "samples.jsonl")}
    assert main(["eval", "run/checkpoint-2", "--config", "run/config.yaml", "-q"]) == 0
    assert "samples: run/checkpoint-2/evals/samples.jsonl" in capsys.readouterr().out
    assert main(["eval", "--config", "run/config.yaml", "-q"]) == 0  # the recipe's model: the warm start
    assert {name: (workplace / "run" / name).read_bytes() for name in own} == own


def test_lora_trains_an_adapter_which_can_be_trained_on(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal = {"num_generations": 16, "per_device_train_batch_size": 64}  # of which few can have none
    recipe = str(write_recipe(workplace, max_steps=3, save_steps=3, prompt_format="compact", **signal))
    lora = ["--use_peft", "true", "--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj"]
    assert main(["train", "-q", "--config", recipe, "--output_dir", "first", *lora]) == 0
    adapter = load_file(workplace / "first" / "adapter_model.safetensors")
    assert any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name), (
        "it learned something"
    )
    assert not (workplace / "first" / "model.safetensors").exists(), "the base is not saved with it"

    again = ["train", "-q", "--config", recipe, "--model_name_or_path", "first", "--output_dir", "second"]
    assert main(again) == 0
    first, second = (
        Evaluation.load(workplace / name) for name in ("first/eval.json", "second/eval_before.json")
    )
    assert second.problems == first.problems, "the second run starts where the first one ended"
    trained_on = load_file(workplace / "second" / "adapter_model.safetensors")
    assert any(not torch.equal(trained_on[name], value) for name, value in adapter.items())
    capsys.readouterr()
    line = fails(capsys, 2, *again[:-1], "third", *lora)
    assert "holds an adapter already" in line


def test_a_run_is_resumed_with_its_own_settings(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(workplace, max_steps=2))
    words = ["train", "-q", "--config", recipe, "--output_dir", "run"]
    assert main(words) == 0
    resume = [*words, "--resume_from_checkpoint", "true"]
    capsys.readouterr()
    line = fails(capsys, 2, *resume, "--advantage_estimator", "grpo", "--seed", "5", "--num_elements", "2")
    assert "other settings (advantage_estimator, num_elements, seed)" in line
    # Longer is allowed, and is the longer run: fresh problems come in stream order.
    assert main([*resume, "--max_steps", "4"]) == 0
    assert main(["train", "-q", "--config", recipe, "--output_dir", "longer", "--max_steps", "4"]) == 0
    long = load_file(workplace / "longer" / "model.safetensors")
    for name, value in load_file(workplace / "run" / "model.safetensors").items():
        assert torch.equal(long[name], value), name


def test_a_run_that_goes_on_with_other_back_ends_says_so(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace, max_steps=2, eval_before_training="false"))
    words = ["train", "--config", recipe, "--output_dir", "run", "--rollout_backend", "transformers"]
    assert main([*words, "-q"]) == 0
    record = workplace / "run" / "environment.json"
    facts = json.loads(record.read_text())
    assert (facts["rollout_backend"], facts["update_backend"]) == ("transformers", "transformers")
    resume = [*words, "--resume_from_checkpoint", "true", "--max_steps", "3"]
    capsys.readouterr()
    assert main(resume) == 0
    assert "back-ends" not in capsys.readouterr().err
    record.write_text(json.dumps({**facts, "update_backend": "engine"}))  # as on another machine
    assert main([*resume[:-1], "4"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "other back-ends than until run/checkpoint-3: update_backend was engine and is now transformers"
        in said
    )
    assert json.loads(record.read_text()) == facts


def test_a_start_that_failed_does_not_block_the_next(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(workplace, max_steps=1, eval_before_training="false"))
    words = ["train", "-q", "--config", recipe, "--output_dir", "run"]
    assert "unknown reward function 'nosuch'" in fails(capsys, 2, *words, "--reward_funcs", "nosuch")
    assert not (workplace / "run").exists()
    line = fails(capsys, 2, *words, "--use_peft", "true", "--lora_target_modules", "nosuch")
    assert "nosuch" in line
    assert main(words) == 0


def test_costs_count_the_last_steps_too(workplace: Path) -> None:
    recipe = str(write_recipe(workplace, max_steps=5, logging_steps=3, eval_before_training="false"))
    assert main(["train", "-q", "--config", recipe, "--output_dir", "run"]) == 0
    rows = [json.loads(line) for line in (workplace / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 5]
    expected = 16 * (3 * rows[0]["completions/mean_length"] + 2 * rows[1]["completions/mean_length"])
    assert json.loads((workplace / "run" / "run.json").read_text())["completion_tokens"] == round(expected)


def test_stages_are_trained_one_after_the_other(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = "[{advantage_estimator: grpo, max_steps: 2}, {num_generations: 8, max_steps: 1}]"
    config = str(write_recipe(workplace, stages=stages, eval_before_training="false"))
    words = ["train", "--config", config, "--output_dir", "run"]
    assert main([*words, "--dry-run"]) == 0
    written = capsys.readouterr().out
    assert [stage["max_steps"] for stage in yaml.safe_load(written)["stages"]] == [2, 1]
    assert list(workplace.iterdir()) == [workplace / "recipe.yaml"]

    assert main(words) == 0
    streams = capsys.readouterr()
    assert "stage 1 of 2, grpo" in streams.err
    assert "stage 2 of 2, maxrl" in streams.err
    last = Evaluation.load(workplace / "run" / "stage-2" / "eval.json")
    assert f"pass@1 {last.at(1).estimate:.3f}" in streams.out
    assert streams.out.strip().endswith("run: run")
    assert (workplace / "run" / "config.yaml").read_text() == written
    assert main(["train", "-q", "--config", "run/config.yaml", "--output_dir", "again"]) == 0
    again, once = (workplace / run / "stage-2" / "model.safetensors" for run in ("again", "run"))
    assert again.read_bytes() == once.read_bytes()

    assert "already holds a run" in fails(capsys, 2, *words, "-q")
    assert main([*words, "--resume_from_checkpoint", "true"]) == 0
    assert capsys.readouterr().err.count("done already") == 2
    assert "name the folder of one of them" in fails(capsys, 2, "eval", "run", "-q")
    assert main(["eval", "run/stage-2", "-q"]) == 0
    assert Evaluation.load(workplace / "run/stage-2/evals/eval.json").problems == last.problems


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output_dir", "recipe.yaml"], "exists"),
        (["--loss_type", "foo"], "unknown loss_type 'foo'"),
        (["--temperature", "0"], "temperature must be above 0"),
        (["--temperature", "nan"], "temperature must be above 0"),
        (["--top_p", "3"], "top_p must lie in (0, 1]"),
        (["--top_k", "-3"], "top_k must be at least 0"),
        (["--learning_rate", "-1"], "learning_rate must be at least 0"),
        (["--learning_rate", "nan"], "learning_rate must be at least 0"),
        (["--per_device_train_batch_size", "0"], "per_device_train_batch_size must be at least 1"),
        (["--num_iterations", "0"], "num_iterations must be at least 1"),
        (["--gradient_accumulation_steps", "0"], "gradient_accumulation_steps must be at least 1"),
        (["--max_steps", "0"], "max_steps must be at least 1"),
        (["--seed", "-1"], "seed must lie between 0"),
        (["--report_to", "wandb"], "wandb"),
        (["--reward_funcs", "json:__doc__"], "it is a str, no function"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(
    workplace: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    config = str(write_recipe(workplace, eval_before_training="false"))
    assert says in fails(capsys, 2, "train", "-q", "--config", config, *words)


def test_null_is_refused_where_there_is_no_null(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_recipe(workplace, eval_problems="null"))
    assert "eval_problems must not be null" in fails(capsys, 2, "train", "-q", "--config", config)


def test_a_broken_warm_start_is_made_anew(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXRL_CACHE", str(workplace / "own-cache"))
    recipe = str(write_recipe(workplace, max_steps=1, eval_before_training="false"))
    assert main(["train", "-q", "--config", recipe, "--output_dir", "one"]) == 0
    (folder,) = (workplace / "own-cache" / "warm-starts").iterdir()
    assert folder.stat().st_mode & 0o055 == 0o055, "a cache can be shared"
    for name in ("warm_start.json", "model.safetensors"):
        (folder / name).unlink()
    assert main(["train", "-q", "--config", recipe, "--output_dir", "two"]) == 0
    assert (workplace / "one/model.safetensors").read_bytes() == (
        workplace / "two/model.safetensors"
    ).read_bytes()
