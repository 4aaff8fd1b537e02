"""What a grid will cost, as far as that can be known before.

Rollouts and the most tokens follow from the recipe. Seconds are those of runs that are done, per rollout, where there are
any of the same model, task and group size; else a rough figure from the model's size and the hardware's peak, which says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from maxrl.experiments.grids.runner import GridRun
from maxrl.experiments.grids.sizes import named_parameters
from maxrl.experiments.recipe import Recipe, make_recipe
from maxrl.experiments.store import StoredRun

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
    """Completion tokens, if every one ran into the limit."""
    parameters: float | None
    """Of the model; None where its name does not say."""
    seconds: float | None = None
    """Of training."""
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


def _cost(run: GridRun, device: str | None, rates: dict[tuple[Any, ...], float]) -> RunCost:
    stages = run.fields.get("stages")
    parts = [{**run.fields, **own} for own in stages] if stages else [run.fields]
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
        parameters=costs[0].parameters,
        seconds=_sum([cost.seconds for cost in costs]),
        measured=all(cost.measured for cost in costs),
    )


def _single(recipe: Recipe, device: str | None, rates: dict[tuple[Any, ...], float]) -> RunCost:
    training = recipe.training
    parameters = model_parameters(recipe)
    if training.max_steps <= 0:
        return RunCost(steps=None, rollouts=None, most_tokens=None, parameters=parameters)
    per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    rollouts = training.max_steps * per_step // training.num_iterations
    tokens = rollouts * (training.max_completion_length or 256)
    seconds, measured = None, False
    rate = rates.get(_kind(recipe.given))
    if rate is not None:
        seconds, measured = START_SECONDS + rollouts * rate, True
    elif parameters is not None and (speed := _speed(device)) is not None:
        seconds = FLOPS_PER_TOKEN * parameters * tokens / speed
        seconds += START_SECONDS + STEP_SECONDS * training.max_steps
    return RunCost(
        steps=training.max_steps,
        rollouts=rollouts,
        most_tokens=tokens,
        parameters=parameters,
        seconds=seconds,
        measured=measured,
    )


def _speed(device: str | None) -> float | None:
    """Operations a second that training reaches there; None where the hardware is none we know."""
    for name, peak in PEAK_FLOPS.items():
        if device is not None and name in device.lower():
            return peak * UTILISATION.get(name, OTHER_UTILISATION)
    return None


def _kind(fields: dict[str, Any]) -> tuple[Any, ...]:
    """Runs of one kind take the same time per rollout, nearly."""
    names = ("model_name_or_path", "task", "dataset_name", "num_generations", "max_completion_length")
    return tuple(str(fields.get(name)) for name in names)


def _measured(done: Iterable[StoredRun]) -> dict[tuple[Any, ...], float]:
    """Kind → median seconds per rollout."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for run in done:
        rollouts = run.summary.get("rollouts")
        if rollouts:
            found.setdefault(_kind(run.config), []).append(run.summary["training_seconds"] / rollouts)
    return {kind: median(values) for kind, values in found.items()}


def _sum(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)
