"""Grids on Hugging Face Jobs, against a server on localhost that speaks the Hub's API."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants
from tests.experiments.grids.jobs_server import TOKEN, JobsServer, content_hash, jobs_server

from maxrl.errors import InputError, MaxRLError
from maxrl.experiments.grids.hf_jobs import HfJobsRunner, hourly_price
from maxrl.experiments.grids.hf_options import HfJobsOptions, flavor_for, seconds
from maxrl.experiments.grids.runner import GridRun, JobReport

SECRET = "not-to-be-seen-1234"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    close_session()
    with jobs_server() as state:
        yield state
        close_session()


def a_run(folder: Path, name: str = "Qwen2.5-0.5B-maxrl-n6-bs4-gs16", **fields: Any) -> GridRun:
    fields = {"model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "seed": 0, **fields}
    return GridRun(name=name, fields={**fields, "output_dir": str(folder / name)}, point={"seed": 0})


def a_runner(server: JobsServer, folder: Path, **options: Any) -> HfJobsRunner:
    return HfJobsRunner(HfJobsOptions(**{"package": "maxrl==9", **options}), folder, endpoint=server.url)


def parts_of(text: str) -> list[tuple[str, str, Any]]:
    """Method, URL and body of each request in what `request` prints."""
    found = re.findall(r"^(POST) ([^\n]+)\n(\{\n.*?^\})", text, re.MULTILINE | re.DOTALL)
    return [(method, url, json.loads(body)) for method, url, body in found]


def test_start_sends_this_request(server: JobsServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# of the job\nWANDB_API_KEY={SECRET} # mine\n\nexport HF_TOKEN\n")
    grid = tmp_path / "first"
    runner = a_runner(
        server,
        grid,
        secrets_file=str(tmp_path / ".env"),
        env={"WANDB_PROJECT": "maxrl-subset-sum"},
        attempts=3,
        timeout="90m",
        labels={"team": "rl"},
    )
    run = a_run(grid)
    job = runner.start(run)
    assert list(server.jobs) == [job]
    (bucket,) = server.sent("POST", "/api/buckets/.*")
    assert (bucket.path, bucket.body) == ("/api/buckets/alice/maxrl-runs", {"visibility": "private"})
    (sent,) = server.sent("POST", "/api/jobs/[^/]+")
    assert sent.path == "/api/jobs/alice"
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.body == {
        "command": [
            *["uv", "run", "--no-project", "--with", "maxrl==9"],
            *["python", "-m", "maxrl.experiments.grids.hf_work"],
        ],
        "arguments": [],
        "environment": {
            "PYTHONUNBUFFERED": "1",
            "WANDB_PROJECT": "maxrl-subset-sum",
            "MAXRL_RUN": '{"model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "seed": 0, '
            '"output_dir": "/tmp/maxrl/first/Qwen2.5-0.5B-maxrl-n6-bs4-gs16"}',
            "MAXRL_MIRROR": "/runs/first/Qwen2.5-0.5B-maxrl-n6-bs4-gs16",
        },
        "flavor": "a10g-small",
        "secrets": {"WANDB_API_KEY": SECRET, "HF_TOKEN": TOKEN},
        "timeoutSeconds": 5400,
        "attempts": 3,
        "labels": {
            "name": "Qwen2-5-0-5B-maxrl-n6-bs4-gs16",
            "maxrl-grid": "first",
            "maxrl-run": "0b2b4ac32b437f2c",
            "team": "rl",
        },
        "volumes": [{"type": "bucket", "source": "alice/maxrl-runs", "mountPath": "/runs"}],
        "dockerImage": "ghcr.io/astral-sh/uv:python3.12-bookworm",
    }


def test_what_is_shown_is_what_is_sent_with_secrets_masked(server: JobsServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f'WANDB_API_KEY="{SECRET}"\n')
    runner = a_runner(
        server,
        tmp_path / "grid",
        secrets_file=str(tmp_path / ".env"),
        namespace="lab",
        bucket="alice/b",
        image="hf.co/spaces/lab/image",
        package="",
    )
    run = a_run(tmp_path / "grid")
    shown = runner.request(run)
    assert server.received == []
    assert SECRET not in shown
    runner.start(run)
    sent = [(one.method, server.url + one.path, one.body) for one in server.received if one.method == "POST"]
    assert sent[1][2].pop("secrets") == {"WANDB_API_KEY": SECRET}
    masked = parts_of(shown)
    assert masked[1][2].pop("secrets") == {"WANDB_API_KEY": "***"}
    assert masked == sent
    assert sent[1][2]["spaceId"] == "lab/image"
    assert sent[1][2]["command"] == ["python", "-m", "maxrl.experiments.grids.hf_work"]


def test_requests_are_shown_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: JobsServer
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    runner = a_runner(server, tmp_path / "grid")
    (_, bucket, _), (_, jobs, body) = parts_of(runner.request(a_run(tmp_path / "grid")))
    assert bucket == f"{server.url}/api/buckets/<your account>/maxrl-runs"
    assert jobs == f"{server.url}/api/jobs/<your account>"
    assert body["volumes"][0]["source"] == "<your account>/maxrl-runs"
    with pytest.raises(MaxRLError, match="cannot find out who the token belongs to: Token is required"):
        runner.start(a_run(tmp_path / "grid"))


def test_a_bucket_that_is_there_is_used_and_asked_for_once(server: JobsServer, tmp_path: Path) -> None:
    server.buckets["alice/maxrl-runs"] = {"old": b"1"}
    runner = a_runner(server, tmp_path / "grid")
    runner.start(a_run(tmp_path / "grid", "a"))
    runner.start(a_run(tmp_path / "grid", "b"))
    assert len(server.sent("POST", "/api/buckets/.*")) == 1
    assert server.buckets["alice/maxrl-runs"] == {"old": b"1"}
    assert len(server.jobs) == 2


def test_states_of_many_jobs_take_one_listing(server: JobsServer, tmp_path: Path) -> None:
    runner = a_runner(server, tmp_path / "grid")
    stages = {
        "SCHEDULING": "queued",
        "RUNNING": "running",
        "COMPLETED": "done",
        "ERROR": "failed",
        "CANCELED": "cancelled",
        "DELETED": "unknown",
        "THAWING": "running",
    }
    jobs = {stage: runner.start(a_run(tmp_path / "grid", stage)) for stage in stages}
    for stage, job in jobs.items():
        server.set_stage(job, stage, "Job timeout" if stage == "ERROR" else None)
    server.received.clear()
    reports = runner.states(jobs)
    assert {name: report.state for name, report in reports.items()} == stages
    assert reports["ERROR"] == JobReport(state="failed", message="ERROR: Job timeout")
    assert {one.path for one in server.received} == {"/api/jobs/alice"}
    assert all(("label", "maxrl-grid=grid") in one.query for one in server.received)
    assert len(server.received) == 4  # pages of two


def test_jobs_that_the_listing_lacks_are_asked_for_and_may_be_unknown(
    server: JobsServer, tmp_path: Path
) -> None:
    elsewhere = a_runner(server, tmp_path / "renamed")
    job = elsewhere.start(a_run(tmp_path / "renamed"))
    runner = a_runner(server, tmp_path / "grid")
    reports = runner.states({"a": job, "b": "f" * 24})
    assert reports == {
        "a": JobReport(state="queued", message="SCHEDULING"),
        "b": JobReport(state="unknown", message="no such job"),
    }
    assert runner.states({}) == {}


def test_jobs_are_found_again_by_their_labels(server: JobsServer, tmp_path: Path) -> None:
    runner = a_runner(server, tmp_path / "grid")
    one, other = a_run(tmp_path / "grid", "x0.5"), a_run(tmp_path / "grid", "x0-5")
    runner.start(one)
    second = runner.start(other)
    third = runner.start(one)  # once more, after it died
    a_runner(server, tmp_path / "another").start(a_run(tmp_path / "another", "x0.5"))
    never = a_run(tmp_path / "grid", "never")
    assert a_runner(server, tmp_path / "grid").find([one, other, never]) == {"x0.5": third, "x0-5": second}


@pytest.mark.parametrize("follow", [False, True])
def test_logs(server: JobsServer, tmp_path: Path, follow: bool) -> None:
    runner, run = a_runner(server, tmp_path / "grid"), a_run(tmp_path / "grid")
    job = runner.start(run)
    server.printed[job], server.later[job] = ["step 1/2", ""], ["step 2/2  success 0.5"]
    lines = ["step 1/2", "", "step 2/2  success 0.5"]
    assert list(runner.logs(run, job, follow=follow)) == (lines if follow else lines[:2])
    with pytest.raises(MaxRLError, match=f"cannot read the log of {run.name}: 404 Job not found"):
        list(runner.logs(run, "0" * 24))


def test_cancel(server: JobsServer, tmp_path: Path) -> None:
    runner, run = a_runner(server, tmp_path / "grid"), a_run(tmp_path / "grid")
    job = runner.start(run)
    server.set_stage(job, "RUNNING")
    runner.cancel(run, job)
    assert server.jobs[job]["status"]["stage"] == "CANCELED"
    assert [one.path for one in server.sent("POST", ".*/cancel")] == [f"/api/jobs/alice/{job}/cancel"]
    runner.cancel(run, job)  # has ended: the service says so, and nothing is wrong
    runner.cancel(run, "0" * 24)
    server.set_stage(job, "RUNNING")
    server.refusals.append((".*/cancel", 403, "Forbidden"))
    with pytest.raises(
        MaxRLError, match=f"cannot cancel {run.name}: 403 Forbidden; the token's owner may not"
    ):
        runner.cancel(run, job)


def test_collect(server: JobsServer, tmp_path: Path) -> None:
    runner, run = a_runner(server, tmp_path / "grid"), a_run(tmp_path / "grid", "r")
    job = runner.start(run)
    files = server.buckets["alice/maxrl-runs"]
    runner.collect(run, job)
    assert not run.folder.exists()
    files |= {
        "grid/r/run.json": b"{}",
        "grid/r/eval.json": b'{"accuracy": 1}',
        "grid/r/stage-1/run.json": b"{ }",
        "grid/r/stage-1/checkpoint-2/model.safetensors": b"weights",
        "grid/r/checkpoint-2/model.safetensors": b"weights",
        "grid/r2/eval.json": b"another run's",
    }
    run.folder.mkdir(parents=True)
    (run.folder / "error.txt").write_text("of the start before")
    (run.folder / "kept.txt").write_text("one's own notes")
    server.received.clear()
    runner.collect(run, job)
    there = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert there == {"run.json", "eval.json", "stage-1/run.json", "kept.txt"}
    assert (run.folder / "eval.json").read_bytes() == b'{"accuracy": 1}'
    hashes = [one.path.split("/")[-1] for one in server.sent("GET", "/xet/block/.*")]
    assert hashes[0] == content_hash(b'{"accuracy": 1}')
    assert sorted(hashes[1:]) == sorted([content_hash(b"{}"), content_hash(b"{ }")])
    files["grid/r/error.txt"] = b"Boom"
    a_runner(server, tmp_path / "grid", collect_checkpoints=True).collect(run, job)
    assert (run.folder / "error.txt").read_bytes() == b"Boom"
    assert (run.folder / "checkpoint-2" / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "cannot start r: 401 No; the token is missing or not valid: `hf auth login`, or set HF_TOKEN"),
        (
            402,
            "cannot start r: 402 No; the account has no credit for it: https://huggingface.co/settings/billing",
        ),
        (403, "cannot start r: 403 No; the token's owner may not"),
        (404, "cannot start r: 404 No; check namespace and bucket"),
        (429, "cannot start r: 429 No; too many requests: wait some minutes"),
        (503, "cannot start r: 503 No; a fault of the service: give the same command again later"),
        (418, "cannot start r: 418 No; check the options against `maxrl grid run --dry-run`"),
    ],
)
def test_refusals_say_what_to_do(server: JobsServer, tmp_path: Path, status: int, message: str) -> None:
    server.refusals.append(("/api/jobs/alice", status, "No"))
    with pytest.raises(MaxRLError) as refused:
        a_runner(server, tmp_path / "grid").start(a_run(tmp_path / "grid", "r"))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    runner = HfJobsRunner(
        HfJobsOptions(namespace="a", package="maxrl==9"), tmp_path, endpoint="http://127.0.0.1:9"
    )
    with pytest.raises(MaxRLError, match=r"cannot start r: .*refused"):
        runner.start(a_run(tmp_path, "r"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(MaxRLError, match=r"cannot list jobs: .*HF_HUB_OFFLINE"):
        runner.states({"a": "1"})


def test_a_file_of_this_machine_is_refused(tmp_path: Path, server: JobsServer) -> None:
    run = a_run(tmp_path / "grid", "r", model_name_or_path=str(tmp_path))
    runner = a_runner(server, tmp_path / "grid", flavor="h200")
    for attempt in (runner.start, runner.request):
        with pytest.raises(InputError, match=r"model_name_or_path of r is .*cannot see it; upload it"):
            attempt(run)
    assert server.jobs == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "mine.py"},
        {"task": "mine.py:Mine"},
        {"reward_funcs": ["./mine.py:reward"]},
        {"tasks": [{"task": "subset_sum"}, {"task": "mine.py"}]},
    ],
)
def test_a_file_in_the_working_folder_is_refused_wherever_it_is_named(
    tmp_path: Path, server: JobsServer, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = a_runner(server, tmp_path / "grid", flavor="h200")
    run = a_run(tmp_path / "grid", "r", **fields)
    runner.request(run)  # a file of this name may be in the job's image
    (tmp_path / "mine.py").touch()
    with pytest.raises(InputError, match=r"mine\.py.* on this machine"):
        runner.start(run)
    assert server.jobs == {}


def test_prices(server: JobsServer) -> None:
    assert hourly_price("cpu-basic", endpoint=server.url) == pytest.approx(0.01002)
    assert hourly_price("a10g-small", endpoint=server.url) == 1.0
    with pytest.raises(InputError, match="unknown flavor 'a10g-smal'; did you mean 'a10g-small'"):
        hourly_price("a10g-smal", endpoint=server.url)
    with pytest.raises(MaxRLError, match="per fortnight"):
        hourly_price("odd", endpoint=server.url)


@pytest.mark.parametrize(
    ("model", "flavor"),
    [
        (None, "cpu-basic"),
        ("tiny", "cpu-basic"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "a10g-small"),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "a10g-small"),
        ("Qwen/Qwen3-1.7B-Base", "l40sx1"),
        ("Qwen/Qwen2.5-3B-Instruct", "a100-large"),
        ("meta-llama/Llama-3.1-8B", "h200"),
        ("someone/Llama-1B-from-8B", "h200"),
    ],
)
def test_flavor_by_size(model: str | None, flavor: str) -> None:
    assert flavor_for({"model_name_or_path": model}) == flavor


@pytest.mark.parametrize("model", ["gpt2", "Qwen/Qwen3-30B-A3B", "mistralai/Mixtral-8x7B", "m/Model-v2beta"])
def test_no_flavor_for_other_models(model: str, server: JobsServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose hardware with flavor"):
        flavor_for({"model_name_or_path": model})
    runner = a_runner(server, tmp_path, flavor="h200x8")
    assert runner.device(a_run(tmp_path, "r", model_name_or_path=model)) == "h200x8"


def test_durations() -> None:
    assert [seconds(text) for text in ("45", "45s", "90m", "1.5h", "2d")] == [45, 45, 5400, 5400, 172800]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": "soon"}, "timeout must be a number with s, m, h or d after it"),
        ({"timeout": "0h"}, "timeout must be"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"bucket": "a/b/c"}, "bucket must be a name, or owner/name"),
        ({"labels": {"name": "x"}}, "the label name is set for each run"),
        ({"labels": {"team": "a b"}}, "label team may have letters"),
        ({"env": {"MAXRL_RUN": "{}"}}, "MAXRL_RUN in env is set for each run"),
        ({"secrets_file": "/nowhere/.env"}, r"secrets_file /nowhere/.env does not exist"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HfJobsOptions(**options)


def test_a_damaged_secrets_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"A=1\n{SECRET}\n")
    with pytest.raises(InputError, match="line 2: neither NAME=VALUE nor the name of a variable") as refused:
        HfJobsOptions(secrets_file=str(tmp_path / ".env"))
    assert SECRET not in str(refused.value)


def test_a_secret_whose_variable_is_not_set_here_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOT_SET_HERE_AT_ALL\n")
    with pytest.raises(InputError, match="line 1: neither"):
        HfJobsOptions(secrets_file=str(tmp_path / ".env"))


def test_where_a_job_gets_maxrl_from_must_be_said(tmp_path: Path) -> None:
    runner = HfJobsRunner(HfJobsOptions(namespace="a"), tmp_path)
    with pytest.raises(InputError, match="package"):
        runner.request(a_run(tmp_path))
