"""Milliseconds that each estimator takes for a batch of groups, on one core.

    python benchmarks/estimators.py [--groups 256] [--rollouts 128] [--repeats 200]

Binary rewards at pass rates between 0 and 1, and likelihoods in [0, 1] for what takes them. Medians over repeats; the last
line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from maxrl.objectives import CurveRL, EstimatorWithMemory, as_estimator

FORMS = (
    "maxrl",
    "maxrl(no_success=penalize)",
    "maxrl(control_variate=False)",
    "maxrl(order=16)",
    "maxrl(order=128)",
    "grpo",
    "rloo",
    "dr_grpo",
    "reinforce",
    "pass_at_k(k=16)",
    "mmpo(order=16)",
    "power_weight",
    "tail_rl",
    "curve_rl",
    "success_weighted",
    "success_weighted(scope=group, normalized=True)",
    "hybrid",
    "adaptive_switch",
)
GRADED = ("maxrl", "maxrl(order=16)", "maxrl(order=128)", "pass_at_k(k=16)", "mmpo(order=16)", "tail_rl")
"""What is timed on likelihoods, too, where it takes another way."""


def milliseconds(compute: Callable[[], Any], repeats: int) -> float:
    """Median of a call, after one that fills caches."""
    compute()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        compute()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def call(form: str, rewards_GN: torch.Tensor, rollouts: int) -> Callable[[], Any]:
    """One batch through an estimator; CurveRL in the middle of training, with ten batches like this one behind it."""
    # An order above the group would be lowered: it is asked for as what it comes to.
    estimator = as_estimator(form.replace("=128", f"={rollouts}"))
    if not isinstance(estimator, EstimatorWithMemory):
        return lambda: estimator(rewards_GN)
    state: Any = None
    for _ in range(10 if isinstance(estimator, CurveRL) else 1):
        _, state = estimator(rewards_GN, state)
    return lambda: estimator(rewards_GN, state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=256, help="groups of the batch (default 256)")
    parser.add_argument("--rollouts", type=int, default=128, help="rollouts of a group (default 128)")
    parser.add_argument("--repeats", type=int, default=200, help="measurements of each (default 200)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dice = torch.Generator().manual_seed(0)
    shape = (options.groups, options.rollouts)
    rates_G1 = torch.rand(options.groups, 1, generator=dice)
    binary_GN = (torch.rand(shape, generator=dice) < rates_G1).float()
    graded_GN = torch.rand(shape, generator=dice)
    found = {}
    for kind, rewards_GN, forms in (("binary", binary_GN, FORMS), ("graded", graded_GN, GRADED)):
        repeats = options.repeats if kind == "binary" else max(1, options.repeats // 10)
        found[kind] = {
            form: round(milliseconds(call(form, rewards_GN, options.rollouts), repeats), 3) for form in forms
        }
        for form, value in found[kind].items():
            print(f"{kind:<8}{form:<48}{value:>9.3f} ms")
    print(json.dumps({"groups": options.groups, "rollouts": options.rollouts, "milliseconds": found}))


if __name__ == "__main__":
    main()
