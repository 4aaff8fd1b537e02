"""Recipes: every option of a run as flat fields, checked before anything starts. `fields` reads them.

The fields are those of `trl grpo` plus maxrl's own; a recipe that trains with `trl grpo` trains with `maxrl train`.
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, get_args, get_type_hints

import yaml
from trl import DatasetMixtureConfig, ModelConfig
from trl.scripts.grpo import GRPOScriptArguments

from maxrl.errors import InputError, unknown_name
from maxrl.evaluation import EvalSettings
from maxrl.experiments.logging_keys import LOG_KEYS
from maxrl.experiments.mixtures import make_mixture, resolve_tasks, settings_of, tiny_defaults
from maxrl.experiments.store.checkpoints import KEPT
from maxrl.models import TinyModel
from maxrl.tasks import TASKS, Task, get_task, task_class
from maxrl.training import MaxRLConfig
from maxrl.training.warm_starts import WarmStart

Fields = dict[str, Any]
"""Field name → value, typed; only what was given."""


@dataclass
class RunArguments(GRPOScriptArguments):
    """What a run trains on: a task of ours, or a data set with reward functions as in `trl grpo`."""

    task: str | None = field(
        default=None,
        metadata={
            "help": f"Task to train on: {', '.join(TASKS)}; or your own, as my_task.py or module:Class. Its parameters "
            "become options."
        },
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
    eval_every: int | None = field(
        default=None,
        metadata={
            "help": "Steps between evaluations while training: greedy accuracy on the evaluation's problems, into "
            "evals.jsonl; by default none."
        },
    )
    eval_every_samples: int = field(
        default=0,
        metadata={"help": "Completions per problem that these evaluations sample for pass@k; 0 for none."},
    )
    log_keys: str | None = field(
        default=None,
        metadata={
            "help": f"Further names under which loggers get a run's figures: {', '.join(LOG_KEYS)}; by default none."
        },
    )
    keep_checkpoints: str = field(
        default="all",
        metadata={
            "help": "Checkpoints that stay when the run is done: all (that save_total_limit left), last, or none."
        },
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={
            "help": "Threads on a CPU; by default one or all, as measured (OMP_NUM_THREADS, if set); for compare of each "
            "run, by default the cores divided by the runs at a time."
        },
    )

    def __post_init__(self) -> None:
        if self.num_train_problems is not None and self.num_train_problems < 1:
            raise InputError(f"num_train_problems must be at least 1, but is {self.num_train_problems}")
        if self.cpu_threads is not None and self.cpu_threads < 1:
            raise InputError(f"cpu_threads must be at least 1, but is {self.cpu_threads}")
        if self.eval_every is not None and self.eval_every < 1:
            raise InputError(f"eval_every must be at least 1 step, but is {self.eval_every}")
        if self.eval_every_samples < 0:
            raise InputError(f"eval_every_samples must be at least 0, but is {self.eval_every_samples}")
        if self.log_keys is not None and self.log_keys not in LOG_KEYS:
            raise unknown_name("log_keys", self.log_keys, LOG_KEYS)
        if self.keep_checkpoints not in KEPT:
            raise unknown_name("keep_checkpoints", self.keep_checkpoints, KEPT)


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


def make_recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe of these fields; everything else takes its default.

    Raises:
        InputError: a field is unknown, or values are out of range or contradict each other.
    """
    if "stages" in given:
        raise InputError(
            "a recipe with stages is one run after another, which `maxrl train` makes; for anything else name the folder of "
            "one of them (output_dir/stage-1), or leave out stages"
        )
    given = _with_defaults(given)
    run = _build(RunArguments, given)
    tasks = given.get("tasks")
    if not tasks and run.task is None and not run.dataset_name and not given.get("datasets"):
        raise InputError(f"nothing to train on: name a task (--task {' | '.join(TASKS)}) or a --dataset_name")
    task = make_mixture(tasks) if tasks else None
    if run.task is not None:
        names = _names(task_class(run.task))
        task = get_task(run.task, **{name: value for name, value in given.items() if name in names})
    recipe = Recipe(
        run=run,
        task=task,
        tiny=_build(TinyModel, given),
        warm_start=_build(WarmStart, given),
        evaluation=_build(EvalSettings, given),
        training=_build(MaxRLConfig, {**given, "task_settings": settings_of(tasks)} if tasks else given),
        model=_build(ModelConfig, given),
        datasets=_build(DatasetMixtureConfig, given),
        given=given,
    )
    if recipe.training.n_gpu > 1:
        raise InputError(
            f"one process sees {recipe.training.n_gpu} GPUs: start one process per GPU (`accelerate launch -m maxrl.cli "
            "train …`), or show it one (CUDA_VISIBLE_DEVICES=0)"
        )
    return recipe


def _with_defaults(given: Mapping[str, Any]) -> Fields:
    """The fields, known by name, and what follows from them where it was not given."""
    given = dict(given)
    known = {item.name for cls in recipe_classes(given.get("task")) for item in dataclasses.fields(cls)}
    for name in given:
        if name not in known and name != "tasks":
            raise unknown_field(name, known)
    refuse_secrets(given)
    if "tasks" in given:
        for other in ("task", "dataset_name", "datasets", "task_settings"):
            if given.get(other):
                raise InputError(
                    f"tasks lists what is trained on, and so does {other}: leave one of them out"
                )
        given["tasks"] = resolve_tasks(given["tasks"], tiny=_is_tiny(given))
    if given.get("task") and _is_tiny(given):
        given = {**tiny_defaults(given["task"]), **given}
    if (given.get("task") or "tasks" in given) and not given.get("num_train_problems"):
        # Fresh problems need no shuffling, and in stream order a run that is made longer goes on where it was.
        given.setdefault("shuffle_dataset", False)
    if given.get("output_dir") is None:
        given["output_dir"] = default_output_dir(given, [given.get("advantage_estimator", "maxrl")])
    return given


