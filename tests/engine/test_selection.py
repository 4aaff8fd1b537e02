"""Log-probabilities and entropies of logits, block by block, are log-softmax's, and so are their gradients."""

import pytest
import torch
from torch import Tensor

from maxrl.engine import selection
from maxrl.engine.selection import selected_logprobs

POSITIONS, WIDTH = 8, 5
TEMPERATURE = 0.7
SOURCE = torch.tensor([6, 0, 0, 2, 2, 2, 3, 7, 5])
"""In no order, some positions several times, some not at all."""
TARGETS = torch.tensor([1, 4, 0, 3, 3, 1, 2, 0, 4])


def sharp_logits() -> Tensor:
    """In double precision; most rows with logits of −∞, one with nothing else but the chosen token's."""
    logits = 3 * torch.randn(
        POSITIONS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    logits[::2, 2] = -torch.inf
    logits[4, :4] = -torch.inf
    logits[3] = -torch.inf
    logits[3, 2] = 1.5
    return logits


def expected_logprobs(logits: Tensor) -> Tensor:
    return (logits / TEMPERATURE).log_softmax(-1)[SOURCE, TARGETS]


def expected_entropies(logits: Tensor) -> Tensor:
    """Over the finite logits: the others' share is 0 · ∞, which is 0 here and NaN to a computer."""
    rows = [(row[row.isfinite()] / TEMPERATURE).log_softmax(-1) for row in logits]
    return torch.stack([-(row.exp() * row).sum() for row in rows])


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("loss", ["logprobs", "entropies", "both"])
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, loss: str, rows: int) -> None:
    monkeypatch.setattr(selection, "BLOCK", rows * WIDTH)
    # Of either sign, and none for some rows.
    weights = torch.randn(2, POSITIONS + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights[1, [2, 5]] = 0
    of_logprobs, of_entropies = float(loss != "entropies"), float(loss != "logprobs")

    def total(logprobs: Tensor, entropies: Tensor) -> Tensor:
        by_token, by_position = (logprobs * weights[0]).sum(), (entropies * weights[1, :-1]).sum()
        return by_token * of_logprobs + by_position * of_entropies

    logits = sharp_logits().requires_grad_()
    logprobs, entropies = selected_logprobs(logits, SOURCE, TARGETS, TEMPERATURE, entropies=True)
    assert entropies is not None
    expected = expected_logprobs(logits), expected_entropies(logits)
    torch.testing.assert_close((logprobs, entropies), expected, atol=1e-13, rtol=0)
    [found] = torch.autograd.grad(total(logprobs, entropies), logits)
    [gradient] = torch.autograd.grad(total(*expected), logits)
    torch.testing.assert_close(found, gradient, atol=1e-13, rtol=0)


def test_entropies_only_where_they_are_asked_for() -> None:
    logits = sharp_logits().requires_grad_()
    logprobs, entropies = selected_logprobs(logits, SOURCE, TARGETS, TEMPERATURE)
    assert entropies is None
    [found] = torch.autograd.grad(logprobs.sum(), logits)
    [gradient] = torch.autograd.grad(expected_logprobs(logits).sum(), logits)
    torch.testing.assert_close(found, gradient, atol=1e-13, rtol=0)


def test_gradients_are_rounded_once() -> None:
    """1 − p of a token that is almost certain is lost where p is rounded to bfloat16 before it is taken from 1."""
    low = torch.zeros(2, 3, dtype=torch.bfloat16)
    low[:, 0] = 9
    source, targets = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 0])
    gradients = []
    for logits in (low.requires_grad_(), low.detach().double().requires_grad_()):
        logprobs, _ = selected_logprobs(logits, source, targets)
        assert logprobs.dtype == torch.promote_types(logits.dtype, torch.float32)
        gradients += torch.autograd.grad(logprobs.sum(), logits)
    rounded, exact = gradients
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, rtol=2**-8, atol=1e-6)
