"""Which runs belong together: arms, settings, and seeds that repeat a run.

A recipe's field that varies between runs has one of these roles (`Grouping.roles`):

    repeats      seeds: runs that differ in nothing else are repetitions
    arm          the estimator and its options
    setting      spans the settings; within one, arms are compared
    follows      decided by the fields that span the settings, and needs no name of its own
    with arm     decided by the arm (within a setting): what else the arms differ in
    measuring    of the evaluation; runs that were measured otherwise are not compared
    set aside    of no effect on what is trained
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from maxrl.experiments.reports.reading import RunData
from maxrl.experiments.wording import plain

Role = Literal["repeats", "arm", "setting", "follows", "with arm", "measuring", "set aside"]

NO_ARM = "—"
"""Arm of a run that failed before it had a recipe."""

_REPEATS = ("seed", "task_seed", "data_seed")
_ARM = ("advantage_estimator", "advantage_estimator_kwargs")
_SET_ASIDE = {
    "output_dir",
    "run_name",
    "report_to",
    "project",
    "logging_steps",
    "logging_dir",
    "logging_strategy",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "cpu_threads",
    "eval_before_training",
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "log_completions",
    "disable_tqdm",
    "push_to_hub",
    "hub_model_id",
}
_FIRST = ("task", "dataset_name", "model_name_or_path", "num_elements", "max_value", "difficulty")
_THEN = ("num_generations", "learning_rate", "temperature")
"""Fields that rather give a setting its name than those that vary with them, in this order around all others' own."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Runs with the same values of the fields that span the settings."""

    number: int
    """From 1, as tables and figures call it."""
    values: Mapping[str, Any]
    runs: tuple[RunData, ...]

    @property
    def label(self) -> str:
        """E.g. `num_elements 5, num_generations 16`; empty where there is one setting alone."""
        return ", ".join(f"{name} {plain(value)}" for name, value in self.values.items())


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """All runs, sorted."""

    arms: tuple[str, ...]
    """`maxrl` first, then by name."""
    settings: tuple[Setting, ...]
    roles: Mapping[str, Role]
    """Of each field that varies."""
    values: Mapping[str, tuple[str, ...]]
    """Of each field that varies: its values, as a recipe says them."""
    follows: Mapping[str, tuple[str, ...]]
    """Of each field that follows: the fields that decide it."""


def arm_of(run: RunData) -> str:
    """The estimator with its options, e.g. `maxrl(order=16)`."""
    if not run.config:
        return NO_ARM
    name = str(run.config.get("advantage_estimator") or "maxrl")
    options = run.config.get("advantage_estimator_kwargs") or {}
    if not isinstance(options, Mapping) or not options:
        return name
    return f"{name}({', '.join(f'{key}={plain(value)}' for key, value in sorted(options.items()))})"


def group_runs(runs: Sequence[RunData]) -> Grouping:
    """Sort runs into arms and settings."""
    known = [run for run in runs if run.config]
    varying = _varying(known)
    roles: dict[str, Role] = {}
    for name in varying:
        if name in _REPEATS:
            roles[name] = "repeats"
        elif name in _ARM:
            roles[name] = "arm"
        elif name.startswith("eval_") and name != "eval_before_training":
            roles[name] = "measuring"
        elif name in _SET_ASIDE:
            roles[name] = "set aside"
    leads, follows = _leads(known, [name for name in _ordered(varying) if name not in roles], varying)
    roles.update(dict.fromkeys(leads, "setting"))
    for name, deciding in follows.items():
        roles[name] = "follows" if ARM not in deciding else "with arm"
    arms = sorted({arm_of(run) for run in runs} - {NO_ARM}, key=lambda arm: (arm != "maxrl", arm))
    return Grouping(
        arms=tuple(arms),
        settings=_settings(runs, leads),
        roles={name: roles[name] for name in varying},
        values={name: _values(known, name) for name in varying},
        follows=follows,
    )


