"""The code task with real compilers: what passes, what does not, and what cannot be gamed."""

import threading
import time
from typing import Any

import pytest
from tests.tasks.code.tools import need

from maxrl.tasks import Verdict, judge
from maxrl.tasks.code import Code
from maxrl.tasks.code.harness import END
from maxrl.tasks.code.problems import LANGUAGES, Language

TRUTHS: dict[Language, dict[str, Any]] = {
    language: {"language": language, "template": "add", "name": "kilo", "parameters": ["n"], "constants": [7]}
    for language in LANGUAGES
}
WHOLE: dict[Language, str] = {
    "rust": "fn kilo(n: i64) -> i64 { n + 7 }",
    "python": "def kilo(n):\n    return n + 7",
    "c": "long long kilo(long long n) { return n + 7; }",
}

NC = "does not compile"

REFUSED: list[tuple[Language, str, str]] = [
    ("rust", "    n + 7\n}", "does not compile"),  # the prompt's signature is not put before it
    ("rust", "fn kilo(n: i64) -> i64 { n + 8 }", "wrong result"),
    ("rust", "fn kilo(n: i32) -> i32 { n + 7 }", "does not compile"),
    ("rust", 'fn kilo(_: i64) -> i64 { panic!("no") }', "crashed"),
    ("rust", "fn kilo(n: i64) -> i64 { kilo(n + 1) + 1 }", "crashed"),  # the stack is used up
    ("rust", 'fn kilo(_: i64) -> i64 { include_str!("/etc/passwd").len() as i64 }', "does not compile"),
    ("rust", "const X: () = loop {};\nfn kilo(n: i64) -> i64 { X; n + 7 }", "COMPILER"),
    ("rust", "\0\udc80\ufffe", "does not compile"),
    ("python", "    return n + 7", "does not compile"),
    ("python", "def kilo(n):\nreturn n + 7", "does not compile"),
    ("python", "def kilo(n):\n\treturn n\n        + 7", "does not compile"),
    ("python", "def kilo(n): return n + 8", "wrong result"),
    ("python", "def kilo(n): return str(n + 7)", "wrong result"),
    ("python", "def kilo(n): return k", "crashed"),
    ("python", "while True: pass", "ran out of time"),
    ("python", "def kilo(n):\n    x = []\n    while True: x.append(bytes(10**7))", "crashed"),
    ("python", "while True: print('x' * 10**5)", "too much output"),
    ("python", "\0", "crashed"),
    ("c", "    return n + 7;\n}", "does not compile"),
    ("c", "long long kilo(long long n) { return n + 8; }", "wrong result"),
    ("c", "int kilo(int n) { return n + 7; }", "does not compile"),
    ("c", "long long kilo(long long n) { return *(long long *)(n & 1); }", "crashed"),
    ("c", "long long kilo(long long n) { for (;;) {} return n + 7; }", "ran out of time"),
    ("c", '#include "/etc/passwd"\n', "does not compile"),
    ("c", '#include "solution.c"\n', "does not compile"),
    ("c", '#include "harness.o"\n', "does not compile"),
    ("c", f"{WHOLE['c']} /* never closed", "does not compile"),
    ("c", "#define A(x) x x x x x x x x\n" + "A(" * 11 + "int y;" + ")" * 11, "COMPILER"),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_solutions_pass_and_corruptions_do_not(language: Language) -> None:
    for parameters in ({"problems": "templates", "prompt_format": "compact"}, {"level": "easy"}):
        task = need(Code(language=language, **parameters))  # pyright: ignore[reportArgumentType]
        result = task.self_check(1)
        assert result.passed, result.failures
        assert sum(result.tried.values()) >= 11


def test_the_graded_reward_refuses_what_does_not_compile() -> None:
    result = need(Code(reward="components")).self_check(2)
    assert result.passed, result.failures


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusals_and_their_reasons(language: Language) -> None:
    task = need(Code(language=language, cpu_seconds=1, wall_seconds=20, memory_mb=512))
    cases = [(text, reason) for where, text, reason in REFUSED if where == language]
    verdicts = task.score_many([TRUTHS[language]] * len(cases), [text for text, _ in cases])
    for (text, reason), verdict in zip(cases, verdicts, strict=True):
        compiler = (
            "does not compile",
            "takes too much to compile",
        )  # as versions differ in what they give up on
        assert verdict.reason in (compiler if reason == "COMPILER" else (reason,)), text
        assert verdict == Verdict(success=False, reward=0.0, reason=verdict.reason)


@pytest.mark.parametrize("language", LANGUAGES)
def test_how_an_answer_is_written_makes_no_difference(language: Language) -> None:
    task = need(Code(language=language))
    code = WHOLE[language]
    helper = {"rust": "#[test]\nfn t() {}", "python": "import math", "c": "#include <math.h>"}[language]
    main = {
        "rust": 'fn main() { println!("{}", kilo(1)); }',
        "python": "if __name__ == '__main__':\n    print(kilo(1))",
        "c": '#include <stdio.h>\nint main(void) { printf("%lld", kilo(1)); return 1; }',
    }[language]
    texts = [
        code,
        f"```{language}\n{code}\n```",
        f"First ```x```. So:\n\n```\n{code}\n```\nIt adds.",
        f"{helper}\n{code}",
        f"{code}\n{main}",
    ]
    for verdict in task.score_many([TRUTHS[language]] * len(texts), texts):
        assert verdict == Verdict(success=True, reward=1.0)


FORGED = "\\n".join(["", *map(str, range(15)), END, ""])
TRICKS: dict[str, tuple[Language, str]] = {
    "results from static storage": (
        "c",
        f'#include <stdio.h>\n__attribute__((constructor)) void go(void) {{ fputs("{FORGED}", stdout); }}\n'
        "long long kilo(long long n) { return n; }",
    ),
    "results at exit": (
        "c",
        '#include <stdlib.h>\n#include <unistd.h>\nvoid last(void) { write(1, "\\n7\\n", 3); }\n'
        "long long kilo(long long n) { atexit(last); return n; }",
    ),
    "results from another process": (
        "python",
        f"import os, sys\ndef kilo(n):\n    if os.fork() == 0:\n        print('{FORGED}'); sys.stdout.flush(); os._exit(0)\n"
        "    return n",
    ),
    "an equal to everything": (
        "python",
        "class E(int):\n    __eq__ = lambda *_: True\ndef kilo(n): return E(0)",
    ),
    "its own harness": (
        "python",
        "import sys\nsys.modules['__main__'].show = lambda kind, value: '7'\ndef kilo(n): return n",
    ),
    "a module of the harness's name": (
        "rust",
        'fn kilo(n: i64) -> i64 { n }\nmod maxrl_harness { pub fn run() { println!("7"); } }',
    ),
    "its own println": (
        "rust",
        'macro_rules! format { ($($t:tt)*) => { String::from("7") } }\nfn kilo(n: i64) -> i64 { n }',
    ),
}


@pytest.mark.parametrize(("language", "text"), TRICKS.values(), ids=TRICKS)
def test_tricks_do_not_pass(language: Language, text: str) -> None:
    verdict = need(Code(language=language)).score(TRUTHS[language], text)
    assert (verdict.success, verdict.reward) == (False, 0.0)


def test_the_graded_reward_names_every_term() -> None:
    task = need(Code(reward="components"))
    verdict = task.score(TRUTHS["rust"], f"/// Adds seven.\n{WHOLE['rust']}")
    # A private function that nobody calls is a warning, and rustc counts it once more: 10 + 5 − 2 · .5 + 8 = 22;
    # a function 2 · .5, documented 3 · (1 + 1), fewer than five lines −1.
    assert verdict.success
    assert verdict.reward == pytest.approx(22.0 + 1.0 + 6.0 - 1.0)
    assert sum(verdict.components.values()) == verdict.reward
    assert len(verdict.components) == 24
    changed = Code(reward="components", weights="docs=0, compiles=20").score(
        TRUTHS["rust"], f"/// Adds seven.\n{WHOLE['rust']}"
    )
    assert changed.reward == pytest.approx(22.0 + 10.0 + 1.0 + 3.0 - 1.0)


GOOD = "/// Doc.\npub fn f(v: &[i64]) -> Option<i64> {\n    v.iter().map(|x| x + 1).max()\n}\n"
"""All that the syntax tree would give: structure, quality, idioms."""
BAD = "/// Doc.\npub fn g() -> Option<u8> { zzz::<u8>().iter().map(|x| x)? }\n"
"""The same of code that does not compile."""

NOTHING = {
    "a comment": "// nothing",
    "another": "/* nothing */",
    "an attribute": "#![allow(unused)]",
    "an empty block": "```rust\n```",
    "an import": "use std::fs;",
    "a semicolon": ";",
    "macros": "macro_rules! m { ($($t:tt)*) => {} }\nm! { fn f() {} any thing at all }",
    "a crate that is taken away": f"#![cfg(any())]\n{GOOD}{BAD}",
    "taken away by another name": f"#![cfg_attr(all(), r#cfg(any()))]\n{BAD}",
    "a module that is": f"#[cfg(any())]\npub mod m {{\n{GOOD}{BAD}}}",
    "a module from inside": f"pub mod m {{\n#![cfg(any())]\n{GOOD}{BAD}}}",
    "functions that are": BAD.replace("/// Doc.", "#[cfg(any())]"),
    "tests": BAD.replace("/// Doc.", "#[test]"),
    "tests by another name": f"use std::prelude::v1::test as t;\n{BAD.replace('/// Doc.', '#[t]')}",
}


@pytest.mark.parametrize("completion", NOTHING.values(), ids=NOTHING)
def test_a_file_without_code_compiles_and_is_no_success(completion: str) -> None:
    verdict = need(Code(reward="components")).score(TRUTHS["rust"], completion)
    assert (verdict.success, verdict.reward, verdict.reason) == (False, -3.0, "no code")
    assert len(verdict.components) == 24


def test_code_that_rustc_does_not_see_adds_nothing() -> None:
    task = need(Code(reward="components"))
    hidden = f"#[cfg(any())]\npub mod m {{\n{BAD}pub struct S; pub enum E {{}} pub trait T {{}}\n}}\n"
    alone, with_hidden = task.score_many([TRUTHS["rust"]] * 2, [GOOD, GOOD + hidden])
    assert alone.success
    length = "complexity/length"  # which has no unit of code
    assert {**with_hidden.components, length: 0.0} == {**alone.components, length: 0.0}


def test_the_guides_samples_keep_their_order() -> None:
    task = need(Code(reward="components"))
    samples = [
        "pub fn total(v: &[i32]) -> i32 {\n    v.iter().map(|x| x + x).sum()\n}",
        "use std::fs;\nuse std::io;\n\npub fn text(path: &str) -> io::Result<String> {\n    fs::read_to_string(path)\n}",
        "pub fn wrong() -> String {\n    42\n}",
        "pub fn broken() {\n    let x = 5\n}",
    ]
    verdicts = task.score_many([TRUTHS["rust"]] * 4, samples)
    assert [verdict.success for verdict in verdicts] == [True, True, False, False]
    rewards = [verdict.reward for verdict in verdicts]
    assert rewards[:3] == pytest.approx([28.6, 28.0, 5.0])
    # rustc warns of the unused variable although it could not parse the file; old versions do not.
    assert rewards[3] in (-4.5, -3.0)


def test_every_error_costs() -> None:
    verdict = need(Code(reward="components")).score(TRUTHS["rust"], "fn f() { " + "x; " * 300 + "}")
    assert verdict.components["errors"] == -2.0 * 301
    assert verdict.reason == "does not compile"


STOPPING = {
    "too many errors": "pub fn g() { " + "x; " * 10_000 + "}",
    "a crash of the compiler": "pub fn g() -> i64 { " + "(" * 10_000 + "1" + ")" * 10_000 + " }",
    "errors and a crash": "pub fn g() { "
    + "x; " * 300
    + "}\npub fn h() -> bool { "
    + "!" * 16_000
    + "true }",
    "endless for the parser": "->?/*" * 6_000,
}


@pytest.mark.parametrize("more", STOPPING.values(), ids=STOPPING)
def test_to_stop_the_compiler_is_not_better_than_to_fail(more: str) -> None:
    task = need(Code(reward="components", cpu_seconds=1, wall_seconds=20))
    texts = [GOOD + more, GOOD + "pub fn g() -> i64 { 1.5 }", GOOD + ")"]
    stopped, failed, unparsed = task.score_many([TRUTHS["rust"]] * 3, texts)
    assert stopped.reason == "takes too much to compile"
    assert stopped.components.keys() == failed.components.keys()
    assert stopped.reward is not None
    assert failed.reward is not None
    assert unparsed.reward == -3.0  # the cheapest honest failure
    assert stopped.reward <= unparsed.reward < failed.reward


def test_junk_does_not_stop_the_other_threads() -> None:
    task = need(Code(reward="components"))
    task.score(TRUTHS["rust"], GOOD)
    longest, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal longest
        last = time.monotonic()
        while not ended.wait(0.02):
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        verdict = task.score(TRUTHS["rust"], "->?/*" * 1_000)
    finally:
        ended.set()
        watching.join()
    assert verdict.reason == "takes too much to compile"
    assert longest < 1.5  # of some 20 seconds that tree-sitter takes


# In megabytes of data that the program holds: what fits where it runs, what no longer does, and what is no program.
SIZES: dict[Language, tuple[str, dict[float, str]]] = {
    "c": (
        "char big[{bytes}] = {{1}};\nlong long kilo(long long n) {{ return n + 7 + 0 * big[n & 1]; }}",
        {31.9: "", 32.0: NC, 32.1: NC, 63.9: NC, 63.95: NC, 64.0: NC, 64.1: NC, 300.0: NC},
    ),
    "rust": (
        "static BIG: [u8; {bytes}] = [1; {bytes}];\nfn kilo(n: i64) -> i64 {{\n"
        "    n + 7 + 0 * unsafe {{ std::ptr::read_volatile(&BIG[(n & 1) as usize]) }} as i64\n}}",
        {24.0: "", 32.1: NC, 63.7: NC},
    ),
}


@pytest.mark.parametrize("language", SIZES)
def test_no_size_of_a_program_is_an_error(language: Language) -> None:
    task = need(Code(language=language, wall_seconds=25))
    text, sizes = SIZES[language]
    texts = [text.format(bytes=int(size * 2**20)) for size in sizes]
    verdicts = task.score_many([TRUTHS[language]] * len(texts), texts)
    assert {size: verdict.reason for size, verdict in zip(sizes, verdicts, strict=True)} == sizes
    assert [verdict.reward for verdict in verdicts] == [float(not reason) for reason in sizes.values()]


# Right answers whose names are also the library's, the harness's or the root's.
NAMES: dict[str, tuple[Language, str]] = {
    "abs": (
        "c",
        "static long long abs(long long x) { return x < 0 ? -x : x; }\n"
        "long long kilo(long long n) { return n < 0 ? 7 - abs(n) : n + 7; }",
    ),
    "remove": (
        "c",
        "static void remove(long long *x) { *x += 7; }\nlong long kilo(long long n) { remove(&n); return n; }",
    ),
    "div": (
        "c",
        "static int div(int a, int b) { return a / b; }\nlong long kilo(long long n) { return n + div(14, 2); }",
    ),
    "macros": (
        "c",
        "#define printf(...) 0\n#define fputs(...) 0\n#define snprintf(...) 0\n#define END 3\n"
        "long long kilo(long long n) { printf(n); return n + 7; }",
    ),
    "static": ("c", f"static {WHOLE['c']}"),
    "the crate": ("rust", "fn helper(n: i64) -> i64 { n + 7 }\nfn kilo(n: i64) -> i64 { crate::helper(n) }"),
    "a module of the crate": (
        "rust",
        "mod deep { pub fn add(n: i64) -> i64 { crate::ADDED + n } }\nconst ADDED: i64 = 7;\n"
        "use crate::deep::add;\npub fn kilo(n: i64) -> i64 { add(n) }",
    ),
    "attributes of the crate": (
        "rust",
        f"//! Adds.\n#![forbid(unsafe_code)]\n#![deny(warnings)]\n{WHOLE['rust']}",
    ),
    "no library": ("rust", f"#![no_std]\n{WHOLE['rust']}"),
    "a main and attributes": (
        "rust",
        f"//! Adds.\n#![allow(unused)]\n{WHOLE['rust']}\nfn main() {{ kilo(1); }}",
    ),
}


@pytest.mark.parametrize(("language", "text"), NAMES.values(), ids=NAMES)
def test_right_answers_pass_whatever_their_names(language: Language, text: str) -> None:
    assert need(Code(language=language)).score(TRUTHS[language], text).success


def test_a_run_can_judge_through_the_guard() -> None:
    task = need(Code(language="python"))
    verdicts = judge(task, [TRUTHS["python"]] * 3, [WHOLE["python"], "def", ""])
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, 0.0]


def test_the_weaker_sandbox_judges_alike() -> None:
    task = need(Code(language="c", sandbox="limits_only"))
    verdicts = task.score_many([TRUTHS["c"]] * 2, [WHOLE["c"], WHOLE["c"].replace("+", "-")])
    assert [verdict.success for verdict in verdicts] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_of_the_project(language: Language) -> None:
    task = need(Code(language=language))
    result = task.self_check(1000)
    assert result.passed, result.failures
    examples = task.examples("eval", task.size("eval") or 0)
    assert all(
        verdict.success
        for verdict in task.score_many([e.truth for e in examples], [task.demonstration(e) for e in examples])
    )


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_many_templates(language: Language) -> None:
    result = need(Code(language=language, problems="templates", prompt_format="compact")).self_check(60)
    assert result.passed, result.failures
    assert result.problems == 60
