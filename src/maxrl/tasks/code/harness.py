"""Programs around a model's function: they read arguments, call it, and print what it returned.

The expected values never enter the program. It gets the arguments of every case on standard input and prints the
results; `read_results` compares them, outside. So there is no verdict inside the program to tamper with: leaving early,
printing a marker, reading its own source or overwriting the harness can at most bring wrong results or none.
A program that prints right results by other means than returning them has computed them.

For C the harness is a unit of its own (`harness`), the same for all functions of the same types: what the solution calls
its own helpers, and which macros it defines, is its own affair. For Rust the code stands at the root of the crate, so that
`crate::helper` is what it says; with a `main` of its own it stands in a module, where that is not the program's.

Standard input: the number of cases, then per case and argument: an integer in decimal, `true` or `false`, a text as it
is, or the length of a list and its items; each on a line of its own. All of it is read before the first call.

Standard output ends in one line per case and `END`. A result is a decimal integer, `true` or `false`, a text in quotes
(its bytes, with backslashes and all but printable ASCII as `\\xhh`), a list like `[1,-2]`, or `?` for what is no value of
the declared type. They are printed together after the last call, so that a program which dies in one case has no
result in any. What the function prints itself, for debugging say, stands before them and is ignored; output after
them (at exit, from a thread) makes the whole of it invalid, as then nobody could tell which lines are the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from re import compile as regex
from textwrap import indent

from maxrl.tasks.code.problems import ROOM, Language, Problem, Value, check_language

END = "== end of results =="
"""The last line of a program's output."""

_WORDS = {"int": "integer", "bool": "truth", "str": "text", "list[int]": "integers", "list[str]": "texts"}
"""What the functions that read and show a type are called in the harnesses."""
_RUST_PARAMETERS = {
    "int": "i64",
    "bool": "bool",
    "str": "&str",
    "list[int]": "&[i64]",
    "list[str]": "&[&str]",
}
_RUST_RESULTS = {"int": "i64", "bool": "bool", "str": "String", "list[int]": "Vec<i64>"}
_C_PARAMETERS = {
    "int": "long long @",
    "bool": "bool @",
    "str": "const char *@",
    "list[int]": "const long long *@, size_t @_len",
    "list[str]": "const char *const *@, size_t @_len",
}
_C_RESULTS = {"int": "long long", "bool": "bool", "str": "void", "list[int]": "size_t"}
_C_OUT = {"str": "char *out", "list[int]": "long long *out"}
_C_READ = {
    "int": "long long @ = harness_read_integer();",
    "bool": "bool @ = harness_read_truth();",
    "str": "const char *@ = harness_line();",
    "list[int]": "size_t @_len;\nlong long *@ = harness_read_integers(&@_len);",
    "list[str]": "size_t @_len;\nconst char **@ = harness_read_texts(&@_len);",
}
_C_CALL = {
    "int": "harness_show_integer(@CALLED@);",
    "bool": "harness_show_truth(@CALLED@);",
    "str": "char *out = harness_room(sizeof *out);\n@CALLED@;\nharness_show_text(out);\nfree(out);",
    "list[int]": "long long *out = harness_room(sizeof *out);\nharness_show_integers(out, @CALLED@);\nfree(out);",
}
_C_CALLED = "maxrl_call"
"""What the function is called between the two units of C, whatever its own name."""
_AT_ROOT = {"OPEN": "", "CLOSE": "", "PATH": ""}
_RUST_APART = regex(r"\bfn\s+main\b|\b(?:no_std|no_main|crate_name|crate_type)\b")
"""What would get into the way of the program's own main at the root of a crate, and means nothing in a module."""
_C_CONVENTIONS = {
    "str": f"Writes the result and a final NUL to out, which has room for {ROOM} bytes.",
    "list[int]": f"Writes the result to out, which has room for {ROOM} integers, and returns how many they are.",
}


def signature(problem: Problem, language: Language) -> str:
    """The function that the model is asked to write, without its body, as it is shown in the prompt.

    For C it begins with the includes that the types need and a comment that says how lists and texts are passed:
    a list as a pointer and a length, a text with its final NUL, and either as a result through a buffer `out`.

    Raises:
        InputError: on an unknown language.
    """
    check_language(language)
    if language == "c":
        return _c_signature(problem)
    if language == "rust":
        parameters = [f"{name}: {_RUST_PARAMETERS[type_]}" for name, type_ in problem.parameters]
        return f"pub fn {problem.function}({', '.join(parameters)}) -> {_RUST_RESULTS[problem.returns]}"
    parameters = [f"{name}: {type_}" for name, type_ in problem.parameters]
    return f"def {problem.function}({', '.join(parameters)}) -> {problem.returns}:"


def program(problem: Problem, language: Language, code: str) -> str:
    """The model's code and a main that calls its function on the cases of standard input; for C together with `harness`.

    For Rust a binary of edition 2021, for Python a script for 3.9 or later (`-I -S` will do), for C what gcc and clang
    take as C11 or later. Any code gives a program; whether that compiles is the compiler's matter. A `main` in the code
    (in Python, a block under `if __name__ == "__main__"`) does not run, so that an example of use does no harm.

    Raises:
        InputError: on an unknown language.
    """
    check_language(language)
    if language == "c":
        return _filled("solution.c", _c_solution_parts(problem) | {"CODE": code})
    kinds = [kind for _, kind in problem.parameters]
    if language == "python":
        parts = {"PARAMETERS": repr(kinds), "RETURNS": problem.returns}
        code = ascii(code)
    else:
        parts = _rust_parts(problem, kinds)
        apart = _RUST_APART.search(code) is not None
        parts |= {"OPEN": "mod solution {\n", "CLOSE": "}\n", "PATH": "solution::"} if apart else _AT_ROOT
    # The model's code comes last, so that nothing in it is taken for a part of the template.
    parts |= {"FUNCTION": problem.function, "END": END, "CODE": code}
    return _filled(f"harness.{language}", parts)


