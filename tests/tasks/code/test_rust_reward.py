"""The guide's reward for Rust: its published figures, each measure and each term by hand, and any text at all."""

import time
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.errors import InputError
from maxrl.tasks.code import rust_syntax
from maxrl.tasks.code.rust_reward import (
    Diagnostics,
    RustWeights,
    compiler_terms,
    complexity_terms,
    idiom_terms,
    is_finished,
    quality_terms,
    read_diagnostics,
    read_weights,
    rust_terms,
    structure_terms,
)
from maxrl.tasks.code.rust_syntax import MEASURE_LIMIT, Syntax, measure, measure_all, measured
from maxrl.tasks.code.task import MOST_CODE
from maxrl.tasks.sandbox import Outcome
from maxrl.tasks.workers import WorkerFailure

FUZZ = settings(derandomize=True, database=None, deadline=1000, max_examples=200)
W = RustWeights()
FINE = Diagnostics(compiles=True, errors=0, warnings=0)

ITERATOR = """
pub fn total_of_squares(values: &[i32]) -> i32 {
    values.iter().map(|v| v * v).sum()
}
"""
ERROR_HANDLING = """
use std::fs;
use std::io;

pub fn contents(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
}
"""
SYNTAX_ERROR = """
pub fn unfinished() {
    let x = 5
}
"""
TYPE_MISMATCH = """
pub fn mistaken() -> String {
    42
}
"""
STRUCT = """
pub struct Place {
    x: f64,
    y: f64,
}

impl Place {
    pub fn away_from(&self, other: &Place) -> f64 {
        let east = self.x - other.x;
        let north = self.y - other.y;
        (east * east + north * north).sqrt()
    }
}
"""
GUIDE = {
    # Compiler 10 + 5 + 1, parses 8: 24 where all is well; a function is 2 · .5, fewer than five lines −1.
    "iterators": (ITERATOR, FINE, 28.6),  # 24 + 1 + 2 · (1 + .7 + .6) − 1
    "error handling": (ERROR_HANDLING, FINE, 28.0),  # 24 + 1 + 3 · 1
    # Two errors with rustc's "aborting due to 1 previous error"; the unused variable is a warning: −4 − .5.
    "syntax error": (SYNTAX_ERROR, Diagnostics(compiles=False, errors=2, warnings=1), -4.5),
    "type mismatch": (
        TYPE_MISMATCH,
        Diagnostics(compiles=False, errors=2, warnings=0),
        5.0,
    ),  # −4 + 1 + 8 + 1 − 1
    "struct": (STRUCT, FINE, 25.1),  # 24 + 2 · .3, a method is no function, 11 lines .5
}


