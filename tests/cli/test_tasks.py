"""`maxrl tasks`: what there is, what problems look like, and verifiers that prove themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maxrl.cli import main
from maxrl.tasks import TASKS

Run = Callable[..., tuple[int, str, str]]

WRONG = """
from dataclasses import dataclass
from typing import ClassVar
from maxrl.tasks import Example, Task, Verdict

@dataclass(frozen=True, kw_only=True)
class Anything(Task):
    \"\"\"Accepts whatever is not empty.\"\"\"

    name: ClassVar[str] = "anything"

    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=f"{split}-{seed}-{start + i}", prompt="p", truth={}) for i in range(count)]

    def score(self, truth, completion):
        return Verdict(success=bool(completion), reward=float(bool(completion)))

    def demonstration(self, example):
        return "right"
"""

LACKING = """
from dataclasses import dataclass
from maxrl.tasks import SubsetSum

@dataclass(frozen=True, kw_only=True)
class Lacking(SubsetSum):
    name = "lacking"

    def missing(self):
        return "the package unobtainium is missing"
"""

MUTE = """
from dataclasses import dataclass
from maxrl.tasks import SubsetSum

@dataclass(frozen=True, kw_only=True)
class Mute(SubsetSum):
    name = "mute"

    def can_demonstrate(self):
        return False
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str) -> tuple[int, str, str]:
        status = main(["tasks", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_the_list_names_every_task(run: Run) -> None:
    status, out, _ = run("list")
    assert status == 0
    assert all(name in out for name in TASKS)
    assert "endless" in out


@pytest.mark.parametrize("words", [["--help"], ["show", "--help"], ["list", "-h"]])
def test_help_teaches(run: Run, words: list[str]) -> None:
    status, out, _ = run(*words)
    assert status == 0
    assert out.startswith("usage: maxrl tasks list")


def test_without_words_it_says_what_there_is(run: Run) -> None:
    assert run()[0] == 2


def test_a_task_explains_its_parameters(run: Run) -> None:
    with pytest.raises(SystemExit) as left:
        run("show", "subset_sum", "--help")
    assert left.value.code == 0


def test_problems_are_shown_with_truth_answer_and_verdict(run: Run) -> None:
    status, out, _ = run(
        "show", "subset_sum", "--n", "2", "--num_elements", "4", "--prompt_format", "compact"
    )
    assert status == 0
    assert out.count("hidden truth: {'numbers':") == 2
    assert out.count("a right answer (reward 1):") == 2
    assert "── train-0-0 ─" in out
    chat = run("show", "subset_sum", "--n", "1", "--split", "eval", "--seed", "7")[1]
    assert "── eval-7-0 ─" in chat
    assert "user: Here are 6 numbers" in chat


def test_check_counts_what_was_accepted_and_refused(run: Run) -> None:
    status, out, _ = run("check", "subset_sum", "--problems", "50", "--num_elements", "4")
    assert status == 0
    assert "50/50" in out
    assert "passed" in out


def test_a_verifier_that_accepts_what_is_wrong_fails_its_check(run: Run) -> None:
    Path("wrong.py").write_text(WRONG)
    status, out, err = run("check", "wrong.py", "--problems", "3")
    assert status == 1
    assert "FAILED" in out
    assert "anything: blank not refused" in out
    assert "3 wrong verdicts are listed above" in err


def test_what_cannot_be_checked_says_why(run: Run) -> None:
    Path("lacking.py").write_text(LACKING)
    Path("mute.py").write_text(MUTE)
    status, _, err = run("check", "lacking.py")
    assert status == 1
    assert "cannot be checked here: the package unobtainium is missing" in err
    assert "no verdict: the package unobtainium is missing" in run("show", "lacking.py", "--n", "1")[1]
    status, out, _ = run("check", "mute.py")
    assert status == 0
    assert "no demonstrations" in out
    assert "a right answer" not in run("show", "mute.py", "--n", "1")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shwo"], "did you mean 'show'"),
        (["show"], "needs the name of a task"),
        (["show", "subset_sun"], "did you mean 'subset_sum'"),
        (["show", "subset_sum", "--num_elments", "3"], "did you mean '--num_elements'"),
        (["show", "subset_sum", "--n", "0"], "--n must be at least 1"),
        (["show", "subset_sum", "--n", "many"], "invalid int value"),
        (["show", "subset_sum", "--num_elements", "1"], "num_elements=1 is not allowed"),
        (["show", "subset_sum", "--svg", "x.svg"], "draws no SVG"),
        (["check", "subset_sum", "--problems", "0"], "count=0 is not allowed"),
        (["list", "all"], "takes no options"),
        (["check", "nowhere.py"], "nowhere.py does not exist"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run: Run, words: list[str], message: str) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
