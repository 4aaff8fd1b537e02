"""A task that fails in every way, through the command line: it costs the rollouts it fails on, and nothing else."""

import json
from pathlib import Path

import pytest

from maxrl.cli import main

SICK_TASK = """
import math, os, time
from dataclasses import dataclass
from typing import ClassVar

from maxrl.tasks import SubsetSum, Verdict

WAYS = ["", "crash", "hang", "NaN", "string", "too few", "own error", ""]  # in training; after it, see LAST
LAST = ["crash", "hang", "NaN", "string", "too few", "own error"]
NOW = {"call": 0, "row": 0, "way": ""}


@dataclass(frozen=True, kw_only=True)
class Sick(SubsetSum):
    name: ClassVar[str] = "sick"
    time_limit: ClassVar[float] = 0.6

    def score_many(self, truths, completions):
        NOW["way"] = (WAYS + LAST)[NOW["call"]]
        NOW["call"] += 1
        NOW["row"] = 0
        if NOW["way"] in ("crash", "hang"):
            self.fail()
        verdicts = [super(Sick, self).score(*row) for row in zip(truths, completions)]
        if NOW["way"] == "NaN":
            verdicts[0] = Verdict(success=True, reward=math.nan)
        if NOW["way"] == "string":
            verdicts[0] = "right"
        if NOW["way"] == "own error":
            verdicts[0] = Verdict(success=False, reward=None, error="no compiler here")
        return verdicts[1:] if NOW["way"] == "too few" else verdicts

    def score(self, truth, completion):
        NOW["row"] += 1
        if NOW["row"] == 1:
            self.fail()
        return super().score(truth, completion)

    def fail(self):
        if NOW["way"] == "crash":
            raise RuntimeError("boom")
        if NOW["way"] == "hang":
            time.sleep(60)
"""


def test_a_task_that_fails_in_every_way_through_the_command_line(
    tmp_path: Path, policy_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sick.py").write_text(SICK_TASK)
    words = [
        "train", "-q", "--task", "sick.py", "--num_elements", "3", "--max_value", "4", "--prompt_format", "compact",
        "--model_name_or_path", str(policy_folder), "--output_dir", "run", "--max_steps", "8",
        "--num_generations", "4", "--per_device_train_batch_size", "16", "--max_completion_length", "5",
        "--learning_rate", "1e-3", "--report_to", "none", "--logging_steps", "1", "--bf16", "false",
        "--activation_checkpointing", "false", "--save_strategy", "no", "--eval_before_training", "false",
        # Six batches of 16 problems in the evaluation, each failing in another way.
        "--eval_problems", "96", "--eval_samples", "1", "--eval_greedy", "false",
    ]  # fmt: skip
    assert main(words) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "verifier/errors" in row]
    one = 1 / 16
    # "too few" costs nothing: one by one its verdicts are there.
    assert [row["verifier/errors"] for row in rows] == [0, one, one, one, one, 0, one, 0]
    counted = {
        reason: [row.get(f"verifier/{reason}", 0) for row in rows]
        for reason in (
            "verifier crashed",
            "verifier too slow",
            "verifier returned nonsense",
            "verifier failed",
        )
    }
    assert counted == {
        "verifier crashed": [0, one, 0, 0, 0, 0, 0, 0],
        "verifier too slow": [0, 0, one, 0, 0, 0, 0, 0],
        "verifier returned nonsense": [0, 0, 0, one, one, 0, 0, 0],
        "verifier failed": [0, 0, 0, 0, 0, 0, one, 0],
    }
    evaluation = json.loads((tmp_path / "run" / "eval.json").read_text())
    errors = [problem["errors"] for problem in evaluation["problems"]]
    first_of_each = [1] + [0] * 15
    assert errors == [*first_of_each * 4, *[0] * 16, *first_of_each]
    assert [problem["scored"] for problem in evaluation["problems"]] == [1 - many for many in errors]
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert [row["error"] for row in samples if row["error"]] == [
        "RuntimeError: boom (sick.py, line 41)",
        "took longer than 0.6 s",
        "returned the reward float nan",
        "returned str 'right' instead of a Verdict",
        "no compiler here",
    ]
    said = [record.getMessage() for record in caplog.records]
    for who in ("task sick", "evaluation on task sick"):
        told = [line for line in said if line.startswith(f"{who}: 1 of 16 completions got no verdict: ")]
        assert len(told) == 4, said  # a number and a text instead of a verdict are one kind
        assert "verifier failed: no compiler here. " in told[-1]
