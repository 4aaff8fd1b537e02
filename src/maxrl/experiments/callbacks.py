"""What watches a run: its metrics on disk, its progress on the terminal, and Ctrl-C."""

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from maxrl.evaluation.files import atomic_text
from maxrl.experiments.interrupts import InterruptWatch
from maxrl.experiments.pages import new_progress
from maxrl.experiments.store.metrics_file import append_rows, keep_rows, read_metrics
from maxrl.training import MaxRLTrainer


class MetricsFile(TrainerCallback):
    """Appends every log of the trainer to `metrics.jsonl`, with `step` and `elapsed` seconds of training.

    A resumed run drops the rows after its checkpoint, and its clock goes on where the checkpoint was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = 0.0
        self._elapsed_before = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            keep_rows(self.path, state.global_step)
            kept = read_metrics(self.path)
            self._elapsed_before = kept[-1]["elapsed"] if kept else 0.0
        self._started = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Take seconds that were not spent on training out of `elapsed`."""
        self._started += seconds

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last steps count, too, where not every step is logged

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        elapsed = self._elapsed_before + time.perf_counter() - self._started
        row = {"step": state.global_step, "elapsed": round(elapsed, 3)}
        row.update({name: value for name, value in logs.items() if isinstance(value, (int, float))})
        append_rows(self.path, [row])


class DiagnosticsFile(TrainerCallback):
    """Appends the diagnostics of every training generation to `diagnostics.jsonl`, with the `step` it was drawn for.

    A resumed run drops the rows after its checkpoint.
    """

    def __init__(self, path: Path, trainer: MaxRLTrainer) -> None:
        self.path = path
        self.trainer = trainer
        self._written = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            keep_rows(self.path, state.global_step)
        self._written = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._write(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._write(state)  # of a generation without signal, at which the run stops: its step does not end

    def _write(self, state: TrainerState) -> None:
        # A generation may serve several steps; its row belongs to the first.
        rows = [row for row in self.trainer.diagnostics if row["step"] == state.global_step > self._written]
        self._written = state.global_step
        if state.is_world_process_zero and rows:
            append_rows(self.path, rows)


class LatestSamples(TrainerCallback):
    """Keeps a few rollouts of one prompt drawn last for training in `latest_samples.json`, for those who watch a run.

    The prompt is the first whose group has an advantage, where there is one; of its different completions those of highest
    and of lowest reward. The file is replaced at most once in `every` seconds and not forced to the disk.
    """

    MOST = 4

    def __init__(self, path: Path, trainer: MaxRLTrainer, *, every: float = 2.0) -> None:
        self.path = path
        self.trainer = trainer
        self.every = every
        self._written = -math.inf

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        now = time.monotonic()
        if not state.is_world_process_zero or now - self._written < self.every:
            return
        self._written = now
        group = self._group()
        if group:
            with atomic_text(self.path, durable=False) as sink:
                json.dump({"step": state.global_step, **group}, sink, ensure_ascii=False)

    def _group(self) -> dict[str, Any] | None:
        logs = self.trainer._logs
        rewards = [_judged(values) for values in zip(*logs["rewards"].values(), strict=False)]
        rows = list(zip(logs["prompt"], logs["completion"], rewards, logs["advantages"], strict=False))
        if not rows:
            return None
        prompt = next((row[0] for row in rows if row[3]), rows[0][0])
        group = [row[1:] for row in rows if row[0] == prompt]
        ranked = sorted({str(row[0]): row for row in group}.values(), key=_from_the_best)
        half = self.MOST // 2
        shown = ranked if len(ranked) <= self.MOST else [*ranked[:half], *ranked[-half:]]
        return {
            "prompt": prompt,
            "rollouts": len(group),
            "completions": [
                {"completion": text, "reward": reward, "advantage": advantage}
                for text, reward, advantage in shown
            ],
        }


def _judged(rewards: Iterable[float | None]) -> float | None:
    """The sum of the rewards that there are; None where no function judged."""
    found = [reward for reward in rewards if reward is not None and not math.isnan(reward)]
    return sum(found) if found else None


def _from_the_best(row: tuple[Any, float | None, float]) -> float:
    return math.inf if row[1] is None else -row[1]


class ProgressBar(TrainerCallback):
    """A bar with the success rate in it; a line every tenth of the way where there is no terminal.

    With an estimator that counts what is correct (`SuccessWeighted`), an `Iteration` block of its figures every tenth of the
    way instead of the line, and above the bar. Use as a context manager around `trainer.train()`.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._note = ""
        self._next = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._next = _next_tenth(state)
        if not state.is_world_process_zero or not self.console.is_terminal:
            return
        self._bar = new_progress(self.console)
        self._bar.start()
        self._task = self._bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, note=""
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        if "success_rate" not in logs:
            return
        rate = logs.get("correctness_rate", logs["success_rate"])
        self._note = f"success {_shown(rate, '.3f')}  dead groups {_shown(logs.get('groups/dead'), '.0%')}"
        if not state.is_world_process_zero or state.global_step < self._next:
            return
        self._next = _next_tenth(state)
        if "n_correct" in logs and "n_total" in logs:
            self.console.print(_iteration(state, logs), highlight=False)
        elif self._bar is None:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {self._note}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, note=self._note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not in `on_train_end`: a run that fails must give the terminal back, too.
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _next_tenth(state: TrainerState) -> int:
    """The next step of those that divide the way into ten."""
    every = max(1, -(-state.max_steps // 10))
    return (state.global_step // every + 1) * every


def _iteration(state: TrainerState, logs: dict[str, Any]) -> str:
    """What has no value in this window (no rollout was correct, or scored) is left out."""
    lines = [f"Iteration {state.global_step}/{state.max_steps}"]
    rate, reward = logs.get("correctness_rate"), logs.get("avg_correct_reward")
    # The loss of success weights itself; TRL's has its gradient, but not its value.
    loss = logs.get("weighted_nll", logs.get("loss"))
    if rate is not None:
        lines.append(f"  Correctness: {logs['n_correct']:g}/{logs['n_total']:g} ({rate:.1%})")
    if reward is not None:
        lines.append(f"  Avg correct reward: {reward:.1f}")
    if loss is not None:
        lines.append(f"  Loss: {loss:.4g}")
    return "\n".join(lines)


class StopOnInterrupt(InterruptWatch, TrainerCallback):
    """Turns the first Ctrl-C into: finish this step, save a checkpoint, stop. A second one stops at once.

    Ctrl-C in one of several processes stops all of them after the same step. Use as a context manager around
    `trainer.train()`; `interrupted` says afterwards whether it happened.
    """

    def __init__(self) -> None:
        super().__init__()
        # In any process, where `pressed` is in this one: it may be pressed here when another has stopped the run already.
        self.interrupted = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.interrupted = self.interrupted or _in_any_process(self.pressed, args)
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.interrupted = self.interrupted or _in_any_process(self.pressed, args)  # in the last save


def _in_any_process(flag: bool, args: TrainingArguments) -> bool:
    if args.world_size == 1:
        return flag
    flags = torch.tensor(int(flag), device=args.device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return bool(flags.item())