@pytest.mark.parametrize(("code", "diagnostics", "reward"), GUIDE.values(), ids=GUIDE)
def test_the_guides_samples_get_its_figures(code: str, diagnostics: Diagnostics, reward: float) -> None:
    assert sum(rust_terms(diagnostics, measure(code)).values()) == pytest.approx(reward, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------ measures

MEASURES: list[tuple[str, dict[str, Any]]] = [
    ("", {"bodies": 0, "lines": 0, "functions": 0}),
    ("// nothing\n/* at all */\n#![allow(unused)]", {"bodies": 0}),
    ("use std::fs; struct S; macro_rules! m { () => { fn f() {} } } m!();", {"bodies": 0}),
    ("fn f() {}", {"bodies": 1, "functions": 1, "lines": 1, "cyclomatic": 1, "nesting": 0}),
    ("struct S; impl S { fn m(&self) {} }\ntrait T { fn a(); fn b() { fn c() {} } }", {"bodies": 3}),
    ("fn f() { fn g() {} }\nmod m { fn h() {} mod n { fn i() {} } }", {"functions": 4}),
    ("mod elsewhere;", {"bodies": 0, "functions": 0}),
    (
        "struct S; impl S { fn m(&self) {} }\ntrait T { fn a(); fn b() {} }",
        {"functions": 0, "structs": 1, "traits": 1},
    ),
    ("enum E { A }\nenum F {}\nstruct G(i32);", {"enums": 2, "structs": 1}),
    ("/// Doc.\nfn f() {}\nfn g() {}", {"functions": 2, "documented": 1}),
    ("/** Doc. */\n#[inline]\n// more\npub fn f() {}", {"documented": 1}),
    ('#[doc = "Doc."]\nfn f() {}', {"documented": 1}),
    ("// No doc.\nfn f() {}\n//! Of the file.\n#[inline]\nfn g() {}", {"documented": 0}),
    ("/// Of the struct.\nstruct S;\nfn f() {}", {"documented": 0}),
    ("fn f() -> io::Result<i32> { g() }", {"returns_result": True, "returns_option": False}),
    ("fn f() -> Option<i32> { None }", {"returns_option": True, "returns_result": False}),
    ("fn f(x: Result<Option<u8>, ()>) -> i32 { 1 }", {"returns_result": False, "returns_option": False}),
    ("impl S { fn f() -> Option<i32> { None } }", {"returns_option": False}),
    ("fn f() { g()?; }", {"question_mark": True}),
    ("fn f() { unsafe { g() } }", {"unsafe": True}),
    ("unsafe fn f() {}", {"unsafe": False}),
    (
        'fn f() { a.unwrap(); b.expect("c"); panic!("d"); std::panic!(); todo!(); unimplemented!(); }',
        {"panics": 6},
    ),
    ("fn f() { a.unwrap_or(1); unwrap(); vec![1]; unreachable!() }", {"panics": 1}),
    ("fn f() { a.unwrap::<T>() }", {"panics": 1, "turbofish": True}),
    *(
        (f"fn f() {{ a.{name}() }}", {"iterators": True, "chaining": False})
        for name in ("map", "filter", "fold")
    ),
    *((f"fn f() {{ a.{name}() }}", {"iterators": True}) for name in ("collect", "iter", "into_iter")),
    ("fn f() { a.sum(); map(b) }", {"iterators": False}),
    ("fn f() { match a { 1 => 2, _ => 3 } }", {"matches": True, "cyclomatic": 3, "nesting": 1}),
    ("fn f() { let (a, b) = c; }", {"destructuring": True}),
    ("fn f() { let P { a, .. } = c; }", {"destructuring": True}),
    ("fn f() { let a = (b, c); let [d, e] = g; }", {"destructuring": False}),
    ("fn f() { g(|x| x) }", {"closures": True}),
    ("fn f() { a.b().c() }", {"chaining": True}),
    ("fn f() { a.b::<T>().c() }", {"chaining": True, "turbofish": True}),
    ("fn f() { a.b.c(); g().c() }", {"chaining": False}),
    ("fn f() { a::<i32>() }", {"turbofish": True}),
    ("fn f() { Vec::<i32>::new() }", {"turbofish": True}),
    ("fn f() -> Vec<i32> { Vec::new() }", {"turbofish": False}),
    ("fn f() { if a {} while b {} loop {} for c in d {} }", {"cyclomatic": 5, "nesting": 1}),
    ("fn f() { if a { for c in d { match e { _ => loop {} } } } }", {"cyclomatic": 5, "nesting": 4}),
    ("fn f() { if a {} else if b {} else {} }", {"cyclomatic": 3, "nesting": 2}),
    ("\n  // one\nfn f() {\n\n  1; // two\n}\n", {"lines": 3}),
]


@pytest.mark.parametrize(("code", "expected"), MEASURES, ids=[code for code, _ in MEASURES])
def test_measures(code: str, expected: dict[str, Any]) -> None:
    found = measure(code)
    assert found.parses
    assert {name: getattr(found, name) for name in expected} == expected


def test_what_a_plain_function_does_not_show() -> None:
    assert measure("fn f() {}") == Syntax(parses=True, bodies=1, functions=1, lines=1)


# Each takes code away that rustc then does not look at; `T` is another name of `test`.
REMOVING = [
    "#[cfg(any())]",
    "#[cfg(test)]",
    "#[ cfg ( any ( ) ) ]",
    "#[r#cfg(any())]",
    "#[cfg_attr(all(), cfg(any()))]",
    "#[test]",
    "#[std::prelude::v1::test]",
    "#[T]",
    "#[rustfmt::skip]",  # `use std::prelude::v1 as rustfmt` is allowed
    "#[derive()]",  # and so is `use std::prelude::v1::test as derive`
    "#[/* a comment */ cfg(any())]",
    "#[cfg(any())] #[inline] /* a comment */",
]
IDIOMS = "let (a, b) = x.iter().map(|y| y)?; match f::<T>() { _ => 1 }"


@pytest.mark.parametrize("attribute", REMOVING)
def test_what_an_attribute_may_take_away_earns_nothing(attribute: str) -> None:
    bare = f"/// D.\nfn f() -> Option<Result<i32, i32>> {{ {IDIOMS} }}"
    assert all((measure(bare).bodies, measure(bare).documented, measure(bare).turbofish))
    nothing = Syntax(parses=True, lines=measure(bare).lines, cyclomatic=2, nesting=1)
    removed = [
        f"{attribute} {bare}",
        bare.replace("fn", f"{attribute} fn"),
        f"mod m {{ {attribute} fn f() {{ {IDIOMS} }} }}",
        f"impl S {{ {attribute} fn f() {{ {IDIOMS} }} }}",
    ]
    if "derive" not in attribute:
        removed += [
            f"{attribute} mod m {{ struct S; enum E {{}} trait T {{ fn f() {{ {IDIOMS} }} }} }}",
            f"{attribute} impl S {{ fn f() {{ {IDIOMS} }} }}",
        ]
    for code in removed:
        assert replace(measure(code), lines=nothing.lines) == nothing, code


@pytest.mark.parametrize("name", ["cfg(any())", "cfg_attr(all(), cfg(any()))", "r#cfg(any())", "unheard_of"])
@pytest.mark.parametrize(
    "code", ["#![X] fn f() {}", "mod m { #![X] fn f() {} }", "//! D.\n#![allow(unused)]\n#![X]\nfn f() {}"]
)
def test_what_an_inner_attribute_may_take_away_is_no_code(name: str, code: str) -> None:
    assert measure(code.replace("X", name)) == Syntax(parses=True, lines=measure(code).lines)


def test_an_attribute_inside_a_function_takes_away_what_it_belongs_to() -> None:
    for removed in (
        f"fn f() {{ #[cfg(any())] {{ {IDIOMS} }} }}",
        f"fn f() {{ match x {{ #[cfg(any())] 1 => {{ {IDIOMS} }} }} }}",
        f"fn f() {{ S {{ #[cfg(any())] a: {{ {IDIOMS} }} }} }}",
        f"fn f() {{ g(#[cfg(any())] {{ {IDIOMS} }}) }}",
    ):
        found = measure(removed)
        assert (found.parses, found.bodies, found.turbofish, found.closures, found.iterators) == (
            *(True, 1, False, False, False),
        ), removed
    found = measure("fn f() { #[cfg(any())] a(|x| x); b.iter(); }")
    assert (found.closures, found.iterators) == (False, True)


def test_what_costs_is_counted_wherever_it_stands() -> None:
    costs = "a.unwrap(); panic!(); unsafe { b() } if c { if d { if e { for f in g {} } } }"
    open_, hidden = measure(f"fn f() {{ {costs} }}"), measure(f"#[cfg(all())] fn f() {{ {costs} }}")
    for name, value in {"panics": 2, "unsafe": True, "cyclomatic": 5, "nesting": 4, "lines": 1}.items():
        assert getattr(open_, name) == getattr(hidden, name) == value


def test_attributes_that_leave_code_where_it_is() -> None:
    for attribute in ("#[inline]", "#[must_use]", "#[allow(unused)]", '#[doc = "cfg"]', "#[inline(always)]"):
        assert measure(f"{attribute} fn f() {{}}").bodies == 1
        assert measure(f"#![allow(unused)] {attribute} mod m {{ fn f() {{}} }}").bodies == 1
    assert measure("#[derive(Clone)] struct S; #[derive(Debug)] enum E {}").structs == 1
    assert measure("#[derive(Clone)] struct S; #[derive(Debug)] enum E {}").enums == 1
    assert measure("#[cfg(any())] struct S; fn f() {}").bodies == 1  # only what follows it


@pytest.mark.parametrize(
    "code", ["fn f() {", "fn f() { let x = 1 }", "hello there", "fn f() { a. }", "}", "\0"]
)
def test_code_that_does_not_parse_has_no_measures(code: str) -> None:
    assert measure(code) == Syntax(parses=False)


# --------------------------------------------------------------------------------------------------------------- terms


def test_every_measure_moves_its_term_alone() -> None:
    """From nothing to one of it, with the guide's weights: part · weight."""
    plain = Syntax(parses=True, lines=7)
    moves = {
        "functions": ("structure/functions", 1.0),
        "structs": ("structure/structs", 0.6),
        "enums": ("structure/enums", 0.6),
        "traits": ("structure/traits", 1.0),
        "returns_result": ("quality/result", 3.0),
        "returns_option": ("quality/option", 1.5),
        "question_mark": ("quality/question_mark", 1.5),
        "unsafe": ("quality/unsafe", -3.0),
        "panics": ("quality/panics", -6.0),
        "iterators": ("idioms/iterators", 2.0),
        "matches": ("idioms/match", 1.6),
        "destructuring": ("idioms/destructuring", 1.0),
        "closures": ("idioms/closures", 1.4),
        "chaining": ("idioms/chaining", 1.2),
        "turbofish": ("idioms/turbofish", 0.6),
    }
    before = rust_terms(FINE, plain)
    for name, (term, value) in moves.items():
        kind = type(getattr(plain, name))
        after = rust_terms(FINE, replace(plain, **{name: kind(1)}))
        assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {
            term: pytest.approx(value)
        }
    assert sum(before.values()) == 24.0


def test_terms_of_the_compiler() -> None:
    assert compiler_terms(FINE, W) == {"compiles": 10.0, "errors": 5.0, "warnings": 1.0}
    failed = Diagnostics(compiles=False, errors=3, warnings=2)
    assert compiler_terms(failed, W) == {"compiles": 0.0, "errors": -6.0, "warnings": -1.0}


@pytest.mark.parametrize(("functions", "value"), [(0, 0.0), (3, 3.0), (4, 4.0), (5, 4.0), (100, 4.0)])
def test_functions_count_up_to_four(functions: int, value: float) -> None:
    assert structure_terms(Syntax(parses=True, functions=functions), W)["structure/functions"] == value


@pytest.mark.parametrize(
    ("name", "three", "most"), [("structs", 1.8, 2.0), ("enums", 1.8, 2.0), ("traits", 2.0, 2.0)]
)
def test_types_count_up_to_one_each(name: str, three: float, most: float) -> None:
    for count, value in ((3, three), (4, most), (50, most)):
        term = structure_terms(Syntax(parses=True, **{name: count}), W)[f"structure/{name}"]
        assert term == pytest.approx(value)


def test_documentation_counts_once_and_by_its_share() -> None:
    terms = quality_terms(Syntax(parses=True, functions=4, documented=1), W)
    assert (terms["quality/docs"], terms["quality/doc_coverage"]) == (3.0, 0.75)
    terms = quality_terms(Syntax(parses=True), W)
    assert (terms["quality/docs"], terms["quality/doc_coverage"]) == (0.0, 0.0)


def test_panics_count_each() -> None:
    assert quality_terms(Syntax(parses=True, panics=3), W)["quality/panics"] == -18.0


@pytest.mark.parametrize(("cyclomatic", "value"), [(1, 0.0), (10, 0.0), (11, -0.1), (30, -2.0)])
def test_branches_above_ten_cost(cyclomatic: int, value: float) -> None:
    terms = complexity_terms(Syntax(parses=True, cyclomatic=cyclomatic), W)
    assert terms["complexity/cyclomatic"] == pytest.approx(value)


@pytest.mark.parametrize(("nesting", "value"), [(0, 0.0), (3, 0.0), (4, -0.5), (6, -1.5)])
def test_depth_below_the_third_level_costs(nesting: int, value: float) -> None:
    assert complexity_terms(Syntax(parses=True, nesting=nesting), W)["complexity/nesting"] == value


@pytest.mark.parametrize(
    ("lines", "value"),
    [(0, -1.0), (4, -1.0), (5, 0.0), (9, 0.0), (10, 0.5), (100, 0.5), (101, 0.0), (200, 0.0), (201, -2.0)],
)
def test_length(lines: int, value: float) -> None:
    assert complexity_terms(Syntax(parses=True, lines=lines), W)["complexity/length"] == value


def test_code_that_does_not_parse_has_the_compilers_terms_alone() -> None:
    terms = rust_terms(Diagnostics(compiles=False, errors=1, warnings=0), Syntax(parses=False))
    assert {name for name, value in terms.items() if value} == {"errors", "warnings"}
    assert terms.keys() == rust_terms(FINE, Syntax(parses=True)).keys()


def test_idioms_are_all_or_nothing() -> None:
    names = ("iterators", "matches", "destructuring", "closures", "chaining", "turbofish")
    assert not any(idiom_terms(Syntax(parses=True), W).values())
    assert sum(idiom_terms(Syntax(parses=True, **dict.fromkeys(names, True)), W).values()) == pytest.approx(
        7.8
    )


def test_every_weight_matters() -> None:
    everything = Syntax(
        parses=True,
        bodies=1,
        functions=1,
        documented=1,
        structs=1,
        enums=1,
        traits=1,
        returns_result=True,
        returns_option=True,
        question_mark=True,
        unsafe=True,
        panics=1,
        iterators=True,
        matches=True,
        destructuring=True,
        closures=True,
        chaining=True,
        turbofish=True,
        cyclomatic=20,
        nesting=5,
        lines=20,
    )
    situations = [
        (FINE, everything),
        (Diagnostics(compiles=False, errors=1, warnings=1), replace(everything, lines=2)),
        (FINE, replace(everything, lines=300)),
    ]

    def rewards(weights: RustWeights) -> list[float]:
        return [sum(rust_terms(*situation, weights).values()) for situation in situations]

    for weight in fields(RustWeights):
        changed = replace(W, **{weight.name: getattr(W, weight.name) + 0.125})
        assert rewards(changed) != rewards(W), weight.name


# ------------------------------------------------------------------------------------------------- weights, diagnostics


def test_weights_are_read() -> None:
    assert read_weights("") == RustWeights()
    assert read_weights(" panic=-4, docs = 0 ,") == RustWeights(panic=-4.0, docs=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("panics=-4", "unknown weight 'panics'; did you mean 'panic'"),
        ("panic", "weight 'panic' is not allowed; give a number, like panic=1.5"),
        ("panic=high", "weight 'panic=high' is not allowed"),
        ("docs=1, panic=nan", "weight 'panic=nan' is not allowed"),
        ("panic=-inf", "weight 'panic=-inf' is not allowed"),
        ("=3", "unknown weight ''"),
    ],
)
def test_weights_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_weights(text)


