"""`maxrl grid` through the command line: plan, a small grid really made, its standing, its report."""

import json
import os
from pathlib import Path

import pytest
from tests.experiments.grids import fake_slurm
from tests.smallest import write_recipe

from maxrl.cli import main

pytestmark = pytest.mark.usefixtures("workplace")

SPEC = """\
name: small
recipe: recipe.yaml
fields: {batch_size: 2, max_steps: 2, eval_before_training: false}
axes:
  method: [maxrl, grpo]
"""


@pytest.fixture
def spec(workplace: Path) -> str:
    write_recipe(workplace)
    (workplace / "spec.yaml").write_text(SPEC)
    return "spec.yaml"


def fails(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> str:
    assert main(["grid", *words]) == status
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    return said


def test_help_has_every_action_place_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "--help"]) == 0
    said = capsys.readouterr().out
    for word in (
        "plan",
        "run",
        "status",
        "logs",
        "cancel",
        "collect",
        "--on local",
        "--on ray",
        "--flavor",
        "--partition",
    ):
        assert word in said
    assert main(["grid"]) == 2


def test_plan_shows_runs_names_and_costs_and_starts_nothing(
    workplace: Path, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", "plan", spec]) == 0
    said = capsys.readouterr().out
    assert "tiny-maxrl-n3-bs2-gs4" in said
    assert "2 of 2 runs to make" in said
    assert main(["grid", "plan", spec, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["method"], row["rollouts"], row["state"]) for row in rows] == [
        ("tiny-maxrl-n3-bs2-gs4", "maxrl", 16, "waiting"),
        ("tiny-grpo-n3-bs2-gs4", "grpo", 16, "waiting"),
    ]
    assert main(["grid", "run", spec, "--on", "slurm", "--dry-run", "--partition", "short"]) == 0
    said = capsys.readouterr().out
    assert said.count("#SBATCH --partition=short") == 2
    assert main(["grid", "plan", spec, "--on", "local", "--requests"]) == 0
    assert "a process of this machine" in capsys.readouterr().out
    assert not (workplace / "runs").exists()


def test_a_grid_is_made_shown_and_reported(
    workplace: Path, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(workplace / "out")
    assert main(["grid", "run", spec, "--output_dir", folder, "-q"]) == 0
    assert "2 of 2 runs done, 0 failed" in capsys.readouterr().out
    assert main(["grid", "status", folder, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["state"], row["step"], row["place"], row["attempts"]) for row in rows] == [
        ("tiny-maxrl-n3-bs2-gs4", "done", 2, "local", 1),
        ("tiny-grpo-n3-bs2-gs4", "done", 2, "local", 1),
    ]
    assert main(["grid", "status", folder]) == 0
    assert "2 done" in capsys.readouterr().out
    assert main(["grid", "logs", folder, "tiny-grpo-n3-bs2-gs4"]) == 0
    assert "step 2/2" in capsys.readouterr().out
    assert main(["grid", "cancel", folder]) == 0
    assert "nothing is at work" in capsys.readouterr().err
    assert main(["grid", "collect", folder]) == 0
    assert capsys.readouterr().out.strip().endswith("report: " + str(Path(folder) / "report.html"))
    page = (workplace / "out" / "report.html").read_text()
    assert "maxrl" in page
    assert "grpo" in page
    # One that is damaged does not hide the others.
    metrics = Path(folder) / "tiny-grpo-n3-bs2-gs4" / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text("[1]\n" + whole)
    assert main(["grid", "status", folder]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2/2" in said
    assert "metrics.jsonl, line 1 is damaged" in said
    metrics.write_text(whole)
    # What is done is not done again, and a grid is not quietly made another.
    assert main(["grid", "run", spec, "--output_dir", folder]) == 0
    assert "started" not in capsys.readouterr().err
    (workplace / "spec.yaml").write_text(SPEC.replace("max_steps: 2", "max_steps: 3"))
    assert "other settings (max_steps)" in fails(capsys, 2, "run", spec, "--output_dir", folder)


def test_a_logger_that_nobody_knows_is_refused_before_the_first_run(
    workplace: Path, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "spec.yaml").write_text(SPEC.replace("max_steps: 2", "max_steps: 2, report_to: [wandbb]"))
    assert "wandbb" in fails(capsys, 2, "plan", spec)


def test_jobs_elsewhere_are_printed_with_their_ids_and_not_started_twice(
    workplace: Path, spec: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = workplace / "cluster"
    cluster.mkdir()
    (cluster / "only-queue").touch()
    fake_slurm.install(workplace / "bin")
    monkeypatch.setenv("PATH", f"{workplace / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(cluster))
    assert main(["grid", "run", spec, "--on", "slurm", "--output_dir", "out"]) == 0
    out = capsys.readouterr().out
    assert "tiny-maxrl-n3-bs2-gs4: started as job 4001" in out
    assert "tiny-grpo-n3-bs2-gs4: started as job 4002" in out
    assert main(["grid", "run", spec, "--on", "slurm", "--output_dir", "out"]) == 0
    assert "job" not in capsys.readouterr().out.split("maxrl grid status")[0]
    (workplace / "out" / "jobs.json").unlink()  # which the cluster makes good for
    assert main(["grid", "run", spec, "--on", "slurm", "--output_dir", "out"]) == 0
    assert len(fake_slurm.jobs(cluster)) == 2
    assert main(["grid", "status", "out", "--json"]) == 0  # the folder knows where its runs were given to
    rows = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [(row["state"], row["place"], row["job"]) for row in rows] == [
        ("queued", "slurm", "4001"),
        ("queued", "slurm", "4002"),
    ]
    record = workplace / "out" / "jobs.json"
    jobs = json.loads(record.read_text())
    jobs["tiny-maxrl-n3-bs2-gs4"]["place"] = "local"
    record.write_text(json.dumps(jobs))
    # Of a grid in several places a run that is named is asked for where it was given to.
    assert main(["grid", "cancel", "out", "tiny-grpo-n3-bs2-gs4"]) == 0
    assert fake_slurm.jobs(cluster)["4002"]["state"].startswith("CANCELLED")
    assert fake_slurm.jobs(cluster)["4001"]["state"] == "PENDING"


def test_a_run_that_fails_stays_as_a_row(
    workplace: Path, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPEC.replace("method: [maxrl, grpo]", "warm_start_pass_rate: [0.05, 0.999]")
    (workplace / "spec.yaml").write_text(
        text.replace("max_steps: 2", "max_steps: 1, warm_start_max_steps: 100")
    )
    assert main(["grid", "run", spec, "-q"]) == 1
    assert "1 of 2 runs done, 1 failed" in capsys.readouterr().out
    assert main(["grid", "status", spec]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the warm start solved" in said
    assert "1 done, 1 failed" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["paln", "spec.yaml"], "did you mean 'plan'?"),
        (["plan"], "needs a spec"),
        (["plan", "none.yaml"], "does not exist"),
        (["run", "spec.yaml", "--on", "slrm"], "did you mean 'slurm'?"),
        (["run", "spec.yaml", "--on"], "--on needs a value"),
        (["cancel", "spec.yaml", "--dry-run"], "--dry-run is no option of grid cancel, but of run"),
        (["run", "spec.yaml", "--job", "2"], "did you mean '--jobs'?"),
        (["plan", "spec.yaml", "tiny-maxrl-n3-bs2-gs4"], "unexpected word"),
        (["logs", "spec.yaml"], "name it after the spec"),
        (["logs", "spec.yaml", "tiny-maxrl-n3-bs2-gs5"], "did you mean 'tiny-maxrl-n3-bs2-gs4'?"),
        (["logs", "spec.yaml", "tiny-maxrl-n3-bs2-gs4"], "no job was started"),
        (["collect", "spec.yaml"], "has left anything yet"),
        (["status", "."], "holds no grid.json"),
    ],
)
def test_mistakes_are_one_line(
    spec: str, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in fails(capsys, 2, *words)