def refuse_secrets(given: Mapping[str, Any]) -> None:
    """Refuse tokens of accounts: a recipe is written into run folders, plans, loggers and requests, for others to read.

    A task's own parameters may be called as they like, and `token: true` in `model_init_kwargs` (the one of the machine) is
    no secret.

    Raises:
        InputError: a token is given; the message does not repeat it.
    """
    options = given.get("model_init_kwargs")
    if isinstance(options, str):  # from a command line
        try:
            options = json.loads(options)
        except ValueError:  # which whoever reads it tells
            options = None
    own = {name for cls in recipe_classes(None) for name in _names(cls)}
    named = {name: value for name, value in given.items() if name in own and isinstance(value, str)}
    if secret := next(_tokens({**named, "model_init_kwargs": options}), None):
        raise InputError(
            f"{secret}: a recipe is kept where others can read it, so that no token belongs in one: leave it out, and set "
            "HF_TOKEN or log in with `hf auth login` (jobs on Hugging Face get it from their secrets_file)"
        )


def _tokens(value: Any, inside: str = "") -> Iterator[str]:
    """Where tokens are in a nested value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str) and re.search(r"(^|_)token$", str(key)):
                yield f"{inside}{key}"
            yield from _tokens(inner, f"{inside}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _tokens(inner, inside)


def _build(cls: type, given: Fields) -> Any:
    """One of the recipe's parts, from those of the fields that are its own."""
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


def resolved_fields(recipe: Recipe) -> Fields:
    """Every field that determines a run, given or default, such that `make_recipe` of them is the same run."""
    fields: Fields = {}
    task = None if "tasks" in recipe.given else recipe.task
    for part in (recipe.run, task, recipe.evaluation, recipe.tiny, recipe.warm_start):
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


def recipe_classes(task: str | None) -> list[Any]:
    """The dataclasses whose fields a recipe of this task may have.

    Raises:
        InputError: no such task, or one of its parameters has the name of another field.
    """
    others = [
        RunArguments,
        EvalSettings,
        TinyModel,
        WarmStart,
        MaxRLConfig,
        ModelConfig,
        DatasetMixtureConfig,
    ]
    if not task:
        return others
    own = task_class(str(task))
    taken = {name for cls in others for name in _names(cls)} | {"config", "model", "tiny", "stages", "tasks"}
    for name in _names(own):
        if name in taken:
            raise InputError(
                f"task {task}: its parameter `{name}` has the name of a field of recipes; rename it"
            )
    return [others[0], own, *others[1:]]


def _names(cls: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(cls) if item.init]


def default_output_dir(given: Mapping[str, Any], estimators: Sequence[str]) -> str:
    """Where a run goes that names no `output_dir`; its estimators in the order in which it takes them."""
    parts = [
        given.get("task") or given.get("dataset_name") or "mixture",
        given.get("model_name_or_path") or "tiny",
    ]
    subject = "-".join(
        re.sub(r"\.py\b|[^\w.]", "-", str(part).rstrip("/").split("/")[-1]).strip("-") for part in parts
    )
    return f"runs/{subject}-{'-then-'.join(folder_name(str(name)) for name in estimators)}"


def folder_name(estimator: str) -> str:
    """An estimator as part of a folder's name: readable, safe, and no other estimator's.

    What could be read in two ways, or is long, ends with a checksum of what was given.

    >>> folder_name("maxrl"), folder_name("maxrl(order=16)"), folder_name("mine:rule")
    ('maxrl', 'maxrl-order-16', 'mine-rule')
    >>> folder_name("adaptive_switch(below=grpo(eps=0), at=0.4)")
    'adaptive_switch-below-grpo-eps-0-at-0.4-9a54fe'
    """
    readable = re.sub(r"[^\w.]+", "-", estimator, flags=re.ASCII).strip("-.")
    if _READS_ONE_WAY.fullmatch(estimator) and len(readable) <= _LONGEST_NAME:
        return readable
    checksum = hashlib.sha256(estimator.encode()).hexdigest()[:6]
    return f"{readable[:_LONGEST_NAME]}-{checksum}"


_LONGEST_NAME = 80

# name, module:function, or name(option=value, …) with nothing in the values that a folder's name cannot hold.
_WORD, _OPTION = r"\w[\w.]*", r"\s*\w+\s*=\s*\w[\w.]*\s*"
_READS_ONE_WAY = re.compile(rf"{_WORD}|{_WORD}:{_WORD}|{_WORD}\(({_OPTION}(,{_OPTION})*)?\)", re.ASCII)


def _is_tiny(given: Mapping[str, Any]) -> bool:
    return (given.get("model_name_or_path") or "tiny") == "tiny"


def unknown_field(name: str, known: Iterable[str], *, kind: str = "field") -> InputError:
    """Like `unknown_name`, without listing some two hundred of them."""
    message = str(unknown_name(kind, name, known)).split(" (known:")[0]
    return InputError(f"{message}; `--help` lists every {kind}")
