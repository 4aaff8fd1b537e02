"""Recipes: every option of a run as flat fields, from YAML and the command line, checked before anything starts.

The fields are those of `trl grpo` plus maxrl's own; a recipe that trains with `trl grpo` trains with `maxrl train`.
"""

import argparse
import copy
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from trl import DatasetMixtureConfig, ModelConfig, TrlParser
from trl.scripts.grpo import GRPOScriptArguments

from maxrl.errors import InputError, unknown_name
from maxrl.evaluation import EvalSettings
from maxrl.models import TinyModel
from maxrl.tasks import TASKS, Task, get_task
from maxrl.training import MaxRLConfig
from maxrl.training.warm_starts import WarmStart

Fields = dict[str, Any]
"""Field name → value, typed; only what was given."""


@dataclass
class RunArguments(GRPOScriptArguments):
    """What a run trains on: a task of ours, or a data set with reward functions as in `trl grpo`."""

    task: str | None = field(
        default=None,
        metadata={"help": f"Task to train on: {', '.join(TASKS)}. Its parameters become options."},
    )
    task_seed: int | None = field(
        default=None, metadata={"help": "Seed of the training problems; by default the seed of the run."}
    )
    num_train_problems: int | None = field(
        default=None,
        metadata={"help": "Distinct training problems; by default a fresh one for every group of the run."},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace the run that output_dir already holds."}
    )
    eval_before_training: bool = field(
        default=True, metadata={"help": "Also evaluate the model before it is trained."}
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={"help": "Threads on a CPU; by default one or all, as measured (OMP_NUM_THREADS, if set)."},
    )

    def __post_init__(self) -> None:
        if self.num_train_problems is not None and self.num_train_problems < 1:
            raise InputError(f"num_train_problems must be at least 1, but is {self.num_train_problems}")


@dataclass(frozen=True)
class Recipe:
    """A run, resolved: one configuration object per room, and the fields it was made from."""

    run: RunArguments
    task: Task | None
    tiny: TinyModel
    warm_start: WarmStart
    evaluation: EvalSettings
    training: MaxRLConfig
    model: ModelConfig
    datasets: DatasetMixtureConfig
    given: Fields

    @property
    def model_name(self) -> str:
        """Hub id, folder, or `tiny`."""
        return self.model.model_name_or_path or "tiny"

    @property
    def task_seed(self) -> int:
        """Seed of the training problems."""
        return self.training.seed if self.run.task_seed is None else self.run.task_seed


def parse_recipe(argv: Sequence[str]) -> Recipe:
    """A recipe from command-line words, which may name a YAML file with `--config`; the words win over the file.

    Raises:
        InputError: an unknown field (with the nearest known one), a value of the wrong type, a missing file, or
            values that contradict each other.
    """
    return make_recipe(read_fields(argv))


def read_fields(argv: Sequence[str], extra: Sequence[type] = ()) -> Fields:
    """The fields that a command line (and the YAML file it names) gives, typed and with known names.

    Args:
        argv: the words after the command.
        extra: dataclasses whose fields the command takes beside those of a recipe.
    """
    config_path, words = _take_config(argv)
    from_file = _load_yaml(config_path) if config_path else {}
    task = option_given(words, "task") or from_file.get("task")
    parser = _parser([*_classes(task), *extra])
    known = {action.dest for action in parser._actions} - {"help"}
    for name in from_file:
        if name not in known:
            raise _located(_unknown("field", str(name), known), config_path)
    as_words, as_they_are = _split_values(from_file, parser, config_path)
    given = {**as_they_are, **_parse(parser, as_words, config_path), **_parse(parser, words, None)}
    given.pop("help", None)
    return given


