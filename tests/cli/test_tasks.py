"""`maxrl tasks`: what there is, what problems look like, and verifiers that prove themselves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maxrl.cli import main
from maxrl.tasks import TASKS, Maze

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
    assert "21 + 9 for" in out
    assert out.count("a data set") == 2


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


@pytest.fixture
def samples(run: Run) -> str:
    """Two completions for each of two mazes of the evaluation, a right one and one that is not."""
    maze = Maze(maze_size=5)
    rows = [
        {"id": example.id, "prompt": example.prompt, "completion": completion}
        for example in maze.examples("eval", 2)
        for completion in (maze.demonstration(example), "UP DONE")
    ]
    Path("samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return "samples.jsonl"


def test_samples_are_shown_with_the_problems_they_are_for(run: Run, samples: str) -> None:
    words = ["show", "maze", "--maze_size", "5", "--n", "1", "--samples", samples, "--svg", "maze.svg"]
    status, out, _ = run(*words)
    assert status == 0
    assert "2 sampled: 1 right, 1 hit a wall" in out
    assert "one that is not:\nUP DONE" in out
    assert "2 answers: 1 solved, 1 hit a wall" in out
    assert "2 ways through it, 1 of them right" in Path("maze.svg").read_text()
    other = run("show", "maze", "--maze_size", "5", "--seed", "1", "--n", "1", "--samples", samples)
    assert (other[0], "has nothing for these problems" in other[2]) == (2, True)
    Path(samples).write_text('{"id": 3}\n')
    broken = run(*words)
    assert (broken[0], "samples.jsonl, line 1 is no sample (KeyError: 'prompt')" in broken[2]) == (2, True)


def test_a_split_with_fewer_problems_says_so(run: Run) -> None:
    out = run("show", "maze", "--maze_size", "5", "--pool_size", "2", "--n", "5")[1]
    assert "train has 2 problems; all are shown" in out


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


def test_a_parameter_cannot_be_an_option_of_the_command(run: Run) -> None:
    Path("own.py").write_text(WRONG.replace('"anything"\n', '"anything"\n    n: int = 3\n'))
    status, _, err = run("show", "own.py")
    assert status == 2
    assert "task own.py has a parameter named n, which is an option of maxrl tasks show" in err
    assert run("check", "own.py", "--problems", "1", "--n", "2")[0] == 1


def test_examples_that_are_none_are_named(run: Run) -> None:
    Path("own.py").write_text(WRONG.replace("[Example(", "[str(").replace(', prompt="p", truth={}', ""))
    status, _, err = run("show", "own.py")
    assert status == 2
    assert len(err.splitlines()) == 1


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
        (["show", "maze", "--svg", "."], "--svg . is a folder"),
        (["show", "maze", "--samples", "none.jsonl"], "none.jsonl"),
        (["show", "maze", "--maze_size", "5", "extra"], "takes options alone, but got 'extra'"),
        (["check", "subset_sum", "--problems", "0"], "--problems must be at least 1"),
        (["check", "--problmes", "3"], "did you mean '--problems'"),
        (["check", "--problems", "5", "maze"], "takes options alone, but got 'maze'"),
        (["list", "all"], "takes no options"),
        (["check", "nowhere.py"], "nowhere.py does not exist"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run: Run, words: list[str], message: str) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