ARM = "arm"
"""Stands for the estimator among the fields that decide another."""


def _varying(runs: Sequence[RunData]) -> dict[str, list[str]]:
    """Each field in which runs differ, with every run's value as text that can be compared."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    found = {name: [_key(run.config.get(name)) for run in runs] for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _values(runs: Sequence[RunData], name: str) -> tuple[str, ...]:
    values = sorted((run.config.get(name) for run in runs), key=_rank)
    return tuple(dict.fromkeys("not given" if value is None else plain(value) for value in values))


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _ordered(varying: Mapping[str, list[str]]) -> list[str]:
    """Fields that give good names to settings first; of the others those with more values."""

    def rank(name: str) -> tuple[int, int]:
        if name in _FIRST:
            return 0, _FIRST.index(name)
        if name in _THEN:
            return 1, _THEN.index(name)
        return 2, -len(set(varying[name]))

    return sorted(varying, key=rank)


def _leads(
    runs: Sequence[RunData], names: Sequence[str], varying: Mapping[str, list[str]]
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The fields that span the settings, and the others with what decides each of them."""
    arms = [arm_of(run) for run in runs]
    leads: list[str] = []
    follows: dict[str, tuple[str, ...]] = {}
    for name in names:
        spanned = [tuple(varying[lead][i] for lead in leads) for i in range(len(runs))]
        if _decides(spanned, varying[name]):
            own = [lead for lead in leads if _decides(varying[lead], varying[name])]
            follows[name] = (own[0],) if own else tuple(leads)
        elif len(set(arms)) > 1 and _decides(list(zip(arms, spanned, strict=True)), varying[name]):
            follows[name] = (ARM, *leads)
        else:
            leads.append(name)
    return leads, follows


def _decides(causes: Sequence[object], effects: Sequence[str]) -> bool:
    """Whether equal causes always go with equal effects."""
    seen: dict[object, str] = {}
    return all(
        seen.setdefault(cause, effect) == effect for cause, effect in zip(causes, effects, strict=True)
    )


def _settings(runs: Sequence[RunData], leads: Sequence[str]) -> tuple[Setting, ...]:
    found: dict[tuple[str, ...], list[RunData]] = {}
    for run in runs:
        if run.config:
            found.setdefault(tuple(_key(run.config.get(lead)) for lead in leads), []).append(run)
    values = {key: {lead: members[0].config.get(lead) for lead in leads} for key, members in found.items()}
    ordered = sorted(found, key=lambda key: [_rank(value) for value in values[key].values()])
    return tuple(
        Setting(number=number, values=values[key], runs=tuple(found[key]))
        for number, key in enumerate(ordered, 1)
    )


def _rank(value: object) -> tuple[int, float, str]:
    """Numbers by size, then text."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, _key(value)


def repeat_labels(arms: Sequence[Sequence[RunData]]) -> list[list[int | str]]:
    """What tells the repetitions of each arm in a setting apart: the seed; with more where that is not enough.

    Runs of different arms with equal labels are a pair.
    """
    seeds = [[tuple(run.config.get(name) for name in _REPEATS) for run in runs] for runs in arms]
    plainly = all(len({seed[0] for seed in own}) == len(own) for own in seeds)
    # Runs of one seed with other problems or another order of them are no pair.
    plainly &= len({seed for own in seeds for seed in own}) == len({seed[0] for own in seeds for seed in own})
    return [[_label(own[: i + 1], plainly) for i in range(len(own))] for own in seeds]


def _label(seeds: Sequence[tuple[Any, ...]], plainly: bool) -> int | str:
    """Of the last one, among those before it."""
    if plainly:
        return seeds[-1][0] if isinstance(seeds[-1][0], int) else str(seeds[-1][0])
    own = "/".join(str(part) for part in seeds[-1] if part is not None)
    times = seeds.count(seeds[-1])
    return f"{own} (run {times})" if times > 1 else own
