"""What the syntax tree of Rust code shows of its structure, quality, idioms and complexity; measured, not judged.

Parsed with tree-sitter, which does not care whether the code compiles. `maxrl.tasks.code.rust_reward` makes rewards of it.

What the compiler may never see earns nothing: below an attribute that can take code away (`cfg`, `test`, any macro) only
what costs is counted.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from re import compile as regex
from typing import Any

import tree_sitter_rust
from tree_sitter import Language, Node, Parser, Tree

from maxrl.tasks.workers import WorkerFailure, WorkerPool

MEASURE_LIMIT = 0.5
"""CPU seconds that measuring one piece of code may take; 32 KB of any sensible code take a tenth."""

_MEASURING = WorkerPool(
    "maxrl.tasks.code.rust_syntax:measured",
    processes=min(4, os.cpu_count() or 1),
    time_limit=MEASURE_LIMIT,
    warm_up="fn f() {}",
)
"""Where code is measured: on some junk tree-sitter takes minutes, and holds Python's lock all the while."""

_RUST = Language(tree_sitter_rust.language())

_BRANCHES = {"if_expression", "while_expression", "loop_expression", "for_expression"}
_NESTING = {*_BRANCHES, "match_expression"}
_COMMENTS = {"line_comment", "block_comment"}
_ATTRIBUTES = {"attribute_item", "inner_attribute_item"}
_ITERATING = {b"map", b"filter", b"fold", b"collect", b"iter", b"into_iter"}
_PANICKING = {b"unwrap", b"expect"}
_PANICKING_MACROS = {b"panic", b"todo", b"unimplemented", b"unreachable"}

# In these an attribute belongs to what follows it, elsewhere (an arm of a `match`, say) to the whole.
_LISTS = {"source_file", "declaration_list", "block"}
_ATTRIBUTE = regex(rb"#!?\s*\[\s*(\w+(?:::\w+)*)")
# Attributes of the compiler's own that leave code where it is, and whose names no `use` can give to another. All others may
# be a `cfg`, or a macro that makes nothing of what it gets, under whatever name.
_KEEPING = frozenset(
    b"allow warn deny forbid expect doc inline cold must_use track_caller deprecated non_exhaustive repr no_mangle "
    b"target_feature no_std recursion_limit feature".split()
)
# `derive` can be another's name, but none that takes a type away.
_KEEPING_TYPES = _KEEPING | {b"derive"}


@dataclass(kw_only=True)
class Syntax:
    """The measures of one piece of code; of code that does not parse there are none."""

    parses: bool
    """Whether the tree has no error, and nothing is missing."""
    bodies: int = 0
    """Functions and methods with a body that the compiler is certain to see; 0: there is no code."""
    functions: int = 0
    """Functions outside `impl` and `trait`, those inside functions included. Methods are not counted."""
    documented: int = 0
    """Those of them with a documentation comment (`///`, `/** */` or `#[doc]`)."""
    structs: int = 0
    enums: int = 0
    traits: int = 0
    returns_result: bool = False
    """Whether the return type of one of these functions names a type with `Result` in its name."""
    returns_option: bool = False
    """The same of `Option`."""
    question_mark: bool = False
    """Whether the operator `?` is used."""
    unsafe: bool = False
    """Whether there is an `unsafe` block."""
    panics: int = 0
    """Calls of methods `unwrap` and `expect`, and of `panic!`, `todo!`, `unimplemented!` and `unreachable!`."""
    iterators: bool = False
    """Whether a method `map`, `filter`, `fold`, `collect`, `iter` or `into_iter` is called."""
    matches: bool = False
    """Whether there is a `match`."""
    destructuring: bool = False
    """Whether a `let` takes a tuple or a struct apart."""
    closures: bool = False
    chaining: bool = False
    """Whether a method is called on what another method returned."""
    turbofish: bool = False
    """Whether type arguments are given in an expression as `::<…>`."""
    cyclomatic: int = 1
    """1, and 1 for each `if`, `while`, `loop` and `for`, and for each arm of a `match`."""
    nesting: int = 0
    """How many of these five stand inside each other at most; an `else if` stands inside its `if`."""
    lines: int = 0
    """Lines that are neither blank nor begin with `//`."""


def measure_all(codes: Sequence[str]) -> list[Syntax | WorkerFailure]:
    """The measures of each, or why there are none. Takes no longer than `MEASURE_LIMIT` of CPU time each.

    Of the failures `time`, `memory` and `crashed` are the code's own, all others are not.
    """
    results = _MEASURING.map(codes)
    # A process may also die for a reason that has nothing to do with what it is doing.
    again = [index for index, result in enumerate(results) if _is_crash(result)]
    for index, result in zip(again, _MEASURING.map([codes[index] for index in again]), strict=True):
        results[index] = result
    return [result if isinstance(result, WorkerFailure) else Syntax(**result) for result in results]


def _is_crash(result: object) -> bool:
    return isinstance(result, WorkerFailure) and result.kind == "crashed"


def measured(code: str) -> Mapping[str, Any]:
    """The measures of Rust code as JSON, for the worker."""
    return asdict(measure(code))


