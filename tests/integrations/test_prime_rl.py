"""The loss for prime-rl, with dataclasses as its documentation has them."""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from maxrl.integrations.prime_rl import policy_gradient_loss


@dataclass
class LossInputs:
    trainer_logprobs: Tensor
    inference_logprobs: Tensor
    advantages: Tensor
    loss_mask: Tensor


@dataclass
class LossOutputs:
    loss: Tensor
    metrics: dict[str, Tensor]


@pytest.fixture(autouse=True)
def documented(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prime_rl", "prime_rl.trainer", "prime_rl.trainer.rl", "prime_rl.trainer.rl.loss"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    loss: Any = sys.modules["prime_rl.trainer.rl.loss"]
    loss.LossOutputs = LossOutputs


def inputs(older: list[float]) -> tuple[LossInputs, Tensor]:
    """Four tokens, the last of them no part of the response; the drawing policy's log-probabilities lie lower by `older`."""
    logits = torch.tensor([[0.5, -0.2, 0.1]] * 4, dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(dim=-1)[range(4), [0, 2, 1, 1]]
    drawn = logprobs.detach() - torch.tensor([*older, 0.0], dtype=torch.float64)
    advantages = torch.tensor([3.0, 3.0, 3.0, 99.0], dtype=torch.float64)
    return LossInputs(logprobs, drawn, advantages, torch.tensor([True, True, True, False])), logits


def test_on_policy_the_gradient_is_the_estimators() -> None:
    given, logits = inputs([0.0, 0.0, 0.0])
    (found,) = torch.autograd.grad(policy_gradient_loss(given).loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(-(3 * given.trainer_logprobs[:3]).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_older_rollouts_are_weighted_by_a_ratio_that_is_cut_from_above() -> None:
    given, logits = inputs([torch.log(torch.tensor(1.5)).item(), torch.log(torch.tensor(8.0)).item(), -1.0])
    outputs = policy_gradient_loss(given, ratio_max=2.0)
    (found,) = torch.autograd.grad(outputs.loss, logits, retain_graph=True)
    weights = torch.tensor([1.5, 2.0, torch.exp(torch.tensor(-1.0)).item()], dtype=torch.float64)
    (wanted,) = torch.autograd.grad(-(weights * 3 * given.trainer_logprobs[:3]).sum(), logits)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert outputs.metrics["ratio_cut"].item() == pytest.approx(1 / 3)


def test_a_sequence_without_a_token_to_train_is_no_mistake() -> None:
    given, _ = inputs([0.0, 0.0, 0.0])
    given.loss_mask[:] = False
    outputs = policy_gradient_loss(given)
    assert outputs.loss.item() == 0
    assert outputs.metrics["importance_ratio"].item() == 0


def test_weights_of_tokens_count_where_a_version_has_them() -> None:
    given, logits = inputs([0.0, 0.0, 0.0])
    weighted: Any = given
    weighted.loss_weights = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    (found,) = torch.autograd.grad(policy_gradient_loss(weighted).loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(-3 * (given.trainer_logprobs[0] + 2 * given.trainer_logprobs[2]), logits)
    torch.testing.assert_close(found, wanted)


def test_metrics_stay_finite_where_a_token_has_become_far_likelier() -> None:
    given, _ = inputs([2000.0, 0.0, 0.0])
    outputs = policy_gradient_loss(given, ratio_max=2.0)
    assert outputs.metrics["importance_ratio"].item() == pytest.approx(4 / 3)
    assert torch.isfinite(outputs.loss)
