"""What a grid will cost, as far as that can be known before.

Rollouts and the most tokens of training follow from the recipe, and so does what its evaluations sample. Seconds are those
of runs that are done, per rollout and per completion of an evaluation, where there are any of the same model, task and group
size; else a rough figure from the model's size and the hardware's peak, which says so. Warm starts are in neither.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.grids.sizes import named_parameters
from maxrl.experiments.recipe import Recipe, make_recipe, resolved_fields
from maxrl.experiments.store import StoredRun

SAMPLING_FLOPS = 2
"""Per parameter and token of a completion that is only sampled, as evaluations do."""

FLOPS_PER_TOKEN = 10
"""Per parameter and completion token: 2 to sample it, 8 to train on it (forward, backward, and the forward that activation
checkpointing repeats). The prompt's tokens are not counted."""

PEAK_FLOPS = {
    "cpu": 1e11,
    "t4": 65e12,
    "l4": 121e12,
    "a10g": 125e12,
    "l40s": 362e12,
    "a100": 312e12,
    "h100": 989e12,
    "h200": 989e12,
}
"""Dense 16-bit peak of a device, as its maker states it; of a CPU what two cores of ours reach."""

UTILISATION = {"cpu": 0.5}
"""Of the peak while training with rollouts: a processor computes all the time, an accelerator waits for its memory while
sampling (`OTHER_UTILISATION`). Guesses, good to a factor of about five."""

OTHER_UTILISATION = 0.05

START_SECONDS = 15.0
STEP_SECONDS = 0.1
"""Of a process until it trains, and of a step whatever its size."""


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """Of one run."""

    steps: int | None
    """None where epochs over a data set decide."""
    rollouts: int | None
    most_tokens: int | None
    """Completion tokens of training, if every one ran into the limit."""
    evaluated: int | None
    """Completions that its evaluations sample, before, while and after training."""
    parameters: float | None
    """Of the model; None where its name does not say."""
    seconds: float | None = None
    """Of training and its evaluations."""
    measured: bool = False
    """Whether `seconds` come from runs that were made."""


def estimate(
    runs: Sequence[GridRun], *, device: str | None = "cpu", done: Iterable[StoredRun] = ()
) -> list[RunCost]:
    """The cost of every run.

    Args:
        runs: of the grid.
        device: a key of `PEAK_FLOPS`, or the name of hardware that holds one (`a10g-small`); of others, and where it is
            None, nothing is known but what `done` tells.
        done: finished runs, of this grid or others, whose time counts.
    """
    rates = _measured(done)
    return [_cost(run, device, rates) for run in runs]


def model_parameters(recipe: Recipe) -> float | None:
    """Of the tiny model, or what a model's name says (`Qwen2.5-0.5B`, `SmolLM2-360M`)."""
    if recipe.model_name == "tiny":
        shape = recipe.tiny
        heads = shape.tiny_width // shape.tiny_heads
        attention = shape.tiny_width * heads * (2 * shape.tiny_heads + 2 * shape.tiny_kv_heads)
        return shape.tiny_layers * (attention + 3 * shape.tiny_width * shape.tiny_feed_forward)
    return named_parameters(recipe.model_name)


def _cost(run: GridRun, device: str | None, rates: "_Rates") -> RunCost:
    stages = run.fields.get("stages")
    parts = [{**run.fields, **own} for own in stages] if stages else [run.fields]
    # Later stages begin with what the one before was evaluated as.
    parts[1:] = [{**part, "eval_before_training": False} for part in parts[1:]]
    costs = [
        _single(make_recipe({k: v for k, v in part.items() if k != "stages"}), device, rates)
        for part in parts
    ]
    if len(costs) == 1:
        return costs[0]
    return RunCost(
        steps=_sum([cost.steps for cost in costs]),
        rollouts=_sum([cost.rollouts for cost in costs]),
        most_tokens=_sum([cost.most_tokens for cost in costs]),
        evaluated=_sum([cost.evaluated for cost in costs]),
        parameters=costs[0].parameters,
        seconds=_sum([cost.seconds for cost in costs]),
        measured=all(cost.measured for cost in costs),
    )


def _single(recipe: Recipe, device: str | None, rates: "_Rates") -> RunCost:
    training = recipe.training
    parameters = model_parameters(recipe)
    if training.max_steps <= 0:
        return RunCost(steps=None, rollouts=None, most_tokens=None, evaluated=None, parameters=parameters)
    per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    rollouts = training.max_steps * per_step // training.num_iterations
    length = training.max_completion_length or 256
    tokens = rollouts * length
    evaluated = _evaluated(recipe)
    seconds, measured = None, False
    rate = rates.get(_kind(resolved_fields(recipe)))
    if rate is not None:
        seconds, measured = START_SECONDS + rollouts * rate.rollout + evaluated * rate.evaluated, True
    elif parameters is not None and (speed := _speed(device)) is not None:
        seconds = parameters * (FLOPS_PER_TOKEN * tokens + SAMPLING_FLOPS * evaluated * length) / speed
        seconds += START_SECONDS + STEP_SECONDS * training.max_steps
    return RunCost(
        steps=training.max_steps,
        rollouts=rollouts,
        most_tokens=tokens,
        evaluated=evaluated,
        parameters=parameters,
        seconds=seconds,
        measured=measured,
    )


def _evaluated(recipe: Recipe) -> int:
    """Completions of a run's evaluations; a task may have fewer problems than are asked for."""
    if recipe.task is None:
        return 0
    run, settings = recipe.run, recipe.evaluation
    whole = (1 + run.eval_before_training) * (settings.eval_samples + settings.eval_greedy)
    between = recipe.training.max_steps // run.eval_every if run.eval_every else 0
    return settings.eval_problems * (whole + between * (1 + run.eval_every_samples))


def _speed(device: str | None) -> float | None:
    """Operations a second that training reaches there; None where the hardware is none we know."""
    for name, peak in PEAK_FLOPS.items():
        if device is not None and name in device.lower():
            return peak * UTILISATION.get(name, OTHER_UTILISATION)
    return None


def _kind(fields: dict[str, Any]) -> tuple[Any, ...]:
    """Resolved, so that a default is what it was written as. Runs of one kind take the same time per rollout, nearly."""
    names = (
        "model_name_or_path",
        "task",
        "tasks",
        "dataset_name",
        "num_generations",
        "max_completion_length",
    )
    return tuple(json.dumps(fields.get(name), default=str, sort_keys=True) for name in names)


@dataclass(frozen=True)
class _Rate:
    """Seconds."""

    rollout: float
    evaluated: float
    """Of a completion of an evaluation."""


_Rates = dict[tuple[Any, ...], _Rate]


def _measured(done: Iterable[StoredRun]) -> _Rates:
    """The median rates of each kind."""
    found: dict[tuple[Any, ...], list[_Rate]] = {}
    for run in done:
        rollouts = run.summary.get("rollouts")
        if rollouts:
            rate = _Rate(run.summary["training_seconds"] / rollouts, _seconds_of_evaluation(run))
            found.setdefault(_kind(run.config), []).append(rate)
    return {
        kind: _Rate(median(rate.rollout for rate in rates), median(rate.evaluated for rate in rates))
        for kind, rates in found.items()
    }


def _seconds_of_evaluation(run: StoredRun) -> float:
    """Per completion; 0 for a run on a data set, which has none."""
    if run.evaluation is None:
        return 0.0
    problems = run.evaluation.problems
    greedy = len(problems) if run.evaluation.greedy_accuracy is not None else 0
    return run.evaluation.seconds / (sum(problem.scored + problem.errors for problem in problems) + greedy)


def _sum(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)
