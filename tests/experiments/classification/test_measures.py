"""pass@k without samples: exact over sixteen orders of magnitude; evaluations that leave the model alone."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from maxrl.experiments.classification.measures import Measures, evaluate, measure, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 128, 1024])
@pytest.mark.parametrize("exponent", [1, 2, 10, 20, 40, 60])
def test_pass_at_k_keeps_its_digits(k: int, exponent: int) -> None:
    """Against fractions, where 1 − (1 − p)^k in floating point is 0 below about 1e-16."""
    p = Fraction(1, 2**exponent)
    found = pass_at_k(torch.tensor(float(p), dtype=torch.float64).log(), k)
    assert float(found) == pytest.approx(float(1 - (1 - p) ** k), rel=1e-12, abs=0)


def test_pass_at_k_at_the_ends() -> None:
    ends = torch.tensor([0.0, 1e-7, -float("inf")])  # a sum of float32 probabilities may exceed 1 by a hair
    assert pass_at_k(ends, 3).tolist() == [1.0, 1.0, 0.0]
    assert pass_at_k(ends, 3).dtype == torch.float64, "means over many images, whatever the model computes in"


def test_measures_survive_json() -> None:
    found = measure(torch.tensor([0.25, 0.5]).log(), 0.5, [4, 1])
    assert list(found.pass_at_k) == [1, 4]
    assert found.pass_at_k[1] == pytest.approx(0.375)
    assert found.pass_at_k[4] == pytest.approx((1 - 0.75**4 + 1 - 0.5**4) / 2)
    assert found.nll == pytest.approx(-torch.tensor([0.25, 0.5]).log().mean().item())
    plain = {**found.to_dict(), "pass_at_k": {str(k): v for k, v in found.pass_at_k.items()}}
    assert Measures.from_dict(plain) == found


class _Echo(nn.Module):
    """Inputs are logits; in training they would be others."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (-1 if self.training else 1)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_evaluated_as_such_and_left_as_it_was(training: bool) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 5.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    model = _Echo().train(training)
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    found = evaluate(model, batches, [1], torch.device("cpu"))
    assert model.training is training
    assert found.top_1 == pytest.approx(2 / 3)
    assert found.pass_at_k[1] == pytest.approx(logits.softmax(1)[torch.arange(3), labels].mean().item())
