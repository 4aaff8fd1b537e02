"""The places where grids run, by name, and their options from a spec and from command-line words."""

import argparse
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from maxrl.errors import InputError, unknown_name
from maxrl.experiments.grids.hf_jobs import HfJobsRunner
from maxrl.experiments.grids.hf_options import HfJobsOptions
from maxrl.experiments.grids.local import LocalOptions, LocalRunner
from maxrl.experiments.grids.ray_cluster import RayOptions, RayRunner
from maxrl.experiments.grids.runner import Runner
from maxrl.experiments.grids.slurm import SlurmOptions, SlurmRunner
from maxrl.experiments.grids.spec import Grid

PLACES: dict[str, tuple[type, Callable[[Any, Path], Runner], str]] = {
    "local": (LocalOptions, lambda options, folder: LocalRunner(options), "this machine, a process per run"),
    "ray": (RayOptions, lambda options, folder: RayRunner(options), "a Ray cluster, or one started here"),
    "slurm": (SlurmOptions, SlurmRunner, "a Slurm cluster, through sbatch"),
    "hf-jobs": (HfJobsOptions, HfJobsRunner, "Hugging Face Jobs"),
}
"""Name → options, how it is made of them and the grid's folder, and what it is."""


def make_place(name: str, grid: Grid, words: Sequence[str]) -> Runner:
    """A place with the options of the grid's spec and of command-line words, which win.

    Raises:
        InputError: no such place or option, or a value that it cannot have.
    """
    if name not in PLACES:
        raise unknown_name("place", name, PLACES)
    for other, given in grid.runners.items():
        if other not in PLACES:
            raise InputError(f"grid {grid.name}: runners: {unknown_name('place', other, PLACES)}")
        _checked(PLACES[other][0], given, f"grid {grid.name}: runners: {other}")
    options, make, _ = PLACES[name]
    given = _checked(options, grid.runners.get(name, {}), f"grid {grid.name}: runners: {name}")
    return make(options(**{**given, **_parsed(options, words, name)}), grid.folder)


def options_help(name: str) -> str:
    """The options of a place, as `--help` shows them."""
    options, _, about = PLACES[name]
    parser = _parser(options, name)
    text = parser.format_help().split("options:", 1)[1].rstrip()
    return f"--on {name} ({about}):{text}"


# ---------------------------------------------------------------------------------------------------------
# A dataclass's fields as options
# ---------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser(options: type, name: str) -> _Parser:
    assert is_dataclass(options)
    parser = _Parser(prog=f"maxrl grid run --on {name}", add_help=False, allow_abbrev=False)
    for item in fields(options):
        kind, many = _kind(options, item)
        text = item.metadata.get("help", "")
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if default not in (None, (), [], {}):
            text += f" (default: {default})"
        parser.add_argument(
            *dict.fromkeys((f"--{item.name}", f"--{item.name.replace('_', '-')}")),
            dest=item.name,
            type=kind,
            nargs="+" if many else None,
            default=argparse.SUPPRESS,
            metavar="NAME=VALUE" if many is dict else item.name.upper(),
            help=text.replace("%", "%%"),
        )
    return parser


def _parsed(options: type, words: Sequence[str], name: str) -> dict[str, Any]:
    parser = _parser(options, name)
    namespace, unknown = parser.parse_known_args(list(words))
    if unknown:
        known = [f"--{item.name}" for item in fields(options)]
        raise unknown_name(f"option of --on {name}", unknown[0].split("=")[0], known)
    return {
        field: dict(value) if _kind(options, item)[1] is dict else value
        for item in fields(options)
        for field, value in vars(namespace).items()
        if item.name == field
    }


def _kind(options: type, item: "Field[Any]") -> tuple[Callable[[str], Any], type | None]:
    """What one word of an option becomes, and whether there may be several of them (list or dict)."""
    hint = get_type_hints(options)[item.name]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    many = get_origin(hint)
    if many is dict:
        value = get_args(hint)[1]
        return lambda word: _pair(word, value), dict
    if many is list:
        return get_args(hint)[0], list
    return (_truth if hint is bool else hint), None


def _pair(word: str, kind: Callable[[str], Any]) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{word!r} is no NAME=VALUE")
    return name, kind(value)


def _truth(word: str) -> bool:
    if word.lower() in ("true", "yes", "1"):
        return True
    if word.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")


def _checked(options: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A spec's options, each of the type that it must have."""
    known = {item.name: item for item in fields(options)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{where}: {unknown_name('option', str(name), known)}")
        kind, many = _kind(options, known[name])
        try:
            if many is not None:
                if not isinstance(value, many):
                    raise ValueError(f"must be a {'mapping' if many is dict else 'list'}")
                words = [f"{k}={v}" for k, v in value.items()] if many is dict else list(map(str, value))
                typed = [kind(word) for word in words]
                found[name] = dict(typed) if many is dict else typed
            elif value is not None:
                found[name] = kind(str(value))
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise InputError(f"{where}: {name} cannot be {value!r}: {error}") from error
    return found
