"""Problems of mathematics from data sets: known by name, on the Hub, in a file, or those of this project."""

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.math.answers import gold_answer, settle
from maxrl.tasks.streams import Split

logger = logging.getLogger(__name__)

Subject = Literal["gsm8k", "math"]

PROJECT = "project"
"""Names the problems written for this project, which need no network."""
FILE_ENDINGS = (".jsonl", ".json", ".parquet")
_QUESTIONS = ("question", "problem", "prompt")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set known by name lies on the Hub."""

    path: str
    config: str | None = None
    split: str
    question: str
    answer: str = "answer"


SOURCES = {
    "gsm8k": Source(path="openai/gsm8k", config="main", split="train", question="question"),
    "gsm8k_test": Source(path="openai/gsm8k", config="main", split="test", question="question"),
    "gsm8k_platinum": Source(
        path="madrylab/gsm8k-platinum", config="main", split="test", question="question"
    ),
    "polaris": Source(path="POLARIS-Project/Polaris-Dataset-53K", split="train", question="problem"),
    "math500": Source(path="HuggingFaceH4/MATH-500", split="test", question="problem"),
    "minerva": Source(path="math-ai/minervamath", split="test", question="question"),
    "aime2025": Source(path="math-ai/aime25", split="test", question="problem"),
    "beyondaime": Source(path="ByteDance-Seed/BeyondAIME", split="test", question="problem"),
}
"""Data sets known by name, besides `project`; `MATH-500`, `Math 500` and `math_500` name `math500`, too."""


def _letters(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


_KNOWN = {_letters(name): name for name in (PROJECT, *SOURCES)}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question, its answer and, where the data set has one, a worked solution (else "")."""

    id: str
    question: str
    answer: str
    solution: str = ""


@lru_cache(maxsize=16)
def load_problems(
    name: str, split: Split, subject: Subject, question_column: str = "", answer_column: str = ""
) -> tuple[Problem, ...]:
    """The problems of a data set.

    Args:
        name: `project`; one of `SOURCES`, whatever its case, `-`, `_` and blanks; a .jsonl, .json (a list of rows) or
            .parquet file; or a data set on the Hub, `owner/name`, `owner/name:config` or `owner/name:config:split`, whose
            split is `train` for training and `test` for evaluation where none is named.
        split: which part of the project's own problems, and of a Hub data set.
        subject: which of the project's own problems.
        question_column: "" for the first there is of `question`, `problem` and `prompt`.
        answer_column: "" for `answer`. Of its text, what stands after the last `####` counts, or in the last box, or all.

    A problem whose answer the verifier would not accept (it is empty, say) is left out, with a warning.

    Raises:
        InputError: no such data set, file or column, no network, or no problem left; the message says what to do.
    """
    name = _KNOWN.get(_letters(name), name)
    if name == PROJECT:
        rows = [row for row in _project_rows() if (row["split"], row["subject"]) == (split, subject)]
        return tuple(
            Problem(id=row["id"], question=row["question"], answer=row["answer"], solution=row["solution"])
            for row in rows
        )
    source = SOURCES.get(name)
    if source is not None:
        question_column, answer_column = question_column or source.question, answer_column or source.answer
        rows, label = _hub_rows(name, source.path, source.config, source.split), name
    elif name.endswith(FILE_ENDINGS):
        rows, label = _file_rows(Path(name)), _file_label(name)
    elif "/" in name:
        path, config, part = (*name.split(":"), "", "")[:3]
        rows, label = _hub_rows(name, path, config or None, part or _HUB_SPLIT[split]), name.partition(":")[0]
    else:
        hint = "; or give a .jsonl, .json or .parquet file, or a data set on the Hub as owner/name"
        raise InputError(f"{unknown_name('data set', name, [PROJECT, *SOURCES])}{hint}")
    return _problems(name, label, rows, question_column, answer_column)


_HUB_SPLIT = {"train": "train", "eval": "test"}


@lru_cache(maxsize=1)
def _project_rows() -> tuple[dict[str, str], ...]:
    text = files("maxrl.tasks.math").joinpath("data/problems.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def _file_label(name: str) -> str:
    # By the whole path, so that two files of one name give different ids.
    return f"{Path(name).stem}-{hashlib.sha256(str(Path(name).resolve()).encode()).hexdigest()[:6]}"


def _file_rows(path: Path) -> list[Any]:
    if not path.is_file():
        raise InputError(f"data file {path} does not exist")
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet  # slow, and of no use to other files

            return cast(Any, parquet).read_table(path).to_pylist()
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark at the beginning
        rows = json.loads(text) if path.suffix == ".json" else _json_lines(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # of JSON, of UTF-8 and of Parquet alike; brackets without end
        raise InputError(f"data file {path} cannot be read: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"data file {path} holds no list of rows")
    return cast("list[Any]", rows)


def _json_lines(text: str) -> list[Any]:
    rows: list[Any] = []
    # splitlines() would split at U+2028 as well, which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from error
    return rows


def _hub_rows(name: str, path: str, config: str | None, split: str) -> Iterable[Any]:
    import datasets  # takes seconds, and of no use without the Hub

    try:
        return cast(Any, datasets).load_dataset(path, config, split=split)
    except (OSError, ValueError) as error:  # no network, no such data set; no such configuration or split
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"cannot load the data set {name} ({path}, split {split}) from the Hub: {reason}; where there is no network, "
            f"give a local .jsonl or .parquet file, or train_data={PROJECT} and eval_data={PROJECT}"
        ) from error


def _problems(
    name: str, label: str, rows: Iterable[Any], question_column: str, answer_column: str
) -> tuple[Problem, ...]:
    problems: list[Problem] = []
    unusable: list[int] = []
    columns: tuple[str, str] | None = None
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"row {number} of {name} is no mapping of columns")
        given = cast("Mapping[str, Any]", row)
        columns = columns or _columns(name, given, question_column, answer_column)
        problem = _problem(f"{label}-{number}", given, *columns)
        if problem is None:
            unusable.append(number)
        else:
            problems.append(problem)
    if not problems:
        raise InputError(f"data set {name} has no problem with an answer that can be checked")
    if unusable:
        logger.warning(
            "%s: %d of %d problems have no answer that can be checked and are left out (the first is row %d)",
            name,
            len(unusable),
            len(unusable) + len(problems),
            unusable[0],
        )
    return tuple(problems)


def _columns(name: str, row: Mapping[str, Any], question: str, answer: str) -> tuple[str, str]:
    question = question or next((column for column in _QUESTIONS if column in row), _QUESTIONS[0])
    for option, column in (("question_column", question), ("answer_column", answer or "answer")):
        if column not in row:
            raise InputError(f"{name} has no column '{column}'; name one of {', '.join(row)} as {option}")
    return question, answer or "answer"


def _problem(id_: str, row: Mapping[str, Any], question: str, answer: str) -> Problem | None:
    asked, answered = row.get(question), row.get(answer)
    if not isinstance(asked, str) or not asked.strip() or not _is_answer(answered):
        return None
    gold = gold_answer(str(answered))
    if settle(gold, f"\\boxed{{{gold}}}", "boxed"):
        return None
    worked = str(answered).rpartition("####")[0] or str(row.get("solution") or "")
    # GSM8K notes in <<…>> what a calculator gave; its text reads well without.
    return Problem(
        id=id_, question=asked.strip(), answer=gold, solution=re.sub(r"<<[^<>]*+>>", "", worked).strip()
    )


def _is_answer(value: object) -> bool:
    # True and False are numbers to Python, and no answer that a model would write so.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return isinstance(value, str) or math.isfinite(value)
