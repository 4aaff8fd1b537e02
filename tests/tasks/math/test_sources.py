"""Data for gsm8k and math: files, columns, names, the Hub."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from maxrl.errors import InputError
from maxrl.tasks.math import GSM8K, Math
from maxrl.tasks.math import sources as math_sources
from maxrl.tasks.math.sources import SOURCES, load_problems

GSM = GSM8K(**GSM8K.check_parameters)
MATH = Math(**Math.check_parameters)


@pytest.fixture(autouse=True)
def _load_afresh() -> None:
    load_problems.cache_clear()


ROWS = [
    {"question": "How many?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
    {"question": "And now?", "answer": "1,000 * 2\n#### 2,000"},
]


def _write(path: Path, rows: list[Any]) -> str:
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text(
            f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join([*lines, ""]), encoding="utf-8"
        )
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_files_are_read(tmp_path: Path, suffix: str) -> None:
    name = _write(tmp_path / f"mine{suffix}", ROWS)
    task = GSM8K(train_data=name, eval_data=name)
    assert task.size("train") == task.size("eval") == 2
    first, second = task.examples("eval", 2)
    assert dict(first.truth) == {"answer": "5", "solution": "2 + 3 = 5"}
    assert second.truth["answer"] == "2,000"
    assert first.id.startswith("mine-")
    assert first.id.endswith("-0")
    assert first.prompt[0]["content"].startswith("How many? Let's")
    assert task.score(second.truth, "\\boxed{2000}").success


def test_a_row_without_a_solution_gives_a_truth_without_one(tmp_path: Path) -> None:
    name = _write(tmp_path / "bare.jsonl", [{"question": "How many?", "answer": 5}])
    [example] = Math(eval_data=name).examples("eval", 1)
    assert dict(example.truth) == {"answer": "5"}


def test_columns_are_found_and_can_be_named(tmp_path: Path) -> None:
    rows = [
        {
            "n": 1,
            "prompt": "P?",
            "problem": "Q?",
            "answer": 7,
            "solution": "By thought.",
            "gold": "\\boxed{8.5}",
        }
    ]
    name = _write(tmp_path / "a.jsonl", rows)
    [problem] = load_problems(name, "train", "math")
    assert (problem.question, problem.answer, problem.solution) == ("Q?", "7", "By thought.")
    [problem] = load_problems(name, "train", "math", "prompt", "gold")
    assert (problem.question, problem.answer) == ("P?", "8.5")
    with pytest.raises(
        InputError, match=r"has no column 'text'; name one of n, prompt, .* as question_column"
    ):
        load_problems(name, "train", "math", "text")
    with pytest.raises(InputError, match=r"no column 'result'; name one of .* as answer_column"):
        load_problems(name, "train", "math", "", "result")
    with pytest.raises(InputError, match="no column 'question'"):
        load_problems(_write(tmp_path / "b.jsonl", [{"q": "Q?", "answer": "1"}]), "train", "math")


def test_problems_that_cannot_be_checked_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"question": "Q1", "answer": ""},
        {"question": "Q2", "answer": "x}"},  # no box can hold it
        {"question": "", "answer": "1"},
        {"question": "Q3", "answer": ["1"]},
        {"question": ["Q4"], "answer": "1"},
        {"question": "Q5", "answer": "1" * 2000},
        {"question": "Q6", "answer": "1"},
        {"question": "Q7"},
        {"question": "Q8", "answer": True},
        {"question": "Q9", "answer": float("nan")},
    ]
    name = _write(tmp_path / "some.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        [problem] = load_problems(name, "train", "math")
    assert problem.question == "Q6"
    assert (
        "9 of 10 problems have no answer that can be checked and are left out (the first is row 0)"
        in caplog.text
    )
    with pytest.raises(InputError, match="has no problem with an answer that can be checked"):
        load_problems(_write(tmp_path / "none.jsonl", rows[:1]), "train", "math")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.jsonl", '{"question": ', "cannot be read: line 1, column 14: Expecting value"),
        ("a.jsonl", '{"answer": 1}\n\n{"answer": }', "cannot be read: line 3, column 12: Expecting value"),
        ("a.jsonl", "[" * 100_000, "cannot be read: maximum recursion depth"),
        ("a.json", '{"question": "Q", "answer": "1"}', "holds no list of rows"),
        ("a.jsonl", "3", "row 0 of .* is no mapping of columns"),
        ("a.parquet", "PAR1", "cannot be read"),
        ("a.jsonl", None, "does not exist"),
        ("a.jsonl", b"\xff", "cannot be read"),
    ],
)
def test_files_that_are_no_data_are_refused(
    tmp_path: Path, file: str, text: str | bytes | None, message: str
) -> None:
    path = tmp_path / file
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message):
        GSM8K(train_data=str(path)).examples("train", 1)


def test_lines_end_where_json_lines_do(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    lines = [
        '{"question": "one\u2028two\x85three", "answer": "3"}',
        "  ",
        '{"question": "three", "answer": 4}',
        "\t",
    ]
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    assert [(problem.question, problem.answer) for problem in load_problems(str(path), "train", "math")] == [
        ("one\u2028two\x85three", "3"),
        ("three", "4"),
    ]


def test_a_byte_order_mark_is_no_part_of_a_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_text('\ufeff[{"question": "one", "answer": "3"}]', encoding="utf-8")
    assert len(load_problems(str(path), "train", "math")) == 1


def test_notes_of_a_calculator_are_left_out_in_no_time(tmp_path: Path) -> None:
    worked = "<<" * 100_000 + "2 + 3 = <<2+3=5>>5"
    started = time.process_time()
    [problem] = load_problems(
        _write(tmp_path / "a.jsonl", [{"question": "Q", "answer": f"{worked}\n#### 5"}]), "train", "gsm8k"
    )
    assert time.process_time() - started < 1
    assert problem.solution.endswith("<<2 + 3 = 5")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gsm8k-platinum", "gsm8k_platinum"),
        ("GSM8K", "gsm8k"),
        ("MATH-500", "math500"),
        ("AIME 2025", "aime2025"),
        ("BeyondAIME", "beyondaime"),
        ("Beyond_AIME", "beyondaime"),
        ("Minerva", "minerva"),
    ],
)
def test_known_sets_may_be_spelled_otherwise(name: str, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES[known]
    asked = _hub(monkeypatch, [{source.question: "Q?", source.answer: 5}])
    assert Math(eval_data=name).examples("eval", 1)[0].id == f"{known}-0"
    assert asked == [(source.path, source.config, source.split)]


def test_the_projects_own_problems_may_be_spelled_otherwise() -> None:
    assert load_problems("Project", "eval", "math") == load_problems("project", "eval", "math")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"unknown data set 'gsm8'; did you mean 'gsm8k'\?.*or give a \.jsonl"
    ):
        GSM8K(train_data="gsm8").examples("train", 1)


def _hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str | None = None, *, split: str) -> Any:
        asked.append((path, config, split))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_defaults_are_the_papers_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _hub(monkeypatch, ROWS)
    assert GSM8K().examples("train", 1)[0].id in ("gsm8k-0", "gsm8k-1")
    assert GSM8K().examples("eval", 1)[0].id == "gsm8k_platinum-0"
    assert asked == [("openai/gsm8k", "main", "train"), ("madrylab/gsm8k-platinum", "main", "test")]
    asked = _hub(monkeypatch, [{"problem": "Q?", "answer": "\\frac{1}{2}", "solution": "S"}])
    assert Math().examples("train", 1)[0].truth["answer"] == "\\frac{1}{2}"
    assert Math().size("eval") == 1
    assert asked == [
        ("POLARIS-Project/Polaris-Dataset-53K", None, "train"),
        ("HuggingFaceH4/MATH-500", None, "test"),
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_every_named_set_loads_by_its_own_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES[name]
    asked = _hub(monkeypatch, [{source.question: "Q?", source.answer: 5, "other": "text"}])
    [problem] = load_problems(name, "eval", "math")
    assert (problem.id, problem.question, problem.answer) == (f"{name}-0", "Q?", "5")
    assert asked == [(source.path, source.config, source.split)]


@pytest.mark.parametrize(
    ("name", "split", "wanted"),
    [
        ("me/sums", "train", ("me/sums", None, "train")),
        ("me/sums", "eval", ("me/sums", None, "test")),
        ("me/sums:hard", "eval", ("me/sums", "hard", "test")),
        ("me/sums:hard:validation", "eval", ("me/sums", "hard", "validation")),
        ("me/sums::validation", "train", ("me/sums", None, "validation")),
    ],
)
def test_any_set_on_the_hub_can_be_named(
    name: str, split: Any, wanted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _hub(monkeypatch, [{"prompt": "Q?", "answer": "5"}])
    assert load_problems(name, split, "math")[0].id == "me/sums-0"
    assert asked == [wanted]


@pytest.mark.parametrize("error", [ConnectionError("offline mode\nand more"), ValueError("no such config")])
def test_without_a_network_it_is_said_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        InputError, match=r"cannot load the data set gsm8k .*(offline mode|no such config); .*=project"
    ):
        GSM8K().examples("train", 1)


def test_the_projects_problems_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    math_sources._project_rows.cache_clear()
    GSM.examples("train", 1)
    monkeypatch.setattr(math_sources, "files", None)
    MATH.examples("eval", 1)
