"""Loggers that a run reports to (`report_to`): what TRL's own callbacks for them leave to us.

TRL sends what it logs. Here a run gets its folder's name, its recipe as the logger's config, the evaluations while training,
and with `log_keys` further names for its figures. No logger is needed, and none is imported before it is asked for.
"""

import json
import os
import secrets
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from maxrl.errors import InputError, unknown_name
from maxrl.evaluation import Evaluation
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.environment import installed_version
from maxrl.experiments.folders import TENSORBOARD, WANDB_FILE
from maxrl.experiments.logging_keys import LOG_KEYS
from maxrl.experiments.recipe import Recipe, resolved_fields, to_yaml
from maxrl.experiments.store import EVALS_FILE
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.training import MaxRLTrainer

OURS = ("tensorboard", "wandb", "trackio")
"""Loggers of the extra `maxrl[loggers]`; TRL's others get what TRL logs, and no more."""


def check_loggers(recipe: Recipe) -> None:
    """Refuse loggers that are not there, before anything has started.

    Raises:
        InputError: one is not installed, or what `check_logger_names` raises.
    """
    check_logger_names(recipe)
    for name in _asked(recipe):
        if name in OURS and installed_version(name) is None:
            raise InputError(
                f"report_to={name} needs the package {name}, which is not installed: pip install 'maxrl[loggers]', or "
                "leave it out (--report_to none)"
            )


def check_logger_names(recipe: Recipe) -> None:
    """Refuse what no installation could serve: for recipes of runs that are made on another machine.

    Raises:
        InputError: a logger is unknown, or cannot serve `log_keys`; or evaluations are asked for without a task.
    """
    for name in _asked(recipe):
        if name not in INTEGRATION_TO_CALLBACK:
            raise unknown_name("logger in report_to", name, INTEGRATION_TO_CALLBACK)
        if name not in OURS and recipe.run.log_keys:
            raise InputError(
                f"log_keys={recipe.run.log_keys} goes to {', '.join(OURS)}, not to {name}: leave one of them out"
            )
    if recipe.run.eval_every is not None and recipe.task is None:
        raise InputError(
            "eval_every evaluates on a task, and this run is on a data set: leave it out (TRL's eval_strategy evaluates "
            "on a data set's own split)"
        )


def _asked(recipe: Recipe) -> list[str]:
    given = recipe.training.report_to
    return [given] if isinstance(given, str) else list(given or ())


def logged_name(folder: Path) -> str:
    """What loggers call the run in this folder: the folder's name, with that of the whole before a stage's."""
    folder = folder.resolve()
    is_stage = folder.name.startswith("stage-")
    return f"{folder.parent.name}-{folder.name}" if is_stage else folder.name


class _Sink(Protocol):
    """One logger. TRL's callback has begun the run there when `configure` is called, and may have ended it."""

    def configure(self, fields: Mapping[str, Any]) -> None: ...
    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def summarise(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self, *, failed: bool) -> None: ...


