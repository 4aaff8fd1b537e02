"""Sample a model on a task, keep every verdict, and draw pass@k curves with intervals.

What samples needs transformers and is imported when it is first used; who only reads records does not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from maxrl.evaluation.curves import default_ks, pass_curve
from maxrl.evaluation.records import Evaluation, PassAtK, ProblemCounts

if TYPE_CHECKING:
    from maxrl.evaluation.sampling import EvalSettings, evaluate

_SAMPLING = ("EvalSettings", "evaluate")

__all__ = [
    "EvalSettings",
    "Evaluation",
    "PassAtK",
    "ProblemCounts",
    "default_ks",
    "evaluate",
    "pass_curve",
]


def __getattr__(name: str) -> object:
    if name not in _SAMPLING:
        raise AttributeError(f"module 'maxrl.evaluation' has no attribute {name!r}")
    return getattr(import_module("maxrl.evaluation.sampling"), name)
