"""The benchmark of a step: what it counts and how it compares; that real trainers pass through. No timings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import step
from step_parts.measure import build, measure
from step_parts.rows import MAZE17, ROWS, Job, Shape, forward_flops
from step_parts.summary import compare_row
from tests.benchmarks.miniature import JOB, MINIATURE, result, silent

from maxrl.tasks import SubsetSum

SUMMARY = {
    "precision",
    "step_s",
    "rollout_s",
    "logprobs_s",
    "backward_s",
    "rest_s",
    "update_s",
    "tokens_per_s",
    "rollout_peak_fraction",
    "update_peak_fraction",
    "peak_gflops",
    "peak_memory_mb",
    "base_memory_mb",
    "steps",
}
RATIOS = {"step_ratio", "rollout_ratio", "update_ratio", "memory_ratio"}
FRACTIONS = {"update_peak_fraction", "rollout_peak_fraction"}


def here(job: Job, limit: float | None = None) -> dict[str, Any]:
    """The measurement, in this process, through JSON as from another one."""
    return json.loads(json.dumps(measure(Job.from_json(json.loads(json.dumps(job.to_json()))))))


def options(*words: str) -> Any:
    parsed = step.parse([*words, "--repeats", "1", "--threads", "1"])
    parsed.rows, parsed.peak_size = [MINIATURE], 16
    return parsed


def test_necessary_work_by_hand() -> None:
    shape = Shape(layers=1, width=4, heads=2, kv_heads=1, feed_forward=8, vocabulary=10)
    row = replace(MINIATURE, shape=shape, prompts=2, num_generations=3, prompt_tokens=5, new_tokens=4)
    # Query and output 4 × 4, key and value 4 × 2, three feed-forward matrices 4 × 8.
    matrices = 16 + 16 + 8 + 8 + 3 * 32
    # Five prompt tokens once, three of four new tokens in each of three rollouts.
    tokens = 5 + 3 * 3
    # The prompt's tokens see 1 to 5 keys, the new ones 6, 7 and 8.
    visible = (1 + 2 + 3 + 4 + 5) + 3 * (6 + 7 + 8)
    predictions = 1 + 3 * 3
    group = 2 * matrices * tokens + 4 * 4 * visible + 2 * 4 * 10 * predictions
    assert group == 6080
    assert forward_flops(row) == 2 * 6080
    assert forward_flops(row, groups=1) == 6080
    assert forward_flops(replace(row, shape=replace(shape, layers=3))) == 2 * (3 * (6080 - 800) + 800)


def test_the_rows_are_what_they_are_named_after() -> None:
    model, _ = build(MAZE17)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_944_704
    task = SubsetSum(num_elements=6, max_value=20, prompt_format="compact")
    vocabulary = task.vocabulary()
    assert vocabulary is not None
    row = ROWS["subset_sum"]
    assert row.shape.vocabulary == len(vocabulary.words) + 4
    prompt = next(iter(task.examples("train", 1))).prompt
    assert isinstance(prompt, str)
    assert row.prompt_tokens == 1 + len(prompt.split())
    for row in ROWS.values():
        assert row.rollouts % row.micro_batch == 0
        assert row.num_generations % 8 == 0


@pytest.mark.filterwarnings("ignore")  # the libraries', which the benchmark's own processes ignore as well
def test_both_trainers_run_and_the_answer_has_its_keys() -> None:
    session = step.Session(here, silent())
    found = json.loads(json.dumps(step.answer(options(), session)))
    assert found["failed"] == found["remarks"] == []  # nothing fell back to TRL's way
    assert set(found["peak_gflops"]) == {"fp32", "bf16"}
    row = found["rows"]["miniature"]
    assert RATIOS | FRACTIONS | {"ours", "trl", "all", "dead_half_gain"} <= set(row)
    assert all(row[name] > 0 for name in RATIOS | FRACTIONS)
    assert all(gain > 0 for gain in row["dead_half_gain"].values())
    for side in ("ours", "trl"):
        assert set(row[side]) == SUMMARY
        assert set(row["all"][side]["fp32"]) == set(row["all"][side]["bf16"]) == SUMMARY
        summary = row[side]
        phases = sum(summary[f"{phase}_s"] for phase in ("rollout", "logprobs", "backward", "rest"))
        assert phases == pytest.approx(summary["step_s"])  # one step: medians add up
        assert summary["tokens_per_s"] == pytest.approx(2 * 8 * 3 / summary["rollout_s"])
        update_rate = 3 * forward_flops(MINIATURE) / 1e9 / summary["update_s"]
        assert summary["update_peak_fraction"] == pytest.approx(update_rate / summary["peak_gflops"])


@pytest.mark.filterwarnings("ignore")
def test_the_sweep_sets_256_rollouts_against_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "SWEEP", (8, 64, 256))
    monkeypatch.setattr(step, "SWEEP_STEPS", 1)
    found = step.answer(options("--sweep", "--precisions", "fp32"), step.Session(here, silent()))
    assert found["failed"] == []
    sweep = found["sweep"]["miniature"]
    assert set(sweep) == {"fp32"}
    costs = sweep["fp32"]["ms_per_rollout"]
    assert list(costs) == ["8", "64", "256"]
    ratio = sweep["fp32"]["ratio_256_64"]
    assert set(ratio) == {"rollout", "update", "step"}
    assert ratio["step"] == pytest.approx(costs["256"]["step"] / costs["64"]["step"])


def test_ratios_are_against_whichever_precision_of_trl_is_better() -> None:
    made_up = {
        ("ours", "fp32"): result(2.0, 80.0),
        ("ours", "bf16"): result(1.0),
        ("trl", "fp32"): result(8.0, 200.0),
        ("trl", "bf16"): result(6.0, 300.0),
    }
    session = step.Session(lambda job, limit: made_up[job.side, job.precision], silent())
    step.compare([MINIATURE], JOB, session, repeats=1, precisions=("fp32", "bf16"))
    row = compare_row(MINIATURE, session.measured)
    assert row["ours"]["precision"] == row["trl"]["precision"] == "bf16"
    assert row["step_ratio"] == row["rollout_ratio"] == row["update_ratio"] == 6.0
    assert row["memory_ratio"] == 2.0
    assert row["against"]["memory_ratio"] == "fp32"
    assert row["step_ratio_by_precision"] == {"fp32": 4.0, "bf16": 6.0}
    assert row["ours"]["update_peak_fraction"] == 3 * forward_flops(MINIATURE) / 1e9 / 0.375 / 20.0


def test_a_measurement_that_fails_is_reported_and_the_others_go_on() -> None:
    def runner(job: Job, limit: float | None) -> dict[str, Any]:
        if job.side == "trl":
            raise step.Failed("killed")
        return result(1.0)

    found = step.answer(options(), step.Session(runner, silent()))
    assert len(found["failed"]) == 2
    assert all("TRL" in line and "killed" in line for line in found["failed"])
    row = found["rows"]["miniature"]
    assert row["trl"] is None
    assert row["step_ratio"] is None
    assert row["ours"]["step_s"] == 1.0


@pytest.mark.slow
def test_a_measurement_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = step.run_in_process(JOB)
    assert found["peak_memory_mb"] >= found["base_memory_mb"] > 0
    assert len(found["steps"]) == 1
    with pytest.raises(step.Failed, match="no multiple of the micro-batch"):
        step.run_in_process(replace(JOB, side="trl", row=replace(MINIATURE, micro_batch=7)))
