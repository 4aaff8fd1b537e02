"""The code in a completion: golden cases, and any text at all."""

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.tasks.code.extraction import LABELS, extract_code
from maxrl.tasks.code.problems import LANGUAGES, Language

FUZZ = settings(derandomize=True, database=None, deadline=1000, max_examples=300)

RUST = "fn f() {}"

FOUND: dict[str, tuple[str, str]] = {
    "bare": (RUST, RUST),
    "bare, blank lines around": (f"\n \n{RUST}\n\n", RUST),
    "bare, indented": ("    fn f() {\n    }", "    fn f() {\n    }"),
    "one block": (f"Here it is:\n```rust\n{RUST}\n```\nDone.", RUST),
    "short label": (f"```rs\n{RUST}\n```", RUST),
    "label in capitals": (f"```Rust\n{RUST}\n```", RUST),
    "label with options": (f"```rust,no_run\n{RUST}\n```", RUST),
    "label in braces": (f"```{{.rust .numbers}}\n{RUST}\n```", RUST),
    "label after a blank": (f"``` rust \n{RUST}\n```", RUST),
    "no label": (f"```\n{RUST}\n```", RUST),
    "tildes": (f"~~~rust\n{RUST}\n~~~", RUST),
    "longer fence": (f"````rust\n{RUST}\n```\n````", f"{RUST}\n```"),
    "closed by a longer one": (f"```rust\n{RUST}\n`````", RUST),
    "tildes do not close backticks": (f"```rust\n{RUST}\n~~~\n```", f"{RUST}\n~~~"),
    "a labelled fence does not close": (f"```rust\n{RUST}\n```rust\n```", f"{RUST}\n```rust"),
    "in a list": (f"1. So:\n   ```rust\n{RUST}\n   ```", RUST),
    "carriage returns": (f"```rust\r\n{RUST}\r\n```\r\n", f"{RUST}\r"),
    "the last of two": (f"```rust\nfn draft() {{}}\n```\nBetter:\n```rust\n{RUST}\n```", RUST),
    "labelled before unlabelled": (f"```rust\n{RUST}\n```\nPrints:\n```\n42\n```", RUST),
    "unlabelled before another language": (f"```\n{RUST}\n```\nRun:\n```sh\ncargo test\n```", RUST),
    "complete before cut off": (f"```rust\n{RUST}\n```\nOr:\n```rust\nfn g(", RUST),
    "complete without a label before cut off with one": (f"```\n{RUST}\n```\n```rust\nfn g(", RUST),
    "cut off": (f"Sure.\n```rust\n{RUST}\nfn g(", f"{RUST}\nfn g("),
    "cut off without a label": (f"```\n{RUST}", RUST),
    "cut off after another language": (f"```sh\nls\n```\n```rust\n{RUST}", RUST),
    "inline code is no fence": (f"```x``` is\n```rust\n{RUST}\n```", RUST),
    "nothing": ("", ""),
    "blank": (" \n\t\n", ""),
    "empty block": ("```rust\n```", ""),
    "blank block": ("```rust\n \n\n```", ""),
    "opening alone": ("```rust", ""),
    "another language alone": ("```python\nprint()\n```", ""),
    "another language cut off": ("```python\nprint()", ""),
    "no prose around a block of another language": (f"{RUST}\n```python\nprint()\n```", ""),
}


@pytest.mark.parametrize(("completion", "code"), FOUND.values(), ids=FOUND)
def test_code_is_found(completion: str, code: str) -> None:
    assert extract_code(completion, "rust") == code


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_labels(language: Language) -> None:
    blocks = "\n".join(f"```{label}\n{label}\n```" for labels in LABELS.values() for label in labels)
    assert extract_code(blocks, language) == LABELS[language][-1]
    for label in LABELS[language]:
        assert extract_code(f"```{label}\nx\n```\n```\ny\n```", language) == "x"


def test_indentation_of_the_first_line_is_kept() -> None:
    assert extract_code("```py\n\n    def f():\n        return 1\n\n```", "python") == (
        "    def f():\n        return 1"
    )


DOCUMENTED = 'def f():\n    """\n    ```\n    f()\n    ```\n    """\n    return 1'

FOUND_PYTHON: dict[str, tuple[str, str]] = {
    "fences in a docstring": (f"```python\n{DOCUMENTED}\n```\nDone.", DOCUMENTED),
    "fences in a docstring, in a list": (f" ```python\n{DOCUMENTED}\n```", DOCUMENTED),
    "tabs are deep": ("```python\nx = 1\n\t```\ny = 2\n```", "x = 1\n\t```\ny = 2"),
    "an empty block last": ("```python\nx = 1\n```\n```python\n\n```", "x = 1"),
    "an unlabelled block before an empty one": ("```\nx = 1\n```\n```python\n```", "x = 1"),
    "inside an answer in markdown": (f"````markdown\nSo:\n```python\n{DOCUMENTED}\n```\n````\n", DOCUMENTED),
    "inside markdown of as many ticks": ("```md\n```python\nx = 1\n```\n```", "x = 1"),
    "inside markdown that is cut off": ("````markdown\n```python\nx = 1\n```\nAnd", "x = 1"),
    "after markdown": ("````markdown\n```python\nx = 1\n```\n````\n```python\ny = 2\n```", "y = 2"),
    "markdown without code": ("```markdown\nx = 1\n```", ""),
    "markdown in markdown": ("`````md\n````md\n```python\nx = 1\n```\n````\n`````", ""),
}


@pytest.mark.parametrize(("completion", "code"), FOUND_PYTHON.values(), ids=FOUND_PYTHON)
def test_code_is_found_between_fences_of_all_sorts(completion: str, code: str) -> None:
    assert extract_code(completion, "python") == code


# What fences are made of, so that blocks come up.
PIECES = st.sampled_from(
    ["`", "```", "````", "~~~", "rust", "python", "md", "\udc80", "\n", "\r\n", " ", "x", "{", "}", ","]
)
ANYTHING = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
TEXTS = ANYTHING | st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS, st.sampled_from(LANGUAGES))
@FUZZ
def test_any_text_gives_code_that_stands_in_it(text: str, language: Language) -> None:
    code = extract_code(text, language)
    assert code in text
    assert bool(code) is bool(code.strip())


@given(ANYTHING.filter(lambda text: text.strip() and "```" not in text and "~~~" not in text))
@FUZZ
def test_code_comes_out_of_a_fence_as_it_went_in(code: str) -> None:
    lines = code.split("\n")
    filled = [line for line in lines if line.strip()]
    found = extract_code(f"Text.\n```rust\n{code}\n```\nText.", "rust")
    assert [line for line in found.split("\n") if line.strip()] == filled


@pytest.mark.parametrize(
    "text",
    [
        "`" * 2**20,
        "~" * 2**20 + "`",
        "```" + "`" * 2**20 + " " * 2**20 + "`",
        "```rust\n" * 2**17,
        "```\n" * 2**18,
        "~~~\n```\n" * 2**17,
        "\n" * 2**20,
        " " * 2**20 + "x",
        "``` " + "{" * 2**20,
        "```md\n" * 2**17,
        "\n".join("`" * length + "md" for length in range(1400, 3, -1)),
    ],
    ids=str.__len__,
)
def test_a_megabyte_takes_no_second(text: str) -> None:
    started = time.thread_time()  # not the clock: the machine may be busy
    extract_code(text, "rust")
    # Some .4 s; where coverage traces every line, three times that.
    assert time.thread_time() - started < (1 if sys.gettrace() is None else 4)
