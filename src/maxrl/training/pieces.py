"""Metrics of a step that TRL's code computes piece by piece: one entry in place of one per piece."""

import math
from collections import defaultdict


class PieceMetrics:
    """TRL appends its metrics once per call. Where one of its calls becomes several, their entries become one again."""

    def __init__(self, metrics: dict[str, list[float]]) -> None:
        self.metrics = metrics
        self.before = {name: len(values) for name, values in metrics.items()}
        self._seen = dict(self.before)
        self.collected: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """(value, weight) of every piece that has a value."""

    def collect(self, weight: float) -> None:
        """What the latest piece has appended; nothing of one that has no weight."""
        for name, values in self.metrics.items():
            new = values[self._seen.get(name, 0) :]
            self.collected[name] += [(value, weight) for value in new if weight and not math.isnan(value)]
            self._seen[name] = len(values)

    def appended(self, name: str) -> int:
        """Entries that the pieces have added."""
        return self._seen[name] - self.before.get(name, 0)

    def replace(self, name: str, value: float) -> None:
        """`value` in place of the pieces' entries."""
        self.metrics[name][self.before.get(name, 0) :] = [value]
