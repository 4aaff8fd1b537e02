"""The code task with real compilers: what passes, what does not, and what cannot be gamed."""

from typing import Any

import pytest
from tests.tasks.code_tools import need

from maxrl.tasks import Verdict, judge
from maxrl.tasks.code import Code
from maxrl.tasks.code_harness import END
from maxrl.tasks.code_problems import LANGUAGES, Language

TRUTHS: dict[Language, dict[str, Any]] = {
    language: {"language": language, "template": "add", "name": "kilo", "parameters": ["n"], "constants": [7]}
    for language in LANGUAGES
}
WHOLE: dict[Language, str] = {
    "rust": "fn kilo(n: i64) -> i64 { n + 7 }",
    "python": "def kilo(n):\n    return n + 7",
    "c": "long long kilo(long long n) { return n + 7; }",
}

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


@pytest.mark.parametrize("completion", ["// nothing", "/* nothing */", "#![allow(unused)]", "```rust\n```"])
def test_a_file_without_code_compiles_and_is_no_success(completion: str) -> None:
    verdict = Code(reward="components").score(TRUTHS["rust"], completion)
    assert verdict == Verdict(success=False, reward=0.0, reason="no code")


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


def test_to_stop_the_compiler_is_not_better_than_to_fail() -> None:
    task = need(Code(reward="components", cpu_seconds=1, wall_seconds=20))
    # All that the syntax tree would give: structure, quality, idioms.
    good = "/// Doc.\npub fn f(v: &[i64]) -> Option<i64> {\n    v.iter().map(|x| x + 1).max()\n}\n"
    stopped, failed = task.score_many(
        [TRUTHS["rust"]] * 2,
        [f"{good}{'fn g() { ' + 'x; ' * 10_000 + '}'}", f"{good}pub fn g() -> i64 {{ 1.5 }}"],
    )
    assert stopped.reason == "takes too much to compile"
    assert stopped.reward is not None
    assert failed.reward is not None
    assert stopped.reward < 0 < failed.reward


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
