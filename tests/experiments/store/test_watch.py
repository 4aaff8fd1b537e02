"""What a watcher sees of a run, in every state, and that it stops when there is nothing more to see."""

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from tests.experiments.made_runs import make_run, write_evaluation, write_samples

from maxrl.errors import InputError
from maxrl.experiments.store import StoredRun
from maxrl.experiments.store.progress import phase, recent, seconds_left, sparkline
from maxrl.experiments.store.watch import watch


def look(path: Path, *, width: int = 80, height: int = 40) -> str:
    text = io.StringIO()
    watch(path, Console(file=text, width=width, height=height), once=True)
    assert max(map(len, text.getvalue().splitlines())) <= width
    return text.getvalue()


def latest(folder: Path) -> None:
    rows = [("1 3", 1.0), ("3", 0.0), ("", -0.5), ("4", None)]
    drawn = [{"completion": text, "reward": reward, "advantage": 0.0} for text, reward in rows]
    (folder / "latest_samples.json").write_text(
        json.dumps({"step": 6, "prompt": "1 3 = 4 :", "rollouts": 3, "completions": drawn})
    )


def test_a_running_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=6)
    latest(folder)
    out = look(folder)
    assert "one  training  maxrl, subset_sum, tiny, seed 0" in out
    assert "step 6/10" in out
    (line,) = [line for line in out.splitlines() if line.startswith("success rate")]
    assert line.split() == ["success", "rate", "0.300", "▁▂▄▅▇█", "0.05", "…", "0.30"]
    assert "75% live, 25% dead, 0% mastered" in out
    assert "0.5 s a step, 64 rollouts/s, 256 tokens/s" in out
    assert "drawn at step 6" in out
    assert "1 3 = 4 :" in out
    assert "✓ 1 3" in out
    assert "✗ 3" in out
    assert "✗ (nothing)  (reward -0.5)" in out
    assert "? 4" in out  # no verdict is no failure


def log(folder: Path, **figures: float) -> None:
    """One more step, the seventh."""
    with (folder / "metrics.jsonl").open("a") as sink:
        sink.write(json.dumps({"step": 7, "elapsed": 3.5, **figures}) + "\n")


def test_a_step_of_which_nothing_was_judged_is_no_figure(tmp_path: Path) -> None:
    nan = float("nan")
    folder = make_run(tmp_path / "one", "running", steps=6)
    log(folder, success_rate=nan, **{"groups/live": nan, "groups/dead": 0.5, "groups/mastered": nan})
    out = look(folder)
    (line,) = [line for line in out.splitlines() if line.startswith("success rate")]
    assert line.split() == ["success", "rate", "—", "▁▂▄▅▇█", "0.05", "…", "0.30"]
    assert "— live, 50% dead, — mastered" in out
    assert "nan" not in out
    # In a table, beside one that never had a verdict.
    never = make_run(tmp_path / "two", "running", steps=0)
    log(never, success_rate=nan)
    assert "success rate   —" in look(never)
    rows = {line.split()[0]: line.split()[1:] for line in look(tmp_path).splitlines() if line.strip()}
    assert rows["one"][:5] == ["training", "7/10", "—", "▁▂▄▅▇█", "—"]
    assert rows["two"][:4] == ["training", "7/10", "—", "—"]


def test_time_left_is_that_of_steps_and_evaluations(tmp_path: Path) -> None:
    run = StoredRun(make_run(tmp_path / "one", "running", steps=6))
    assert recent(run) == {"step_seconds": 0.5, "rollouts": 64.0, "completion_tokens": 256.0}
    assert seconds_left(run) == 4 * 0.5 + 3.0
    with_evals = make_run(tmp_path / "two", "running", steps=6, eval_every=2)
    (with_evals / "evals.jsonl").write_text('{"step": 6, "greedy_accuracy": 0.5, "seconds": 7.0}\n')
    assert seconds_left(StoredRun(with_evals)) == 4 * 0.5 + 2 * 7.0 + 3.0
    assert seconds_left(StoredRun(make_run(tmp_path / "three", "running", steps=1))) is None
    assert seconds_left(StoredRun(make_run(tmp_path / "four", "running", steps=6, max_steps=-1))) is None


