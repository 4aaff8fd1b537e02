"""Completions that try to pass without solving the problem, and honest ones that a harness might trip over."""

from pathlib import Path

import pytest
from tests.tasks.code.programs import COPY, DOUBLE, ECHO, EVEN, TOOL, build, right

from maxrl.tasks.code.harness import END
from maxrl.tasks.code.problems import Language, Problem

_GUESS = "\\n2\\n0\\n-8\\n7\\n" + END + "\\n"  # three right results of DOUBLE, in whole framing

Attacks = dict[str, tuple[str, Problem, int]]
"""Per name: the code, the problem, and how many cases must count."""

PYTHON: Attacks = {
    "exit_at_once": ("import sys; sys.exit(0)", DOUBLE, 0),
    "exit_in_call": ("import os\ndef solve(n): os._exit(0)", DOUBLE, 0),
    "marker_only": (f"print('{END}')\nimport os\nos._exit(0)", DOUBLE, 0),
    "guess_then_right": (f"print('{_GUESS}')\ndef solve(n): return 2 * n", DOUBLE, 4),
    "guess_then_wrong": (f"def solve(n):\n    print('{_GUESS * 3}')\n    return 7", DOUBLE, 0),
    "guess_at_exit": ("import atexit\natexit.register(print, 'bye')\ndef solve(n): return 2 * n", DOUBLE, 0),
    "reads_stdin": ("import sys\ndef solve(n): return 2 * n + len(sys.stdin.read())", DOUBLE, 4),
    "reads_stdin_early": ("import sys\nsys.stdin.read()\ndef solve(n): return 2 * n", DOUBLE, 4),
    "debug_prints": ("def solve(n):\n    print('n =', n, end='')\n    return 2 * n", DOUBLE, 4),
    "garbage": (
        "import os\ndef solve(n):\n    os.write(1, bytes(range(256)) * 4096)\n    return 2 * n",
        DOUBLE,
        4,
    ),
    "raises": ("def solve(n): return 100 // (n - 50)", DOUBLE, 0),
    "recursion": ("def solve(n): return solve(n)", DOUBLE, 0),
    "syntax_error": ("def solve(n) return", DOUBLE, 0),
    "nul_and_surrogate": ("x = '\udc80\0'\ndef solve(n): return 2 * n", DOUBLE, 0),
    "no_function": ("def solved(n): return 2 * n", DOUBLE, 0),
    "empty": ("", DOUBLE, 0),
    "template_words": ("'@FUNCTION@ @CODE@ @END@'\ndef solve(n): return 2 * n", DOUBLE, 4),
    "closes_the_harness": ("'''\"\"\"'''\n# '''\ndef solve(n): return 2 * n", DOUBLE, 4),
    "takes_our_names": (
        "from __future__ import annotations\nstr = len = print = main = show = read = CODE = FUNCTION = None\n"
        "def solve(n): return 2 * n",
        DOUBLE,
        4,
    ),
    "own_stdout": ("import io, sys\nsys.stdout = io.StringIO()\ndef solve(n): return 2 * n", DOUBLE, 4),
    "dataclass": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass N:\n    n: int\n"
        "def solve(n): return 2 * N(n).n",
        DOUBLE,
        4,
    ),
    "example": (
        "def solve(n): return 2 * n\nif __name__ == '__main__':\n    print(solve(int(input())))",
        DOUBLE,
        4,
    ),
    "truths_for_integers": ("def solve(n): return n == 1 or 2 * n", DOUBLE, 3),
    "integers_for_truths": ("def solve(n): return 1 - n % 2", EVEN, 0),
    "tuples_for_lists": ("def solve(xs): return tuple(xs)", COPY, 0),
    "truths_in_lists": ("def solve(xs): return [x or False for x in xs]", COPY, 2),
    "none": ("def solve(text): return text or None", ECHO, 2),
    "line_breaks": ('def solve(text): return text or "\\"\\n\\""', ECHO, 2),
    "not_ascii": ("def solve(text): return text or '\\udc80é'", ECHO, 2),
}
_DOUBLE_RUST = "fn solve(n: i64) -> i64 { 2 * n }"
RUST: Attacks = {
    "exit_in_call": ("fn solve(_: i64) -> i64 { std::process::exit(0) }", DOUBLE, 0),
    "marker_only": (f'fn solve(_: i64) -> i64 {{ println!("{END}"); std::process::exit(0) }}', DOUBLE, 0),
    "guess_then_right": (f'fn solve(n: i64) -> i64 {{ println!("{_GUESS}"); 2 * n }}', DOUBLE, 4),
    "guess_then_wrong": (f'fn solve(_: i64) -> i64 {{ println!("{_GUESS}"); 7 }}', DOUBLE, 0),
    "reads_stdin": ("fn solve(n: i64) -> i64 { 2 * n + std::io::stdin().lines().count() as i64 }", DOUBLE, 4),
    "debug_prints": ('fn solve(n: i64) -> i64 { print!("n = {n}"); 2 * n }', DOUBLE, 4),
    "garbage": (
        "fn solve(n: i64) -> i64 {\n"
        "    std::io::Write::write_all(&mut std::io::stdout(), &[0, 255, 10].repeat(300_000)).unwrap();\n    2 * n\n}",
        DOUBLE,
        4,
    ),
    "panics": ("fn solve(n: i64) -> i64 { 100 / (n - 50) }", DOUBLE, 0),
    "aborts": ("fn solve(_: i64) -> i64 { std::process::abort() }", DOUBLE, 0),
    "recursion": ("fn solve(n: i64) -> i64 { if n > 60 { n } else { 1 + solve(n) } }", DOUBLE, 0),
    "own_main": (f'{_DOUBLE_RUST}\nfn main() {{ println!("{{}}", solve(2)) }}', DOUBLE, 4),
    "doc_and_lints": (f"//! A solution.\n#![allow(dead_code)]\n{_DOUBLE_RUST}", DOUBLE, 4),
    "takes_our_names": (
        f"struct Vec; mod std {{}} fn show_integer() {{}} fn run() {{}}\n{_DOUBLE_RUST}",
        DOUBLE,
        4,
    ),
    "takes_our_macros": (
        'macro_rules! format { ($($x:tt)*) => { String::from("7") } }\n'
        "fn solve(text: &str) -> String { text.to_string() }",
        ECHO,
        3,
    ),
    "template_words": (f"// @FUNCTION@ @CODE@ @END@\n{_DOUBLE_RUST}", DOUBLE, 4),
    "line_breaks": (
        'fn solve(text: &str) -> String {\n    if text.is_empty() { "\\"\\n\\"".into() } else { text.into() }\n}',
        ECHO,
        2,
    ),
    "not_ascii": (
        'fn solve(text: &str) -> String {\n    if text.is_empty() { "é\\u{7f}".into() } else { text.into() }\n}',
        ECHO,
        2,
    ),
}
_DOUBLE_C = "long long solve(long long n) { return 2 * n; }"
C: Attacks = {
    "exit_in_call": ("#include <stdlib.h>\nlong long solve(long long n) { exit(n < 0); }", DOUBLE, 0),
    "exit_before_main": (
        f"#include <stdio.h>\n#include <stdlib.h>\n{_DOUBLE_C}\n"
        f'__attribute__((constructor)) static void first(void) {{ puts("{END}"); exit(0); }}',
        DOUBLE,
        0,
    ),
    "guess_then_right": (
        f'#include <stdio.h>\nlong long solve(long long n) {{ puts("{_GUESS}"); return 2 * n; }}',
        DOUBLE,
        4,
    ),
    "guess_then_wrong": (
        f'#include <stdio.h>\nlong long solve(long long n) {{ puts("{_GUESS}"); return n > 50; }}',
        DOUBLE,
        1,
    ),
    "output_at_exit": (
        f'#include <stdio.h>\n{_DOUBLE_C}\n__attribute__((destructor)) static void last(void) {{ puts("bye"); }}',
        DOUBLE,
        0,
    ),
    "reads_stdin": (
        "#include <stdio.h>\nlong long solve(long long n) { while (getchar() != EOF) n++; return 2 * n; }",
        DOUBLE,
        4,
    ),
    "reads_stdin_early": (
        f"#include <stdio.h>\n{_DOUBLE_C}\n"
        "__attribute__((constructor)) static void first(void) { while (getchar() != EOF); }",
        DOUBLE,
        0,
    ),
    "debug_prints": (
        '#include <stdio.h>\nlong long solve(long long n) { printf("n = %lld", n); return 2 * n; }',
        DOUBLE,
        4,
    ),
    "garbage": (
        "#include <stdio.h>\nlong long solve(long long n)\n"
        "{ for (int i = 0; i < 1 << 20; i++) putchar(i % 256); return 2 * n; }",
        DOUBLE,
        4,
    ),
    "crashes": (
        "#include <stdlib.h>\nlong long solve(long long n) { if (n == 50) abort(); return 2 * n; }",
        DOUBLE,
        0,
    ),
    "recursion": ("long long solve(long long n) { return n > 60 ? n : 1 + solve(n) * 3; }", DOUBLE, 0),
    "own_main": (f'#include <stdio.h>\n{_DOUBLE_C}\nint main(void) {{ puts("4"); return 1; }}', DOUBLE, 4),
    "own_macros": (f"#define _GNU_SOURCE\n#define N 100\n#define MAX(a, b) a\n{_DOUBLE_C}", DOUBLE, 4),
    "helpers_called_like_the_librarys": (
        "static long long abs(long long x) { return x < 0 ? -x : x; }\n"
        "static void remove(long long *x) { *x = *x * 2; }\n"
        "static long long div(long long x, long long y) { return x / y; }\n"
        "long long solve(long long n) { remove(&n); return abs(n) < 0 ? div(n, 2) : n; }",
        DOUBLE,
        4,
    ),
    "macros_over_the_library": (
        "#include <stdio.h>\n#define printf(...) 0\n#define fputs(...) 0\n#define snprintf(...) 0\n#define memcpy(...) 0\n"
        '#define strtoll(...) 7\n#define fread(...) 0\n#define realloc(...) NULL\n#define harness_put(...) puts("7")\n'
        f"{_DOUBLE_C.replace('{', '{ printf(0);')}",
        DOUBLE,
        4,
    ),
    "names_of_the_harness": (
        "char *harness_results = 0; void harness_put(const char *text) { (void)text; }\n"
        "void *harness_grow(void *old, unsigned long bytes) { (void)old; (void)bytes; return 0; }\n"
        + _DOUBLE_C,
        DOUBLE,
        4,
    ),
    "own_main_that_is_weak": (
        f'#include <stdlib.h>\n{_DOUBLE_C}\n__attribute__((weak)) int own(void) __asm__("main");\n'
        "int own(void) { exit(0); }",
        DOUBLE,
        4,
    ),
    "template_words": (
        f"/* @FUNCTION@ @CODE@ @DECLARED@ @END@ */\n{_DOUBLE_C}\n// no line break at the end",
        DOUBLE,
        4,
    ),
    "static": (f"static {_DOUBLE_C}", DOUBLE, 4),
    "writes_no_text": ("void solve(const char *text, char *out) { (void)text; (void)out; }", ECHO, 0),
    "writes_no_end": (
        "#include <string.h>\nvoid solve(const char *text, char *out) { memset(out, *text ? 'x' : 0, 1024); }",
        ECHO,
        1,
    ),
    "line_breaks": (
        '#include <string.h>\nvoid solve(const char *text, char *out) { strcpy(out, *text ? text : "\\"\\n\\""); }',
        ECHO,
        2,
    ),
    "writes_no_list": (
        "size_t solve(const long long *xs, size_t xs_len, long long *out) { (void)xs; (void)out; return xs_len; }",
        COPY,
        1,
    ),
    "claims_too_much": (
        "size_t solve(const long long *xs, size_t xs_len, long long *out)\n"
        "{ for (size_t i = 0; i < xs_len; i++) out[i] = xs[i]; return xs_len == 1 ? (size_t)-1 : xs_len; }",
        COPY,
        2,
    ),
}