@given(st.text() | st.text(alphabet="=,-. 0123456789panicdoe"))
@FUZZ
def test_any_text_is_weights_or_refused(text: str) -> None:
    with suppress(InputError):
        assert isinstance(read_weights(text), RustWeights)


MESSAGES = b"""\
{"$message_type":"diagnostic","message":"unused variable: `x`","level":"warning","spans":[]}
not JSON
{"message":"mismatched types","level":"error"}
{"message":"compiler bug","level":"error: internal compiler error"}
{"message":"aborting due to 2 previous errors; 1 warning emitted","level":"error"}
{"message":"For more information","level":"failure-note"}
["level", "error"]
{"level":null}
\xff\xfe
"""


def test_messages_are_counted_by_level() -> None:
    expected = Diagnostics(compiles=False, errors=3, warnings=1)
    assert read_diagnostics(MESSAGES, compiles=False) == expected
    assert read_diagnostics(b"", compiles=True) == FINE


def test_a_compiler_that_fails_without_a_word_found_an_error() -> None:
    # It counts as two, as rustc's own would with their summary.
    assert read_diagnostics(b"Killed", compiles=False) == Diagnostics(compiles=False, errors=2, warnings=0)


ENDS: list[tuple[bool, dict[str, Any], bytes]] = [
    (True, {"status": "exited", "exit_code": 0}, b""),
    (True, {"status": "exited", "exit_code": 1}, MESSAGES),
    (False, {"status": "exited", "exit_code": 1}, b'{"level":"warning"}\nout of memory'),
    (False, {"status": "exited", "exit_code": 101}, MESSAGES),
    (False, {"status": "signalled", "signal": 11}, MESSAGES),
    (False, {"status": "signalled", "signal": 6}, b""),
    *((False, {"status": status}, MESSAGES) for status in ("cpu time", "wall time", "memory", "output")),
]