def test_speed_is_that_of_the_last_rows(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=0, max_steps=100)
    rows = [
        {"step": s, "elapsed": float(s if s < 40 else 40 + 3 * (s - 40)), "rollouts": s} for s in range(1, 61)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert recent(StoredRun(folder)) == {"step_seconds": 3.0, "rollouts": 1 / 3}


def test_phases(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=0, environment={})
    assert phase(StoredRun(folder)) == "starting"
    (folder / "environment.json").write_text('{"python": "3"}')
    assert phase(StoredRun(folder)) == "training"
    (folder / "eval_before.json").unlink()
    assert phase(StoredRun(folder)) == "evaluating before training"
    assert phase(StoredRun(make_run(tmp_path / "two", "running", steps=9))) == "training"
    last = make_run(tmp_path / "three", "running", steps=10)
    assert phase(StoredRun(last)) == "evaluating"
    assert "of some 3.0 s" in look(last)


def test_an_evaluation_while_training(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=3, eval_every=2)
    drawn = folder / "diagnostics.jsonl"
    evals = folder / "evals.jsonl"
    evals.write_text('{"step": 2, "greedy_accuracy": 0.5, "seconds": 7.0}\n')
    drawn.write_text("".join(f'{{"step": {step}}}\n' for step in (1, 2, 3)))
    assert phase(StoredRun(folder)) == "training"
    with drawn.open("a") as sink:  # the fourth step has ended, of which nothing is logged yet
        sink.write('{"step": 4}\n')
    assert phase(StoredRun(folder)) == "evaluating while training"
    (folder / "metrics.jsonl").touch()
    before = time.time() - 100
    os.utime(drawn, (before, before))
    out = look(folder)
    assert "evaluating       for 1 min 40 s, of some 7.0 s" in out
    assert "left" in out
    make_run(tmp_path / "two")
    assert "evaluating" in look(tmp_path)
    with evals.open("a") as sink:
        sink.write('{"step": 4, "greedy_accuracy": 0.5, "seconds": 7.0}\n')
    assert phase(StoredRun(folder)) == "training"
    with drawn.open("a") as sink:
        sink.write('{"step": 5}\n')
    assert phase(StoredRun(folder)) == "training"


def test_a_run_that_makes_no_steps_any_more_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=6)
    assert "no step was logged" not in look(folder)
    before = time.time() - 600
    os.utime(folder / "metrics.jsonl", (before, before))
    assert "no step was logged for 10 min" in look(folder)


def test_a_finished_run_shows_what_it_came_to(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one")
    write_samples(folder)
    out = look(folder)
    assert "one  done" in out
    assert "pass@k before  @1 0.250  @4 1.000" in out
    assert "pass@k after   @1 0.500  @4 1.000" in out
    assert "1 3 = 4 :\n  ✓ 1 3\n  ✗ 3\n" in out  # the second problem: it has both


def test_a_failed_and_a_stopped_run(tmp_path: Path) -> None:
    assert "RuntimeError: the loss is not finite" in look(make_run(tmp_path / "one", "failed", steps=3))
    stopped = look(make_run(tmp_path / "two", "stopped", steps=3, checkpoints=(2,)), width=120)
    assert "it can go on from checkpoint-2 (--resume_from_checkpoint true)" in stopped
    assert "has no checkpoint yet" in look(make_run(tmp_path / "three", "stopped", steps=1))


def test_several_runs_are_a_table(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", "running", steps=6)
    make_run(tmp_path / "c", "failed", steps=3)
    make_run(tmp_path / "d", "stopped", steps=0)
    out = look(tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["a"] == ["done", "10/10", "0.500", "▁▂▃▃▄▅▆▆▇█", "75%", "—"]
    assert rows["b"][:2] == ["training", "6/10"]
    assert rows["b"][-1] == "s"
    assert rows["d"] == ["stopped", "0/10", "—", "—", "—"]
    assert "4 runs: 1 running, 1 failed, 1 stopped, 1 done" in out
    assert "c: RuntimeError: the loss is not finite" in out


def test_more_runs_than_lines_show_those_at_work(tmp_path: Path) -> None:
    for number in range(12):
        make_run(tmp_path / f"run{number:02}", "running" if number == 11 else "done", steps=2)
    out = look(tmp_path, height=15)
    assert "run11" in out
    assert "run10" not in out
    assert "5 more are not shown" in out


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0.5], "▁"),
        ([1, 1, 1], "▁▁▁"),
        ([0, 1], "▁█"),
        ([*range(80)], None),
        ([0] * 50 + [1] * 7, None),
    ],
)
def test_sparklines(values: list[float], line: str | None) -> None:
    drawn = sparkline(values, 40)
    assert len(drawn) == min(40, len(values))
    if line is not None:
        assert drawn == line
    else:
        assert drawn[0] == "▁"
        assert drawn[-1] == "█"
        assert list(drawn) == sorted(drawn)


