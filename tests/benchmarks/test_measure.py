"""One measurement: which job it runs, what it keeps, and what it refuses."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from step_parts import measure as measuring
from step_parts.measure import Stopwatch, arguments, build, check, forget_peak, measure, prompts, rewards, run
from step_parts.rows import Job
from tests.benchmarks.miniature import JOB, MINIATURE
from trl import GRPOTrainer

from maxrl.models import encode_prompt
from maxrl.training import MaxRLTrainer


def test_prompts_are_distinct_and_as_long_as_said() -> None:
    _, tokenizer = build(MINIATURE.shape)
    texts = prompts(MINIATURE, 6)
    assert {len(encode_prompt(tokenizer, text)) for text in texts} == {5}
    assert len(set(texts)) == 6
    assert tokenizer.eos_token_id == MINIATURE.shape.vocabulary


def test_one_success_in_eight_in_every_live_group() -> None:
    completions = [""] * 4 * MINIATURE.num_generations
    assert rewards(JOB)(completions=completions) == 4 * [1.0, *7 * [0.0]]
    assert rewards(replace(JOB, dead=True))(completions=completions) == 2 * [1.0, *15 * [0.0]]


@pytest.mark.parametrize("side", ["ours", "trl"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_sides_take_the_same_step_in_the_precision_asked_for(side: str, precision: str) -> None:
    given = arguments(replace(JOB, side=side, precision=precision), "folder", 3)
    assert given["bf16"] is (precision == "bf16")
    assert given["max_steps"] == 3
    micro_batch = 16 if side == "ours" else 8
    assert given["per_device_train_batch_size"] == micro_batch
    assert given["gradient_accumulation_steps"] == given["steps_per_generation"] == 16 // micro_batch


@pytest.mark.parametrize("micro_batch", [1, 2, 16])
def test_the_micro_batch_is_trls_alone_and_leaves_the_step_as_it_is(micro_batch: int) -> None:
    row = replace(MINIATURE, micro_batch=micro_batch)
    theirs = arguments(replace(JOB, side="trl", row=row), "folder", 1)
    assert theirs["per_device_train_batch_size"] == micro_batch
    assert theirs["gradient_accumulation_steps"] == theirs["steps_per_generation"] == 16 // micro_batch
    assert arguments(replace(JOB, row=row), "folder", 1) == arguments(JOB, "folder", 1)


@pytest.mark.parametrize("micro_batch", [7, 32])
def test_a_micro_batch_that_does_not_divide_the_step_is_refused(micro_batch: int) -> None:
    job = replace(JOB, side="trl", row=replace(MINIATURE, micro_batch=micro_batch))
    with pytest.raises(ValueError, match="no multiple of the micro-batch"):
        arguments(job, "folder", 1)


@pytest.mark.parametrize(("side", "trainer"), [("ours", MaxRLTrainer), ("trl", GRPOTrainer)])
@pytest.mark.parametrize("dead", [False, True])
def test_the_trainer_gets_what_the_job_says(
    side: str, trainer: type[GRPOTrainer], dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Recorded:
        def __init__(self, **given: Any) -> None:
            seen.update(given)
            self.accelerator = SimpleNamespace(backward=None)

        def remove_callback(self, callback: Any) -> None:
            pass

        def train(self) -> None:
            seen["trained"] = True

    def timed(base: type[GRPOTrainer], watch: Stopwatch) -> type[Recorded]:
        assert base is trainer
        return Recorded

    monkeypatch.setattr(measuring, "timed", timed)
    watch = Stopwatch(lambda: None)
    run(replace(JOB, side=side, precision="bf16", dead=dead), "model", "tokenizer", watch, steps=3)
    assert seen["trained"]
    assert (seen["model"], seen["processing_class"], seen["callbacks"]) == ("model", "tokenizer", [watch])
    assert seen["args"].bf16
    assert seen["args"].max_steps == 3
    assert len(seen["train_dataset"]) == 3 * 2
    second = 8 * [0.0] if dead else [1.0, *7 * [0.0]]
    assert seen["reward_funcs"](completions=16 * [""]) == [1.0, *7 * [0.0], *second]


@pytest.mark.parametrize("small_warm_up", [False, True])
def test_the_warm_up_is_in_neither_the_steps_nor_the_peak(
    small_warm_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[Any] = []
    models: list[Any] = []

    def numbered(job: Job, model: Any, tokenizer: Any, watch: Stopwatch, *, steps: int) -> None:
        row = job.row
        models.append(model)
        happened.append((row.prompts, row.num_generations, steps))
        fine = {"rollout": 1.0, "logprobs": 1.0, "backward": 1.0, "new_tokens": row.rollouts * row.new_tokens}
        watch.steps += [{**fine, "number": number} for number in range(steps)]

    def rates(precision: str, job: Job) -> list[float]:
        happened.append(precision)
        return [float(len(happened))]

    def memory(device: str, *, peak: bool) -> float:
        happened.append("peak" if peak else "base")
        return 2.0 if peak else 1.0

    monkeypatch.setattr(measuring, "run", numbered)
    monkeypatch.setattr(measuring, "matmul_rates", rates)
    monkeypatch.setattr(measuring, "memory_mb", memory)
    monkeypatch.setattr(measuring, "forget_peak", lambda device: happened.append("forget"))
    row = replace(MINIATURE, prompts=4, num_generations=16, steps=2)
    found = measure(replace(JOB, row=row, small_warm_up=small_warm_up))
    assert [step["number"] for step in found["steps"]] == ([0, 1] if small_warm_up else [1, 2])
    runs = [(2, 8, 1), "forget", (4, 16, 2)] if small_warm_up else ["forget", (4, 16, 3)]
    assert happened == ["fp32", "bf16", "base", *runs, "peak", "fp32", "bf16"]
    assert (found["base_memory_mb"], found["peak_memory_mb"]) == (1.0, 2.0)
    assert (
        len({id(model) for model in models}) == 1 + small_warm_up
    )  # the first trainer leaves its mark on its model
    last = float(len(happened))
    assert found["peaks"] == {"fp32": [1.0, last - 1], "bf16": [2.0, last]}  # before and after


@pytest.mark.filterwarnings("ignore")  # the libraries', which the benchmark's own processes ignore as well
@pytest.mark.parametrize("side", ["ours", "trl"])
def test_both_sides_run_after_a_small_warm_up(side: str) -> None:
    found = measure(replace(JOB, side=side, precision="bf16", small_warm_up=True))
    assert len(found["steps"]) == MINIATURE.steps
    assert found["remarks"] == []


def test_the_peak_of_a_gpu_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: called.append(name))
    forget_peak("cpu")
    assert called == []
    forget_peak("cuda")
    assert called == ["empty_cache", "reset_peak_memory_stats"]


def test_a_phase_within_a_phase_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 7.0, 10.0])
    watch = Stopwatch(lambda: None)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    watch.on_train_begin()
    with watch.phase("backward"), watch.phase("logprobs"):
        pass
    watch.count("rollout", 1.0)
    watch.on_step_end()
    monkeypatch.undo()
    assert watch.steps == [{"logprobs": 3.0, "backward": 3.0, "rollout": 1.0, "rest": 3.0, "step": 10.0}]


def test_a_step_that_is_not_the_rows_is_refused() -> None:
    fine = {"rollout": 1.0, "logprobs": 1.0, "backward": 1.0, "new_tokens": 48.0}
    assert check(fine, JOB) == fine
    with pytest.raises(RuntimeError, match="stopped early"):
        check({**fine, "new_tokens": 47.0}, JOB)
    with pytest.raises(RuntimeError, match="past the clock of logprobs"):
        check({**fine, "logprobs": 0.0}, JOB)