class Loggers(TrainerCallback):
    """Sends to a run's loggers what TRL does not. Use as a context manager around the whole run.

    In other processes than the first it does nothing.

    Raises:
        InputError: on entering, where Weights & Biases refuses.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, resumed: bool) -> None:
        self._recipe = recipe
        self._folder = folder
        self._resumed = resumed
        self._keys = LOG_KEYS[recipe.run.log_keys] if recipe.run.log_keys else None
        self._sinks: list[_Sink] = []
        self._initial: float | None = None

    def __enter__(self) -> Self:
        training = self._recipe.training
        if training.run_name is None:
            training.run_name = logged_name(self._folder)
        if training.process_index == 0:
            for name in _asked(self._recipe):
                if name == "wandb":
                    self._sinks.append(_Wandb(self._recipe, self._folder, resumed=self._resumed))
                elif name == "tensorboard":
                    self._sinks.append(_TensorBoard(self._folder))
                elif name == "trackio":
                    self._sinks.append(_Trackio(training))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._sinks:
            sink.close(failed=error is not None)
        self._sinks = []

    def watch(self, trainer: MaxRLTrainer) -> None:
        """Follow a trainer. The files of its run are written by callbacks that it has already."""
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(self._folder / TENSORBOARD)
        trainer.add_callback(self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        fields = json.loads(json.dumps(resolved_fields(self._recipe), default=str))
        for sink in self._sinks:
            sink.configure(fields)
        before = self._folder / "eval_before.json"
        self._initial = Evaluation.load(before).greedy_accuracy if before.is_file() else None
        if self._keys and self._initial is not None and state.global_step == 0:
            self._log({self._keys.initial_accuracy: self._initial}, 0)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not self._sinks or not logs or "train_runtime" in logs:
            return
        figures = self._keys.of_row(logs) if self._keys else {}
        for row in read_metrics(self._folder / EVALS_FILE)[-1:]:
            if row["step"] == state.global_step:
                figures |= self._of_evaluation(row)
        self._log(figures, state.global_step)

    def _of_evaluation(self, row: Mapping[str, Any]) -> dict[str, float]:
        figures = {f"eval/pass@{k}": value for k, value in row["pass_at_k"].items()}
        if self._keys is None:
            accuracy = row["greedy_accuracy"]
            return figures | ({} if accuracy is None else {"eval/greedy_accuracy": accuracy})
        first = row["step"] - (self._recipe.run.eval_every or 0)
        return figures | self._keys.of_epoch(read_metrics(self._folder / "metrics.jsonl"), row, first)

    def finish(self, after: Evaluation | None, step: int) -> None:
        """Send what the evaluation after training says."""
        if self._keys is None or after is None or after.greedy_accuracy is None:
            return
        self._log({self._keys.final_accuracy: after.greedy_accuracy}, step)
        if self._initial is not None:
            improvement = {self._keys.improvement: after.greedy_accuracy - self._initial}
            for sink in self._sinks:
                sink.summarise(improvement, step)

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        for sink in self._sinks if figures else ():
            sink.log(figures, step)


class _Wandb:
    """Its run is begun here, before TRL's callback would, for its project, name, id and config."""

    def __init__(self, recipe: Recipe, folder: Path, *, resumed: bool) -> None:
        self._wandb = import_module("wandb")
        record = folder / WANDB_FILE
        kept = json.loads(record.read_text())["id"] if resumed and record.is_file() else None
        run_id = kept or secrets.token_hex(4)
        project = recipe.training.project
        if "project" not in recipe.given:
            project = os.environ.get("WANDB_PROJECT", project)
        try:
            self._run = self._wandb.init(
                project=project,
                name=recipe.training.run_name,
                id=run_id,
                resume="allow" if kept and os.environ.get("WANDB_MODE") != "offline" else None,
                config=json.loads(json.dumps(resolved_fields(recipe), default=str)),
            )
        except self._wandb.errors.Error as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"report_to=wandb: {reason}. What to do: `wandb login`, or WANDB_MODE=offline, or --report_to none"
            ) from error
        with atomic_text(record) as sink:
            json.dump({"project": project, "id": run_id}, sink)

    def configure(self, fields: Mapping[str, Any]) -> None:
        # TRL's callback has added all of its arguments, some of them under names of ours and in other types.
        self._run.config.update(dict(fields), allow_val_change=True)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log({**figures, "train/global_step": step})

    def summarise(self, figures: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(figures))

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _TensorBoard:
    """A file of its own beside that of TRL's callback, which is closed when training ends; they are shown as one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TENSORBOARD
        self._writer: Any = None

    def _open(self) -> Any:
        if self._writer is None:
            module = import_module("torch.utils.tensorboard")
            where = os.path.expanduser(os.environ.get("TENSORBOARD_LOGGING_DIR") or str(self._folder))
            self._writer = module.SummaryWriter(log_dir=where)
        return self._writer

    def configure(self, fields: Mapping[str, Any]) -> None:
        indented = "".join(f"    {line}\n" for line in to_yaml(dict(fields)).splitlines())
        self._open().add_text("config", indented)  # Markdown: a block of code

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for key, value in figures.items():
            self._open().add_scalar(key, value, step)
        self._open().flush()

    summarise = log

    def close(self, *, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()


class _Trackio:
    """TRL's callback begins and ends the run; after training it is opened again."""

    def __init__(self, training: TrainingArguments) -> None:
        self._trackio = import_module("trackio")
        self._training = training
        self._config: dict[str, Any] = {}

    def configure(self, fields: Mapping[str, Any]) -> None:
        self._trackio.config.update(fields)
        own = {name: value for name, value in self._trackio.config.items() if not name.startswith("_")}
        self._config = own  # a run that is opened again forgets what it had

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if self._trackio.context_vars.current_run.get() is None:
            self._trackio.init(
                project=self._training.project,
                name=self._training.run_name,
                space_id=self._training.trackio_space_id,
                config=self._config,
                resume="allow",
            )
        self._trackio.log({**figures, "train/global_step": step})

    summarise = log

    def close(self, *, failed: bool) -> None:
        if self._trackio.context_vars.current_run.get() is not None:
            self._trackio.finish()
