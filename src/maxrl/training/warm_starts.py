"""Warm starts: a tiny model trained on a task's demonstrations until it solves a stated share of problems.

Reinforcement learning can only sharpen what a model already does sometimes; a random model never succeeds.
"""

import hashlib
import inspect
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState
from datasets import IterableDataset
from filelock import FileLock
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from trl import SFTConfig, SFTTrainer

from maxrl.engine import make_generator
from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation import EvalSettings, evaluate
from maxrl.models import TinyModel, build_byte_tokenizer, build_tiny, build_tokenizer, encode_prompt
from maxrl.tasks import Task

FORMAT = 5
"""Raised whenever this file changes what a warm start is, so that older caches are not used."""

RECORD = "warm_start.json"
"""Written last: a warm start without it is not whole."""

CHECK_EVERY = 50
"""Optimizer steps between two measurements of the pass rate."""

DEMONSTRATION_SEED = 2**31 - 1
"""Stream of the demonstrations; reinforcement learning draws its problems from the streams of small seeds."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Supervised training of the tiny model on demonstrations, before reinforcement learning."""

    warm_start_pass_rate: float | None = field(
        default=0.25,
        metadata={
            "help": "Stop as soon as this share of sampled completions succeeds (pass@1); null in a recipe: train for "
            "warm_start_max_steps and take what comes."
        },
    )
    warm_start_max_steps: int = field(
        default=3000,
        metadata={
            "help": "Give up after this many optimizer steps; 0 leaves the random weights as they are."
        },
    )
    warm_start_batch_size: int = field(default=64, metadata={"help": "Demonstrations per optimizer step."})
    warm_start_learning_rate: float = field(
        default=1e-3, metadata={"help": "Learning rate of the warm start (AdamW, constant after 20 steps)."}
    )
    warm_start_adam_beta2: float = field(default=0.999, metadata={"help": "AdamW's beta2 in the warm start."})
    warm_start_weight_decay: float = field(
        default=0.0, metadata={"help": "AdamW's weight decay in the warm start."}
    )
    warm_start_check_problems: int = field(
        default=128,
        metadata={
            "help": "Problems, with 8 completions each, on which the pass rate is measured every 50 steps."
        },
    )
    warm_start_seed: int = field(
        default=0, metadata={"help": "Seed of the random weights and of the demonstrations."}
    )

    def __post_init__(self) -> None:
        if self.warm_start_pass_rate is not None and not 0 < self.warm_start_pass_rate < 1:
            raise InputError(
                f"warm_start_pass_rate must lie between 0 and 1, but is {self.warm_start_pass_rate}"
            )
        for name, least in (
            ("warm_start_max_steps", 0),
            ("warm_start_batch_size", 1),
            ("warm_start_check_problems", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, but is {getattr(self, name)}")
        if not 0 < self.warm_start_adam_beta2 < 1:
            raise InputError(f"warm_start_adam_beta2 must lie in (0, 1), but is {self.warm_start_adam_beta2}")
        if not 0 <= self.warm_start_weight_decay < math.inf:
            raise InputError(
                f"warm_start_weight_decay must be at least 0, but is {self.warm_start_weight_decay}"
            )
        if not 0 < self.warm_start_learning_rate < math.inf:
            raise InputError(
                f"warm_start_learning_rate must be above 0, but is {self.warm_start_learning_rate}"
            )


def cache_folder() -> Path:
    """Where warm starts are kept: `$MAXRL_CACHE`, else `~/.cache/maxrl`."""
    return Path(os.environ.get("MAXRL_CACHE") or Path.home() / ".cache" / "maxrl")


def warm_start(
    task: Task | None,
    shape: TinyModel | None = None,
    settings: WarmStart | None = None,
    *,
    max_completion_length: int,
    progress: Callable[[int, float], object] | None = None,
) -> Path:
    """The folder of a tiny model that solves `warm_start_pass_rate` of the task's problems.

    It is trained on the spot the first time and taken from the cache afterwards. The cache's key is everything
    that determines the result: task and parameters, shape, settings, and the versions of the libraries.

    A task without a vocabulary of its own gets a model of bytes. Without a task, or where the task cannot show how its
    problems are solved, the weights stay random.

    Args:
        task: whose demonstrations it learns; None for a data set of no task.
        shape: of the model; None for the default.
        settings: of the supervised training; None for the default.
        max_completion_length: most new tokens when the pass rate is measured.
        progress: called with (step, pass rate) after each measurement.

    Returns:
        A folder for `load_policy` and `load_tokenizer`, with `warm_start.json` (steps, pass rate, settings).

    Raises:
        MaxRLError: the pass rate was not reached within `warm_start_max_steps`.
    """
    shape = shape or TinyModel()
    settings = settings or WarmStart()
    description = _describe(task, shape, settings, max_completion_length)
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "warm-starts" / f"{task.name if task else 'no-task'}-{key}"
    if (folder / RECORD).is_file():
        return folder
    # Runs that start together want the same one: the first makes it, the others wait for it.
    lock = cache_folder() / "locks" / f"{folder.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if not (folder / RECORD).is_file():
            _make(folder, task, shape, settings, description, max_completion_length, progress)
    return folder


def _make(
    folder: Path,
    task: Task | None,
    shape: TinyModel,
    settings: WarmStart,
    description: dict[str, Any],
    max_completion_length: int,
    progress: Callable[[int, float], object] | None,
) -> None:
    """Train the warm start and move it to its folder when it is whole."""
    shutil.rmtree(folder, ignore_errors=True)  # without its record it was never whole
    for left in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    vocabulary = task.vocabulary() if task else None
    tokenizer = build_tokenizer(vocabulary.words) if vocabulary else build_byte_tokenizer()
    stop = vocabulary.stop if vocabulary else ()
    model = build_tiny(tokenizer, shape, seed=settings.warm_start_seed, stop=stop)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    partial.mkdir(exist_ok=True)
    try:
        result: dict[str, Any] = {"pass_rate": None, "steps": 0, **description}
        if task is not None and task.can_demonstrate() and settings.warm_start_max_steps > 0:
            watcher = _StopAtPassRate(task, tokenizer, settings, max_completion_length, progress)
            _train_on_demonstrations(model, tokenizer, task, settings, watcher, partial)
            result |= {"pass_rate": watcher.pass_rate, "steps": watcher.steps}
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / RECORD).write_text(json.dumps(result, indent=2) + "\n")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _describe(
    task: Task | None, shape: TinyModel, settings: WarmStart, max_completion_length: int
) -> dict[str, Any]:
    """Everything that determines a warm start, as JSON types."""
    return {
        "format": FORMAT,
        "task": task.description() if task else None,
        "task_source": _source(task),
        "shape": asdict(shape),
        "settings": asdict(settings),
        "max_completion_length": max_completion_length,
        "versions": {name: version(name) for name in ("maxrl", "torch", "transformers", "trl")},
    }


def _source(task: Task | None) -> str | None:
    """A checksum of the file that a user's own task stands in, which may change; None for the package's tasks."""
    if task is None or type(task).__module__.startswith("maxrl."):
        return None
    return hashlib.sha256(Path(inspect.getfile(type(task))).read_bytes()).hexdigest()


def _train_on_demonstrations(
    model: Any, tokenizer: Any, task: Task, settings: WarmStart, watcher: "_StopAtPassRate", folder: Path
) -> None:
    """Train until the watcher stops it, or fail."""
    # accelerate keeps the precision of the first trainer of a process, and refuses another one that is to follow.
    before = bool(AcceleratorState._shared_state)
    trainer = SFTTrainer(
        model=model,
        args=_sft_config(folder, settings),
        train_dataset=IterableDataset.from_generator(
            _demonstrations, gen_kwargs={"task": task, "tokenizer": tokenizer, "settings": settings}
        ),
        processing_class=tokenizer,
        callbacks=[watcher],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.train()
    if not before:
        AcceleratorState._reset_state()
    if settings.warm_start_pass_rate is not None and watcher.pass_rate < settings.warm_start_pass_rate:
        raise MaxRLError(
            f"the warm start solved {watcher.pass_rate:.3f} of the problems after {settings.warm_start_max_steps} "
            f"steps, less than warm_start_pass_rate={settings.warm_start_pass_rate}; lower the rate, raise "
            "warm_start_max_steps, or take an easier task or a larger tiny model"
        )


def _sft_config(folder: Path, settings: WarmStart) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        max_steps=settings.warm_start_max_steps,
        per_device_train_batch_size=settings.warm_start_batch_size,
        learning_rate=settings.warm_start_learning_rate,
        adam_beta2=settings.warm_start_adam_beta2,
        weight_decay=settings.warm_start_weight_decay,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=20,
        seed=settings.warm_start_seed,
        completion_only_loss=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        logging_steps=CHECK_EVERY,
        disable_tqdm=True,
    )


def _demonstrations(task: Task, tokenizer: Any, settings: WarmStart) -> Iterator[dict[str, list[int]]]:
    """Token ids of prompt, demonstration and end of text, with the loss on the last two only."""
    batch = settings.warm_start_batch_size
    for start in range(0, settings.warm_start_max_steps * batch, batch):
        seed = DEMONSTRATION_SEED - settings.warm_start_seed
        for example in task.examples("train", batch, seed=seed, start=start):
            prompt = encode_prompt(tokenizer, example.prompt)  # pyright: ignore[reportArgumentType]
            answer = tokenizer(text=task.demonstration(example), add_special_tokens=False)["input_ids"]
            answer = [*answer, tokenizer.eos_token_id]
            yield {
                "input_ids": prompt + answer,
                "completion_mask": [0] * len(prompt) + [1] * len(answer),
            }


class _StopAtPassRate(TrainerCallback):
    """Measures the pass rate every `CHECK_EVERY` steps, on problems of their own, and stops when it is reached."""

    def __init__(
        self, task: Task, tokenizer: Any, settings: WarmStart, max_completion_length: int, progress: Any
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.settings = settings
        self.max_completion_length = max_completion_length
        self.progress = progress
        self.pass_rate = 0.0
        self.steps = 0

    def on_step_end(
        self, args: SFTConfig, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        wanted = self.settings.warm_start_pass_rate
        last = state.global_step >= self.settings.warm_start_max_steps
        if not last and (wanted is None or state.global_step % CHECK_EVERY):
            return
        ends = model.generation_config.eos_token_id
        generator = make_generator(
            model,
            stop_ids=ends if isinstance(ends, list) else [ends],
            pad_id=self.tokenizer.pad_token_id,
        )
        # A stream apart from the ones that evaluations report (small seeds).
        check = EvalSettings(
            eval_problems=self.settings.warm_start_check_problems,
            eval_samples=8,
            eval_ks=[1],
            eval_seed=2**31 - 1,
            eval_greedy=False,
        )
        measured = evaluate(
            generator, self.tokenizer, self.task, check, max_completion_length=self.max_completion_length
        )
        self.pass_rate = measured.at(1).estimate
        self.steps = state.global_step
        if self.progress is not None:
            self.progress(self.steps, self.pass_rate)
        if wanted is not None and self.pass_rate >= wanted:
            control.should_training_stop = True
