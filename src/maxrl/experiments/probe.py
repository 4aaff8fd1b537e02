"""Probes: a model sampled on a task before anybody trains it, and what the pass rates promise.

output_dir/
    measured/<task>-<key>/   of every setting: eval.json, samples.jsonl, environment.json, and measured.json, written last
    probe.json               everything that is printed, with the counts of every prompt
    probe.png

A folder's key is a hash of everything that determines what is sampled, so that nothing is sampled twice: neither when an
interrupted sweep is given again, nor when another N or estimator is asked about.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from maxrl.errors import InputError, MaxRLError
from maxrl.evaluation import Evaluation
from maxrl.evaluation.files import atomic_text
from maxrl.evaluation.groups import (
    expect_groups,
    hard_prompts,
    mean_pass_rate,
    rate_histogram,
)
from maxrl.evaluation.records import ProblemCounts
from maxrl.experiments.environment import runs_environment, write_environment
from maxrl.experiments.outlook import judge
from maxrl.experiments.policies import Policy, prepare_policy
from maxrl.experiments.probe_plots import write_plot
from maxrl.experiments.probe_records import Probe, Reading, Row, named
from maxrl.experiments.recipe import Fields, Recipe, make_recipe, resolved_fields
from maxrl.experiments.runs import announce_warm_start, evaluate_policy
from maxrl.experiments.sweeps import parse_sweep, settings_of, split_values
from maxrl.objectives import AnyEstimator, as_estimator, looks_at_batch
from maxrl.tasks import TASKS
from maxrl.training import MaxRLConfig
from maxrl.training.signal import estimator_signal

RECORD = "measured.json"
"""What was measured in a folder; written last."""

UNSAMPLED: dict[str, tuple[Any, ...]] = {
    "min_p": (None, 0.0),
    "repetition_penalty": (None, 1.0),
    "generation_kwargs": (None, {}),
}
"""Fields that change what training samples and that evaluations do not know → the values that change nothing."""


@dataclass(frozen=True, kw_only=True)
class ProbeArguments:
    """What a probe looks at."""

    estimators: list[str] | None = field(
        default=None,
        metadata={
            "help": "Whose signal to show, as maxrl grpo 'maxrl(order=16)'; by default the recipe's, and grpo."
        },
    )
    n: list[str] | None = field(
        default=None,
        metadata={
            "help": "Rollouts per group to look at, as 4,8,16,32 (at most eval_samples); by default powers of two. The "
            "recipe's num_generations is always among them, and the verdict is about it."
        },
    )
    sweep: list[str] | None = field(
        default=None,
        metadata={
            "help": "Fields of the task and their values, as num_elements=4:10 max_value=10,20,50: one probe per "
            "combination. a:b is a range with b included, a:b:step one with a step."
        },
    )


@dataclass(frozen=True)
class Plan:
    """Everything a probe will do, checked."""

    recipe: Recipe
    rollouts: tuple[int, ...]
    estimators: dict[str, AnyEstimator]
    swept: dict[str, list[Any]]
    settings: list[tuple[Fields, Recipe]]
    """The swept fields with the recipe that has them."""


def plan_probe(given: Fields) -> Plan:
    """Check what a probe is asked for, before anything is sampled.

    Args:
        given: fields of a recipe, and of `ProbeArguments`.

    Raises:
        InputError: fields that cannot be used, of any setting of the sweep.
    """
    names = {item.name for item in fields(ProbeArguments)}
    arguments = ProbeArguments(**{name: value for name, value in given.items() if name in names})
    base = {name: value for name, value in given.items() if name not in names}
    if base.get("tasks"):
        raise InputError(
            "probe samples one task: give each of the tasks by itself (--task NAME), not a recipe with all"
        )
    if not base.get("task") and "stages" not in base:
        raise InputError(
            f"probe samples a task, and none is given: name a recipe that has one (--config RECIPE.yaml), or the task "
            f"itself (--task {' | '.join(TASKS)})"
        )
    recipe = _as_training_samples(make_recipe(base))
    assert recipe.task is not None, "a recipe that names its task has one"
    swept = parse_sweep(arguments.sweep or [], base["task"])
    return Plan(
        recipe=recipe,
        rollouts=_rollouts(arguments, recipe),
        estimators=_estimators(arguments, recipe),
        swept=swept,
        settings=[(own, _as_training_samples(make_recipe({**base, **own}))) for own in settings_of(swept)],
    )


def probe(plan: Plan, *, command: str, console: Console | None = None) -> Probe:
    """Measure every setting that is not measured yet, and write `probe.json` and `probe.png`.

    Args:
        plan: of `plan_probe`.
        command: how to repeat it, for the record.
        console: where progress goes; None for silence.

    Raises:
        InputError: the model cannot be loaded.
        MaxRLError: Ctrl-C; what is measured is kept and written down, and the same command goes on. Or the only setting
            cannot be measured; in a sweep that is a row with its error.
    """
    console = console or Console(quiet=True)
    started = time.perf_counter()
    root = Path(plan.recipe.training.output_dir)
    loaded: dict[str, Policy] = {}
    rows: list[Row] = []
    interrupted = False
    try:
        for number, (own, recipe) in enumerate(plan.settings, start=1):
            if plan.swept:
                console.print(f"{number}/{len(plan.settings)}: {named(own)}")
            rows.append(_row(plan, own, recipe, root, loaded, console))
    except KeyboardInterrupt:
        interrupted = True
    result = Probe(
        command=command,
        task=_task_name(plan.recipe),
        model=plan.recipe.model_name,
        rollouts=plan.recipe.training.num_generations,
        estimators=tuple(plan.estimators),
        over_batch=tuple(
            name
            for name, it in plan.estimators.items()
            if looks_at_batch(it, max(plan.recipe.training.num_generations, it.least_rollouts))
        ),
        swept=plan.swept,
        settings={**resolved_fields(plan.recipe), **asdict(plan.recipe.evaluation)},
        rows=tuple(rows),
        seconds=time.perf_counter() - started,
        environment=runs_environment(root / row.folder for row in rows),
    )
    if rows:
        with atomic_text(root / "probe.json") as sink:
            json.dump(asdict(result), sink, indent=1, ensure_ascii=False)
        write_plot(result, root / "probe.png")
    if interrupted:
        raise MaxRLError(
            f"interrupted with {len(rows)} of {len(plan.settings)} settings measured; the same command goes on"
        )
    return result


def read_counts(
    problems: Sequence[ProblemCounts],
    *,
    rollouts: Sequence[int],
    training: int,
    estimators: Mapping[str, AnyEstimator],
    tiny: bool,
    completion_tokens: int = 0,
    sampling_seconds: float = 0.0,
) -> Reading:
    """Everything that the verdict counts say.

    Args:
        problems: verdict counts, one entry per prompt.
        rollouts: the N to look at, `training` among them; others for which no prompt has enough verdicts are left out.
        training: the N that the judgement is about.
        estimators: whose signal is wanted, by name.
        tiny: whether the model is made and warmed up on the spot.
        completion_tokens: that the samples took, for the record.
        sampling_seconds: that they took, for the record.
    """
    most = max(problem.scored for problem in problems)
    looked_at = sorted(n for n in rollouts if n <= most or n == training)
    groups = {n: expect_groups(problems, n, estimators) for n in looked_at}
    hard = hard_prompts(problems)
    pass_at_1, error = mean_pass_rate(problems)
    return Reading(
        pass_at_1=pass_at_1,
        pass_at_1_error=error,
        histogram=rate_histogram(problems),
        groups=tuple(groups.values()),
        hard=hard,
        judgement=judge(problems, groups[training], hard, pass_at_1, tiny),
        problems=tuple(problems),
        completion_tokens=completion_tokens,
        sampling_seconds=sampling_seconds,
    )


def _as_training_samples(recipe: Recipe) -> Recipe:
    """The recipe, with evaluations that draw as its training does: it is training's groups that are asked about.

    Raises:
        InputError: training draws in a way that evaluations cannot.
    """
    training = recipe.training
    for name, neutral in UNSAMPLED.items():
        if getattr(training, name) not in neutral:
            raise InputError(
                f"probe cannot sample as training would with {name}={getattr(training, name)}: it draws with temperature, "
                f"top_p and top_k alone; leave {name} out to see the groups without it"
            )
    drawn = replace(
        recipe.evaluation,
        eval_temperature=training.temperature,
        eval_top_p=training.top_p,
        eval_top_k=training.top_k or 0,
        eval_greedy=False,
        eval_ks=None,
    )
    return replace(recipe, evaluation=drawn)


def _rollouts(arguments: ProbeArguments, recipe: Recipe) -> tuple[int, ...]:
    samples, own = recipe.evaluation.eval_samples, recipe.training.num_generations
    asked: list[int] = []
    for value in [part for word in arguments.n or [] for part in split_values(word, "--n")]:
        if not value.isdecimal() or int(value) < 2:
            raise InputError(f"--n takes whole numbers from 2 on, as 4,8,16,32, but got '{value}'")
        asked.append(int(value))
    if arguments.n is None:
        asked = [2**exponent for exponent in range(1, samples.bit_length())]
    wanted = sorted({*asked, own})
    if wanted[-1] > samples:
        name = "num_generations" if wanted[-1] == own else "--n"
        raise InputError(
            f"{name} asks about groups of {wanted[-1]} rollouts, which {samples} samples per prompt cannot tell: raise "
            f"--eval_samples to {wanted[-1]} or more"
        )
    return tuple(wanted)


def _estimators(arguments: ProbeArguments, recipe: Recipe) -> dict[str, AnyEstimator]:
    if arguments.estimators is not None:
        if len(set(arguments.estimators)) < len(arguments.estimators):
            raise InputError(f"estimators names something twice: {', '.join(arguments.estimators)}")
        return {name: as_estimator(name) for name in arguments.estimators}
    own, grpo = recipe.training.estimator(), as_estimator("grpo")
    shown = {_estimator_label(recipe.training): own}
    return shown if own == grpo else {**shown, "grpo": grpo}


def _estimator_label(training: MaxRLConfig) -> str:
    """The recipe's estimator as `--estimators` would name it: `maxrl(order=2)`."""
    options = training.advantage_estimator_kwargs or {}
    if isinstance(options, str):
        options = json.loads(options)
    if not options:
        return training.advantage_estimator
    name, opening, written = training.advantage_estimator.strip().partition("(")
    others = [written.removesuffix(")")] if opening and written != ")" else []
    return f"{name}({', '.join([*others, *(f'{option}={value!r}' for option, value in options.items())])})"


