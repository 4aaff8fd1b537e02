"""What loggers get: read back from what the real packages leave on the disk, without network."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.wandb_file import read_wandb
from tests.smallest import write_recipe

from maxrl.cli import main
from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.experiments import loggers
from maxrl.experiments.loggers import check_logger_names, check_loggers, logged_name
from maxrl.experiments.logging_keys import LOG_KEYS
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.store.metrics_file import read_metrics

FIELDS = {"eval_every": 3, "log_keys": "subset_sum_benchmark", "logging_steps": 1}

BATCH = {"batch/success_rate", "batch/time", "batch/loss", "batch/grad_norm"}
EPOCH = {"epoch/train_success", "epoch/eval_accuracy", "epoch/time_total", "epoch/loss_mean"}
ENDS = {"eval/initial_accuracy", "eval/final_accuracy"}
"""The benchmark's keys; with `accuracy_improvement` in the summary."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path: Path, cache: Path) -> Any:
    """Train in a process of its own, with these environment variables; the run's folder."""

    def run(report_to: str, environment: Mapping[str, str], *words: str, **fields: object) -> Path:
        folder = tmp_path / "named-so"
        recipe = write_recipe(tmp_path, **{**FIELDS, "report_to": report_to, **fields})
        command = [
            sys.executable,
            "-m",
            "maxrl.cli",
            "train",
            "--config",
            str(recipe),
            "--output_dir",
            str(folder),
        ]
        caches = {"MAXRL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [*command, "-q", *words],
            env={**os.environ, **caches, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return folder

    return run


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Key → (step, value), from what the run wrote itself."""
    metrics, evals = read_metrics(folder / "metrics.jsonl"), read_metrics(folder / "evals.jsonl")
    names = {"success_rate": "success_rate", "time": "step_time", "loss": "loss", "grad_norm": "grad_norm"}
    found = {f"batch/{key}": [(row["step"], row[name]) for row in metrics] for key, name in names.items()}
    ends = [(1, 3), (4, 6)]
    assert [row["step"] for row in evals] == [last for _, last in ends]

    def mean(name: str) -> list[tuple[int, float]]:
        return [(last, sum(row[name] for row in metrics[first - 1 : last]) / 3) for first, last in ends]

    found |= {"epoch/train_success": mean("success_rate"), "epoch/loss_mean": mean("loss")}
    found["epoch/eval_accuracy"] = [(row["step"], row["greedy_accuracy"]) for row in evals]
    elapsed = [0.0, metrics[2]["elapsed"], metrics[5]["elapsed"]]
    found["epoch/time_total"] = [
        (row["step"], elapsed[i + 1] - elapsed[i] + row["seconds"]) for i, row in enumerate(evals)
    ]
    before, after = (
        Evaluation.load(folder / f"eval{label}.json").greedy_accuracy for label in ("_before", "")
    )
    assert before is not None
    assert after is not None
    found["eval/initial_accuracy"], found["eval/final_accuracy"] = [(0, before)], [(6, after)]
    found["accuracy_improvement"] = [(6, after - before)]
    return found


def check(logged: Mapping[str, Sequence[tuple[int, float]]], folder: Path, *, without: str = "") -> None:
    wanted = {key: values for key, values in expected(folder).items() if key != without}
    assert set(logged) == set(wanted)
    for key, values in wanted.items():
        assert [step for step, _ in logged[key]] == [step for step, _ in values], key
        assert [value for _, value in logged[key]] == pytest.approx(
            [value for _, value in values], rel=1e-5
        ), key
    # And not a second time in our own file.
    assert not any(set(row) & set(wanted) for row in read_metrics(folder / "metrics.jsonl"))


def test_tensorboard(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MAXRL_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    recipe = str(write_recipe(tmp_path, **FIELDS, report_to="tensorboard"))
    assert main(["train", "--config", recipe, "--output_dir", str(tmp_path / "run"), "-q"]) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    keys = events.Tags()["scalars"]
    assert "train/reward" in keys  # TRL's own stay
    ours = [key for key in keys if not key.startswith("train/")]
    assert set(ours) == BATCH | EPOCH | ENDS | {"accuracy_improvement"}
    check({key: [(e.step, e.value) for e in events.Scalars(key)] for key in ours}, tmp_path / "run")
    (config,) = events.Tensors("config/text_summary")
    assert "    num_elements: 3\n" in config.tensor_proto.string_val[0].decode()


@pytest.mark.slow
def test_weights_and_biases_offline(train: Any, tmp_path: Path) -> None:
    environment = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    folder = train("wandb", environment, project="maxrl-subset-sum")
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    logged = read_wandb(path)
    assert (logged.run.project, logged.run.display_name) == ("maxrl-subset-sum", "named-so")
    assert json.loads((folder / "wandb.json").read_text())["id"] == logged.run.run_id
    assert {"num_elements": 3, "task": "subset_sum", "eval_every": 3}.items() <= logged.config.items()
    by_key: dict[str, list[tuple[int, float]]] = {}
    for row in logged.history:
        for key, value in row.items():
            if not key.startswith(("train/", "_", "profiling/")):
                by_key.setdefault(key, []).append((row["train/global_step"], value))
    check(by_key, folder, without="accuracy_improvement")
    assert logged.summary["accuracy_improvement"] == expected(folder)["accuracy_improvement"][0][1]
    # Resumed, it goes on under the same id, with the name asked for.
    train("wandb", environment, "--resume_from_checkpoint", "true", max_steps=8, run_name="other")
    paths = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert {read_wandb(path).run.run_id for path in paths} == {logged.run.run_id}
    assert {read_wandb(path).run.display_name for path in paths} == {"named-so", "other"}


@pytest.mark.slow
def test_trackio(train: Any, tmp_path: Path) -> None:
    folder = train("trackio", {"TRACKIO_DIR": str(tmp_path / "trackio")}, project="ours")
    with sqlite3.connect(tmp_path / "trackio" / "ours.db") as database:
        rows = database.execute("select run_name, metrics from metrics order by id").fetchall()
        configs = database.execute("select * from configs").fetchall()
    database.close()
    by_key: dict[str, list[tuple[int, float]]] = {}
    for name, metrics in rows:
        assert name == "named-so"
        row = json.loads(metrics)
        for key, value in row.items():
            if not key.startswith(("train/", "profiling/")):
                by_key.setdefault(key, []).append((row["train/global_step"], value))
    check(by_key, folder)
    (config,) = configs
    (fields,) = [
        json.loads(value) for value in config if isinstance(value, (bytes, str)) and value[:1] in (b"{", "{")
    ]
    assert {"num_elements": 3, "task": "subset_sum", "eval_every": 3}.items() <= fields.items()


# --- before anything starts ----------------------------------------------------------------------------------------


def a_recipe(**fields: Any) -> Any:
    return make_recipe({"task": "subset_sum", "max_steps": 1, "bf16": False, **fields})


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_logger_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_loggers(a_recipe(report_to=[name]))
    monkeypatch.setattr(loggers, "installed_version", lambda package: None)
    with pytest.raises(
        InputError, match=rf"report_to={name} needs the package {name}.*pip install 'maxrl\[loggers\]'"
    ):
        check_loggers(a_recipe(report_to=[name]))
    check_loggers(a_recipe(report_to=["none"]))


@pytest.mark.parametrize("check", [check_loggers, check_logger_names])
def test_a_logger_that_nobody_knows(check: Any) -> None:
    with pytest.raises(InputError, match="unknown logger in report_to 'wandbb'; did you mean 'wandb'"):
        check(a_recipe(report_to=["wandbb"]))
    with pytest.raises(InputError, match="goes to tensorboard, wandb, trackio, not to mlflow"):
        check(a_recipe(report_to=["mlflow"], log_keys="subset_sum_benchmark"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio", "none"])
def test_a_name_may_be_one_that_only_the_machine_of_the_run_has(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "installed_version", lambda package: None)
    check_logger_names(a_recipe(report_to=[name]))


def test_the_run_is_called_as_its_folder(tmp_path: Path) -> None:
    assert logged_name(tmp_path / "maxrl-seed0") == "maxrl-seed0"
    assert logged_name(tmp_path / "staged" / "stage-2") == "staged-stage-2"


# --- figures -------------------------------------------------------------------------------------------------------


def test_figures_of_an_epoch_are_those_of_its_rows() -> None:
    keys = LOG_KEYS["subset_sum_benchmark"]
    metrics = [
        {"step": 1, "elapsed": 1.0, "success_rate": 0.9, "loss": 9.0},
        {"step": 2, "elapsed": 2.0, "success_rate": 0.2, "loss": 1.0},
        {"step": 3, "elapsed": 5.0, "success_rate": None, "loss": 2.0},
        {"step": 3, "elapsed": 6.0, "eval_loss": 1.0},
        {"step": 4, "elapsed": 7.0, "success_rate": 0.4, "loss": 9.0},
    ]
    row = {"step": 3, "greedy_accuracy": 0.5, "seconds": 10.0}
    assert keys.of_epoch(metrics, row, 1) == {
        "epoch/train_success": 0.2,
        "epoch/loss_mean": 1.5,
        "epoch/eval_accuracy": 0.5,
        "epoch/time_total": 6.0 - 1.0 + 10.0,
    }
    assert keys.of_epoch([], {**row, "greedy_accuracy": None}, 1) == {}
    assert keys.of_row({"success_rate": None, "loss": 0.5}) == {"batch/loss": 0.5}
