"""Estimators by name."""

import ast
import importlib
import inspect
import os
import sys
from dataclasses import fields
from typing import Any, TypeAlias

from maxrl.errors import InputError, unknown_name
from maxrl.objectives.base import Estimator
from maxrl.objectives.centred import GRPO, RLOO, DrGRPO, Reinforce
from maxrl.objectives.curve import CurveRL
from maxrl.objectives.custom import Custom
from maxrl.objectives.likelihood import MaxRL
from maxrl.objectives.memory import EstimatorWithMemory
from maxrl.objectives.passes import MMPO, PassAtK
from maxrl.objectives.relatives import PowerWeight, TailRL
from maxrl.objectives.success_weighted import SuccessWeighted
from maxrl.objectives.switches import AdaptiveSwitch, Hybrid

AnyEstimator: TypeAlias = Estimator | EstimatorWithMemory

ESTIMATORS: dict[str, type[AnyEstimator]] = {
    "maxrl": MaxRL,
    "grpo": GRPO,
    "rloo": RLOO,
    "dr_grpo": DrGRPO,
    "reinforce": Reinforce,
    "pass_at_k": PassAtK,
    "mmpo": MMPO,
    "power_weight": PowerWeight,
    "tail_rl": TailRL,
    "curve_rl": CurveRL,
    "success_weighted": SuccessWeighted,
    "hybrid": Hybrid,
    "adaptive_switch": AdaptiveSwitch,
}
"""Every estimator, by its name. Trainer, command line, plug-ins and reports look here and nowhere else."""

ALIASES: dict[str, str] = {
    "max_rl": "maxrl",
    "drgrpo": "dr_grpo",
    "tailrl": "tail_rl",
    "curverl": "curve_rl",
    "pkpo": "pass_at_k",
}
"""Other spellings that are understood. Case, and - for _, make no difference either."""


def get_estimator(spec: Any, **options: Any) -> Any:
    """The estimator that `spec` names, built with `options`.

    `spec` is a name, alone or with options as in a Python call (`"maxrl(order=4)"`, `"hybrid(then=maxrl(order=8))"`), or a
    user's own as `"module:function"` (a function of rewards of shape (groups, rollouts), NaN where one is missing; or an
    estimator or a class of them), imported from the working directory, too. A class is built; an estimator or any other
    callable that is given as it is passes through.

    >>> get_estimator("max_rl", no_success="penalize")
    MaxRL(no_success='penalize', control_variate=True, order=None)
    >>> get_estimator("grpo(eps=1e-6)")
    GRPO(ddof=1, eps=1e-06)
    >>> get_estimator("maxlr")
    Traceback (most recent call last):
    maxrl.errors.InputError: unknown estimator 'maxlr'; did you mean 'maxrl'? (known: ...)
    """
    if isinstance(spec, str):
        return _own(spec, options) if _is_own(spec) else _named(spec, options)
    if isinstance(spec, type) and issubclass(spec, (Estimator, EstimatorWithMemory)):
        return _build(spec, options)
    if isinstance(spec, type) or not callable(spec):
        raise InputError(
            f"an estimator is a name ({', '.join(ESTIMATORS)}), an instance such as MaxRL(), or a callable "
            f"rewards → advantages, got {spec!r}"
        )
    if options:
        raise InputError(f"{spec!r} is already built: {', '.join(options)} cannot be set any more")
    return spec


def as_estimator(spec: Any, **options: Any) -> AnyEstimator:
    """`get_estimator`, with a plain callable as a `Custom` estimator."""
    built = get_estimator(spec, **options)
    return built if isinstance(built, (Estimator, EstimatorWithMemory)) else Custom(function=built)


def _named(spec: str, options: dict[str, Any]) -> AnyEstimator:
    name, opening, _ = spec.partition("(")
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key not in ESTIMATORS:
        raise unknown_name("estimator", name.strip(), ESTIMATORS)
    written = written_options(spec, spec[len(name) :]) if opening else {}
    return _build(ESTIMATORS[key], merged(spec, written, options))


def merged(spec: str, written: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options written into an estimator's name, and those given apart from it.

    Raises:
        InputError: one is given twice.
    """
    twice = sorted(set(written) & set(options))
    if twice:
        raise InputError(
            f"estimator {spec!r} has {', '.join(twice)} given apart from it, too: leave one of them out"
        )
    return {**written, **options}


def written_options(spec: str, call: str) -> dict[str, Any]:
    """The options of `"(order=4, first=grpo(eps=0))"`: plain values, and names or calls as text.

    Args:
        spec: the whole name, for messages.
        call: from the opening parenthesis on.

    Raises:
        InputError: it cannot be read.
    """
    try:
        tree = ast.parse(f"_{call}", mode="eval").body
    except SyntaxError:
        tree = None
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
        written = {keyword.arg: keyword.value for keyword in tree.keywords}
        if None not in written and len(written) == len(tree.keywords):  # no **options, none twice
            return {str(option): _written_value(spec, value) for option, value in written.items()}
    raise InputError(
        f"estimator {spec!r} must read name(option=value, …), as maxrl(order=4), with an estimator of your "
        "own as an option in quotes: hybrid(first='module:function')"
    )


def _written_value(spec: str, node: ast.expr) -> Any:
    if isinstance(node, (ast.Name, ast.Call)):  # another estimator; its turn comes when it is built
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise InputError(
            f"estimator {spec!r} has {ast.unparse(node)!r}, which is no number, text or estimator"
        ) from None


def _is_own(spec: str) -> bool:
    return ":" in spec.partition("(")[0]


def _own(spec: str, options: dict[str, Any]) -> Any:
    """What a user's `module:function` is, options bound."""
    path, opening, _ = spec.partition("(")
    module, _, name = path.strip().partition(":")
    options = merged(spec, written_options(spec, spec[len(path) :]) if opening else {}, options)
    if os.getcwd() not in sys.path:  # a command's path begins where it is installed
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot load the estimator '{path.strip()}': {error}") from error
    if isinstance(found, type) or not callable(found) or isinstance(found, (Estimator, EstimatorWithMemory)):
        return get_estimator(found, **options)
    try:
        inspect.signature(found).bind(None, **options)
    except TypeError as error:
        given = ", ".join(options) or "no options"
        raise InputError(
            f"estimator '{path.strip()}' cannot be called with rewards and {given}: {error}"
        ) from error
    return Custom(function=found, options=tuple(options.items()), label=spec)


def _build(cls: type[AnyEstimator], options: dict[str, Any]) -> AnyEstimator:
    allowed = {field.name: field for field in fields(cls)}
    wrong = [option for option in options if option not in allowed]
    if wrong and not allowed:
        raise InputError(f"estimator '{cls.name}' takes no options, got {', '.join(wrong)}")
    if wrong:
        raise unknown_name(f"option of estimator '{cls.name}'", wrong[0], allowed)
    return cls(
        **{
            option: as_estimator(value) if allowed[option].metadata.get("estimator") else value
            for option, value in options.items()
        }
    )
