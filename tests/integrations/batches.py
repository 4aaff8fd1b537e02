"""Batches as engines have them, and the advantages they must get, computed group by group with `maxrl.objectives`.

This file needs torch, numpy and maxrl alone: the environments of the engines use it, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl.objectives import ESTIMATORS, Estimator, as_estimator

BATCHES = 1000
WITHOUT_MEMORY = tuple(name for name, kind in ESTIMATORS.items() if issubclass(kind, Estimator))


@dataclass
class Batch:
    """Rows in random order; groups of different size."""

    rewards_BT: Tensor
    """The reward at some token of the response, often the last; float32."""
    mask_BT: Tensor
    uids: np.ndarray
    """Text, as engines have it."""

    @property
    def rewards_B(self) -> Tensor:
        return self.rewards_BT.sum(dim=1)


def batches(number: int = BATCHES, seed: int = 0) -> Iterator[Batch]:
    """Binary rewards in most, graded ones in [0, 1] in every fourth; dead, mastered and lone rollouts among them."""
    rng = np.random.default_rng(seed)
    for count in range(number):
        sizes = rng.integers(1, 9, size=rng.integers(1, 7))
        rows, tokens = int(sizes.sum()), int(rng.integers(1, 12))
        uids = np.repeat([f"prompt-{rng.integers(1 << 40)}" for _ in sizes], sizes)
        rates = np.repeat(rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], size=len(sizes)), sizes)
        rewards = rng.random(rows) * rates if count % 4 == 3 else (rng.random(rows) < rates).astype(float)
        lengths = rng.integers(1, tokens + 1, size=rows)
        order = rng.permutation(rows)
        rewards_BT = np.zeros((rows, tokens))
        rewards_BT[np.arange(rows), lengths - 1] = rewards
        mask_BT = np.arange(tokens)[None] < lengths[:, None]
        yield Batch(
            torch.tensor(rewards_BT[order], dtype=torch.float32),
            torch.tensor(mask_BT[order], dtype=torch.int64),
            uids[order].astype(object),
        )


def expected(batch: Batch, estimator: Any) -> Tensor:
    """(B, T): each group by itself, rows put back; all groups as one matrix where an estimator looks at the whole batch."""
    built = as_estimator(estimator)
    rows = [np.flatnonzero(batch.uids == uid) for uid in dict.fromkeys(batch.uids.tolist())]
    if built.batch_scoped:
        rewards_GN = torch.full((len(rows), max(map(len, rows))), torch.nan)
        for group, own in enumerate(rows):
            rewards_GN[group, : len(own)] = batch.rewards_B[own]
        advantages = [built(rewards_GN)[group, : len(own)] for group, own in enumerate(rows)]
    else:
        advantages = [built(batch.rewards_B[own][None])[0] for own in rows]
    advantages_B = torch.zeros(len(batch.uids))
    for own, values in zip(rows, advantages, strict=True):
        advantages_B[own] = values
    return advantages_B[:, None] * batch.mask_BT
