"""Classes made on the spot: clusters in families, some tight and some wide, and the best that can be known of them.

A class is a few clusters of points; ten classes make a family, whose clusters lie near one another. Classes differ in how
wide they are. So telling families apart is easy, telling siblings apart is not, and some classes are harder than others:
top-1 has a ceiling below 100 %, which is known, since the density of every class is.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

FAMILY = 10
"""Classes in a family."""
CLUSTERS = 2
"""Clusters that make a class: with more than one, no linear map tells classes apart as well as can be."""
NEAR = 0.35
"""How far the clusters of a family lie from its centre, where the centres lie 1 from the origin (per coordinate)."""
WIDTHS = (0.6, 1.6)
"""Standard deviation of the tightest and of the widest class, in units of `noise`."""

# Streams of random numbers: the clusters, the test set and training never share one.
_MAKING, _TEST, _TRAINING = range(3)


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """`classes` classes in `dimensions` dimensions, the same for the same `seed`."""

    classes: int
    dimensions: int
    noise: float
    seed: int

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Centre of each cluster: (classes, clusters, dimensions)."""
        rng = np.random.default_rng((self.seed, _MAKING))
        families = -(-self.classes // FAMILY)
        family = rng.standard_normal((families, CLUSTERS, self.dimensions))
        near = NEAR * rng.standard_normal((self.classes, CLUSTERS, self.dimensions))
        return (family[np.arange(self.classes) // FAMILY] + near).astype(np.float32)

    @cached_property
    def widths(self) -> NDArray[np.float32]:
        """Standard deviation of each class, the same in every direction; spread evenly on a log scale, in no order."""
        rng = np.random.default_rng((self.seed, _MAKING, 1))
        spread = np.geomspace(*WIDTHS, self.classes)
        return (self.noise * rng.permutation(spread)).astype(np.float32)

    def test(self, count: int) -> tuple[Float[Tensor, "examples d"], Int[Tensor, " examples"]]:
        """The test set: its first `count` examples, whatever is trained on."""
        return self._draw(count, np.random.default_rng((self.seed, _TEST)))

    def training(
        self, count: int, *stream: int
    ) -> tuple[Float[Tensor, "examples d"], Int[Tensor, " examples"]]:
        """`count` examples for training; each `stream` has others."""
        return self._draw(count, np.random.default_rng((self.seed, _TRAINING, *stream)))

    def log_posterior(self, points: Float[Tensor, "examples d"]) -> Float[Tensor, "examples classes"]:
        """log P(class | point) by Bayes' rule: no classifier can know more.

        The density of a class is the mean of its clusters', each N(centre, width²·I); all classes are equally frequent.
        """
        centres = torch.from_numpy(self.centres).double()
        widths = torch.from_numpy(self.widths).double()
        distances = torch.cdist(points.double(), centres.flatten(0, 1)).view(-1, *centres.shape[:2])
        log_density = torch.logsumexp(-0.5 * (distances / widths[:, None]) ** 2, dim=2)
        return torch.log_softmax(log_density - self.dimensions * widths.log(), dim=1)

    def _draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        labels = rng.integers(self.classes, size=count)
        cluster = rng.integers(CLUSTERS, size=count)
        noise = rng.standard_normal((count, self.dimensions), dtype=np.float32)
        points = self.centres[labels, cluster] + self.widths[labels, None] * noise
        return torch.from_numpy(points), torch.from_numpy(labels)
