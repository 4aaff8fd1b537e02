"""The graded reward for Rust code of the nanochat-rs guide, term by term.

    reward = compiler + parses + structure + quality + idioms + complexity

Formulas and weights are those of the reward behind the guide "MaxRL Integration Guide" (architehc/nanochat-rs-ternary); its
five published samples get its figures: 28.6, 28.0, −4.5, 5.0 and 25.1. Where its code misses what it says, its word is
kept: `.unwrap()`, `.expect()`, `panic!` and the turbofish are found wherever they stand.

It measures manners, not answers: any code that compiles gets about 20, whether or not it does what was asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, cast

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.code.rust_syntax import Syntax
from maxrl.tasks.sandbox import Outcome

_MOST_FUNCTIONS, _MOST_OTHERS = 2.0, 1.0
_MOST_BRANCHES, _MOST_NESTING = 10, 3
_SHORT, _LONG, _FITTING = 5, 200, range(10, 101)


@dataclass(frozen=True, kw_only=True)
class RustWeights:
    """What each term counts; the defaults are the guide's.

    `structure`, `quality`, `idioms` and `complexity` multiply the weights of their paragraph: a panic costs
    quality · panic = −6.
    """

    compiles: float = 10.0
    no_errors: float = 5.0
    error: float = -2.0
    """Each error, in place of `no_errors`."""
    no_warnings: float = 1.0
    warning: float = -0.5
    """Each warning, in place of `no_warnings`."""
    parses: float = 8.0

    structure: float = 2.0
    function: float = 0.5
    """Each, up to 2 together."""
    struct: float = 0.3
    """Each, up to 1 together; so for enums and traits."""
    enum: float = 0.3
    trait: float = 0.5

    quality: float = 3.0
    result: float = 1.0
    option: float = 0.5
    docs: float = 1.0
    doc_coverage: float = 1.0
    """Times the share of functions that are documented."""
    question_mark: float = 0.5
    unsafe: float = -1.0
    panic: float = -2.0
    """Each."""

    idioms: float = 2.0
    iterators: float = 1.0
    match: float = 0.8
    destructuring: float = 0.5
    closures: float = 0.7
    chaining: float = 0.6
    turbofish: float = 0.3

    complexity: float = -0.5
    cyclomatic: float = 2.0
    """For each 10 above 10."""
    nesting: float = 1.0
    """For each level below the third."""

    short: float = -1.0
    """Fewer than 5 lines. The terms of length are not multiplied."""
    fitting: float = 0.5
    """10 to 100 lines."""
    long: float = -2.0
    """More than 200 lines."""


def read_weights(text: str) -> RustWeights:
    """The guide's weights with changes, from text like `"panic=-4, docs=0"`.

    Raises:
        InputError: on a weight that does not exist (with the nearest that does), or a value that is no finite number.
    """
    names = [weight.name for weight in fields(RustWeights)]
    changes: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in names:
            raise unknown_name("weight", name, names)
        try:
            changes[name] = float(value)
        except ValueError:
            changes[name] = float("nan")
        if not isfinite(changes[name]):
            raise InputError(f"weight {part!r} is not allowed; give a number, like {name}=1.5")
    return RustWeights(**changes)


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """What the compiler said."""

    compiles: bool
    errors: int
    """Messages of the level `error`. rustc's closing summary ("aborting due to …") is one, as in the guide's figures."""
    warnings: int
    """Messages of the level `warning`; again with the summary, where rustc gives one."""


_ONE_ERROR = Diagnostics(compiles=False, errors=2, warnings=0)
"""What rustc says of one syntax error: the error, and its summary."""


def read_diagnostics(stderr: bytes, *, compiles: bool) -> Diagnostics:
    """Counts what `rustc --error-format=json` wrote. Lines that are no message are passed over.

    A compiler that fails without a word (it crashed, or was stopped at a limit) counts as if it had found one error.
    """
    levels = _levels(stderr)
    errors = sum(level.startswith("error") for level in levels)  # "error: internal compiler error" is one
    return Diagnostics(
        compiles=compiles,
        errors=errors if compiles else max(_ONE_ERROR.errors, errors),
        warnings=levels.count("warning"),
    )


def _levels(stderr: bytes) -> list[str]:
    return [_level(line) for line in stderr.split(b"\n")]


def _level(line: bytes) -> str:
    try:
        message: object = json.loads(line)
    except (ValueError, RecursionError):  # ValueError: no JSON, or no UTF-8
        return ""
    return str(cast("dict[str, Any]", message).get("level")) if isinstance(message, dict) else ""


def is_finished(outcome: Outcome) -> bool:
    """Whether rustc came to its end: it compiled the code, or told the errors because of which it did not.

    It exits with 0 or 1 then. Stopped at a limit, crashed (a signal, or 101) or without a word, it had more to tell.
    """
    if outcome.ok:
        return True
    return outcome.exit_code == 1 and _levels(outcome.stderr).count("error") > 0


def rust_terms(
    diagnostics: Diagnostics, syntax: Syntax, weights: RustWeights | None = None
) -> Mapping[str, float]:
    """Every term of the reward by name, zeros included; their sum is the reward.

    Code that does not parse has the terms of the compiler alone.
    """
    weights = weights or RustWeights()
    terms = compiler_terms(diagnostics, weights)
    counts = float(syntax.parses)
    terms["parses"] = counts * weights.parses
    for part in (structure_terms, quality_terms, idiom_terms, complexity_terms):
        terms |= {name: counts * value for name, value in part(syntax, weights).items()}
    return terms


def refusal_terms(weights: RustWeights | None = None) -> Mapping[str, float]:
    """The terms of code with one syntax error, for what is refused unseen: nothing may be cheaper than to try and fail."""
    return rust_terms(_ONE_ERROR, Syntax(parses=False), weights)


def compiler_terms(found: Diagnostics, weights: RustWeights) -> dict[str, float]:
    """`compiles`; `errors` and `warnings`: a bonus for none, a penalty for each."""
    return {
        "compiles": found.compiles * weights.compiles,
        "errors": found.errors * weights.error if found.errors else weights.no_errors,
        "warnings": found.warnings * weights.warning if found.warnings else weights.no_warnings,
    }


def structure_terms(syntax: Syntax, weights: RustWeights) -> dict[str, float]:
    """structure × (min(function · functions, 2) + min(struct · structs, 1) + …)."""
    return _scaled(
        "structure",
        weights.structure,
        functions=min(weights.function * syntax.functions, _MOST_FUNCTIONS),
        structs=min(weights.struct * syntax.structs, _MOST_OTHERS),
        enums=min(weights.enum * syntax.enums, _MOST_OTHERS),
        traits=min(weights.trait * syntax.traits, _MOST_OTHERS),
    )


def quality_terms(syntax: Syntax, weights: RustWeights) -> dict[str, float]:
    """quality × (result + option + docs + doc_coverage · share + question_mark + unsafe + panic · panics)."""
    return _scaled(
        "quality",
        weights.quality,
        result=weights.result * syntax.returns_result,
        option=weights.option * syntax.returns_option,
        docs=weights.docs * bool(syntax.documented),
        doc_coverage=weights.doc_coverage * syntax.documented / max(1, syntax.functions),
        question_mark=weights.question_mark * syntax.question_mark,
        unsafe=weights.unsafe * syntax.unsafe,
        panics=weights.panic * syntax.panics,
    )


def idiom_terms(syntax: Syntax, weights: RustWeights) -> dict[str, float]:
    """idioms × (the weight of each idiom that occurs)."""
    return _scaled(
        "idioms",
        weights.idioms,
        iterators=weights.iterators * syntax.iterators,
        match=weights.match * syntax.matches,
        destructuring=weights.destructuring * syntax.destructuring,
        closures=weights.closures * syntax.closures,
        chaining=weights.chaining * syntax.chaining,
        turbofish=weights.turbofish * syntax.turbofish,
    )


def complexity_terms(syntax: Syntax, weights: RustWeights) -> dict[str, float]:
    """complexity × (cyclomatic · (branches − 10)/10 + nesting · (depth − 3)), where above 0, and a term of length."""
    branches = max(0, syntax.cyclomatic - _MOST_BRANCHES) / _MOST_BRANCHES
    depth = max(0, syntax.nesting - _MOST_NESTING)
    terms = _scaled(
        "complexity",
        weights.complexity,
        cyclomatic=weights.cyclomatic * branches,
        nesting=weights.nesting * depth,
    )
    return terms | {"complexity/length": _length(syntax.lines, weights)}


def _length(lines: int, weights: RustWeights) -> float:
    if lines < _SHORT:
        return weights.short
    if lines > _LONG:
        return weights.long
    return weights.fitting if lines in _FITTING else 0.0


def _scaled(part: str, factor: float, **terms: float) -> dict[str, float]:
    return {f"{part}/{name}": factor * value for name, value in terms.items()}
