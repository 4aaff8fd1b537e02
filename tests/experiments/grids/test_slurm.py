"""Grids on Slurm, with commands on PATH that stand in for Slurm's and run the jobs here."""

import json
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.grids import fake_slurm
from tests.smallest import write_recipe

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.fields import read_fields
from maxrl.experiments.grids import slurm as slurm_module
from maxrl.experiments.grids.runner import GridRun, JobReport
from maxrl.experiments.grids.slurm import SlurmOptions, SlurmRunner, minutes
from maxrl.experiments.grids.work import make_run


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in; its jobs only queue, until a test removes `only-queue`."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "only-queue").touch()
    fake_slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as runs in this process: others round otherwise
    return folder


def a_run(grid: Path, name: str = "Qwen2.5-0.5B-maxrl-n6-bs4-gs16", **fields: Any) -> GridRun:
    fields = {"model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "seed": 0, **fields}
    return GridRun(name=name, fields={**fields, "output_dir": str(grid / name)}, point={"seed": 0})


def calls(cluster: Path, command: str) -> list[list[str]]:
    lines = (cluster / "calls.jsonl").read_text().splitlines()
    return [words[1:] for words in map(json.loads, lines) if words[0] == command]


def test_start_gives_sbatch_this_script(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = SlurmOptions(
        partition="gpu",
        account="rl",
        qos="long",
        time="1-12",
        cpus_per_task=8,
        mem_gb=32.5,
        constraint="a100|h100",
        setup=["module load cuda", "export HF_HOME=/shared/hf"],
        additional={"mail-type": "FAIL"},
        warning_seconds=120,
        max_timeouts=2,
    )
    grid = Path("runs/first")
    job = SlurmRunner(options, grid).start(a_run(grid))
    assert job == "4001"
    here = tmp_path / "runs" / "first" / "slurm"
    script = f"""\
#!/bin/bash

# Parameters
#SBATCH --account=rl
#SBATCH --constraint='a100|h100'
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --job-name=Qwen2.5-0.5B-maxrl-n6-bs4-gs16
#SBATCH --mail-type=FAIL
#SBATCH --mem=33280MB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output={here}/%j/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=2160

# setup
module load cuda
export HF_HOME=/shared/hf

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {here}/%j/%j_%t_log.out --cpus-per-task=8 {sys.executable} -u -m submitit.core._submit {here}/%j
"""
    assert fake_slurm.jobs(cluster)[job]["script"] == script
    assert (here / job / f"{job}_submission.sh").read_text() == script
    assert [len(words) for words in calls(cluster, "sbatch")] == [1]
    with (here / job / f"{job}_submitted.pkl").open("rb") as file:
        submitted = pickle.load(file)
    assert submitted.function.fields == {
        "model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct",
        "seed": 0,
        "output_dir": str(tmp_path / "runs" / "first" / "Qwen2.5-0.5B-maxrl-n6-bs4-gs16"),
    }
    assert (submitted._timeout_min, submitted._timeout_countdown) == (2160, 2)
    assert submitted.function.checkpoint().function.fields == submitted.function.fields


@pytest.mark.parametrize(
    ("model", "options", "gpus"),
    [
        ("Qwen/Qwen2.5-0.5B", {}, ["#SBATCH --gpus-per-node=1"]),
        ("tiny", {}, []),
        ("tiny", {"gpus_per_node": 1}, ["#SBATCH --gpus-per-node=1"]),
        (
            "Qwen/Qwen2.5-0.5B",
            {"gpus_per_node": 0, "additional": {"gres": "gpu:1"}},
            ["#SBATCH --gres=gpu:1"],
        ),
    ],
)
def test_what_is_shown_is_what_is_sent(
    cluster: Path, tmp_path: Path, model: str, options: dict[str, Any], gpus: list[str]
) -> None:
    runner, run = SlurmRunner(SlurmOptions(**options), tmp_path), a_run(tmp_path, model_name_or_path=model)
    shown = runner.request(run)
    assert not (cluster / "calls.jsonl").exists()
    assert not (tmp_path / "slurm").exists()
    job = runner.start(run)
    sent = fake_slurm.jobs(cluster)[job]["script"]
    first, *rest = shown.splitlines(keepends=True)
    script, _, fields = "".join(rest).partition("\nthe run\n")
    assert first == f"sbatch {tmp_path}/slurm/JOB/JOB_submission.sh\n"
    assert script == sent
    assert json.loads(fields) == run.fields
    assert [line for line in sent.splitlines() if "gpu" in line] == gpus


def test_scripts_are_shown_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    runner, run = SlurmRunner(SlurmOptions(), tmp_path), a_run(tmp_path)
    assert "#SBATCH --time=240\n" in runner.request(run)
    with pytest.raises(
        InputError, match="there is no sbatch on this machine; give the command on a login node"
    ):
        runner.start(run)
    with pytest.raises(InputError, match="there is no squeue"):
        runner.states({"r": "1"})


def test_without_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'maxrl\[slurm\]'"):
        SlurmRunner(SlurmOptions(), tmp_path).request(a_run(tmp_path))


def test_a_refusal_of_sbatch_is_told(cluster: Path, tmp_path: Path) -> None:
    (cluster / "refuse").write_text("sbatch: error: invalid partition specified: gpu")
    with pytest.raises(MaxRLError, match=r"sbatch refused r: .*invalid partition specified: gpu"):
        SlurmRunner(SlurmOptions(partition="gpu"), tmp_path).start(a_run(tmp_path, "r"))


def test_states_take_one_call_of_each_command(cluster: Path, tmp_path: Path) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "11": {"state": "PENDING", "reason": "QOSMaxJobsPerUserLimit"},
        "12": {"state": "RUNNING"},
        "13": {"state": "COMPLETED"},
        "14": {"state": "FAILED", "code": 1},
        "15": {"state": "TIMEOUT"},
        "16": {"state": "CANCELLED"},
        "17": {"state": "PREEMPTED", "lately": True},
        "18": {"state": "OUT_OF_MEMORY", "code": 137},
        "19": {"state": "THAWING"},
        "20": {"state": "RUNNING", "forgotten": True},
    }
    for job, content in jobs.items():
        fake_slurm.record(cluster, job, **content)
    (cluster / "20.json").unlink()
    runner = SlurmRunner(SlurmOptions(), tmp_path)
    assert runner.states({f"run {job}": job for job in jobs}) == {
        "run 11": JobReport(state="queued", message="PENDING: QOSMaxJobsPerUserLimit"),
        "run 12": JobReport(state="running", message="RUNNING"),
        "run 13": JobReport(state="done", message="COMPLETED"),
        "run 14": JobReport(state="failed", message="FAILED: exit code 1:0"),
        "run 15": JobReport(state="unknown", message="TIMEOUT"),
        "run 16": JobReport(state="cancelled", message="CANCELLED"),
        "run 17": JobReport(state="unknown", message="PREEMPTED"),
        "run 18": JobReport(state="unknown", message="OUT_OF_MEMORY: exit code 137:0"),
        "run 19": JobReport(state="running", message="THAWING"),
        "run 20": JobReport(state="unknown", message="not in the queue and not in the accounts"),
    }
    assert calls(cluster, "squeue") == [["--me", "--states=all", "--noheader", "--format=%i|%T|%r"]]
    assert calls(cluster, "sacct") == [
        [
            *["--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State,ExitCode"],
            *["--jobs", "13,14,15,16,18,19,20"],
        ]
    ]
    assert runner.states({}) == {}


def test_a_cluster_without_accounts_does_not_know_what_left_the_queue(cluster: Path, tmp_path: Path) -> None:
    (cluster / "no-accounts").touch()
    fake_slurm.record(cluster, "11", state="COMPLETED")
    (report,) = SlurmRunner(SlurmOptions(), tmp_path).states({"r": "11"}).values()
    assert report.state == "unknown"
    assert "Slurm accounting storage is disabled" in report.message


def test_a_controller_that_is_away_is_no_reason_to_start_anew(cluster: Path, tmp_path: Path) -> None:
    (cluster / "no-controller").touch()
    with pytest.raises(MaxRLError, match=r"squeue ended with status 1: .*Unable to contact slurm controller"):
        SlurmRunner(SlurmOptions(), tmp_path).states({"r": "11"})


@pytest.mark.parametrize(
    ("state", "words"),
    [("PENDING", [["4001"]]), ("CONFIGURING", [["4001"]]), ("COMPLETED", []), ("CANCELLED", [])],
)
def test_cancel_takes_a_waiting_job_out_of_the_queue(
    cluster: Path, tmp_path: Path, state: str, words: list[list[str]]
) -> None:
    runner, run = SlurmRunner(SlurmOptions(), tmp_path), a_run(tmp_path)
    job = runner.start(run)
    fake_slurm.record(cluster, job, state=state, lately=True)
    runner.cancel(run, job)
    assert calls(cluster, "scancel") == words


def test_jobs_are_found_again_by_what_was_submitted(cluster: Path, tmp_path: Path) -> None:
    runner = SlurmRunner(SlurmOptions(), tmp_path)
    one, other = a_run(tmp_path, "a"), a_run(tmp_path, "b's & c")
    runner.start(one)
    second = runner.start(other)
    third = runner.start(one)
    found = SlurmRunner(SlurmOptions(), tmp_path).find([one, other, a_run(tmp_path, "never")])
    assert found == {"a": third, "b's & c": second}


def test_logs(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_module, "LOOK_SECONDS", 0.0)
    runner, run = SlurmRunner(SlurmOptions(), tmp_path), a_run(tmp_path)
    job = runner.start(run)
    assert list(runner.logs(run, job)) == []
    following = runner.logs(run, job, follow=True)
    log = tmp_path / "slurm" / job / f"{job}_0_log.out"
    log.write_text("one\ntwo, the first half")
    assert next(following) == "one"
    with log.open("a") as sink:
        sink.write(", the second half\n\nthe end")
    fake_slurm.record(cluster, job, state="COMPLETED")
    rest = ["two, the first half, the second half", "", "the end"]
    assert list(following) == rest
    assert list(runner.logs(run, job)) == ["one", *rest]


def test_collect_has_nothing_to_do(cluster: Path, tmp_path: Path) -> None:
    runner, run = SlurmRunner(SlurmOptions(), tmp_path), a_run(tmp_path)
    runner.collect(run, "4001")
    assert not (cluster / "calls.jsonl").exists()


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        ("90", 90),
        ("90:01", 91),
        ("4:00:00", 240),
        ("0:30:00", 30),
        ("1-12", 2160),
        ("1-0:30", 1470),
        ("1-0:0:1", 1441),
    ],
)
def test_time_limits_as_sbatch_reads_them(limit: str, found: int) -> None:
    assert minutes(limit) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "4h"}, "time must be a time limit of sbatch"),
        ({"time": "0"}, "time must be a time limit of sbatch"),
        (
            {"time": "14400"},
            "minutes, 10.0 days; write a day or more as D-H:MM, and in YAML put 4:00:00 in quotes",
        ),
        ({"time": "5"}, r"warning_seconds \(300\) leaves a run of 5 no time to train"),
        ({"gpus_per_node": 4}, "gpus_per_node must be 0 or 1, but is 4: a run of a grid is one process"),
        ({"cpus_per_task": 0}, "cpus_per_task must be positive"),
        ({"mem_gb": -1.0}, "mem_gb must be positive"),
        ({"max_timeouts": -1}, "max_timeouts must not be negative"),
        ({"additional": {"job_name": "x"}}, "job_name in additional is set for each run"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SlurmOptions(**options)


def smallest(tmp_path: Path, name: str, **fields: object) -> GridRun:
    recipe = write_recipe(tmp_path, **fields)
    return GridRun(
        name=name,
        fields={**read_fields(["--config", str(recipe)]), "output_dir": str(tmp_path / name)},
        point={},
    )


def wait_for(what: Callable[[], object], runner: SlurmRunner, run: GridRun, job: str) -> None:
    while not what():
        if fake_slurm.jobs(Path(os.environ["FAKE_SLURM"]))[job].get("over"):
            assert what(), "\n".join(runner.logs(run, job))
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_that_is_warned_cancelled_and_started_again_ends_as_an_undisturbed_one(
    cluster: Path, tmp_path: Path
) -> None:
    (cluster / "only-queue").unlink()
    runner = SlurmRunner(SlurmOptions(), tmp_path)
    whole, run = (smallest(tmp_path, name, max_steps=40, save_steps=100) for name in ("whole", "disturbed"))
    make_run(whole.fields)
    job = runner.start(run)
    wait_for(lambda: (run.folder / "metrics.jsonl").exists(), runner, run, job)
    os.kill(fake_slurm.jobs(cluster)[job]["pid"], signal.SIGUSR2)  # the time limit is near
    wait_for(lambda: calls(cluster, "scontrol"), runner, run, job)
    assert calls(cluster, "scontrol") == [["requeue", job]]
    (checkpoint,) = run.folder.glob("checkpoint-*")  # nothing else saves that early

    wait_for(lambda: list(runner.logs(run, job)).count(f"resuming from {checkpoint}"), runner, run, job)
    done = len((run.folder / "metrics.jsonl").read_text().splitlines())
    wait_for(lambda: len((run.folder / "metrics.jsonl").read_text().splitlines()) != done, runner, run, job)
    runner.cancel(run, job)
    wait_for(lambda: fake_slurm.jobs(cluster)[job].get("over"), runner, run, job)
    assert calls(cluster, "scancel") == [["--signal=INT", job], [job]]
    assert runner.states({"r": job})["r"] == JobReport(state="cancelled", message="CANCELLED")
    assert len(list(run.folder.glob("checkpoint-*"))) == 2
    assert not (run.folder / "error.txt").exists()

    job = runner.start(run)
    wait_for(lambda: fake_slurm.jobs(cluster)[job].get("over"), runner, run, job)
    assert runner.states({"r": job})["r"] == JobReport(state="done", message="COMPLETED")
    assert any(line.startswith("step 40/40") for line in runner.logs(run, job))
    for name in ("samples.jsonl", "samples_before.jsonl"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][:40] == list(range(1, 41))


@pytest.mark.slow
def test_a_job_that_is_told_to_end_saves_and_waits_for_the_end(cluster: Path, tmp_path: Path) -> None:
    (cluster / "only-queue").unlink()
    runner, run = (
        SlurmRunner(SlurmOptions(), tmp_path),
        smallest(tmp_path, "r", max_steps=400, save_steps=1000),
    )
    job = runner.start(run)
    wait_for(lambda: (run.folder / "metrics.jsonl").exists(), runner, run, job)
    pid = fake_slurm.jobs(cluster)[job]["pid"]
    os.kill(pid, signal.SIGTERM)  # preemption
    wait_for(lambda: list(run.folder.glob("checkpoint-*/trainer_state.json")), runner, run, job)
    assert calls(cluster, "scancel") == []
    os.kill(pid, signal.SIGUSR2)  # some clusters send this as well: then submitit queues the job again
    wait_for(lambda: calls(cluster, "scontrol"), runner, run, job)
    wait_for(lambda: fake_slurm.jobs(cluster)[job]["pid"] != pid, runner, run, job)
    fake_slurm.scancel(cluster, [job])  # while it imports
    wait_for(lambda: fake_slurm.jobs(cluster)[job].get("over"), runner, run, job)
