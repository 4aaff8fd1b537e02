"""Our tasks as verl's data and reward, as far as it needs no verl (the rest: `engines/check_verl.py`)."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from maxrl.errors import InputError
from maxrl.integrations.verl_tasks import compute_score, main, rows
from maxrl.tasks import Example, get_task

OWN = """
from dataclasses import dataclass
from typing import ClassVar
from maxrl.tasks import Example, Task, Verdict


@dataclass(frozen=True, kw_only=True)
class Own(Task):
    name: ClassVar[str] = "own"
    lacks: str = ""

    def examples(self, split, count, *, seed=0, start=0):
        return [Example(id=f"{split}-{seed}-{i}", prompt="Say yes.", truth={"i": i}) for i in range(start, start + count)]

    def size(self, split):
        return 3 if split == "eval" else None

    def missing(self):
        return self.lacks or None

    def score(self, truth, completion):
        if completion == "crash":
            raise KeyError("its own")
        return Verdict(success=completion == "yes", reward=float(completion == "yes"))
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def score(row: dict[str, Any], completion: str, **more: Any) -> float:
    """As verl's reward manager calls it."""
    return compute_score(
        data_source=row["data_source"],
        solution_str=completion,
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info={**row["extra_info"], "num_turns": 2},
        **more,
    )


def test_a_row_has_what_verl_and_the_verifier_need(own: str) -> None:
    found = rows(own, {"lacks": ""}, "eval", None, 7)
    assert found[1] == {
        "data_source": "maxrl/own",
        "prompt": [{"role": "user", "content": "Say yes."}],
        "ability": "own",
        "reward_model": {"style": "rule", "ground_truth": '{"i": 1}'},
        "extra_info": {
            "problem": own,
            "parameters": '{"lacks": ""}',
            "id": "eval-7-1",
            "index": 1,
            "split": "eval",
        },
    }
    assert len(found) == 3
    assert len(rows(own, {}, "eval", 2, 0)) == 2
    assert len(rows(own, {}, "eval", 100, 0)) == 3  # no more than there are
    assert len(rows(own, {}, "train", 5, 0)) == 5
    assert rows(own, {}, "eval", 1, 0, data_source="mine")[0]["data_source"] == "mine"


def test_messages_stay_as_they_are() -> None:
    parameters = {"train_data": "project"}
    example = get_task("math", **parameters).examples("train", 1)[0]
    assert rows("math", parameters, "train", 1, 0)[0]["prompt"] == example.prompt


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("subset_sum", {"num_elements": 4}),
        ("maze", {"maze_size": 5}),
        ("reverse_text", {}),
        ("gsm8k", {"train_data": "project", "eval_data": "project"}),
        ("math", {"train_data": "project", "eval_data": "project", "answer_format": "boxed"}),
    ],
)
def test_demonstrations_get_their_reward_with_the_tasks_parameters(name: str, parameters: Any) -> None:
    task = get_task(name, **parameters)
    for row in rows(name, parameters, "train", 3, 0):
        truth = json.loads(row["reward_model"]["ground_truth"])
        gold = task.demonstration(Example(id=row["extra_info"]["id"], prompt="", truth=truth))
        assert score(row, gold, reward_router_address=None) == 1.0
        assert score(row, "") == 0.0


def test_the_parameters_of_the_row_decide() -> None:
    boxed, hashed = (
        rows("math", {"train_data": "project", "answer_format": form}, "train", 1, 0)[0]
        for form in ("boxed", "hash")
    )
    answer = json.loads(boxed["reward_model"]["ground_truth"])["answer"]
    assert (score(boxed, f"\\boxed{{{answer}}}"), score(boxed, f"#### {answer}")) == (1.0, 0.0)
    assert (score(hashed, f"\\boxed{{{answer}}}"), score(hashed, f"#### {answer}")) == (0.0, 1.0)


def test_a_verifier_that_fails_is_no_zero(own: str, caplog: pytest.LogCaptureFixture) -> None:
    row = rows(own, {}, "eval", 1, 0)[0]
    assert (score(row, "yes"), score(row, "no")) == (1.0, 0.0)
    for _ in range(3):
        assert math.isnan(score(row, "crash"))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, told
    assert "KeyError" in told[0]
    assert "NaN" in told[0]


def test_it_works_from_several_threads_at_once() -> None:
    row = rows("math", {"train_data": "project"}, "train", 1, 0)[0]
    answer = json.loads(row["reward_model"]["ground_truth"])["answer"]
    found: list[float] = []
    # A box that is not the gold's text, so that the pool of worker processes compares it.
    texts = [f"\\boxed{{{answer} + 0}}", "\\boxed{\\frac{1}{12345}}"] * 4
    threads = [
        threading.Thread(target=lambda text=text: found.append(score(row, text)), daemon=True)
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [0.0] * 4 + [1.0] * 4


def test_rows_that_are_not_ours_are_refused(own: str) -> None:
    row = rows(own, {}, "eval", 1, 0)[0]
    truth = row["reward_model"]["ground_truth"]
    for extra in (None, {}, {"parameters": "{}"}, {"problem": own}, {"problem": own, "parameters": {}}):
        with pytest.raises(InputError, match=r"does not name its task.*verl_tasks"):
            compute_score("openai/gsm8k", "yes", truth, extra)
    with pytest.raises(InputError, match="not JSON"):
        compute_score("openai/gsm8k", "yes", "#### 42", row["extra_info"])


@pytest.mark.parametrize(
    ("name", "parameters", "count", "message"),
    [
        ("subset_sums", {}, 1, "did you mean 'subset_sum'"),
        ("subset_sum", {"num_element": 4}, 1, "did you mean 'num_elements'"),
        ("subset_sum", {}, None, "without end"),
        ("subset_sum", {}, 0, "count=0"),
        ("OWN", {"lacks": "a compiler"}, 1, "a compiler"),
    ],
)
def test_what_rows_refuses(own: str, name: str, parameters: Any, count: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows(own if name == "OWN" else name, parameters, "train", count, 0)


def test_the_file_that_main_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "folder" / "train.parquet"
    words = ["--task", "subset_sum", "--count", "5", "--seed", "3", "--out", str(path)]
    assert main([*words, "--parameter", "num_elements=4", "--parameter", "prompt_format=compact"]) == 0
    found = parquet.read_table(path).to_pylist()
    assert found == rows("subset_sum", {"num_elements": 4, "prompt_format": "compact"}, "train", 5, 3)
    assert capsys.readouterr().out == f"5 rows of maxrl/subset_sum (train) in {path}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "subset_sums", "--out", "a.parquet"], "did you mean 'subset_sum'"),
        (["--task", "subset_sum", "--out", "a.parquet"], "--count"),
        (["--task", "subset_sum", "--out", "a.csv"], "NAME.parquet"),
        (["--task", "maze", "--count", "1", "--out", "a.parquet", "--parameter", "maze_size"], "NAME=VALUE"),
        (["--task", "maze", "--count", "1", "--out", "/proc/no/a.parquet"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not list(tmp_path.iterdir())
