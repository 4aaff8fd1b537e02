"""`maxrl watch`, and a run that is really at work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.experiments.made_runs import make_run
from tests.smallest import write_recipe

from maxrl.cli import main


def test_without_a_terminal_one_look_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "one", "running", steps=6)
    monkeypatch.chdir(tmp_path)
    assert main(["watch"]) == 0
    assert "step 6/10" in capsys.readouterr().out
    assert main(["watch", "runs/one", "--once"]) == 0
    assert "step 6/10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval", "0"], "--interval must be at least 0.1 seconds, but is 0.0"),
        (["--interval", "soon"], "invalid float value: 'soon' (`maxrl watch --help` explains)"),
        (["a", "b"], "unrecognized arguments: b"),
        (["nowhere"], "nowhere is no folder"),
        ([], "there is no folder runs/ here"),
    ],
)
def test_errors_take_a_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--help"]) == 0
    out = capsys.readouterr().out
    assert "maxrl watch runs/grid --interval 10" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_a_run_at_work_is_watched_until_it_is_killed(tmp_path: Path, cache: Path) -> None:
    recipe = write_recipe(tmp_path, max_steps=100_000, save_steps=1000, num_train_problems=64)
    environment = {
        **os.environ,
        "MAXRL_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "80",
    }
    command = [sys.executable, "-m", "maxrl.cli"]
    words = ["train", "--config", str(recipe), "--output_dir", "run", "-q"]
    with subprocess.Popen([*command, *words], env=environment, cwd=tmp_path) as run:
        try:
            _wait_for(tmp_path / "run" / "latest_samples.json", run)
            look = _look(command, environment, tmp_path)
            assert "run  training  maxrl, subset_sum, tiny, seed 42" in look
            assert "/100000" in look
            assert "tokens/s" in look
            assert "left" in look
            assert "drawn at step" in look
            assert run.poll() is None
        finally:
            run.send_signal(signal.SIGKILL)
    assert "stopped" in _look(command, environment, tmp_path)


def _look(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [*command, "watch", "run"], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.is_file():
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.2)