def harness(problem: Problem, language: Language) -> str:
    """The second unit of a program in C, which depends on the function's types alone; "" for other languages.

    Raises:
        InputError: on an unknown language.
    """
    check_language(language)
    return _filled("harness.c", _c_harness_parts(problem)) if language == "c" else ""


def _filled(template: str, parts: Mapping[str, str]) -> str:
    text = _template(template)
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


@cache
def _template(name: str) -> str:
    return files("maxrl.tasks.code").joinpath(f"data/{name}").read_text(encoding="utf-8")


def _rust_parts(problem: Problem, kinds: Sequence[str]) -> dict[str, str]:
    read = [f"let argument_{i} = read_{_WORDS[kind]}(&mut lines);" for i, kind in enumerate(kinds)]
    passed = [f"{'&' * kind.startswith('list')}argument_{i}" for i, kind in enumerate(kinds)]
    return {
        "READ": indent("\n".join(read), " " * 16).lstrip(),
        "SHOW": _WORDS[problem.returns],
        "ARGUMENTS": ", ".join(passed),
    }


def _c_signature(problem: Problem) -> str:
    prototype = _c_prototype(problem)
    headers = [name for name, word in (("stdbool", "bool "), ("stddef", "size_t ")) if word in prototype]
    comment: list[str] = []
    for name, kind in problem.parameters:
        if kind == "str":
            comment.append(f"{name} ends in a NUL.")
        elif kind.startswith("list"):
            items = "integers" if kind == "list[int]" else "texts, each with a final NUL"
            comment.append(f"{name} points to {name}_len {items}.")
    if problem.returns in _C_CONVENTIONS:
        comment.append(_C_CONVENTIONS[problem.returns])
    lines = [f"#include <{name}.h>" for name in headers]
    lines += [""] if headers else []
    lines += ["/*", *(f" * {line}" for line in comment), " */"] if comment else []
    return "\n".join([*lines, prototype])


def _c_prototype(problem: Problem) -> str:
    parameters = [_C_PARAMETERS[kind].replace("@", name) for name, kind in problem.parameters]
    if problem.returns in _C_OUT:
        parameters.append(_C_OUT[problem.returns])
    return f"{_C_RESULTS[problem.returns]} {problem.function}({', '.join(parameters)})"


def _c_called(problem: Problem) -> Problem:
    """The same function under the name that is the same for all; of its parameters only the types are left."""
    parameters = tuple((f"argument_{i}", kind) for i, (_, kind) in enumerate(problem.parameters))
    return replace(problem, function=_C_CALLED, parameters=parameters)


def _c_arguments(called: Problem) -> str:
    passed = [f"{name}, {name}_len" if kind.startswith("list") else name for name, kind in called.parameters]
    return ", ".join([*passed, "out"] if called.returns in _C_OUT else passed)


def _c_solution_parts(problem: Problem) -> dict[str, str]:
    called = _c_called(problem)
    return {
        "DECLARED": _c_prototype(problem),
        "PROTOTYPE": _c_prototype(called),
        "RETURN": "" if _C_RESULTS[problem.returns] == "void" else "return ",
        "FUNCTION": problem.function,
        "ARGUMENTS": _c_arguments(called),
    }


def _c_harness_parts(problem: Problem) -> dict[str, str]:
    called = _c_called(problem)
    read = [_C_READ[kind].replace("@", name) for name, kind in called.parameters]
    return {
        "PROTOTYPE": _c_prototype(called),
        "READ": indent("\n".join(read), " " * 8).lstrip(),
        "CALL": indent(_C_CALL[problem.returns], " " * 8).lstrip(),
        "CALLED": f"{_C_CALLED}({_c_arguments(called)})",
        "ROOM": str(ROOM),
        "END": END,
    }


def case_input(problem: Problem) -> bytes:
    """What goes to the program's standard input: the arguments of every case, and nothing of what is expected."""
    lines = [str(len(problem.tests))]
    for case in problem.tests:
        for argument in case.arguments:
            if isinstance(argument, tuple):
                lines += [str(len(argument)), *map(str, argument)]
            else:
                lines.append(str(argument).lower() if isinstance(argument, bool) else str(argument))
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def read_results(problem: Problem, stdout: bytes) -> int:
    """How many cases the program got right, from all that it printed; 0 unless the results are whole.

    The output must end in a line break, one line per case, and `END`; a result counts when its line is, byte for byte,
    the form of the expected value. Whatever comes before is ignored. Never raises on any bytes.
    """
    count = len(problem.tests)
    _, *results = stdout.rsplit(b"\n", count + 2)
    if results[count:] != [END.encode(), b""]:
        return 0
    expected = (_shown(case.expected).encode("ascii") for case in problem.tests)
    return sum(map(bytes.__eq__, results[:count], expected))


def _shown(value: Value) -> str:
    """The one form in which a result of this value is printed."""
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\x5c") + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)
