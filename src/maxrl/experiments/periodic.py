"""Evaluations while a run trains: a row each in `evals.jsonl`."""

import dataclasses
import time
from collections.abc import Generator as Yields
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from maxrl.engine import Completion, Generator, SamplingParams
from maxrl.evaluation import evaluate
from maxrl.experiments.callbacks import MetricsFile
from maxrl.experiments.patience import Patience
from maxrl.experiments.policies import Policy
from maxrl.experiments.recipe import Recipe
from maxrl.experiments.store.metrics_file import append_rows, keep_rows
from maxrl.training import MaxRLTrainer


class EvaluatesWhileTraining(TrainerCallback):
    """Every `eval_every` steps the first process evaluates the policy as it is, while the others wait.

    A row has `step`, `greedy_accuracy` on the problems of the run's evaluation, `pass_at_k` (k → estimate; empty unless
    `eval_every_samples` asks for completions) and `seconds`. Training does not notice: dropout is off
    for it alone, no random number is taken, weights are only read, and its seconds are not those of training. The step is
    logged, so that its figures stand beside it. A resumed run drops the rows after its checkpoint.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        policy: Policy,
        trainer: MaxRLTrainer,
        metrics: MetricsFile,
        patience: Patience,
    ) -> None:
        assert recipe.run.eval_every is not None, "made where it is asked for"
        self.path = path
        self._every = recipe.run.eval_every
        self._recipe = recipe
        self._policy = policy
        self._trainer = trainer
        self._metrics = metrics
        self._patience = patience
        self._generator: Generator | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            keep_rows(self.path, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step % self._every:
            return
        control.should_log = True  # in every process: they meet for it
        if state.is_world_process_zero:
            append_rows(self.path, [{"step": state.global_step, **self._evaluate()}])
        self._patience.wait_for_everyone()

    def _evaluate(self) -> dict[str, Any]:
        started = time.perf_counter()
        recipe, samples = self._recipe, self._recipe.run.eval_every_samples
        assert recipe.task is not None, "checked when the run began"
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        with _own_precision(model):
            generator = self._generator = self._generator or self._policy.generator(model)
            result = evaluate(
                generator if samples else _GreedyOnly(generator),
                self._policy.tokenizer,
                recipe.task,
                dataclasses.replace(
                    recipe.evaluation, eval_samples=max(1, samples), eval_ks=None, eval_greedy=True
                ),
                max_completion_length=recipe.training.max_completion_length or 256,
            )
        seconds = time.perf_counter() - started
        self._metrics.leave_out(seconds)
        return {
            "greedy_accuracy": result.greedy_accuracy,
            "pass_at_k": {str(entry.k): entry.estimate for entry in result.pass_at_k},
            "seconds": round(seconds, 3),
        }


class _GreedyOnly:
    """Draws nothing at random, so that an evaluation has its greedy completions alone."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        rollouts: Sequence[range] | None = None,
    ) -> list[list[Completion]]:
        """Completions at temperature 0; none for any other."""
        if params.temperature > 0:
            return [[] for _ in prompts]
        return self._generator.generate(prompts, params, seeds=seeds, rollouts=rollouts)


@contextmanager
def _own_precision(model: Any) -> Yields[None]:
    """Without the mixed precision that training puts around a model: evaluations before, while and after measure alike."""
    original = model.__dict__.get("_original_forward")
    if original is None:
        yield
        return
    mixed = model.forward
    model.forward = original
    try:
        yield
    finally:
        model.forward = mixed
