"""What the syntax tree of Rust code shows of its structure, quality, idioms and complexity; measured, not judged.

Parsed with tree-sitter, which does not care whether the code compiles. `maxrl.tasks.rust_reward` makes rewards of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter_rust
from tree_sitter import Language, Node, Parser, Tree

_RUST = Language(tree_sitter_rust.language())

_BRANCHES = {"if_expression", "while_expression", "loop_expression", "for_expression"}
_NESTING = {*_BRANCHES, "match_expression"}
_COMMENTS = {"line_comment", "block_comment"}
_ITERATING = {b"map", b"filter", b"fold", b"collect", b"iter", b"into_iter"}
_PANICKING = {b"unwrap", b"expect"}
_PANICKING_MACROS = {b"panic", b"todo", b"unimplemented", b"unreachable"}


@dataclass(kw_only=True)
class Syntax:
    """The measures of one piece of code; of code that does not parse there are none."""

    parses: bool
    """Whether the tree has no error, and nothing is missing."""
    items: int = 0
    """What stands in the file itself, comments and `#![…]` apart; 0: there is no code."""
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


def measure(code: str) -> Syntax:
    """The measures of Rust code. Never raises on any text."""
    # A walk and no query of tree-sitter's: queries take seconds over a page that is made for the purpose.
    tree = Parser(_RUST).parse(code.encode("utf-8", "replace"))
    found = Syntax(parses=not tree.root_node.has_error)
    if not found.parses:
        return found
    lines = (line.strip() for line in code.split("\n"))
    found.lines = sum(bool(line) and not line.startswith("//") for line in lines)
    outside = {*_COMMENTS, "inner_attribute_item"}
    found.items = sum(node.type not in outside for node in tree.root_node.named_children)
    for node, nesting in _walk(tree):
        _measure_items(found, node)
        _measure_expression(found, node, nesting)
    return found


def _walk(tree: Tree) -> Iterator[tuple[Node, int]]:
    """Every node, and in how many of `_NESTING` it stands, itself included. No recursion: trees may be of any depth."""
    pending = [(tree.root_node, 0)]
    while pending:
        node, nesting = pending.pop()
        nesting += node.type in _NESTING
        yield node, nesting
        pending += [(child, nesting) for child in node.named_children]


def _measure_items(found: Syntax, node: Node) -> None:
    kind = node.type
    found.structs += kind == "struct_item"
    found.enums += kind == "enum_item"
    found.traits += kind == "trait_item"
    if kind in {"source_file", "block"}:
        _measure_functions(found, node)
    elif kind == "mod_item":
        body = node.child_by_field_name("body")
        if body is not None:
            _measure_functions(found, body)


def _measure_functions(found: Syntax, parent: Node) -> None:
    """The functions right below a node, each with the comments and attributes that stand before it."""
    documented = False
    for node in parent.named_children:
        if node.type in _COMMENTS:
            documented |= node.child_by_field_name("outer") is not None
        elif node.type == "attribute_item":
            documented |= (node.text or b"").removeprefix(b"#[").lstrip().startswith(b"doc")
        else:
            if node.type == "function_item":
                found.functions += 1
                found.documented += documented
                returned = node.child_by_field_name("return_type")
                found.returns_result |= b"Result" in _text(returned)
                found.returns_option |= b"Option" in _text(returned)
            documented = False


def _measure_expression(found: Syntax, node: Node, nesting: int) -> None:
    match node.type:
        case "if_expression" | "while_expression" | "loop_expression" | "for_expression":
            found.cyclomatic += 1
            found.nesting = max(found.nesting, nesting)
        case "match_expression":
            found.matches = True
            found.nesting = max(found.nesting, nesting)
        case "match_arm":
            found.cyclomatic += 1
        case "let_declaration":
            pattern = node.child_by_field_name("pattern")
            found.destructuring |= pattern is not None and pattern.type in {"tuple_pattern", "struct_pattern"}
        case "call_expression":
            _measure_call(found, node)
        case "macro_invocation":
            name = _text(node.child_by_field_name("macro")).rpartition(b"::")[2]
            found.panics += name in _PANICKING_MACROS
        case "try_expression":
            found.question_mark = True
        case "unsafe_block":
            found.unsafe = True
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
    name, receiver = _text(method.child_by_field_name("field")), method.child_by_field_name("value")
    found.iterators |= name in _ITERATING
    found.panics += name in _PANICKING
    found.chaining |= receiver is not None and _method(receiver) is not None


def _method(node: Node) -> Node | None:
    """The `receiver.name` of a method call; None of any other node."""
    function = node.child_by_field_name("function")  # only calls and `name::<T>` have one
    if function is not None and function.type == "generic_function":
        function = function.child_by_field_name("function")
    return function if function is not None and function.type == "field_expression" else None


def _text(node: Node | None) -> bytes:
    return (node.text if node is not None else None) or b""