@pytest.mark.parametrize(("finished", "ending", "stderr"), ENDS)
def test_when_rustc_came_to_its_end(finished: bool, ending: dict[str, Any], stderr: bytes) -> None:
    assert is_finished(Outcome(**ending, stdout=b"", stderr=stderr, seconds=0.1)) is finished


@pytest.mark.parametrize("data", [b"[" * 2**20, b'{"level":' * 2**16, b"{}\n" * 2**15, b"9" * 2**20])
def test_many_messages(data: bytes) -> None:
    assert read_diagnostics(data, compiles=True) == FINE


@given(
    st.binary() | st.lists(st.sampled_from([b'{"level":', b'"error"', b"}", b"\n", b"[", b"9"])).map(b"".join)
)
@FUZZ
def test_any_bytes_are_read_as_messages(data: bytes) -> None:
    found = read_diagnostics(data, compiles=False)
    assert found.errors >= 2
    assert found.warnings >= 0


# ------------------------------------------------------------------------------------------------------------- hostile

WORDS = [
    "fn",
    "let",
    "mod",
    "impl",
    "match",
    "if",
    "else",
    "iter",
    "unwrap",
    "x",
    "1",
    "::",
    "->",
    "=>",
    "///",
    "//",
]
TOKENS = [*WORDS, *"{}()<>,;='#!|&?.", '"', "\n"]