# --- going on looking ----------------------------------------------------------------------------------------------


def watched(folder: Path, happens: list[object]) -> tuple[str, list[float]]:
    """Watch on a terminal; between two looks the next thing happens."""
    text, waits = io.StringIO(), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        happening = happens.pop(0)
        if isinstance(happening, BaseException):
            raise happening
        happening()  # pyright: ignore

    console = Console(file=text, force_terminal=True, width=80, height=40, color_system=None)
    watch(folder, console, interval=0.5, sleep=sleep)
    return text.getvalue(), waits


def test_it_ends_when_the_run_does(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=6)

    def step() -> None:
        with (folder / "metrics.jsonl").open("a") as sink:
            sink.write('{"step": 7, "elapsed": 3.5, "success_rate": 1.0}\n{"step": 8, "ela')

    def end() -> None:
        write_evaluation(folder / "eval.json", 2)
        (folder / "run.json").write_text('{"steps": 10}')

    out, waits = watched(folder, [step, end])
    assert waits == [0.5, 0.5]
    assert out.index("step 6/10") < out.index("step 7/10") < out.index("done")
    assert out.endswith("\x1b[?25h")  # the cursor is back


def test_ctrl_c_ends_the_watching_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=6)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    out, waits = watched(folder, [lambda: None, KeyboardInterrupt()])
    assert waits == [0.5, 0.5]
    assert out.endswith("\x1b[?25h")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def long_ago(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))


def test_a_stopped_run_is_not_waited_for(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", "failed", steps=3)
    assert watched(tmp_path, [])[1] == []
    long_ago(make_run(tmp_path / "c", "stopped", steps=3))
    assert watched(tmp_path, [])[1] == []
    gone = make_run(tmp_path / "d", "running", steps=3)  # its files are fresh, but its process is gone
    record = json.loads((gone / "process.json").read_text())
    (gone / "process.json").write_text(json.dumps({**record, "created": 0.0}))
    assert watched(tmp_path, [])[1] == []
    at_work = make_run(tmp_path / "e", "running", steps=3)
    assert len(watched(tmp_path, [lambda: (at_work / "run.json").write_text("{}")])[1]) == 1


@pytest.mark.parametrize("others", [0, 1])
def test_a_run_that_has_just_begun_is_waited_for(tmp_path: Path, others: int) -> None:
    for number in range(others):
        make_run(tmp_path / f"{number}")
    begun = make_run(tmp_path / "new", "stopped", steps=0)  # no process is on record yet
    assert len(watched(tmp_path, [lambda: (begun / "run.json").write_text("{}")])[1]) == 1


# --- files that cannot be read -------------------------------------------------------------------------------------


def test_a_file_that_is_half_written_is_read_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", "running", steps=6)
    whole = (folder / "metrics.jsonl").read_text()

    def cut() -> None:
        (folder / "metrics.jsonl").write_text(whole.replace("}\n", "\n", 1))

    def mend() -> None:
        (folder / "metrics.jsonl").write_text(whole)

    def end() -> None:
        (folder / "run.json").write_text("{}")

    out, waits = watched(folder, [cut, mend, end])
    assert len(waits) == 3
    assert out.index("step 6/10") < out.index("line 1 is damaged") < out.rindex("step 6/10")


def test_a_damaged_file_of_a_run_that_is_over_ends_the_watching(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one")
    (folder / "eval.json").write_text("{")
    with pytest.raises(InputError, match=r"eval\.json is damaged"):
        watched(folder, [])
    (folder / "eval.json").unlink()
    (folder / "samples.jsonl").write_text('{"id": "a", "pro')
    with pytest.raises(InputError, match=r"samples\.jsonl is damaged"):
        look(folder)


def test_a_damaged_run_is_a_line_among_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "metrics.jsonl").write_text("{\n{}\n")
    out = look(tmp_path, width=200)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["a"][:2] == ["done", "10/10"]
    assert rows["b"] == ["unreadable", "—", "—", "—", "—"]
    assert "b: " in out
    assert "metrics.jsonl, line 1 is damaged" in out


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        look(tmp_path)