def measure(code: str) -> Syntax:
    """The measures of Rust code. Never raises on any text, but may take minutes over junk: see `measure_all`."""
    # A walk and no query of tree-sitter's: queries take seconds over a page that is made for the purpose.
    tree = Parser(_RUST).parse(code.encode("utf-8", "replace"))
    found = Syntax(parses=not tree.root_node.has_error)
    if not found.parses:
        return found
    lines = (line.strip() for line in code.split("\n"))
    found.lines = sum(bool(line) and not line.startswith("//") for line in lines)
    for node, nesting, certain in _walk(tree):
        _measure_costs(found, node, nesting)
        if certain:
            _measure_items(found, node)
            _measure_idioms(found, node)
    return found


def _walk(tree: Tree) -> Iterator[tuple[Node, int, bool]]:
    """Every node but those of attributes; in how many of `_NESTING` it stands, itself included; whether it is certain
    to be compiled. No recursion: trees may be of any depth."""
    pending = [(tree.root_node, 0, True)]
    while pending:
        node, nesting, certain = pending.pop()
        nesting += node.type in _NESTING
        yield node, nesting, certain
        pending += [
            (child, nesting, kept)
            for child, kept in _children(node, certain)
            if child.type not in _ATTRIBUTES
        ]


def _children(parent: Node, certain: bool) -> Iterator[tuple[Node, bool]]:
    """What stands right below a node, and whether it is certain to be compiled where the node is."""
    children = parent.named_children
    inside = {"inner_attribute_item"} if parent.type in _LISTS else _ATTRIBUTES
    certain = certain and all(_name(child) in _KEEPING for child in children if child.type in inside)
    before: set[bytes] = set()
    for child in children:
        if child.type == "attribute_item":
            before.add(_name(child))
        elif child.type not in _COMMENTS:
            keeping = _KEEPING if child.type == "function_item" else _KEEPING_TYPES
            yield child, certain and before <= keeping
            before = set()
            continue
        yield child, certain


def _name(attribute: Node) -> bytes:
    """What an attribute is called; "" where that cannot be told."""
    found = _ATTRIBUTE.match(_text(attribute))
    return found[1] if found else b""


def _measure_items(found: Syntax, node: Node) -> None:
    kind = node.type
    found.structs += kind == "struct_item"
    found.enums += kind == "enum_item"
    found.traits += kind == "trait_item"
    found.bodies += kind == "function_item"
    if kind in {"source_file", "block"}:
        _measure_functions(found, node)
    elif kind == "mod_item":
        body = node.child_by_field_name("body")
        if body is not None:
            _measure_functions(found, body)


def _measure_functions(found: Syntax, parent: Node) -> None:
    """The functions right below a node, each with the comments and attributes that stand before it."""
    documented = False
    for node, certain in _children(parent, True):
        if node.type in _COMMENTS:
            documented |= node.child_by_field_name("outer") is not None
        elif node.type == "attribute_item":
            documented |= _name(node) == b"doc"
        else:
            if node.type == "function_item" and certain:
                found.functions += 1
                found.documented += documented
                returned = node.child_by_field_name("return_type")
                found.returns_result |= b"Result" in _text(returned)
                found.returns_option |= b"Option" in _text(returned)
            documented = False


def _measure_costs(found: Syntax, node: Node, nesting: int) -> None:
    """What costs, wherever it stands: else it could hide behind an attribute that takes nothing away."""
    if node.type in _NESTING:
        found.nesting = max(found.nesting, nesting)
    match node.type:
        case "if_expression" | "while_expression" | "loop_expression" | "for_expression" | "match_arm":
            found.cyclomatic += 1
        case "call_expression":
            method = _method(node)
            found.panics += method is not None and _text(method.child_by_field_name("field")) in _PANICKING
        case "macro_invocation":
            name = _text(node.child_by_field_name("macro")).rpartition(b"::")[2]
            found.panics += name in _PANICKING_MACROS
        case "unsafe_block":
            found.unsafe = True
        case _:
            pass


def _measure_idioms(found: Syntax, node: Node) -> None:
    match node.type:
        case "match_expression":
            found.matches = True
        case "let_declaration":
            pattern = node.child_by_field_name("pattern")
            found.destructuring |= pattern is not None and pattern.type in {"tuple_pattern", "struct_pattern"}
        case "call_expression":
            _measure_call(found, node)
        case "try_expression":
            found.question_mark = True
        case "closure_expression":
            found.closures = True
        case "generic_function":
            found.turbofish = True
        case "scoped_identifier":
            path = node.child_by_field_name("path")
            found.turbofish |= path is not None and path.type == "generic_type"
        case _:
            pass


def _measure_call(found: Syntax, call: Node) -> None:
    method = _method(call)
    if method is None:
        return
    receiver = method.child_by_field_name("value")
    found.iterators |= _text(method.child_by_field_name("field")) in _ITERATING
    found.chaining |= receiver is not None and _method(receiver) is not None


def _method(node: Node) -> Node | None:
    """The `receiver.name` of a method call; None of any other node."""
    function = node.child_by_field_name("function")  # only calls and `name::<T>` have one
    if function is not None and function.type == "generic_function":
        function = function.child_by_field_name("function")
    return function if function is not None and function.type == "field_expression" else None


def _text(node: Node | None) -> bytes:
    return (node.text if node is not None else None) or b""