def _row(
    plan: Plan, own: Fields, recipe: Recipe, root: Path, loaded: dict[str, Policy], console: Console
) -> Row:
    """One setting's row; one of a sweep that fails is kept with its error."""
    measurement = _measurement(recipe)
    key = hashlib.sha256(json.dumps(measurement, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path("measured") / f"{_task_name(recipe)}-{key}"
    try:
        found = _measure(recipe, measurement, root / folder, loaded, console)
    except InputError:
        raise
    except MaxRLError as error:
        if not plan.swept:
            raise
        console.print(f"failed: {error}")
        return Row(fields=own, folder=str(folder), reading=None, error=str(error))
    reading = read_counts(
        count_as_training(found.problems, root / folder / "samples.jsonl", recipe.training),
        rollouts=plan.rollouts,
        training=plan.recipe.training.num_generations,
        estimators=plan.estimators,
        tiny=recipe.model_name == "tiny",
        completion_tokens=found.completion_tokens,
        sampling_seconds=found.seconds,
    )
    return Row(fields=own, folder=str(folder), reading=reading)


def count_as_training(
    problems: Sequence[ProblemCounts], samples: Path, training: MaxRLConfig
) -> tuple[ProblemCounts, ...]:
    """Counts of what the estimator would see: with `correctness_threshold`, and truncated samples as `overlong` says.

    Args:
        problems: verdict counts of an evaluation without greedy samples.
        samples: its completions, as many of each problem, in order.
        training: whose success is meant.
    """
    threshold = training.correctness_threshold
    if threshold is None and training.overlong == "keep":
        return tuple(problems)
    with samples.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    verdict = "success" if threshold is None else "reward"
    rewards = [math.nan if row["error"] is not None else float(row[verdict]) for row in rows]
    signal = estimator_signal(
        torch.tensor(rewards).unsqueeze(1),
        torch.tensor(training.reward_weights if threshold is not None and training.reward_weights else [1.0]),
        torch.tensor([row["finish_reason"] == "length" for row in rows]),
        threshold=threshold,
        overlong=training.overlong,
    )
    return tuple(
        replace(problem, scored=int((~own.isnan()).sum()), correct=int((own == 1).sum()))
        for problem, own in zip(problems, signal.view(len(problems), -1), strict=True)
    )


def _measure(
    recipe: Recipe, measurement: Fields, folder: Path, loaded: dict[str, Policy], console: Console
) -> Evaluation:
    """Sample the setting, or read what was sampled before."""
    if (folder / RECORD).is_file():
        return Evaluation.load(folder / "eval.json")
    if recipe.model_name == "tiny":  # of its own for every setting
        policy = prepare_policy(recipe, progress=announce_warm_start(recipe, console))
    else:
        policy = loaded[recipe.model_name] = loaded.get(recipe.model_name) or prepare_policy(recipe)
    found = evaluate_policy(recipe, policy, folder, console)
    write_environment(folder, {})
    with atomic_text(folder / RECORD) as sink:
        json.dump(measurement, sink, indent=1)
    return found


def _measurement(recipe: Recipe) -> Fields:
    """Everything that determines what is sampled, as JSON types."""
    training = recipe.training
    description: Fields = {
        "task": {"name": _task_name(recipe), **vars(recipe.task)},
        "evaluation": asdict(recipe.evaluation),
        "max_completion_length": training.max_completion_length,
        "model": {
            **asdict(recipe.model),
            "model_name_or_path": recipe.model_name,
            "model_init_kwargs": training.model_init_kwargs,
            "trust_remote_code": training.trust_remote_code,
            "rollout_backend": training.rollout_backend,
        },
    }
    if recipe.model_name == "tiny":
        description["tiny"] = {**asdict(recipe.tiny), **asdict(recipe.warm_start)}
    elif Path(recipe.model_name).is_dir():  # may be trained on, and then it is another model
        files = [path for path in Path(recipe.model_name).iterdir() if path.is_file()]
        description["model"]["changed"] = max((path.stat().st_mtime_ns for path in files), default=0)
    return json.loads(json.dumps(description, default=str))


def _task_name(recipe: Recipe) -> str:
    assert recipe.task is not None, "plan_probe refuses recipes without a task"
    return recipe.task.name
