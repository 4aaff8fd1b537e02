"""Folders as runs leave them, made without training."""

import json
import zipfile
from pathlib import Path
from typing import Any

import yaml

from maxrl.evaluation import Evaluation, PassAtK, ProblemCounts
from maxrl.experiments.store.processes import record_process


def make_run(
    folder: Path,
    state: str = "done",
    *,
    steps: int = 10,
    rate: float = 0.5,
    checkpoints: tuple[int, ...] = (),
    environment: dict[str, str] | None = None,
    **config: Any,
) -> Path:
    """A run of ten steps of which `steps` are made, half a second and 32 rollouts of 4 tokens each."""
    folder.mkdir(parents=True)
    fields = {
        "task": "subset_sum",
        "model_name_or_path": "tiny",
        "advantage_estimator": "maxrl",
        "seed": 0,
        "max_steps": 10,
        "output_dir": str(folder),
        **config,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))
    facts = (
        {"python": "3.11.2", "code": "abc+changes", "machine": "here"} if environment is None else environment
    )
    (folder / "environment.json").write_text(json.dumps(facts))
    rows = [
        {
            "step": step,
            "elapsed": step / 2,
            "success_rate": rate * step / 10,
            "groups/live": 0.75,
            "groups/dead": 0.25,
            "groups/mastered": 0.0,
            "rollouts": 32 * step,
            "completion_tokens": 128 * step,
        }
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in checkpoints:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text("{}")
        with zipfile.ZipFile(checkpoint / "rng_state.pth", "w"):
            pass
        (checkpoint / "weights.bin").write_bytes(b"x" * 1000)
    write_evaluation(folder / "eval_before.json", 1)
    if state == "done":
        write_evaluation(folder / "eval.json", 2)
        summary = {
            "estimator": fields["advantage_estimator"],
            "seed": fields["seed"],
            "steps": steps,
            "training_seconds": steps / 2,
            "rollouts": 32 * steps,
            "completion_tokens": 128 * steps,
            "pass_at_k": {"1": rate, "4": rate + 0.25},
        }
        (folder / "run.json").write_text(json.dumps(summary))
    if state == "running":
        record_process(folder)
    if state == "failed":
        (folder / "error.txt").write_text("Traceback\nRuntimeError: the loss is not finite\n")
    return folder


def write_evaluation(path: Path, correct: int) -> None:
    """Of two problems with four samples each, `correct` of them right."""
    evaluation = Evaluation(
        problems=tuple(ProblemCounts(id=f"eval-{i}", scored=4, correct=correct) for i in range(2)),
        pass_at_k=(
            PassAtK(k=1, estimate=correct / 4, low=0.1, high=0.9),
            PassAtK(k=4, estimate=1.0, low=1.0, high=1.0),
        ),
        greedy_accuracy=correct / 2,
        confidence=0.95,
        completion_tokens=32,
        seconds=3.0,
    )
    path.write_text(json.dumps(evaluation.to_dict()))


def write_samples(folder: Path) -> None:
    """A first problem that is never solved, and a second one that is, once."""
    rows = [("a", "1 2 = 4 :", text, False) for text in ("1", "2")]
    rows += [("b", "1 3 = 4 :", "1 3", True), ("b", "1 3 = 4 :", "3", False)]
    text = "".join(
        json.dumps({"id": i, "prompt": prompt, "completion": completion, "success": success}) + "\n"
        for i, prompt, completion, success in rows
    )
    (folder / "samples.jsonl").write_text(text)
