"""Sample a model on a task, keep every verdict, and draw pass@k curves with intervals."""

from maxrl.evaluation.curves import default_ks, pass_curve
from maxrl.evaluation.records import Evaluation, PassAtK, ProblemCounts
from maxrl.evaluation.sampling import EvalSettings, evaluate

__all__ = [
    "EvalSettings",
    "Evaluation",
    "PassAtK",
    "ProblemCounts",
    "default_ks",
    "evaluate",
    "pass_curve",
]
