"""How a programming problem is posed, and how an answer to it is written."""

from collections.abc import Mapping

from maxrl.tasks.base import Prompt
from maxrl.tasks.code_harness import signature
from maxrl.tasks.code_problems import Language, Problem

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
