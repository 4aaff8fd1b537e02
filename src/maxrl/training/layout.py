"""Which row of a generation batch is which rollout of which group, where groups may differ in size."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Groups one after the other, over the rows of all ranks in order.

    A matrix (groups, rollouts) is as wide as the largest group; a smaller one leaves its last columns empty.
    """

    sizes: tuple[int, ...]
    """Rollouts of each group."""

    @classmethod
    def uniform(cls, rows: int, size: int) -> "Layout":
        """Groups of one size."""
        return cls((size,) * (rows // size))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first row of each group; one more, for the end."""
        return tuple(accumulate(self.sizes, initial=0))

    @property
    def rows(self) -> int:
        """Of all groups."""
        return self.starts[-1]

    def place(self, row: int) -> tuple[int, int]:
        """Numbers of a row's group, and of the rollout within it."""
        group = bisect_right(self.starts, row) - 1
        return group, row - self.starts[group]

    def pieces(self, first: int, stop: int) -> Iterator[range]:
        """Rows `first … stop − 1` by group, each as far as it lies there."""
        for start, end in zip(self.starts, self.starts[1:], strict=False):
            piece = range(max(start, first), min(end, stop))
            if piece:
                yield piece

    def matrix(self, values: Tensor, empty: float) -> Tensor:
        """(rows,) → (groups, rollouts), with `empty` where a group has no further rollout."""
        taken_GN = self._taken.to(values.device)
        matrix_GN = torch.full(taken_GN.shape, empty, dtype=values.dtype, device=values.device)
        matrix_GN[taken_GN] = values
        return matrix_GN

    def flat(self, matrix_GN: Tensor) -> Tensor:
        """(groups, rollouts) → (rows,), the inverse of `matrix`."""
        return matrix_GN[self._taken.to(matrix_GN.device)]

    @cached_property
    def _taken(self) -> Tensor:
        return torch.arange(max(self.sizes)) < torch.tensor(self.sizes).unsqueeze(1)
