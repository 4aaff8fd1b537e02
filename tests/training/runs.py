"""What these tests look at in a run, and rewards that they dictate."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from trl import GRPOTrainer

from maxrl.training import MaxRLTrainer


def logs(trainer: GRPOTrainer) -> list[dict[str, float]]:
    """Rows that a training step logged."""
    return [row for row in trainer.state.log_history if "reward" in row]


def weights(trainer: GRPOTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


class Recording(MaxRLTrainer):
    """Keeps the batches that it trains on."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        super().__init__(*arguments, **keywords)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self.batches.append(dict(batch))
        return batch

    @property
    def advantages(self) -> list[list[float]]:
        """Of each training generation."""
        return [batch["advantages"].tolist() for batch in self.batches]


def dictated(patterns: Sequence[Sequence[float | None]]) -> Callable[..., list[float | None]]:
    """Rewards that depend on the optimizer step alone: the step's pattern, over and over; the last one for the rest."""

    def reward(prompts: Any, completions: Any, trainer_state: Any, **_: Any) -> list[float | None]:
        pattern = patterns[min(trainer_state.global_step, len(patterns) - 1)]
        return [pattern[row % len(pattern)] for row in range(len(completions))]

    return reward
