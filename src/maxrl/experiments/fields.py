"""The fields of a recipe from YAML and the command line, typed and with known names."""

import argparse
import dataclasses
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import DatasetMixtureConfig, ModelConfig, TrlParser

from maxrl.errors import InputError
from maxrl.evaluation import EvalSettings
from maxrl.experiments.mixtures import TaskFields
from maxrl.experiments.recipe import (
    Fields,
    Recipe,
    RunArguments,
    make_recipe,
    recipe_classes,
    refuse_secrets,
    unknown_field,
)
from maxrl.models import TinyModel
from maxrl.tasks import TASKS, task_class
from maxrl.training import MaxRLConfig
from maxrl.training.warm_starts import WarmStart


def parse_recipe(argv: Sequence[str]) -> Recipe:
    """A recipe from command-line words, which may name a YAML file with `--config`; the words win over the file.

    Raises:
        InputError: an unknown field (with the nearest known one), a value of the wrong type, a missing file, or
            values that contradict each other.
    """
    return make_recipe(read_fields(argv))


def read_fields(argv: Sequence[str], extra: Sequence[type] = ()) -> Fields:
    """The fields that a command line (and the YAML file it names) gives, typed and with known names.

    `stages`, which only a file can list, are a list of mappings, each typed like the rest; words win over them, too. So do
    they over `tiny`, a mapping of fields that the words `--model tiny` put in place of the file's. `tasks`, which only a
    file can list, too, keep what they set. `model` is short for `model_name_or_path`.

    Args:
        argv: the words after the command.
        extra: dataclasses whose fields the command takes beside those of a recipe.
    """
    config_path, words = _take_config(argv)
    words = [re.sub(r"^--model(?==|$)", "--model_name_or_path", word) for word in words]
    given, parser = _read_file(
        config_path,
        tiny_asked_for=option_given(words, "model_name_or_path") == "tiny",
        task=option_given(words, "task"),
        extra=extra,
    )
    from_words = _parse(parser, words, None)
    from_words.pop("help", None)
    return _in_their_places(given, from_words)


def recipe_fields(path: str | None, over: Fields, where: str, *, short: Collection[str] = ()) -> Fields:
    """The fields of a recipe file, with others in their places as words on a command line would be; typed, known names.

    Args:
        path: of the recipe; None for none.
        over: field → value as YAML has it; `model` is short for `model_name_or_path`. `tasks` and `stages` replace the
            file's.
        where: what `over` stands in, for messages.
        short: names that `over` had where it came from, to suggest for one that is unknown.
    """
    over = {"model_name_or_path" if name == "model" else name: value for name, value in over.items()}
    task = over.get("task")
    given, parser = _read_file(
        path,
        tiny_asked_for=over.get("model_name_or_path") == "tiny",
        task=None if task is None else str(task),
    )
    own = {name: over.pop(name) for name in ("stages", "tasks") if name in over}
    given = _in_their_places(given, _typed(over, parser, where, short))
    if "stages" in own:
        given["stages"] = _typed_stages(own["stages"], parser, where)
    if "tasks" in own:
        given["tasks"] = _typed_tasks(own["tasks"], where)
    try:
        for fields in (given, *given.get("stages", ())):
            refuse_secrets(fields)
    except InputError as error:
        raise _located(error, where) from None
    return given


def _read_file(
    path: str | None, *, tiny_asked_for: bool, task: str | None, extra: Sequence[type] = ()
) -> tuple[Fields, "_Parser"]:
    """A file's fields, typed, and the parser of every field that its task has (or `task`, which then takes its place)."""
    from_file = _load_yaml(path) if path else {}
    if "model" in from_file:
        from_file["model_name_or_path"] = from_file.pop("model")
    tiny = _tiny_block(from_file, path)
    if tiny_asked_for:
        from_file = _for_the_tiny_model(from_file, tiny)
    listed, tasks = from_file.pop("stages", None), from_file.pop("tasks", None)
    parser = _parser([*recipe_classes(task or from_file.get("task")), *extra])
    given = _typed(from_file, parser, path)
    _typed(tiny, parser, path)  # so that a mistake in it does not wait for the day when it is used
    if listed is not None:
        given["stages"] = _typed_stages(listed, parser, path)
    if tasks is not None:
        given["tasks"] = _typed_tasks(tasks, path)
    return given, parser


def _in_their_places(given: Fields, others: Fields) -> Fields:
    """The fields, with others in their places, in every stage, too."""
    if "stages" in given:
        given = {
            **given,
            "stages": [
                {name: value for name, value in stage.items() if name not in others}
                for stage in given["stages"]
            ],
        }
    return {**given, **others}


