"""The benchmark's command line: which jobs it runs and in which order, what it prints, how it ends."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import step
from rich.console import Console
from step_parts.measure import arguments
from step_parts.rows import ROWS, SWEEP, Job
from step_parts.summary import compare_row
from tests.benchmarks.miniature import JOB, MINIATURE, result, silent

SECONDS = {("ours", "fp32"): 2.0, ("ours", "bf16"): 1.0, ("trl", "fp32"): 6.0, ("trl", "bf16"): 8.0}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What `main` has asked for; the answers are made up."""
    asked: list[Job] = []

    def runner(job: Job, limit: float | None = None) -> dict[str, Any]:
        asked.append(job)
        return result(SECONDS[job.side, job.precision])

    monkeypatch.setattr(step, "run_in_process", runner)
    return asked


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """The tables, and the JSON of the last line."""
    *tables, last = capsys.readouterr().out.splitlines()
    return "\n".join(tables), json.loads(last)


def test_the_sides_take_turns(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main(["--rows", "maze9", "qwen05", "--repeats", "2", "--threads", "2"]) == 0
    one_row = [
        *[("ours", "fp32", False), ("trl", "fp32", False), ("ours", "bf16", False), ("trl", "bf16", False)],
        *[("trl", "fp32", False), ("ours", "fp32", False), ("trl", "bf16", False), ("ours", "bf16", False)],
        *[("ours", "bf16", True), ("trl", "fp32", True)],  # each side in its faster precision
    ]
    assert [(job.side, job.precision, job.dead) for job in jobs] == 2 * one_row
    assert [job.row for job in jobs] == 10 * [ROWS["maze9"]] + 10 * [ROWS["qwen05"]]
    assert {(job.device, job.threads, job.small_warm_up, job.peak_size) for job in jobs} == {
        ("cpu", 2, False, 2048)
    }
    tables, found = printed(capsys)
    assert "TRL over maxrl" in tables
    assert set(found["rows"]) == {"maze9", "qwen05"}
    assert found["rows"]["maze9"]["step_ratio"] == 6.0
    assert found["failed"] == []


def test_all_rows_three_times_unless_told_otherwise(
    jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    assert step.main([]) == 0
    assert len(jobs) == len(ROWS) * (3 * 4 + 2)
    _, found = printed(capsys)
    assert list(found["rows"]) == list(ROWS)


def test_one_precision_alone(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main(["--rows", "maze9", "--repeats", "1", "--precisions", "bf16"]) == 0
    assert [(job.side, job.precision) for job in jobs] == 2 * [("ours", "bf16"), ("trl", "bf16")]
    assert printed(capsys)[1]["rows"]["maze9"]["all"]["ours"]["fp32"] is None


def test_quick_measures_each_combination_once(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main(["--quick"]) == 0
    one_row = [("ours", "fp32"), ("ours", "bf16"), ("trl", "bf16"), ("trl", "fp32")]  # bf16: the higher peak
    assert [(job.side, job.precision) for job in jobs] == 2 * one_row
    assert [job.row.name for job in jobs] == 4 * ["maze9"] + 4 * ["maze17"]
    assert all(job.small_warm_up and not job.dead for job in jobs)
    tables, found = printed(capsys)
    assert "not measured" not in tables
    assert found["rows"]["maze17"]["step_ratio"] == 6.0


def test_the_sweep_is_of_maxrl_alone(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main(["--sweep", "--repeats", "2"]) == 0
    once = [(n, precision) for n in SWEEP for precision in ("fp32", "bf16")]
    assert [(job.row.num_generations, job.precision) for job in jobs] == 2 * once
    assert {(job.side, job.row.prompts) for job in jobs} == {("ours", ROWS["maze17"].prompts)}
    tables, found = printed(capsys)
    assert "maze17: ms per rollout" in tables
    assert "256 against 64" in tables
    assert found["sweep"]["maze17"]["fp32"]["ratio_256_64"]["step"] == 0.25  # made up: as long at any N


def test_a_gpu_is_asked_for_with_larger_matrices(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rows", "maze9", "--repeats", "1", "--device", "cuda"]
    monkeypatch.setattr(step, "cuda_available", lambda: True)
    assert step.main(words) == 0
    assert {(job.device, job.peak_size) for job in jobs} == {("cuda", 8192)}
    assert printed(capsys)[1]["device"] == "cuda"
    jobs.clear()
    monkeypatch.setattr(step, "cuda_available", lambda: False)
    assert step.main(words) == 2
    assert jobs == []
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "micro_batch"), [([], 512), (["--micro_batch", "128"], 128)])
def test_the_micro_batch_of_trl_stands_beside_its_memory(
    words: list[str], micro_batch: int, jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    assert step.main(["--rows", "subset_sum", "--repeats", "1", *words]) == 0
    for job in jobs:
        given = arguments(job, "folder", 1)
        rows = micro_batch if job.side == "trl" else 512
        assert given["per_device_train_batch_size"] == rows
        assert given["gradient_accumulation_steps"] == 512 // rows
    tables, found = printed(capsys)
    assert found["rows"]["subset_sum"]["trl_micro_batch"] == micro_batch
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in tables.splitlines() if "│" in line]
    last = {line[1]: line[-2:] for line in lines if len(line) > 10}
    assert last["TRL fp32"] == last["TRL bf16"] == ["100 MiB", str(micro_batch)]
    assert last["maxrl fp32"] == ["100 MiB", "–"]
    assert f"1.00× ({micro_batch})" in tables


def test_a_failure_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def runner(job: Job, limit: float | None = None) -> dict[str, Any]:
        raise step.Failed("killed")

    monkeypatch.setattr(step, "run_in_process", runner)
    assert step.main(["--rows", "maze9", "--repeats", "1"]) == 1
    tables, found = printed(capsys)
    assert len(found["failed"]) == 4
    assert "not measured" in tables


@pytest.mark.parametrize(("budget", "lasts"), [(11.0, False), (12.0, True)])
def test_quick_leaves_out_what_the_time_does_not_allow(
    budget: float, lasts: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    asked: list[tuple[str, str, float | None]] = []

    def slow(job: Job, limit: float | None) -> dict[str, Any]:
        asked.append((job.side, job.precision, limit))
        now[0] += 3.0 if job.side == "trl" else 1.0
        return result(1.0)

    monkeypatch.setattr(step, "time", SimpleNamespace(monotonic=lambda: now[0]))
    session = step.Session(slow, silent(), budget=budget)
    step.compare_quickly([MINIATURE], JOB, session)
    # bf16 has the higher matmul peak. After 5 seconds, twice TRL's 3 have to be left.
    always = [("ours", "fp32", budget), ("ours", "bf16", budget - 1), ("trl", "bf16", budget - 2)]
    assert asked == always + [("trl", "fp32", budget - 5)] * lasts
    row = compare_row(MINIATURE, session.measured)
    assert (row["all"]["trl"]["fp32"] is not None) == lasts
    assert session.measured.failed == []
    step.show_rows(Console(width=160), {"miniature": row})
    assert ("fp32 not measured" in capsys.readouterr().out) != lasts


def test_nothing_is_started_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(job: Job, limit: float | None) -> dict[str, Any]:
        now[0] += 5.0
        return result(1.0)

    monkeypatch.setattr(step, "time", SimpleNamespace(monotonic=lambda: now[0]))
    session = step.Session(slow, silent(), budget=5.0)
    step.compare_quickly([MINIATURE], JOB, session)
    assert len(list(session.measured.all())) == 1
    assert session.measured.failed == [
        "miniature N=8 maxrl bf16: no time left",
        "miniature N=8 TRL bf16: no time left",
        "miniature N=8 TRL fp32: no time left",
    ]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--rows", "maze5"], list(ROWS)),
        (["--repeats", "0"], ["0"]),
        (["--micro_batch", "0"], ["0"]),
        (["--micro_batch", "64"], ["64", "qwen05", "32"]),
        (["--quick", "--sweep"], ["--quick", "--sweep"]),
        (["--quick", "--repeats", "3"], ["--quick", "--repeats"]),
        (["--quick", "--precisions", "fp32", "bf16"], ["--quick", "--precisions"]),
        (["--sweep", "--micro_batch", "8"], ["--sweep", "--micro_batch"]),
    ],
)
def test_mistakes_take_one_line(
    words: list[str], named: list[str], jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        step.main(words)
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert all(name in lines[0] for name in named)
    assert jobs == []
