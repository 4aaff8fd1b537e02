"""One measurement: a real trainer, its `train()`, and a clock at three of its methods.

Imports torch and the trainers; the process that asks for measurements does not.
"""

import gc
import logging
import os
import random
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from maxrl.experiments.environment import describe_environment
from maxrl.models import build_tokenizer
from maxrl.models.tiny import SPECIAL_TOKENS
from maxrl.training import MaxRLConfig, MaxRLTrainer
from step_parts.rows import PRECISIONS, Job, Row, Shape

STOP = "<stop>"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PHASES = ("rollout", "logprobs", "backward")


def measure(job: Job) -> dict[str, Any]:
    """Seconds of each phase of each measured step, matmul peaks, peak memory."""
    torch.set_num_threads(job.threads)
    synchronise = torch.cuda.synchronize if job.device == "cuda" else _nothing
    model, tokenizer = build(job.row.shape)
    model.to(job.device)
    peaks = {precision: matmul_rates(precision, job) for precision in PRECISIONS}
    base = memory_mb(job.device, peak=False)
    if job.small_warm_up:
        row = replace(job.row, prompts=2, num_generations=8, micro_batch=16)
        # On a model of its own: a trainer leaves its mixed precision wrapped around the one it trained.
        run(replace(job, row=row), build(job.row.shape)[0], tokenizer, Stopwatch(synchronise), steps=1)
    watch = Stopwatch(synchronise)
    forget_peak(job.device)
    with others() as busy, remarks() as said:
        dropped = 0 if job.small_warm_up else 1
        run(job, model, tokenizer, watch, steps=dropped + job.row.steps)
    peak_memory = memory_mb(job.device, peak=True)
    for precision in PRECISIONS:
        peaks[precision] += matmul_rates(precision, job)
    return {
        "steps": [check(step, job) for step in watch.steps[dropped:]],
        "peaks": peaks,
        "peak_memory_mb": peak_memory,
        "base_memory_mb": base,
        "other_cores": busy.get("cores"),
        "remarks": said,
        "environment": describe_environment(),
    }


def check(step: dict[str, float], job: Job) -> dict[str, float]:
    """Refuse a step that was not what the row says: a clock nobody passed, or rollouts of other lengths."""
    missed = [phase for phase in PHASES if not step.get(phase)]
    if missed:
        raise RuntimeError(f"the {job.side} trainer went past the clock of {', '.join(missed)}")
    expected = job.row.rollouts * job.row.new_tokens
    if step["new_tokens"] != expected:
        raise RuntimeError(
            f"{step['new_tokens']:.0f} new tokens in a step, not {expected}: a rollout stopped early"
        )
    return step


class Stopwatch(TrainerCallback):
    """Seconds spent in each phase, step by step. A phase within a phase counts for the inner one alone."""

    def __init__(self, synchronise: Callable[[], None]) -> None:
        self.steps: list[dict[str, float]] = []
        self._synchronise = synchronise
        self._spent: dict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._began = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = self._now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = self._now() - began
            self._spent[name] += elapsed - self._inner.pop()
            self._inner[-1] += elapsed

    def count(self, name: str, amount: float) -> None:
        self._spent[name] += amount

    # From one optimizer step to the next: fetching prompts, rollouts (made within the first micro-step), update.
    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = self._now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        now = self._now()
        rest = now - self._began - sum(self._spent[phase] for phase in PHASES)
        self.steps.append({**self._spent, "rest": rest, "step": now - self._began})
        self._spent.clear()
        self._began = now

    def _now(self) -> float:
        self._synchronise()
        return time.perf_counter()


def timed(base: type[GRPOTrainer], watch: Stopwatch) -> type[GRPOTrainer]:
    """The trainer with clocks at its rollouts and its log-probabilities."""

    class Timed(base):
        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            with watch.phase("rollout"):
                result = super()._generate_single_turn(*args, **kwargs)
            watch.count("new_tokens", sum(len(ids) for ids in result[0]))
            return result

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            with watch.phase("logprobs"):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    return Timed


