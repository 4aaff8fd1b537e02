"""What a classifier knows of a test set, exactly: nothing here is sampled."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def pass_at_k(log_p: Float[Tensor, "*shape"], k: int) -> Float[Tensor, "*shape"]:
    """1 − (1 − p)^k: the chance that k labels drawn with replacement hold the right one, of probability p = exp(log_p).

    As −expm1(k·log1p(−p)) in float64, which keeps the digits of a p far below 1/k and of one next to 1.

    >>> pass_at_k(torch.tensor([0.25, 1e-12]).log(), 2)
    tensor([4.3750e-01, 2.0000e-12], dtype=torch.float64)
    """
    p = log_p.double().exp().clamp(max=1.0)
    return -torch.expm1(k * torch.log1p(-p))


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Means over the test set, as shares."""

    pass_at_k: dict[int, float]
    """k → mean of 1 − (1 − p_y)^k; at k = 1 the mean p_y."""
    top_1: float
    """Share whose most likely label is right."""
    nll: float
    """Mean −log p_y, in nats."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Measures":
        """What `to_dict` was, through JSON."""
        return cls(**{**data, "pass_at_k": {int(k): value for k, value in data["pass_at_k"].items()}})


def measure(log_p: Float[Tensor, " examples"], top_1: float, ks: Sequence[int]) -> Measures:
    """The measures of a test set from the log-probability of each right label."""
    return Measures(
        pass_at_k={k: float(pass_at_k(log_p, k).mean()) for k in sorted(ks)},
        top_1=top_1,
        nll=-float(log_p.double().mean()),
    )


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], ks: Sequence[int], device: torch.device
) -> Measures:
    """A model on a test set, in float32. It is left in the mode it was found in."""
    training = model.training
    model.eval()
    right: list[Tensor] = []
    first: list[Tensor] = []
    for inputs, labels in batches:
        log_p_BV = torch.log_softmax(model(inputs.to(device)).float(), dim=1)
        labels = labels.to(device)
        right.append(log_p_BV.gather(1, labels[:, None]).squeeze(1).cpu())
        first.append((log_p_BV.argmax(1) == labels).cpu())
    model.train(training)
    return measure(torch.cat(right), float(torch.cat(first).double().mean()), ks)
