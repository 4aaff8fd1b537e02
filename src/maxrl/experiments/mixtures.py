"""Recipes with `tasks`: several tasks in one run, each with fields of its own; and one evaluation, told apart by task."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args, get_type_hints

from maxrl.errors import InputError, unknown_name
from maxrl.evaluation import Evaluation
from maxrl.evaluation.curves import pass_curve
from maxrl.tasks import get_task, task_class
from maxrl.tasks.mixture import Mixture, Part, whole_shares
from maxrl.training.task_settings import OPTIONS

Fields = dict[str, Any]


@dataclass
class TaskFields:
    """What an entry of `tasks` has beside the parameters of its task; the last four are the recipe's where it has none."""

    task: str | None = field(default=None, metadata={"help": "The task."})
    name: str | None = field(default=None, metadata={"help": "What metrics call it; by default the task."})
    share: float | None = field(
        default=None, metadata={"help": "Of the groups, in proportion to the other tasks'; by default 1."}
    )
    num_generations: int | None = field(default=None, metadata={"help": "Rollouts of a group."})
    advantage_estimator: str | None = field(default=None, metadata={"help": "Its estimator."})
    advantage_estimator_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the estimator."}
    )
    correctness_threshold: float | None = field(
        default=None, metadata={"help": "A rollout succeeds where its reward is greater."}
    )


def resolve_tasks(listed: object, *, tiny: bool) -> list[Fields]:
    """The entries of `tasks` with all that follows from them: names, and every parameter of each task.

    Args:
        listed: as a recipe holds them.
        tiny: whether the model is the tiny one, which knows no chat.

    Raises:
        InputError: no list of mappings, or an entry that cannot be used; says which.
    """
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, Mapping) for entry in listed):
        raise InputError(
            f"tasks must be a list of mappings of fields to values, one per task, but is {listed!r}"
        )
    resolved: list[Fields] = []
    for number, entry in enumerate(listed, 1):
        try:
            resolved.append(_resolve(entry, tiny))
        except InputError as error:
            raise InputError(f"task {number}: {error}") from error
    return resolved


def _resolve(entry: Mapping[str, Any], tiny: bool) -> Fields:
    if not entry.get("task"):
        raise InputError("name it, as in `- task: subset_sum`")
    own = {item.name for item in dataclasses.fields(TaskFields)}
    parameters = {name: value for name, value in entry.items() if name not in own}
    known = parameter_names(entry["task"])
    for name in parameters:
        if name not in known:
            raise unknown_name("field", str(name), [*own, *known])
    task = get_task(entry["task"], **{**(tiny_defaults(entry["task"]) if tiny else {}), **parameters})
    given = {name: value for name, value in entry.items() if name in own}
    return {**given, "name": entry.get("name") or task.name, **{name: getattr(task, name) for name in known}}


def parameter_names(task: str) -> list[str]:
    """The parameters of a task by name."""
    fields: Any = task_class(task)
    return [item.name for item in dataclasses.fields(fields) if item.init]


def tiny_defaults(task: str) -> Fields:
    """Parameters of a task that are others where the model is the tiny one, which knows no chat."""
    hints = get_type_hints(task_class(task))
    compact = "prompt_format" in parameter_names(task) and "compact" in get_args(hints["prompt_format"])
    return {"prompt_format": "compact"} if compact else {}


def make_mixture(tasks: Sequence[Mapping[str, Any]]) -> Mixture:
    """The task that the resolved entries of `tasks` come to.

    Raises:
        InputError: two have one name, or a share is none.
    """
    shares = whole_shares({entry["name"]: entry.get("share", 1) for entry in tasks})
    parts: list[Part] = []
    for entry in tasks:
        parameters = {name: entry[name] for name in parameter_names(entry["task"])}
        task = get_task(entry["task"], **parameters)
        parts.append(Part(name=entry["name"], task=task, share=shares[entry["name"]]))
    return Mixture(parts=tuple(parts))


def settings_of(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Fields]:
    """The trainer's `task_settings` of these entries."""
    return {
        entry["name"]: {option: entry[option] for option in OPTIONS if option in entry} for entry in tasks
    }


def by_task(evaluation: Evaluation, mixture: Mixture) -> dict[str, Evaluation]:
    """The evaluation of a mixture, for each part that has problems in it; ids and settings are the part's own.

    Tokens and seconds are counted together, and remain those of the whole.
    """
    found: dict[str, Evaluation] = {}
    for part in mixture.parts:
        prefix = f"{part.name}/"
        own = tuple(
            replace(problem, id=problem.id.removeprefix(prefix))
            for problem in evaluation.problems
            if problem.id.startswith(prefix)
        )
        if not own:
            continue
        greedy = [problem.greedy_success for problem in own if problem.greedy_success is not None]
        found[part.name] = replace(
            evaluation,
            problems=own,
            pass_at_k=pass_curve(own, evaluation.settings["eval_ks"], confidence=evaluation.confidence),
            greedy_accuracy=sum(greedy) / len(greedy) if greedy else None,
            settings={
                **evaluation.settings,
                "eval_problems": len(own),
                "task": part.task.description(),
                "part_of": mixture.description(),
            },
        )
    return found
