"""How a run ends before its last step: rewards that the estimator refuses, no signal, or nothing left to learn."""

import logging
from typing import Any, NoReturn

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from maxrl.errors import MaxRLError, NoSignalError, VerifierError
from maxrl.objectives.diagnostics import GroupDiagnostics
from maxrl.training.progress import KeepsProgress
from maxrl.training.signal import Draw, any_differ

logger = logging.getLogger(__name__)

MOST_UNJUDGED = 10
"""Draws for training in a row in which verifiers may fail on every single rollout."""


class StopsEarly(KeepsProgress):
    """`GRPOTrainer` that saves a checkpoint before it stops by an error, and ends where every prompt is mastered.

    Every rank sees the gathered rewards, so that all decide alike.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._end = _EndWithStep()
        self._unjudged = 0
        self.add_callback(self._end)

    def _stop_where_verifiers_fail(self, failures: float) -> None:
        """Count the draws without any verdict, whose fraction of failures is 1.

        Raises:
            VerifierError: there were too many in a row. A checkpoint is saved.
        """
        self._unjudged = self._unjudged + 1 if failures == 1 else 0
        if self._unjudged == MOST_UNJUDGED:
            self._stop_by(
                VerifierError(
                    f"the reward functions failed on every rollout of {MOST_UNJUDGED} draws in a row; the warnings above "
                    "say how. Mend them"
                )
            )

    def _stop_by(self, error: MaxRLError) -> NoReturn:
        """What an estimator refuses, say; within a training run a checkpoint is saved, and the step named."""
        if not self.is_in_train:
            raise error
        self._save_before_stopping()
        self.accelerator.wait_for_everyone()  # a launcher ends the others with the first process that fails
        raise type(error)(
            f"{error} (stopped at step {self.state.global_step}; a checkpoint was saved in {self.args.output_dir}: "
            "continue from it with resume_from_checkpoint)"
        ) from error

    def _stop_where_signal_ends(self, every: Draw, found: GroupDiagnostics) -> None:
        """Decide by one generation and its rounds, `every`, whether training goes on.

        It does where a group is live, or where rewards differ and the estimator has memory: that one gives weight 0 to what
        it has not seen yet. It ends with the present step where every scored group is mastered.

        Raises:
            NoSignalError: otherwise. A checkpoint is saved, and what was spent is logged.
        """
        if found.live > 0 or (self.estimating.remembers and any_differ(every.signal_GN)):
            return
        if found.mastered == 1:
            self._end.due = True
            if self.accelerator.is_main_process:
                logger.warning(
                    "training ends after step %d: every prompt drawn for it is mastered (%d prompts, every scored rollout "
                    "a success)",
                    self.state.global_step + 1,
                    len(every.prompts),
                )
            return
        self._save_before_stopping()
        # As the step that the generation was drawn for: a resumed run, which draws for it again, drops its rows.
        self.state.global_step += 1
        self.log({})
        self.state.global_step -= 1
        self.accelerator.wait_for_everyone()
        raise NoSignalError(
            f"no group has any signal at step {self.state.global_step}: {every.signal_GN.numel()} rollouts of "
            f"{len(every.prompts)} prompts were drawn ({_seen(every, found)}), with refill_dead_groups="
            f"{self.args.refill_dead_groups}. {self._remedies(found)}; `maxrl probe` tells what to expect of a model on a "
            f"task. A checkpoint was saved in {self.args.output_dir}"
        )

    def _remedies(self, found: GroupDiagnostics) -> str:
        more = f"raise num_generations (now {self.num_generations}) or refill_dead_groups"
        if found.mastered > 0:
            return f"Choose problems between those it always solves and those it never does, or {more}"
        if found.dead > 0:
            return f"Choose easier problems, warm the model up on demonstrations, or {more}"
        return "Look at why the reward functions give None or NaN, or why every rollout is dropped"

    def _save_before_stopping(self) -> None:
        """Save a checkpoint; where one of this very step exists, bring the counts and the memory in it up to date."""
        checkpoint = self._checkpoint()
        found = torch.tensor([int(checkpoint.exists())], device=self.accelerator.device)
        # Decided together: one rank's new folder would keep a later one from saving its part.
        if not self.accelerator.gather(found).any():
            self._save_checkpoint(self.model, trial=None)
        elif self.args.should_save and checkpoint.exists():
            self._save_state(checkpoint)


def _seen(every: Draw, found: GroupDiagnostics) -> str:
    scored = every.signal_GN[~every.signal_GN.isnan()]
    if not len(scored):
        return "none was scored"
    rate = (scored == 1).double().mean()
    return f"success rate {rate:.3g}; {found.dead:.0%} of the groups dead, {found.mastered:.0%} mastered"


class _EndWithStep(TrainerCallback):
    """Ends training as the last step does: it is logged, and saved where steps are."""

    def __init__(self) -> None:
        self.due = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.due = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.due:
            control.should_training_stop = True
            control.should_log = True
            control.should_save = control.should_save or args.save_strategy == SaveStrategy.STEPS