def run(job: Job, model: Any, tokenizer: Any, watch: Stopwatch, *, steps: int) -> None:
    """Train for so many steps under the clock."""
    base, config = (MaxRLTrainer, MaxRLConfig) if job.side == "ours" else (GRPOTrainer, GRPOConfig)
    with tempfile.TemporaryDirectory() as folder:
        trainer = timed(base, watch)(
            model=model,
            reward_funcs=rewards(job),
            args=config(**arguments(job, folder, steps)),
            train_dataset=Dataset.from_dict({"prompt": prompts(job.row, job.row.prompts * steps)}),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        backward = trainer.accelerator.backward

        def timed_backward(*args: Any, **kwargs: Any) -> None:
            with watch.phase("backward"):
                backward(*args, **kwargs)

        trainer.accelerator.backward = timed_backward
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def arguments(job: Job, folder: str, steps: int) -> dict[str, Any]:
    """The same options for both sides; ours takes the generation batch whole and splits it by itself."""
    row = job.row
    micro_batch = row.rollouts if job.side == "ours" else row.micro_batch
    if row.rollouts % micro_batch:
        raise ValueError(f"{row.rollouts} rollouts are no multiple of the micro-batch, {micro_batch}")
    return {
        "output_dir": folder,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": row.rollouts // micro_batch,
        "steps_per_generation": row.rollouts // micro_batch,
        "num_generations": row.num_generations,
        "max_completion_length": row.new_tokens,
        "max_steps": steps,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "beta": 0.0,
        "num_iterations": 1,
        "bf16": job.precision == "bf16",
        "use_cpu": job.device == "cpu",
        "gradient_checkpointing": False,  # it would trade TRL's time for memory
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }


def rewards(job: Job) -> Callable[..., list[float]]:
    """One success in eight, by place within the group, so that no group is dead unless it is meant to be."""
    size = job.row.num_generations
    successes = max(1, size // 8)

    def reward(completions: list[Any], **_: Any) -> list[float]:
        live = [not (job.dead and row // size % 2) for row in range(len(completions))]
        return [float(alive and row % size < successes) for row, alive in enumerate(live)]

    return reward


def prompts(row: Row, count: int) -> list[str]:
    """Distinct texts of the row's length; the tokenizer opens each with <bos>."""
    random_numbers = random.Random(0)
    some = words(row.shape.vocabulary)
    return [" ".join(random_numbers.choices(some, k=row.prompt_tokens - 1)) for _ in range(count)]


def words(vocabulary: int) -> list[str]:
    return [f"w{number}" for number in range(vocabulary - len(SPECIAL_TOKENS))]


def build(shape: Shape) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Random weights, the same every time, and a tokenizer whose stop token lies just outside the model's vocabulary.

    The model can never draw it, so that every rollout has its full length, at no cost while sampling.
    """
    tokenizer = build_tokenizer([*words(shape.vocabulary), STOP])
    tokenizer.eos_token = STOP
    assert tokenizer.eos_token_id == shape.vocabulary
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.positions,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,  # the trainers take the tokenizer's
    )
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config), tokenizer


def matmul_rates(precision: str, job: Job, repeats: int = 5) -> list[float]:
    """GFLOP/s of several products of square matrices, with this run's threads."""
    size = job.peak_size
    a, b = (torch.randn(size, size, device=job.device, dtype=DTYPES[precision]) for _ in range(2))
    synchronise = torch.cuda.synchronize if job.device == "cuda" else _nothing
    times = []
    for _ in range(repeats + 1):
        synchronise()
        began = time.perf_counter()
        torch.matmul(a, b)
        synchronise()
        times.append(time.perf_counter() - began)
    return [2 * size**3 / seconds / 1e9 for seconds in times[1:]]


def memory_mb(device: str, *, peak: bool) -> float:
    """Memory of this process, or of its tensors on a GPU."""
    if device == "cuda":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        return (
            next(float(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))
            / 1024
        )
    # In KiB on Linux, in bytes on macOS. It may include what the parent had before this program was started.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def forget_peak(device: str) -> None:
    """On a GPU, let the peak begin anew: without the matrices of the matmul peak and the model of a small warm-up.

    The high-water mark of a process stays. The matrices raise it by 60 MiB above that of the imports, a step of the
    smallest row by 120 MiB, so that they are never what is reported.
    """
    if device == "cuda":
        gc.collect()  # a trainer and its model refer to themselves: they outlive their last use
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextmanager
def remarks() -> Iterator[list[str]]:
    """What maxrl logs meanwhile; above all, that it fell back to TRL's way, and why."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger("maxrl").addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger("maxrl").removeHandler(listener)


@contextmanager
def others() -> Iterator[dict[str, float]]:
    """Cores that other processes kept busy meanwhile, where the system tells."""
    found: dict[str, float] = {}
    before = _busy()
    began = time.perf_counter()
    yield found
    after = _busy()
    if before is not None and after is not None:
        found["cores"] = max(0.0, (after - before) / (time.perf_counter() - began))


def _busy() -> float | None:
    """Seconds of processor time of all other processes so far."""
    statistic = Path("/proc/stat")
    if not statistic.exists():
        return None
    user, nice, system = (int(word) for word in statistic.read_text().split(maxsplit=4)[1:4])
    own = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - own.user - own.system


def _nothing() -> None:
    """A CPU needs no waiting for."""
