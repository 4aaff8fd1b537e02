"""`MaxRLConfig`: its defaults, and what it refuses before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maxrl.errors import InputError
from maxrl.objectives import GRPO, DrGRPO, MaxRL
from maxrl.training import MaxRLConfig


def config(tmp_path: Path, **fields: Any) -> MaxRLConfig:
    return MaxRLConfig(output_dir=str(tmp_path), report_to="none", **fields)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="TRL's own default there")
@pytest.mark.parametrize("faster", [False, True])
def test_bfloat16_where_the_processor_is_faster_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    """TRL's own default would refuse to start on a CPU."""
    monkeypatch.setattr("maxrl.training.config.cpu_multiplies_bf16", lambda: faster)
    made = config(tmp_path)
    assert made.bf16 is made.use_cpu is faster
    assert config(tmp_path, bf16=not faster).bf16 is not faster


def test_the_default_is_maxrl_with_a_constant_normaliser(tmp_path: Path) -> None:
    made = config(tmp_path)
    assert made.estimator() == MaxRL()
    assert made.loss_type == "dr_grpo"
    assert made.scale_rewards is None


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("max_rl", None, MaxRL()),
        ("maxrl", {"no_success": "penalize"}, MaxRL(no_success="penalize")),
        ("maxrl", '{"control_variate": false}', MaxRL(control_variate=False)),  # as the command line gives it
        ("maxrl", '{"order": 8}', MaxRL(order=8)),
        ("grpo", {"ddof": 0}, GRPO(ddof=0)),
        ("dr_grpo", {}, DrGRPO()),
    ],
)
def test_estimators_are_found_by_name(tmp_path: Path, name: str, options: Any, expected: Any) -> None:
    made = config(tmp_path, advantage_estimator=name, advantage_estimator_kwargs=options)
    assert made.estimator() == expected


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_generations": 1}, "num_generations must be at least 2, but is 1"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "use 'sum_then_normalize'"),
        ({"advantage_estimator": "maxlr"}, "did you mean 'maxrl'"),
        ({"advantage_estimator_kwargs": {"no_sucess": "zero"}}, "did you mean 'no_success'"),
        ({"advantage_estimator_kwargs": "no_success"}, "must be a JSON object"),
        ({"advantage_estimator_kwargs": "[1]"}, "must be a mapping"),
        (
            {"advantage_estimator_kwargs": {"order": 9}},
            r"order=9\) needs at least 9 rollouts per group, but num_generations=8: .* lower its order",
        ),
        ({"advantage_estimator": MaxRL(order=2)}, r"is a name, .* goes to MaxRLTrainer\(estimator=…\)"),
        ({"advantage_estimator": len}, r"is a name, .* goes to MaxRLTrainer\(estimator=…\)"),
        ({"advantage_estimator": "pass_at_k(k=8)"}, "needs at least 9 rollouts per group"),
        ({"advantage_estimator": "hybrid(then=maxrl(order=16))"}, "needs at least 16 rollouts per group"),
        ({"advantage_estimator": "maxrl(order=0)"}, "order must be an integer of at least 1, got 0"),
        (
            {"advantage_estimator": "hybrid", "scale_rewards": "group"},
            "contradicts advantage_estimator='hybrid'",
        ),
        ({"refill_dead_groups": -1}, "refill_dead_groups must be at least 0, but is -1"),
        ({"overlong": "mask"}, r"unknown overlong 'mask' \(known: drop, keep, zero\)"),
        ({"scale_rewards": "group"}, "contradicts advantage_estimator='maxrl'"),
        ({"scale_rewards": True}, "contradicts advantage_estimator='maxrl'"),
        ({"scale_rewards": "batch", "advantage_estimator": "grpo"}, "contradicts advantage_estimator='grpo'"),
        ({"scale_rewards": "none", "advantage_estimator": "grpo"}, "contradicts advantage_estimator='grpo'"),
        ({"max_completion_length": None}, "set max_completion_length"),
    ],
)
def test_refusals_name_the_remedy(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        config(tmp_path, **fields)


@pytest.mark.parametrize(
    ("estimator", "scale"), [("grpo", "group"), ("grpo", True), ("maxrl", "none"), ("dr_grpo", False)]
)
def test_a_scaling_that_says_the_same_is_accepted(tmp_path: Path, estimator: str, scale: Any) -> None:
    config(tmp_path, advantage_estimator=estimator, scale_rewards=scale)
