"""`maxrl`: its commands, and the one line and the exit status that every failure ends in."""

import io
import subprocess
import sys
from collections.abc import Sequence

import pytest

import maxrl
from maxrl.cli import COMMANDS, inspect, main
from maxrl.errors import InputError, MaxRLError, RewardError


def failing(error: BaseException) -> object:
    def run(argv: Sequence[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["-h"], 0), (["help"], 0)])
def test_usage_names_every_command(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == status
    out = capsys.readouterr().out
    assert out.startswith("usage: maxrl COMMAND [options]")
    for name, what in COMMANDS.items():
        assert f"  {name:<10}{what}" in out.splitlines()
    assert max(map(len, out.splitlines())) <= 80


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"maxrl {maxrl.__version__}\n"


def test_the_words_of_the_process_are_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["maxrl", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"maxrl {maxrl.__version__}\n"


def test_an_unknown_command_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["insepct"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "maxrl: error: unknown command 'insepct'; did you mean 'inspect'? "
        f"(known: {', '.join(sorted(COMMANDS))})\n"
    )


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("no such\n  thing"), 2, "maxrl: error: no such thing"),
        (RewardError("negative"), 2, "maxrl: error: negative"),
        (MaxRLError("it broke\nhere"), 1, "maxrl: failed: it broke here"),
        (KeyboardInterrupt(), 1, "maxrl: failed: interrupted"),
    ],
)
def test_failures_are_one_line_and_a_status(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(inspect, "run", failing(error))
    assert main(["inspect"]) == status
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_failure_of_our_own_making_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "run", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["inspect"])


def test_a_reader_that_left_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(inspect, "run", failing(BrokenPipeError()))
    assert main(["inspect"]) == 1


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_command_gets_its_words_and_decides_the_status(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> int:
        seen.append(argv)
        return status

    monkeypatch.setattr(inspect, "run", run)
    assert main(["inspect", "--n", "4"]) == status
    assert seen == [["--n", "4"]]


def test_asking_for_help_loads_no_training_stack() -> None:
    code = (
        "import sys; from maxrl.cli import main; main(['--help']); main(['--version']); main(['nope']); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers', 'trl', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_module_runs_as_a_program() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "maxrl.cli", "trian"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith("maxrl: error: unknown command 'trian'; did you mean 'train'?")
    assert run.stderr.count("\n") == 1
