"""Wrong code near a right solution, to prove the verifier with: what models write, and what they might try."""

from collections.abc import Iterator, Mapping

from maxrl.tasks.code.harness import END, signature
from maxrl.tasks.code.problems import LANGUAGES, Language, Problem

_MISTYPED: Mapping[Language, str] = {
    "rust": 'const MISTYPED: i64 = "text";',
    "c": "static int mistyped(void) { struct { int x; } s = {0}; return s; }",
}
_LEAVING: Mapping[Language, str] = {
    "rust": "{head} {{ std::process::exit(0) }}",
    "python": "import os\n{head}\n    os._exit(0)",
    "c": "#include <stdlib.h>\n{head} {{ exit(0); }}",
}
_PRINTING: Mapping[Language, str] = {
    "rust": '{head} {{ print!("{lines}"); std::process::exit(0) }}',
    "python": 'import sys\n{head}\n    print("{lines}", end="")\n    sys.exit(0)',
    "c": '#include <stdio.h>\n#include <stdlib.h>\n{head} {{ fputs("{lines}", stdout); exit(0); }}',
}


def corrupted(problem: Problem, language: Language, *, compiles: bool) -> Iterator[tuple[str, str]]:
    """Code that does not solve a problem, each after the name of what is wrong with it; certain to be wrong.

    With `compiles`, code is among it that compiles: with a mistake, for another function, or that ends the program
    before the tests' results are there, with results of its own making or without.
    """
    gold = problem.solutions[language]
    following = LANGUAGES[(LANGUAGES.index(language) + 1) % len(LANGUAGES)]
    yield "another language", problem.solutions[following]
    yield "syntax error", f"{gold}\n)"
    if language != "python":  # what of a script is left may be another script, and types are not checked
        yield "cut off", gold.rstrip().rstrip("}")
        yield "wrong type", f"{gold}\n{_MISTYPED[language]}"
    if not compiles:
        return
    yield "wrong solution", problem.wrong[language]
    yield "another function", gold.replace(problem.function, f"{problem.function}_2")
    head = signature(problem, language)
    yield "leaves early", _LEAVING[language].format(head=head)
    # Not every result is 0: problems have at least two different ones.
    lines = "\\n".join(["", *["0"] * len(problem.tests), END, ""])
    yield "prints results", _PRINTING[language].format(head=head, lines=lines)
