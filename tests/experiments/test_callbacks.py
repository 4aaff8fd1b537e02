"""Metrics and diagnostics on disk, progress on the terminal, and Ctrl-C."""

import io
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from maxrl.experiments import callbacks
from maxrl.experiments.callbacks import (
    DiagnosticsFile,
    LatestSamples,
    MetricsFile,
    ProgressBar,
    StopOnInterrupt,
)
from maxrl.experiments.store.metrics_file import read_metrics

ARGUMENTS = cast(TrainingArguments, SimpleNamespace(world_size=1))  # all that a callback looks at


def state(step: int = 0, steps: int = 100, *, main: bool = True) -> TrainerState:
    return TrainerState(global_step=step, max_steps=steps, is_world_process_zero=main)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`time.perf_counter` gives what the test puts in the first place."""
    now = [1000.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    return now


class Run:
    """A `MetricsFile` driven as the trainer drives it."""

    def __init__(self, path: Path, clock: list[float], *, step: int = 0, main: bool = True) -> None:
        self.watcher = MetricsFile(path)
        self.clock = clock
        self.main = main
        self.watcher.on_train_begin(ARGUMENTS, state(step, main=main), TrainerControl())

    def log(self, step: int, after: float, **logs: Any) -> None:
        self.clock[0] += after
        self.watcher.on_log(ARGUMENTS, state(step, main=self.main), TrainerControl(), logs=logs)


# --- metrics -------------------------------------------------------------------------------------------------------


def test_every_log_is_a_row_with_its_step_and_the_time(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "new folder" / "metrics.jsonl"
    run = Run(path, clock)
    run.log(1, 2.5, loss=0.5, success_rate=0.25)
    run.log(2, 1.0004, loss=0.125, note="text is no metric")
    run.log(2, 0.5, train_runtime=9.0, train_loss=0.3)  # the trainer's summary at the end
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "elapsed": 2.5, "loss": 0.5, "success_rate": 0.25},
        {"step": 2, "elapsed": 3.5, "loss": 0.125},
    ]
    assert read_metrics(path) == [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_run_drops_later_rows_and_its_clock_goes_on(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Run(path, clock)
    for step in (1, 2, 3):
        first.log(step, 10.0, loss=float(step))
    clock[0] += 5000.0  # killed; resumed later from the checkpoint of step 2
    second = Run(path, clock, step=2)
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    second.log(3, 7.0, loss=30.0)
    assert read_metrics(path) == [
        {"step": 1, "elapsed": 10.0, "loss": 1.0},
        {"step": 2, "elapsed": 20.0, "loss": 2.0},
        {"step": 3, "elapsed": 27.0, "loss": 30.0},
    ]


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "metrics.jsonl"
    Run(path, clock).log(1, 10.0, loss=1.0)
    Run(path, clock).log(1, 3.0, loss=2.0)
    assert read_metrics(path) == [{"step": 1, "elapsed": 3.0, "loss": 2.0}]


def test_a_line_left_half_written_is_dropped(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "elapsed": 4.0}\n{"step": 2, "ela')
    assert read_metrics(path) == [{"step": 1, "elapsed": 4.0}]
    Run(path, clock, step=1).log(2, 1.0, loss=1.0)
    assert read_metrics(path) == [
        {"step": 1, "elapsed": 4.0},
        {"step": 2, "elapsed": 5.0, "loss": 1.0},
    ]


def test_no_file_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_only_the_main_process_writes(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 9, "elapsed": 1.0}\n')
    Run(path, clock, main=False).log(1, 1.0, loss=1.0)
    assert read_metrics(path) == [{"step": 9, "elapsed": 1.0}]


# --- Ctrl-C --------------------------------------------------------------------------------------------------------


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_saves_and_stops_after_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(*_: object) -> None:
        raise AssertionError("not while training")

    previous = signal.signal(signal.SIGINT, handler)
    try:
        with StopOnInterrupt() as stop:
            control = TrainerControl()
            stop.on_step_end(ARGUMENTS, state(1), control)
            assert (control.should_save, control.should_training_stop) == (False, False)
            press_ctrl_c()
            assert (control.should_save, control.should_training_stop) == (False, False)
            stop.on_step_end(ARGUMENTS, state(2), control)
            assert stop.interrupted
            assert (control.should_save, control.should_training_stop) == (True, True)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, previous)
    assert "then saving a checkpoint; Ctrl-C again stops at once" in capsys.readouterr().err


def test_ctrl_c_in_the_last_save_counts() -> None:
    with StopOnInterrupt() as stop:
        stop.on_step_end(ARGUMENTS, state(100), TrainerControl())
        press_ctrl_c()
        stop.on_train_end(ARGUMENTS, state(100), TrainerControl())
    assert stop.interrupted


def test_the_second_ctrl_c_stops_at_once_and_the_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopOnInterrupt()

    def train_impatiently() -> None:
        with stop:
            press_ctrl_c()
            press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        train_impatiently()
    assert signal.getsignal(signal.SIGINT) is before


# --- progress ------------------------------------------------------------------------------------------------------


def train(console: Console, steps: int, *, start: int = 0, main: bool = True) -> None:
    """What the trainer calls; step s logs a success rate of s/1000."""
    bar = ProgressBar(console)
    control = TrainerControl()
    bar.on_train_begin(ARGUMENTS, state(start, steps, main=main), control)
    with bar:
        for step in range(start + 1, steps + 1):
            logs = {"success_rate": step / 1000, "groups/dead": 0.5}
            bar.on_log(ARGUMENTS, state(step, steps, main=main), control, logs=logs)
            bar.on_log(ARGUMENTS, state(step, steps, main=main), control, logs={"eval_loss": 1.0})
            bar.on_step_end(ARGUMENTS, state(step, steps, main=main), control)


@pytest.mark.parametrize(
    ("steps", "shown"),
    [(100, list(range(10, 101, 10))), (25, list(range(3, 25, 3))), (3, [1, 2, 3])],
)
def test_without_a_terminal_there_is_a_line_every_tenth_of_the_way(steps: int, shown: list[int]) -> None:
    text = io.StringIO()
    train(Console(file=text, width=80), steps)
    assert text.getvalue().splitlines() == [
        f"step {step}/{steps}  success {step / 1000:.3f}  dead groups 50%" for step in shown
    ]


def test_on_a_terminal_there_is_a_bar_with_the_success_rate() -> None:
    text = io.StringIO()
    train(Console(file=text, force_terminal=True, color_system=None, width=100), 40, start=20)
    *_, last, cursor = text.getvalue().splitlines()
    assert "training" in last
    assert "40/40" in last
    assert "success 0.040  dead groups 50%" in last
    assert cursor == "\x1b[?25h"  # the bar was stopped and the cursor is shown again


@pytest.mark.parametrize("terminal", [True, False])
def test_other_processes_are_silent(terminal: bool) -> None:
    text = io.StringIO()
    train(Console(file=text, force_terminal=terminal), 20, main=False)
    assert text.getvalue() == ""


def test_success_is_what_the_estimator_counts_as_correct() -> None:
    bar = ProgressBar(Console(file=(text := io.StringIO()), width=80))
    bar.on_train_begin(ARGUMENTS, state(0, 1), TrainerControl())
    with bar:
        logs = {"success_rate": 0.0, "correctness_rate": 0.625, "groups/dead": 0.0}
        bar.on_log(ARGUMENTS, state(1, 1), TrainerControl(), logs=logs)
    assert text.getvalue() == "step 1/1  success 0.625  dead groups 0%\n"


def guided(console: Console, steps: int) -> None:
    """As the trainer calls it: a step ends, and then its figures are logged."""
    bar = ProgressBar(console)
    control = TrainerControl()
    bar.on_train_begin(ARGUMENTS, state(0, steps), control)
    with bar:
        for step in range(1, steps + 1):
            bar.on_step_end(ARGUMENTS, state(step, steps), control)
            logs = {
                "loss": -0.01,  # TRL's, whose value says little
                "weighted_nll": 4.2 + step / 1000,
                "success_rate": 0.75,
                "n_correct": 12.0,
                "n_total": 16.0,
                "correctness_rate": 0.75,
                "avg_correct_reward": 27.5 if step < steps else None,
            }
            bar.on_log(ARGUMENTS, state(step, steps), control, logs=logs)


GUIDED = [
    "Iteration 20/40",
    "  Correctness: 12/16 (75.0%)",
    "  Avg correct reward: 27.5",
    "  Loss: 4.22",
]


def test_success_weights_are_shown_as_in_their_guide() -> None:
    """Every tenth of the way; what has no value, as the mean reward of nothing correct, is left out."""
    text = io.StringIO()
    guided(Console(file=text, width=80), 40)
    lines = text.getvalue().splitlines()
    assert len(lines) == 10 * 4 - 1
    assert lines[16:20] == GUIDED
    assert lines[-3:] == ["Iteration 40/40", "  Correctness: 12/16 (75.0%)", "  Loss: 4.24"]


def test_on_a_terminal_they_stand_above_the_bar() -> None:
    text = io.StringIO()
    guided(Console(file=text, force_terminal=True, color_system=None, width=100), 40)
    shown = text.getvalue()
    assert all(line in shown for line in GUIDED)
    assert "40/40" in shown.splitlines()[-2]
    assert "success 0.750" in shown


def test_a_line_shows_the_figures_of_its_own_step() -> None:
    """The trainer logs a step after it has ended; and where every third one is logged, those are shown."""
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=80))
    control = TrainerControl()
    bar.on_train_begin(ARGUMENTS, state(0, 10), control)
    for step in range(1, 11):
        bar.on_step_end(ARGUMENTS, state(step, 10), control)
        if step % 3 == 0:
            logs = {
                "success_rate": step / 100 if step < 9 else None,
                "groups/dead": None if step > 8 else 0.25,
            }
            bar.on_log(ARGUMENTS, state(step, 10), control, logs=logs)
    assert text.getvalue().splitlines() == [
        "step 3/10  success 0.030  dead groups 25%",
        "step 6/10  success 0.060  dead groups 25%",
        "step 9/10  success –  dead groups –",
    ]


# --- diagnostics ---------------------------------------------------------------------------------------------------


def diagnose(path: Path, steps: range, *, main: bool = True) -> None:
    """A run of these steps whose generations serve two steps each, in rows with what the trainer gives."""
    trainer = cast(Any, SimpleNamespace(diagnostics=[]))
    watcher = DiagnosticsFile(path, trainer)
    watcher.on_train_begin(ARGUMENTS, state(steps.start - 1, main=main), TrainerControl())
    for step in steps:
        if step % 2 == 1:
            trainer.diagnostics = [{"step": step, "k_histogram": [step, 0]}]
        watcher.on_step_end(ARGUMENTS, state(step, main=main), TrainerControl())


def test_every_generation_is_a_row_and_a_resumed_run_drops_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "diagnostics.jsonl"
    diagnose(path, range(1, 8))
    assert [row["step"] for row in read_metrics(path)] == [1, 3, 5, 7]
    assert read_metrics(path)[1] == {"step": 3, "k_histogram": [3, 0]}
    with path.open("a") as sink:
        sink.write('{"step": 9, "k_h')  # killed
    diagnose(path, range(5, 8))  # from the checkpoint of step 4
    assert [row["step"] for row in read_metrics(path)] == [1, 3, 5, 7]
    diagnose(path, range(1, 2))
    assert [row["step"] for row in read_metrics(path)] == [1]
    diagnose(path, range(1, 8), main=False)
    assert [row["step"] for row in read_metrics(path)] == [1]


# --- latest samples ------------------------------------------------------------------------------------------------


def drawn(*rows: tuple[Any, str, float, float]) -> Any:
    """A trainer that has drawn these: prompt, completion, reward, advantage."""
    prompts, texts, rewards, advantages = (list(column) for column in zip(*rows, strict=True))
    other = [None] * len(rows)  # of a reward function that does not judge these
    logs = {
        "prompt": prompts,
        "completion": texts,
        "rewards": {"task": rewards, "other": other},
        "advantages": advantages,
    }
    return SimpleNamespace(_logs=logs)


def end_step(watcher: LatestSamples, step: int, *, main: bool = True) -> None:
    watcher.on_step_end(ARGUMENTS, state(step, main=main), TrainerControl())


def test_the_latest_samples_are_of_a_live_group(tmp_path: Path) -> None:
    dead = [("easy", "a", 1.0, 0.0), ("easy", "b", 1.0, 0.0)]
    live = [("hard", f"wrong {i}", i / 10, -0.5) for i in range(5)]
    live += [("hard", "right", 1.0, 2.0), ("hard", "right", 1.0, 2.0)]
    watcher = LatestSamples(tmp_path / "latest.json", drawn(*dead, *live), every=0.0)
    end_step(watcher, 3)
    found = json.loads((tmp_path / "latest.json").read_text())
    assert (found["step"], found["prompt"], found["rollouts"]) == (3, "hard", 7)
    shown = [(row["completion"], row["reward"], row["advantage"]) for row in found["completions"]]
    assert shown == [
        ("right", 1.0, 2.0),
        ("wrong 4", 0.4, -0.5),
        ("wrong 1", 0.1, -0.5),
        ("wrong 0", 0.0, -0.5),
    ]
    watcher.trainer = drawn(*dead, ("easy", "unjudged", None, 0.0))
    end_step(watcher, 4)
    found = json.loads((tmp_path / "latest.json").read_text())
    assert (found["step"], found["prompt"]) == (4, "easy")
    assert [row["reward"] for row in found["completions"]] == [1.0, 1.0, None]  # no verdict is no zero


def test_the_latest_samples_are_replaced_now_and_then_by_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("maxrl.experiments.callbacks.time.monotonic", lambda: clock[0])
    path = tmp_path / "latest.json"
    watcher = LatestSamples(path, drawn(("p", "a", 1.0, 0.0)), every=2.0)
    end_step(watcher, 1, main=False)
    assert not path.exists()
    for step, seconds in ((2, 100.0), (3, 101.9), (4, 102.0)):
        clock[0] = seconds
        end_step(watcher, step)
        assert json.loads(path.read_text())["step"] == (2 if step == 3 else step)
    watcher.trainer = SimpleNamespace(_logs={"prompt": [], "completion": [], "rewards": {}, "advantages": []})
    clock[0] = 200.0
    end_step(watcher, 5)  # nothing was drawn
    assert json.loads(path.read_text())["step"] == 4
