"""Classifiers from scratch: a small residual network on vectors, and ResNets on images."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from maxrl.errors import unknown_name

ModelName = Literal["mlp", "resnet50", "tiny"]


class ResidualMLP(nn.Module):
    """Residual blocks of LayerNorm, ReLU and two linear maps between an embedding and the logits."""

    def __init__(self, inputs: int, classes: int, *, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(inputs, hidden_size)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_size),
                nn.Linear(hidden_size, hidden_size),
                nn.ReLU(),
                nn.Linear(hidden_size, hidden_size),
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embedding(inputs.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(self.norm(hidden))


class _Logits(nn.Module):
    """A classifier of transformers' that returns its logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(pixel_values=inputs).logits


def _resnet50(classes: int) -> nn.Module:
    # ResNetConfig's defaults are ResNet-50: bottlenecks in stages of 3, 4, 6 and 3.
    return _Logits(ResNetForImageClassification(ResNetConfig(num_labels=classes)))


def _tiny_resnet(classes: int) -> nn.Module:
    config = ResNetConfig(
        num_labels=classes, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    return _Logits(ResNetForImageClassification(config))


RESNETS: dict[str, Callable[[int], nn.Module]] = {"resnet50": _resnet50, "tiny": _tiny_resnet}
"""Models that take images."""


def build_model(
    name: str, *, inputs: int, classes: int, hidden_size: int, num_layers: int, seed: int
) -> nn.Module:
    """A classifier with random weights, the same for the same seed; the global random state is left as it was.

    Args:
        name: `mlp`, `resnet50` or `tiny` (a ResNet of two stages, for trials).
        inputs: numbers in one example, for `mlp`.
        classes: labels to choose from.
        hidden_size: width, for `mlp`.
        num_layers: residual blocks, for `mlp`.
        seed: of the weights.

    Raises:
        InputError: no such model.
    """
    if name not in get_args(ModelName):
        raise unknown_name("model", name, get_args(ModelName))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device's generator
        if name in RESNETS:
            return RESNETS[name](classes)
        return ResidualMLP(inputs, classes, hidden_size=hidden_size, num_layers=num_layers)