ANYTHING = st.text(st.characters(exclude_categories=()))  # lone surrogates, too


@given(ANYTHING | st.lists(st.sampled_from(TOKENS), max_size=60).map(" ".join))
@FUZZ
def test_any_text_is_measured(code: str) -> None:
    found = measure(code)
    assert found.documented <= found.functions
    total = sum(rust_terms(FINE, found).values())
    assert total == total  # no NaN


HOSTILE = {
    "parentheses": "fn f() {" + "(" * 15_000 + "1" + ")" * 15_000 + "}",
    "nesting": "fn f() {" + "if x {" * 4_000 + "}" * 4_000 + "}",
    "modules": "mod a {" * 4_000 + "}" * 4_000,
    "chain": "fn f() { a" + ".b()?" * 6_000 + "}",
    "attributes": "#[a]\n" * 6_000 + "fn f() {}",
    "comments": "/// a\n" * 5_000 + "fn f() {}",
    "functions": "/// a\n#[x]\nfn f() {}\n" * 1_500,
    "arms": "fn f() { match x {" + "1 => 2," * 4_000 + "} }",
    "closures": "fn f() {" + "|x| " * 8_000 + "x }",
    "opened only": "{" * 32_000,
    "angles": "a<" * 16_000,
    "quotes": "'" * 32_000,
    "raw strings": "r#" * 16_000,
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_the_longest_code_that_is_looked_at_takes_no_second(code: str) -> None:
    started = time.thread_time()  # not the clock: the machine may be busy
    measure(code)
    assert time.thread_time() - started < 1


def test_measures_come_back_from_the_workers_as_they_are() -> None:
    codes = [STRUCT, ITERATOR, "fn f() {", "\udc80\0", "", *HOSTILE.values()]
    assert measure_all(codes) == [measure(code) for code in codes]
    assert Syntax(**measured(STRUCT)) == measure(STRUCT)
    assert measure_all([]) == []


# tree-sitter takes minutes over the first, and holds Python's lock all the while.
ENDLESS = {
    "types and comments": "->?/*" * 6_400,
    "raw strings": 'r#"' * 10_667,
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS)
def test_no_code_stops_the_program(code: str) -> None:
    started = time.thread_time()
    found = measure_all([code, "fn f() {}", code])
    assert time.thread_time() - started < 0.5
    for failure in (found[0], found[2]):
        assert failure == WorkerFailure(kind="time", detail="CPU time used up")
    assert found[1] == measure("fn f() {}")


def test_a_worker_that_dies_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = WorkerFailure(kind="crashed", detail="killed")
    answers: list[list[Any]] = [[measured(STRUCT), crash, crash], [crash, measured(ITERATOR)]]
    asked: list[list[str]] = []

    class Dying:
        def map(self, items: list[str]) -> list[Any]:
            asked.append(items)
            return answers[len(asked) - 1]

    monkeypatch.setattr(rust_syntax, "_MEASURING", Dying())
    assert measure_all(["a", "b", "c"]) == [measure(STRUCT), crash, measure(ITERATOR)]
    assert asked == [["a", "b", "c"], ["b", "c"]]


# What tree-sitter may find hard to read again and again.
UNITS = [
    "/*",
    "*/",
    'r#"',
    '"#',
    "b'",
    "'a ",
    "<<",
    "a::<",
    "x(",
    "dyn ",
    "for ",
    "where ",
    "..",
    "$",
    "@",
    "#[",
    "#![",
]


@given(
    st.lists(st.sampled_from([*TOKENS, *UNITS]), min_size=1, max_size=5).map("".join),
    st.sampled_from(["", "fn f() {", "fn f() { let x = ", "impl "]),
)
@settings(derandomize=True, database=None, deadline=None, max_examples=25)
def test_any_tokens_again_and_again(unit: str, before: str) -> None:
    code = (before + unit * (MOST_CODE // len(unit)))[:MOST_CODE]
    started = time.thread_time()
    [found] = measure_all([code])
    assert time.thread_time() - started < 0.5  # of this process; the workers' is limited by the kernel
    assert isinstance(found, Syntax) or found.kind == "time"


def test_measuring_takes_less_than_a_second() -> None:
    assert MEASURE_LIMIT < 1
