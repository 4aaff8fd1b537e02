"""A run killed in the middle of a step, and resumed, ends with the weights of an undisturbed run."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.smallest import write_recipe


def command(recipe: Path, output: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "maxrl.cli",
        "train",
        "-q",
        f"--config={recipe}",
        f"--output_dir={output}",
        *more,
    ]


def finish(words: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def steps_done(output: Path) -> int:
    metrics = output / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def rows(output: Path, name: str) -> list[dict]:
    """Of a file of lines, without what depends on the clock."""
    clock = ("elapsed", "step_time")
    return [
        {name: value for name, value in json.loads(line).items() if name not in clock}
        for line in (output / name).read_text().splitlines()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_step", "fields"),
    [
        (3, {}),
        (7, {}),
        (7, {"advantage_estimator": "hybrid(steps=5)"}),  # switched before it is killed
        (3, {"advantage_estimator": "hybrid(steps=9)"}),  # and after
        (7, {"advantage_estimator": "adaptive_switch(at=0.1, hysteresis=0.05)", "refill_dead_groups": 9}),
        (7, {"advantage_estimator": "curve_rl", "overlong": "drop"}),
    ],
    ids=str,
)
def test_killed_and_resumed_ends_as_undisturbed(
    tmp_path: Path, environment: dict[str, str], at_step: int, fields: dict[str, object]
) -> None:
    recipe = write_recipe(tmp_path, max_steps=12, save_steps=2, save_total_limit=2, **fields)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(command(recipe, whole), environment)

    process = subprocess.Popen(
        command(recipe, broken), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while steps_done(broken) < at_step and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.015)  # into the next step
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert at_step <= steps_done(broken) < 12
    assert not (broken / "run.json").exists()
    # As if the process had died while it wrote a checkpoint: resuming must not take this one.
    (broken / "checkpoint-11").mkdir()
    (broken / "checkpoint-11" / "model.safetensors").write_bytes(b"half")

    finish(command(recipe, broken, "--resume_from_checkpoint", "true"), environment)
    expected, found = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    logged = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == list(range(1, 13))
    clock = [row["elapsed"] for row in logged]
    assert clock == sorted(clock)
    for name in ("metrics.jsonl", "diagnostics.jsonl"):  # counts of rollouts, which estimator, pass rates
        assert rows(broken, name) == rows(whole, name), name
    assert len(rows(whole, "diagnostics.jsonl")) == 12
    if "advantage_estimator" in fields:
        states = [(folder / "checkpoint-12" / "maxrl_state.json").read_text() for folder in (whole, broken)]
        assert states[0] == states[1]
    for name in ("eval.json", "eval_before.json"):
        one, two = (json.loads((folder / name).read_text()) for folder in (whole, broken))
        assert one["problems"] == two["problems"]


@pytest.mark.slow
def test_interrupted_leaves_a_checkpoint_that_resumes(tmp_path: Path, environment: dict[str, str]) -> None:
    recipe = write_recipe(tmp_path, max_steps=12, save_strategy="'no'")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(command(recipe, whole), environment)
    process = subprocess.Popen(
        command(recipe, broken), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while steps_done(broken) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "go on with the same command and --resume_from_checkpoint true" in errors
    finish(command(recipe, broken, "--resume_from_checkpoint", "true"), environment)
    for name, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(broken / "model.safetensors")[name], value), name
