"""Two processes by the configurations in recipes/accelerate, weights spread over them or not; DeepSpeed where installed."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariant.test_ranks import moved, run
from tests.smallest import write_recipe

from maxrl.cli import main

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "recipes" / "accelerate"
ON_PROCESSORS = str(HERE / "on_processors.py")
needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="`make test-integrations` runs it with DeepSpeed"
)
KINDS = ["fsdp2", *(pytest.param(kind, marks=needs_deepspeed) for kind in ("zero2", "zero3"))]


def spread(
    kind: str, environment: dict[str, str], program: list[str], *words: str, folder: Path, **options: str
) -> "subprocess.CompletedProcess[str]":
    """A program in two processes, by accelerate's launcher and our configuration."""
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    launcher = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(RECIPES / f"{kind}.yaml")),
    ]
    # bfloat16 is for GPUs; 0: any free port, since other tests run beside.
    launcher += ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0", *given]
    # DeepSpeed knows processors by itself, where accelerate is not told of them.
    zero = {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}
    processors = zero if kind.startswith("zero") else {}
    return subprocess.run(
        [*launcher, *program, *words],
        cwd=folder,
        env={**environment, **processors},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows_of_two", [4, 6], ids=["whole groups", "groups split over ranks"])
def test_spread_weights_become_what_whole_ones_do(
    kind: str, rows_of_two: int, policy_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ("scripted", "transformers")
    alone = run(environment, policy_folder, tmp_path / "one.pt", 1, 2 * rows_of_two, *words)
    output = tmp_path / "two.pt"
    own = (str(policy_folder), str(output), str(rows_of_two), *words)
    done = spread(kind, environment, [str(HERE / "scripted_run.py")], *own, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    together = torch.load(output)
    assert together["kind"] == ("FSDP" if kind == "fsdp2" else "DEEPSPEED")
    assert together["advantages"] == alone["advantages"]
    assert together["success_rate"] == alone["success_rate"]
    weights = together["weights"]
    head = weights.pop(
        "lm_head.weight", weights["model.embed_tokens.weight"]
    )  # FSDP2 saves it, though it is tied
    torch.testing.assert_close(head, weights["model.embed_tokens.weight"], rtol=0, atol=0)
    assert set(weights) == set(alone["weights"])
    for name, whole in alone["weights"].items():
        torch.testing.assert_close(weights[name], whole, rtol=0, atol=1e-5)
    assert moved(alone, policy_folder) > 1e-3, "a run that goes nowhere would agree with anything"


@pytest.fixture(scope="module")
def able_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that solves some problems, so that there is something to learn from."""
    folder = tmp_path_factory.mktemp("able")
    recipe = write_recipe(
        folder, max_steps=1, learning_rate="1e-9", warm_start_pass_rate=0.3, warm_start_max_steps=2000
    )
    assert main(["train", "-q", f"--config={recipe}", f"--output_dir={folder / 'run'}", "--use_cpu"]) == 0
    return folder / "run"


def train(
    kind: str, environment: dict[str, str], policy: Path, folder: Path, *words: str, **options: str
) -> "subprocess.CompletedProcess[str]":
    recipe = write_recipe(folder, model_name_or_path=str(policy), prompt_format="compact")
    program = [ON_PROCESSORS] if kind == "fsdp2" else ["-m", "maxrl.cli"]
    processors = ["--ddp_backend", "gloo"] if kind.startswith("zero") else ["--use_cpu"]
    own = [f"--config={recipe}", "--output_dir=run", "--per_device_train_batch_size=8", *processors]
    return spread(kind, environment, program, "train", *own, *words, folder=folder, **options)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def without_seconds(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in evaluation.items() if name != "seconds"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_spread_weights_is_evaluated_and_goes_on_where_it_was_killed(
    kind: str,
    able_policy: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    done = train(kind, environment, able_policy, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = tmp_path / "run"
    found = read(folder / "environment.json")
    assert (found["rollout_backend"], found["update_backend"]) == ("transformers", "transformers")
    assert "the weights are spread over processes" in done.stdout + done.stderr

    # The first process measured a copy of what it had saved: the same as anybody would who reads it.
    assert main(["eval", str(folder), "-q"]) == 0
    assert without_seconds(read(folder / "evals" / "eval.json")) == without_seconds(
        read(folder / "eval.json")
    )
    assert (folder / "samples_before.jsonl").read_text() != (folder / "samples.jsonl").read_text()

    weights = (folder / "model.safetensors").read_bytes()
    for name in ("run.json", "eval.json", "model.safetensors"):
        (folder / name).unlink()
    for step in (4, 6):
        shutil.rmtree(folder / f"checkpoint-{step}")
    resumed = train(kind, environment, able_policy, tmp_path, "--resume_from_checkpoint", "true")
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    assert "resuming from run/checkpoint-2" in resumed.stderr
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("kind", "words", "options", "said"),
    [
        ("fsdp2", ["--eval_every", "2"], {}, "eval_every needs the whole model in one process, and FSDP"),
        pytest.param("zero3", ["--eval_every", "2"], {}, "and ZeRO-3 spreads it", marks=needs_deepspeed),
        ("fsdp2", [], {"fsdp_state_dict_type": "SHARDED_STATE_DICT"}, "set it to FULL_STATE_DICT"),
        pytest.param(
            "zero3",
            [],
            {"zero3_save_16bit_model": "false"},
            "zero3_save_16bit_model is off",
            marks=needs_deepspeed,
        ),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_beginning(
    kind: str,
    words: list[str],
    options: dict[str, str],
    said: str,
    policy_folder: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    done = train(kind, environment, policy_folder, tmp_path, *words, **options)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("kind", ["cpu", "multi_gpu"])
def test_processes_that_hold_the_whole_model_train_with_the_engine(
    kind: str, policy_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = train(kind, environment, policy_folder, tmp_path, "--max_steps", "2")
    assert done.returncode == 0, done.stderr[-4000:]
    found = read(tmp_path / "run" / "environment.json")
    assert (found["rollout_backend"], found["update_backend"], found["processes"]) == (
        "engine",
        "engine",
        "2",
    )


def test_all_configurations_are_tried_here() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {"cpu", "multi_gpu", "fsdp2", "zero2", "zero3"}
