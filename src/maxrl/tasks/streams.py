"""Random streams for generated problems, and the checks on what a caller asks for.

A problem's randomness is a pure function of the task, its parameters, the split, the seed and the index. So
training and evaluation never draw from the same stream, problem i is the same whatever is generated before
or after it, and nothing global is read or written.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from maxrl.errors import InputError, unknown_name

Split = Literal["train", "eval"]

_SPLITS: tuple[str, ...] = get_args(Split)


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse a parameter that is not a whole number from `low` to `high` (None: no upper bound).

    Booleans, floats and strings are refused too, whatever they look like: `True` is an `int` to Python and a
    slip to everybody else.

    Raises:
        InputError: naming the parameter, what was given and what is allowed.
    """
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}={value!r} is not allowed; give a whole number {allowed}")


def random_stream(*key: str | int | Mapping[str, str | int]) -> random.Random:
    """A private generator whose state depends on `key` alone.

    The key is hashed with SHA-256 (Python's own `hash` of a string changes from process to process), after
    JSON has made it unambiguous: `("a", "bc")` and `("ab", "c")` are different keys.
    """
    text = json.dumps(key, sort_keys=True, ensure_ascii=True)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode("ascii")).digest(), "big"))


def problem_streams(
    task: str, parameters: Mapping[str, str | int], split: str, count: int, *, seed: int, start: int
) -> Iterator[tuple[str, random.Random]]:
    """The id `"{split}-{seed}-{index}"` and the generator of each problem `start … start + count − 1`.

    `parameters` are those that shape the problem itself; leave out how it is worded, and the same problem
    can be posed in different words.

    Raises:
        InputError: on a split that does not exist, or a `count`, `start` or `seed` that is not a whole
            number ≥ 0. Raised on the call, not on the first item.
    """
    if split not in _SPLITS:
        raise unknown_name("split", str(split), _SPLITS)
    check_integer("count", count, 0)
    check_integer("start", start, 0)
    check_integer("seed", seed, 0)
    return (
        (f"{split}-{seed}-{index}", random_stream(task, parameters, split, seed, index))
        for index in range(start, start + count)
    )
