"""`maxrl doctor` says what is there, and no secret."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maxrl.cli import machine, main
from maxrl.experiments.environment import LIBRARIES, installed_version
from maxrl.integrations import seen

SECRET = "s3cr3t-0123456789-abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without logins, and a terminal that breaks no line."""
    for name in ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "MAXRL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


def findings(capsys: pytest.CaptureFixture[str], status: int = 0) -> dict[str, tuple[str, str]]:
    """What → (found, note)."""
    assert main(["doctor"]) == status
    said = capsys.readouterr()
    assert said.err == ""
    assert SECRET not in said.out
    lines = [line.strip("│").split("│") for line in said.out.splitlines() if line.startswith("│")]
    return {what.strip(): (found.strip(), note.strip()) for what, found, note in lines}


def test_what_is_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)
    assert found["Python"][0] == ".".join(map(str, sys.version_info[:3]))
    for name in LIBRARIES:
        assert found[name][0] == installed_version(name)
    assert "torch threads" in found["processor"][0]


def test_without_logins_it_says_what_they_are_for(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    found = findings(capsys)
    assert found["Hugging Face login"][0] == "absent"
    assert "hf auth login" in found["Hugging Face login"][1]
    assert found["Hugging Face Hub"] == ("allowed", "")
    assert found["wandb key"][0] == "absent"
    assert "WANDB_API_KEY" in found["wandb key"][1]
    assert found["cache"][0] == str(home / ".cache" / "maxrl")
    assert "GiB free" in found["cache"][1]


@pytest.mark.parametrize("columns", ["80", "250"])
def test_secrets_are_found_and_not_shown(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for piece in (SECRET[start : start + 6] for start in range(len(SECRET) - 5)):
        assert piece not in out
    flat = " ".join(out.replace("│", " ").split())
    assert "Hugging Face login present" in flat
    assert "wandb key present" in flat
    assert "offline by HF_HUB_OFFLINE" in flat


def test_a_wandb_login_may_lie_in_netrc(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    netrc = home / ".netrc"
    netrc.write_text(f"machine api.example.org login user password {SECRET}\n")
    assert findings(capsys)["wandb key"][0] == "absent"
    netrc.write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    assert findings(capsys)["wandb key"][0] == "present"


def test_a_token_may_lie_on_disk(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "token").write_text(SECRET)
    assert findings(capsys)["Hugging Face login"][0] == "present"


def test_what_training_needs_and_is_missing_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        machine, "installed_version", lambda name: None if name == "peft" else installed_version(name)
    )
    assert findings(capsys, status=1)["peft"] == ("missing", "needed: pip install peft")


def test_what_is_optional_and_missing_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        machine, "installed_version", lambda name: None if name in ("vllm", "wandb") else "1.0"
    )
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = findings(capsys)
    assert found["vllm"] == ("missing", "only for use_vllm: pip install vllm")
    assert found["wandb"][0] == "missing"
    assert found["git"] == ("missing", "records the code version of runs")


def test_another_version_than_the_tested_one_is_noted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        machine, "installed_version", lambda name: "99.1" if name == "trl" else installed_version(name)
    )
    assert findings(capsys)["trl"] == (
        "99.1",
        f"tested with {machine.TESTED['trl']}; `make test` shows whether this one works",
    )


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert findings(capsys)["GPU"][0] == "none"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert findings(capsys)["GPU"][0] == "GPU 0, GPU 1"


def test_the_cache_may_be_moved(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAXRL_CACHE", str(home / "not" / "made" / "yet"))
    assert findings(capsys)["cache"][0] == str(home / "not" / "made" / "yet")
    assert not (home / "not").exists()


def test_help_and_words_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    assert "Secrets are looked for, never shown." in capsys.readouterr().out
    for words, told in (
        (["now"], "maxrl doctor takes no option but --engine, and got 'now'"),
        (["--engine"], "--engine takes one name: verl, skyrl, tinker, slime, verifiers, prime-rl"),
        (["--engine", "verrl"], "unknown engine 'verrl'; did you mean 'verl'?"),
    ):
        assert main(["doctor", *words]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("engine", seen.ENGINES)
def test_an_engine_that_is_not_here_is_said_to_be_missing(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--engine", engine]) == 1
    assert "missing" in capsys.readouterr().out


def test_slimes_estimator_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in ("maxlr", "hybrid(steps=1)", "maxrl(order=4)"):
        monkeypatch.setenv("MAXRL_ESTIMATOR", name)
        found[name] = seen.findings("slime")[-1]
    assert "did you mean 'maxrl'" in found["maxlr"].note
    assert "has memory" in found["hybrid(steps=1)"].note
    assert [one.fatal for one in found.values()] == [True, True, False]


def test_of_an_engines_traceback_the_exception_is_told() -> None:
    stderr = "Traceback …\n  File x\npydantic_core.ValidationError: 1 error for X\nfield\n    For further information visit"
    assert seen._why(stderr) == "pydantic_core.ValidationError: 1 error for X"
    assert seen._why("killed") == "killed"
    assert seen._why("") == ""


def test_without_rich_the_findings_are_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["doctor", "--engine", "verl"]) == 1
    assert capsys.readouterr().out.startswith("verl: missing (not installed beside")


def test_asking_an_engine_needs_nothing_of_the_training_stack() -> None:
    code = "import sys, maxrl.cli.doctor; print(*({'trl', 'transformers', 'peft', 'datasets'} & sys.modules.keys()))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