def make_recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe of these fields; everything else takes its default.

    Raises:
        InputError: a field is unknown, or values are out of range or contradict each other.
    """
    given = dict(given)
    classes = _classes(given.get("task"))
    known = {item.name for cls in classes for item in dataclasses.fields(cls)}
    for name in given:
        if name not in known:
            raise _unknown("field", name, known)
    task_class = TASKS[given["task"]] if given.get("task") else None
    if _is_tiny(given) and task_class and "prompt_format" in _names(task_class):
        given.setdefault("prompt_format", "compact")  # the tiny model knows no chat

    def build(cls: type) -> Any:
        names = _names(cls)
        hints = get_type_hints(cls)
        for name in names:
            if name in given and given[name] is None and type(None) not in get_args(hints[name]):
                raise InputError(f"{name} must not be null; leave it out for its default")
        try:
            # Copies: TRL replaces the entries of `datasets` in place, and what was given must stay as it was given.
            return cls(**{name: copy.deepcopy(value) for name, value in given.items() if name in names})
        except InputError:
            raise
        except (ValueError, TypeError, ImportError) as error:  # TRL and transformers check their own fields
            raise InputError(str(error).strip().splitlines()[0]) from error

    if task_class and not given.get("num_train_problems"):
        # Fresh problems need no shuffling, and in stream order a run that is made longer goes on where it was.
        given.setdefault("shuffle_dataset", False)
    if given.get("output_dir") is None:
        given["output_dir"] = _default_output_dir(given)
    run = build(RunArguments)
    if run.task is None and not run.dataset_name and not given.get("datasets"):
        raise InputError(f"nothing to train on: name a task (--task {' | '.join(TASKS)}) or a --dataset_name")
    task = None
    if task_class is not None:
        names = _names(task_class)
        task = get_task(given["task"], **{name: value for name, value in given.items() if name in names})
    recipe = Recipe(
        run=run,
        task=task,
        tiny=build(TinyModel),
        warm_start=build(WarmStart),
        evaluation=build(EvalSettings),
        training=build(MaxRLConfig),
        model=build(ModelConfig),
        datasets=build(DatasetMixtureConfig),
        given=given,
    )
    if recipe.training.n_gpu > 1:
        raise InputError(
            f"one process sees {recipe.training.n_gpu} GPUs: start one process per GPU (`accelerate launch -m maxrl.cli "
            "train …`), or show it one (CUDA_VISIBLE_DEVICES=0)"
        )
    if task is None and _is_tiny(given):
        raise InputError("a data set has no vocabulary to build a tiny model from: set --model_name_or_path")
    return recipe


def resolved_fields(recipe: Recipe) -> Fields:
    """Every field that determines a run, given or default, such that `make_recipe` of them is the same run."""
    fields: Fields = {}
    for part in (recipe.run, recipe.task, recipe.evaluation, recipe.tiny, recipe.warm_start):
        if part is None or (part in (recipe.tiny, recipe.warm_start) and not _is_tiny(recipe.given)):
            continue
        fields.update({name: getattr(part, name) for name in _names(type(part))})
    shown = {name: getattr(recipe.training, name) for name in _ALWAYS_SHOWN}
    if recipe.training.max_steps > 0:
        shown.pop("num_train_epochs")  # steps rule
    fields.update({name: value.value if isinstance(value, Enum) else value for name, value in shown.items()})
    fields["model_name_or_path"] = recipe.model_name
    fields.update(recipe.given)
    # A null that was given may stand against a default (max_completion_length: null).
    return {
        name: value
        for name, value in fields.items()
        if (value is not None or name in recipe.given) and name not in _HOW_STARTED
    }


def to_yaml(fields: Fields) -> str:
    """YAML that `--config` reads back to the same fields."""
    plain = json.loads(json.dumps(fields, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def help_text(argv: Sequence[str], prog: str, extra: Sequence[type] = ()) -> str:
    """Every option of a command that takes a recipe: its own, ours, the task's, then TRL's."""
    task = option_given(_take_config(argv)[1], "task") or next(iter(TASKS))
    ours = [RunArguments, TASKS[task], EvalSettings, TinyModel, WarmStart]
    parts = [("", list(extra))] if extra else []
    parts += [("the run", ours), ("training (TRL's GRPOConfig and what MaxRLConfig adds)", [MaxRLConfig])]
    parts += [("the model and its adapters", [ModelConfig]), ("data sets", [DatasetMixtureConfig])]
    texts = [f"usage: {prog} [--config RECIPE.yaml] [--dry-run] [-q] [--FIELD VALUE …]"]
    for title, classes in parts:
        text = _parser(classes).format_help().split("options:", 1)[1]
        kept = "\n".join(line for line in text.splitlines() if "show this help" not in line)
        texts.append(f"{title or prog}:{kept}")
    return "\n\n".join(texts)


# How a process was started is no part of what its run is.
_HOW_STARTED = ("resume_from_checkpoint", "overwrite_output_dir")

# What TRL's configuration leaves at a default but a reader of a run wants to see.
_ALWAYS_SHOWN = (
    "advantage_estimator",
    "advantage_estimator_kwargs",
    "correctness_threshold",
    "num_generations",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_iterations",
    "max_completion_length",
    "max_steps",
    "num_train_epochs",
    "learning_rate",
    "lr_scheduler_type",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "weight_decay",
    "max_grad_norm",
    "loss_type",
    "beta",
    "epsilon",
    "temperature",
    "top_p",
    "top_k",
    "bf16",
    "seed",
    "output_dir",
)


def _classes(task: str | None) -> list[Any]:
    if task is not None and (not isinstance(task, str) or task not in TASKS):
        raise unknown_name("task", str(task), TASKS)
    task_class = [TASKS[task]] if task else []
    return [
        RunArguments,
        *task_class,
        EvalSettings,
        TinyModel,
        WarmStart,
        MaxRLConfig,
        ModelConfig,
        DatasetMixtureConfig,
    ]


def _names(cls: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(cls) if item.init]


def _default_output_dir(given: Mapping[str, Any]) -> str:
    subject = given.get("task") or given.get("dataset_name") or "mixture"
    parts = [subject, given.get("model_name_or_path") or "tiny", given.get("advantage_estimator", "maxrl")]
    return "runs/" + "-".join(str(part).rstrip("/").split("/")[-1] for part in parts)


def _is_tiny(given: Mapping[str, Any]) -> bool:
    return (given.get("model_name_or_path") or "tiny") == "tiny"


class _Parser(TrlParser):
    """TRL's parser, with errors instead of a page of usage, and without guessing at abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser(classes: Sequence[type]) -> _Parser:
    return _Parser(classes, allow_abbrev=False)


