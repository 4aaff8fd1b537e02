"""What a run has spent and seen since it began, kept with its checkpoints."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import GRPOTrainer

from maxrl.evaluation.files import atomic_text
from maxrl.training.estimating import Estimating

logger = logging.getLogger(__name__)

STATE = "maxrl_state.json"
"""In a checkpoint, beside what TRL and transformers keep there."""

MOST_PROMPTS = 10_000
"""Pass rates that are kept; the prompts that were drawn least recently are forgotten first."""


@dataclass
class Progress:
    """Totals over all ranks, the same on each of them."""

    rollouts: int = 0
    """Sampled for training, whether they were used or not."""
    completion_tokens: int = 0
    """Of these rollouts, those that the policy chose."""
    recent_pass_rates: dict[str, float] = field(default_factory=dict[str, float])
    """Prompt id → r̂ when it was drawn last."""

    def count(self, rollouts: int, completion_tokens: int) -> None:
        self.rollouts += rollouts
        self.completion_tokens += completion_tokens

    def remember(self, pass_rates: Iterable[tuple[str, float]]) -> None:
        """The latest pass rate of each prompt."""
        for prompt, rate in pass_rates:
            self.recent_pass_rates.pop(prompt, None)  # it is the latest now
            self.recent_pass_rates[prompt] = rate
        for prompt in list(self.recent_pass_rates)[:-MOST_PROMPTS]:
            del self.recent_pass_rates[prompt]


def save_state(
    checkpoint: Path, progress: Progress, estimator: dict[str, Any], reasons: list[list[str]]
) -> None:
    """Write them into a checkpoint's folder."""
    with atomic_text(checkpoint / STATE) as sink:
        json.dump({**vars(progress), "estimator": estimator, "reasons": reasons}, sink)


def load_state(checkpoint: Path) -> tuple[Progress, dict[str, Any], list[list[str]]] | None:
    """What `save_state` left in the folder; None where it left nothing."""
    if not (checkpoint / STATE).is_file():
        return None
    saved = json.loads((checkpoint / STATE).read_text())
    estimator, reasons = saved.pop("estimator"), saved.pop("reasons", [])
    return Progress(**saved), estimator, reasons


class KeepsProgress(GRPOTrainer):
    """`GRPOTrainer` whose checkpoints hold the `Progress` of the run, its estimator's states and its verifiers' reasons.

    Overrides, and why:

    - `_save_checkpoint`, `_load_optimizer_and_scheduler`: they are in every checkpoint, and a resumed run goes on from them.
    - `log`: adds `rollouts` and `completion_tokens`, totals where TRL logs means.
    """

    progress: Progress
    estimating: Estimating

    def _checkpoint(self, trial: Any = None) -> Path:
        return Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # First: a checkpoint counts as whole when transformers has written its own state, which it does last.
        if self.args.should_save:
            self._save_state(self._checkpoint(trial))
        super()._save_checkpoint(model, trial)

    def _save_state(self, checkpoint: Path) -> None:
        reasons = [sorted(seen) for seen in self._seen_reasons()]
        save_state(checkpoint, self.progress, self.estimating.to_dict(), reasons)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        saved = load_state(Path(checkpoint))
        if saved is None:
            logger.warning(
                "%s has no state of an estimator and no counts of rollouts: both begin anew", checkpoint
            )
        else:
            self.progress, estimator, reasons = saved
            self.estimating.restore(estimator)
            for seen, before in zip(self._seen_reasons(), reasons, strict=False):
                seen.update(before)

    def _seen_reasons(self) -> list[set[str]]:
        """What verifiers have refused completions for so far: what was ever logged is logged at 0 from then on."""
        return [seen for function in self.reward_funcs for seen in getattr(function, "seen_reasons", ())]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            logs |= {"rollouts": self.progress.rollouts, "completion_tokens": self.progress.completion_tokens}
        super().log(logs, start_time)
