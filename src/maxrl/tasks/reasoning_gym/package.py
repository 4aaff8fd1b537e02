"""What of the package reasoning_gym the task `reasoning_gym` uses: its generators, their problems as JSON, their verifiers.

`score_entry` runs in worker processes. Nothing here imports the package before it is needed: it comes with an extra.
"""

import json
import os
import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from maxrl.errors import InputError, unknown_name

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "coin_flip": "its verifier accepts any beginning of the right number, so that 0 is right nearly always",
        "composite": "it mixes other generators; name several tasks in the recipe instead",
        "game_of_life_halting": "its verifier accepts every answer",
        "propositional_logic": "its premises contradict each other so often that (P ∨ P) is right in half of its problems",
        "puzzle24": "its verifier accepts any four numbers that make 24, whichever were given; countdown checks them",
    }
)
"""Generators that are not served, and why."""
WITHOUT_GOLD = ("boxnet", "rush_hour")
"""Generators that give no right answer with their problems: no demonstrations, no self-check."""
HASH_SEEDED = (
    "codeio",
    "isomorphic_strings",
    "knight_swap",
    "polynomial_multiplication",
    "ransom_note",
    "word_ladder",
)
"""Generators some of whose problems depend on the seed of Python's hashes, as they go through sets."""

# Where a generator that has no `answer` shows one that its verifier accepts.
_EXAMPLE_ANSWERS = {
    "graph_color": "possible_answer",
    "rubiks_cube": "example_correct_answer",
}
# These read files when they are made, a tenth of a second and more; the seed alone tells one from another.
_SLOW_TO_MAKE = ("arc_agi", "codeio", "figlet_font", "group_anagrams", "word_ladder")


def missing_package() -> str | None:
    """That the package is missing, and what brings it; None where it is installed."""
    if find_spec("reasoning_gym"):
        return None
    return 'the package reasoning-gym is not installed: pip install "maxrl[tasks]"'


def options(config: str) -> dict[str, Any]:
    """The options in `generator_options`.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        found: object = json.loads(config) if config else {}
    except (json.JSONDecodeError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f'generator_options={config!r} is not allowed; give a JSON object like {{"max_animals": 5}}'
        )
    return cast("dict[str, Any]", found)


def check_generator(dataset: str, config: str) -> None:
    """Refuse a generator or an option that does not exist or cannot be served.

    Raises:
        InputError: saying which.
    """
    if dataset in REFUSED:
        raise InputError(f"reasoning_gym's {dataset} is refused: {REFUSED[dataset]}")
    datasets = _factory().DATASETS
    if dataset not in datasets:
        raise unknown_name("dataset of reasoning_gym", str(dataset), set(datasets) - set(REFUSED))
    given = options(config)
    known = {item.name for item in fields(datasets[dataset][1])} - {"seed", "size"}  # the stream gives these
    for option in given:
        if option not in known:
            raise unknown_name(f"option of {dataset}", option, known)
    if not given:
        return
    try:
        _make(dataset, config, 0)
    except Exception as error:  # the package checks its options with asserts and errors of any kind
        raise InputError(
            f"reasoning_gym's {dataset} does not take {config}: {type(error).__name__}: {error}"
        ) from error


def check_hashes(dataset: str) -> None:
    """Refuse a generator of `HASH_SEEDED` where hashes have no fixed seed.

    Raises:
        InputError: saying how to fix it.
    """
    if dataset in HASH_SEEDED and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise InputError(
            f"the problems of {dataset} depend on the seed of Python's hashes, which is another one in every process: "
            "fix it with PYTHONHASHSEED=0 in the environment"
        )


def make_entry(dataset: str, config: str, seed: int) -> dict[str, Any]:
    """The problem that a seed below 2³¹ gives: `question`, `answer`, and `metadata` for the verifier, in JSON types."""
    with _own_randomness(seed):
        return _to_json(_make(dataset, config, seed)[0])


def right_answer(dataset: str, entry: Mapping[str, Any]) -> str | None:
    """A right answer to a problem from `make_entry`; None where the generator gives none."""
    answer = entry["answer"]
    if answer is None and dataset in _EXAMPLE_ANSWERS:
        answer = _from_json(entry["metadata"])[_EXAMPLE_ANSWERS[dataset]]
    return answer if answer is None or isinstance(answer, str) else json.dumps(answer)


def score_entry(item: Mapping[str, Any]) -> float:
    """The score that the package's verifier gives an answer, from 0 to 1. An answer on which the verifier raises, though it
    does not on the right one, scores 0.

    Args:
        item: `dataset` and `config`; `entry`, the problem; `answer`. Without an entry the verifier is merely made.
    """
    verifier = _shared(item["dataset"], item["config"])
    if "entry" not in item:
        return 0.0
    try:
        return float(verifier.score_answer(item["answer"], _from_json(item["entry"])))
    except Exception:  # noqa: BLE001 — foreign code may fail in any way
        verifier.score_answer(right_answer(item["dataset"], item["entry"]), _from_json(item["entry"]))
        return 0.0


def _factory() -> Any:
    """The part of reasoning_gym that knows all generators by name."""
    import_module("reasoning_gym")
    return import_module("reasoning_gym.factory")


def _make(dataset: str, config: str, seed: int) -> Any:
    """The generator, its first problem determined by `seed`."""
    if dataset in _SLOW_TO_MAKE:
        made = copy(_shared(dataset, config))
        made.seed = seed
        return made
    return _factory().create_dataset(dataset, **options(config), seed=seed, size=1)


@lru_cache(maxsize=8)
def _shared(dataset: str, config: str) -> Any:
    """A generator whose seed does not matter: one that judges, or is given another seed."""
    return _factory().create_dataset(dataset, **options(config), seed=0, size=1)


@contextmanager
def _own_randomness(seed: int) -> Generator[None]:
    """Global random generators that depend on `seed` in the block and are as before after it: list_functions and pool_matrix
    draw from them."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _to_json(value: Any) -> Any:
    """The value in JSON types, from which `_from_json` makes it again: tuples and keys that are no strings are marked."""
    if isinstance(value, np.generic):
        return cast("Any", value).item()
    if isinstance(value, tuple):
        return {"__tuple__": [_to_json(item) for item in cast("tuple[Any, ...]", value)]}
    if isinstance(value, list):
        return [_to_json(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = [(key, _to_json(item)) for key, item in cast("dict[Any, Any]", value).items()]
        if all(isinstance(key, str) for key, _ in pairs):
            return dict(pairs)
        return {"__items__": [[_to_json(key), item] for key, item in pairs]}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    items = cast("dict[str, Any]", value)
    if "__tuple__" in items:
        return tuple(_from_json(items["__tuple__"]))
    if "__items__" in items:
        return {_from_json(key): _from_json(item) for key, item in items["__items__"]}
    return {key: _from_json(item) for key, item in items.items()}