@pytest.mark.parametrize(("language", "attacks"), [("python", PYTHON), ("rust", RUST), ("c", C)])
def test_only_what_was_computed_counts(language: Language, attacks: Attacks, tmp_path: Path) -> None:
    codes = {name: (problem, code) for name, (code, problem, _) in attacks.items()}
    programs, _ = build(language, TOOL[language], codes, tmp_path)
    counted = {name: right(programs[name], problem) for name, (_, problem, _) in attacks.items()}
    assert counted == {name: count for name, (_, _, count) in attacks.items()}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("c", "int solve(int n) { return 2 * n; }"),
        ("c", "long long solved(long long n) { return 2 * n; }"),
        ("c", "long long solve(long long n) { return 2 * n; } /* to the end"),
        ("c", "#undef main\nlong long solve(long long n) { return 2 * n; }\nint main(void) { return 0; }"),
        (
            "c",
            "long long maxrl_call(long long n) { return 7; }\nlong long solve(long long n) { return 2 * n; }",
        ),
        ("rust", "fn solve(n: i32) -> i32 { 2 * n }"),
        ("rust", "fn solved(n: i64) -> i64 { 2 * n }"),
    ],
)
def test_functions_of_another_name_or_type_do_not_compile(
    language: Language, code: str, tmp_path: Path
) -> None:
    with pytest.raises(pytest.fail.Exception, match="fails:"):
        build(language, TOOL[language], {"other": (DOUBLE, code)}, tmp_path)
