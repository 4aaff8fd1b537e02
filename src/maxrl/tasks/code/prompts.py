"""How a programming problem is posed and found again from its truth, and how an answer to it is written."""

from collections.abc import Mapping
from typing import Any, cast

from maxrl.tasks.base import Prompt
from maxrl.tasks.code.harness import signature
from maxrl.tasks.code.problems import LANGUAGES, Language, Problem, load_problems
from maxrl.tasks.code.templates import template_problem

_TITLES: Mapping[Language, str] = {"rust": "Rust (edition 2021)", "python": "Python 3", "c": "C17"}


def posed(problem: Problem, language: Language, *, chat: bool) -> Prompt:
    """The prompt: statement and signature, as a message for a chat or as text that code is to follow."""
    asked = "Answer with the whole function in one fenced block of code." if chat else "The code follows."
    text = (
        f"Write this function in {_TITLES[language]}, with nothing but the standard library.\n\n"
        f"{problem.statement}\n\n"
        f"```{language}\n{signature(problem, language)}\n```\n\n"
        f"Other functions may stand beside it; leave out `main` and tests. {asked}"
    )
    return [{"role": "user", "content": text}] if chat else f"{text}\n"


def answered(code: str, language: Language, *, chat: bool) -> str:
    """A completion with this code: in a fence for a chat, else bare."""
    code = code.strip("\n")
    return f"```{language}\n{code}\n```" if chat else code


def read_truth(truth: object) -> tuple[Language, Problem] | str:
    """Language and problem of a truth, or a sentence that says what is wrong with it."""
    if not isinstance(truth, Mapping):
        return (
            f"truth must be a mapping with 'language' and 'problem' or 'template', got {type(truth).__name__}"
        )
    given = cast("Mapping[str, Any]", truth)
    language = given.get("language")
    if language not in LANGUAGES:
        return f"truth['language'] must be one of {', '.join(LANGUAGES)}"
    if "template" in given:
        problem = template_problem(given)
        return problem if isinstance(problem, str) else (language, problem)
    for problem in load_problems():
        if problem.id == given.get("problem"):
            return language, problem
    return "truth['problem'] must be the id of one of the project's problems"