def _tiny_block(from_file: Fields, where: str | None) -> Fields:
    tiny = from_file.pop("tiny", None)
    if tiny is not None and not isinstance(tiny, dict):
        raise _located(InputError(f"tiny must be a mapping of fields to values, but is {tiny!r}"), where)
    return tiny or {}


def _for_the_tiny_model(from_file: Fields, tiny: Fields) -> Fields:
    """The file's fields with those of its `tiny` in their places, if it has any."""
    if not tiny:
        return from_file
    # What the file says of the model it names (its adapter, say) is not for the tiny one, unless `tiny` says it again.
    others = {item.name for item in dataclasses.fields(ModelConfig)} | {"model_init_kwargs"}
    return {name: value for name, value in from_file.items() if name not in others} | tiny


def _typed(from_file: Fields, parser: "_Parser", where: str | None, short: Collection[str] = ()) -> Fields:
    known = {action.dest for action in parser._actions} - {"help"}
    for name in from_file:
        if name not in known:
            raise _located(unknown_field(str(name), {*known, *short}), where)
    as_words, as_they_are = _split_values(from_file, parser, where)
    return {**as_they_are, **_parse(parser, as_words, where)}


def _typed_stages(listed: object, parser: "_Parser", path: str | None) -> list[Fields]:
    if not isinstance(listed, list) or not all(isinstance(stage, dict) for stage in listed):
        raise _located(
            InputError(f"stages must be a list of mappings of fields to values, but is {listed!r}"), path
        )
    return [_typed(stage, parser, f"{path}: stage {number}") for number, stage in enumerate(listed, 1)]


def _typed_tasks(listed: object, path: str | None) -> list[Fields]:
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _located(
            InputError(f"tasks must be a list of mappings of fields to values, but is {listed!r}"), path
        )
    typed: list[Fields] = []
    for number, entry in enumerate(listed, 1):
        where = f"{path}: task {number}"
        try:
            parser = _parser([TaskFields, *([task_class(str(entry["task"]))] if entry.get("task") else [])])
        except InputError as error:
            raise _located(error, where) from None
        typed.append(_typed(entry, parser, where))
    return typed


def help_text(
    argv: Sequence[str], prog: str, extra: Sequence[type] = (), only: Collection[str] | None = None
) -> str:
    """The options of a command that takes a recipe: its own, ours, the task's, then TRL's.

    Args:
        argv: the words after the command; they may name the task.
        prog: the command.
        extra: dataclasses whose fields the command takes beside those of a recipe; all are shown.
        only: the fields of a recipe that matter to the command, each shown in one spelling; by default all, in both.
    """
    task = option_given(_take_config(argv)[1], "task") or next(iter(TASKS))
    ours = [RunArguments, task_class(task), EvalSettings, TinyModel, WarmStart]
    parts = [("", list(extra))] if extra else []
    parts += [("the run", ours), ("training (TRL's GRPOConfig and what MaxRLConfig adds)", [MaxRLConfig])]
    parts += [("the model and its adapters", [ModelConfig]), ("data sets", [DatasetMixtureConfig])]
    texts = [f"usage: {prog} [--config RECIPE.yaml] [--dry-run] [-q] [--FIELD VALUE …]"]
    for title, classes in parts:
        parser = _parser(classes)
        if only is not None and title:
            _show_only(parser, only)
        text = parser.format_help().split("options:", 1)[1]
        kept = "\n".join(line for line in text.splitlines() if "show this help" not in line)
        if kept.strip():
            texts.append(f"{title or prog}:{kept}")
    return "\n\n".join(texts)


def _show_only(parser: "_Parser", names: Collection[str]) -> None:
    """Leave the other options out of the help, and the spellings with - for _."""
    for action in parser._actions:
        action.option_strings = action.option_strings[:1]
        if action.dest not in {*names, "help"}:
            action.help = argparse.SUPPRESS


class _Parser(TrlParser):
    """TRL's parser, with errors instead of a page of usage, and without guessing at abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def recipe_parser() -> argparse.ArgumentParser:
    """Of every field that a recipe may have whatever its task is."""
    return _parser(recipe_classes(None))


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
        raise unknown_field(first, options, kind="option")
    return vars(namespace)


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


def parse_yaml(text: str) -> Any:
    """What YAML that somebody wrote says.

    Raises:
        yaml.YAMLError: it is none, or has a key twice in one mapping, of which the first would be lost.
    """
    return yaml.load(text, Loader=_EachKeyOnce)


class _EachKeyOnce(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before anchors are merged (`<<`): a key may be there and in what is merged.
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value} is there twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def _load_yaml(path: str) -> Fields:
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"recipe {path} does not exist; give the path of a YAML file with one field per line"
        )
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
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