def _parse(parser: _Parser, words: Sequence[str], config_path: str | None) -> Fields:
    """The fields that `words` give, typed by the parser."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # leaves only what was given
        action.required = False
    try:
        namespace, unknown = parser.parse_known_args(list(words))
    except InputError as error:
        raise _located(error, config_path) from None
    if unknown:
        options = [option for action in parser._actions for option in action.option_strings]
        first = unknown[0].split("=")[0]
        if not first.startswith("-"):
            raise InputError(f"unexpected word '{first}'; options start with --")
        raise unknown_option(first, options)
    return vars(namespace)


def unknown_option(given: str, known: Sequence[str]) -> InputError:
    """Like `unknown_name`, without listing some two hundred options."""
    return _unknown("option", given, known)


def _unknown(kind: str, given: str, known: Iterable[str]) -> InputError:
    message = str(unknown_name(kind, given, known)).split(" (known:")[0]
    return InputError(f"{message}; `--help` lists every {kind}")


def _take_config(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `--config` and the other words."""
    words = list(argv)
    path = None
    for index, word in enumerate(words):
        if word == "--config":
            if index + 1 == len(words):
                raise InputError("--config needs a path to a YAML file")
            path = words[index + 1]
            del words[index : index + 2]
            break
        if word.startswith("--config="):
            path = word.split("=", 1)[1]
            del words[index]
            break
    if any(word == "--config" or word.startswith("--config=") for word in words):
        raise InputError("--config was given twice; a run has one recipe, options win over it")
    return path, words


def option_given(words: Sequence[str], name: str) -> str | None:
    """The last value of an option on the command line itself, without a parser (which needs the task to exist)."""
    value = None
    spellings = (f"--{name}", f"--{name.replace('_', '-')}")
    for index, word in enumerate(words):
        if word in spellings and index + 1 < len(words):
            value = words[index + 1]
        elif word.startswith(tuple(f"{spelling}=" for spelling in spellings)):
            value = word.split("=", 1)[1]
    return value


def _load_yaml(path: str) -> Fields:
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"recipe {path} does not exist; give the path of a YAML file with one field per line"
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"recipe {path} is not valid YAML: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            f"recipe {path} must be a mapping of fields to values, but is a {type(content).__name__}"
        )
    environment = content.pop("env", {}) or {}  # TRL's recipes may set environment variables
    if not isinstance(environment, dict):
        raise InputError(f"recipe {path}: env must be a mapping of names to values")
    os.environ.update({str(name): str(value) for name, value in environment.items()})
    return content


def _split_values(values: Fields, parser: _Parser, path: str | None) -> tuple[list[str], Fields]:
    """Scalars and lists of scalars as command-line words, so that one parser types everything; the rest as it is."""
    actions = {action.dest: action for action in reversed(parser._actions)}
    words: list[str] = []
    rest: Fields = {}
    for name, value in values.items():
        nested = isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
        )
        if value is None:
            rest[name] = None
        elif nested:
            if name not in _nested_fields():
                raise _located(InputError(f"{name} must be a single value, but is {value!r}"), path)
            rest[name] = value
        elif isinstance(value, list) and name in _SCALAR_OR_LIST:
            rest[name] = value
        elif isinstance(value, list):
            if actions[name].nargs != "+":
                raise _located(InputError(f"{name} must be a single value, but is {value!r}"), path)
            words += [f"--{name}", *(str(item) for item in value)]
        else:
            words.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return words, rest


def _nested_fields() -> set[str]:
    others = {"datasets", "fsdp_config", "accelerator_config", "liger_kernel_config"}
    return {*MaxRLConfig._VALID_DICT_FIELDS, *others}


# One word on the command line, but a recipe for `trl grpo` may list several.
_SCALAR_OR_LIST = ("report_to", "optim_target_modules")


def _located(error: InputError, path: str | None) -> InputError:
    return InputError(f"{path}: {error}") if path else error
