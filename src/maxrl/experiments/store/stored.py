"""The run store: folders of runs, read back.

A run is a folder (see `runs`); there is no index beside the folders that could say something else than they do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from maxrl.errors import InputError
from maxrl.evaluation import Evaluation
from maxrl.evaluation.files import read_mapping
from maxrl.experiments.environment import read_environment
from maxrl.experiments.store.metrics_file import read_metrics
from maxrl.experiments.store.processes import PROCESS_FILE, at_work

State = Literal["done", "running", "failed", "stopped"]
"""`done`: evaluated, `run.json` is there. `running`: a process makes it. `failed`: it ended with an error of its own,
which is recorded. `stopped`: it was begun and nobody makes it now; it can be resumed."""

ERROR_FILE = "error.txt"
"""Traceback and, in its last line, the error that a run ended with."""

EVALS_FILE = "evals.jsonl"
"""One row per evaluation while training (`eval_every`)."""

LATEST_FILE = "latest_samples.json"
"""What was drawn last for training, a few rollouts of one prompt."""

_OF_RUNS_ONLY = ("run.json", "metrics.jsonl", PROCESS_FILE, ERROR_FILE)


@dataclass(frozen=True)
class StoredRun:
    """A run's folder; each of its files is read when it is first asked for, once."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved recipe; empty for a run that failed before there was one.

        Raises:
            InputError: it is damaged, which one that is empty is, too.
        """
        path = self.folder / "config.yaml"
        if not path.is_file():
            return {}
        try:
            fields = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from error
        if not isinstance(fields, dict):
            raise InputError(f"{path} is damaged: it is no mapping of fields to values")
        return fields

    @cached_property
    def environment(self) -> dict[str, str]:
        """Versions, code, machine class, back-ends (`environment.json`); empty where the run has not come so far."""
        return read_environment(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`run.json` of a run that is done: estimator, seed, steps, costs, pass@k; else empty."""
        recipe = f"--config {self.folder / 'config.yaml'} --output_dir {self.folder}"
        remedy = (
            f"remove it and resume the run: `maxrl train {recipe} --resume_from_checkpoint true`, or with "
            "--overwrite_output_dir in place of that where no checkpoint is left"
        )
        return read_mapping(self.folder / "run.json", remedy=remedy) or {}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl`: what the trainer logged, each with `step` and `elapsed`."""
        return read_metrics(self.folder / "metrics.jsonl", needs=("step", "elapsed"))

    @cached_property
    def diagnostics(self) -> list[dict[str, Any]]:
        """Rows of `diagnostics.jsonl`: one per generation."""
        return read_metrics(self.folder / "diagnostics.jsonl")

    @cached_property
    def evals(self) -> list[dict[str, Any]]:
        """Rows of `evals.jsonl`: the evaluations while training, each with `step`."""
        return read_metrics(self.folder / EVALS_FILE, needs=("step",))

    @cached_property
    def latest_samples(self) -> dict[str, Any] | None:
        """What was drawn last for training: `step`, `prompt`, `completions`; None where nothing was yet."""
        return read_mapping(self.folder / LATEST_FILE, remedy="remove it: nothing else needs it")

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """After training; None where there is none yet, or the run is on a data set."""
        again = f"{self.folder} --output_dir {self.folder}"
        if not is_run(self.folder):  # a comparison's, of the model that its runs start from
            again = f"--config {self.folder / 'config.yaml'} --output_dir {self.folder}"
        return self._evaluation("eval.json", f"`maxrl eval {again}` writes it anew")

    @cached_property
    def before(self) -> Evaluation | None:
        """Before training; None where it was not asked for."""
        remedy = "remove it: the run is then shown without, and one that is resumed measures it again"
        return self._evaluation("eval_before.json", remedy)

    def _evaluation(self, name: str, remedy: str) -> Evaluation | None:
        path = self.folder / name
        data = read_mapping(path, remedy=remedy)
        try:
            return None if data is None else Evaluation.from_dict(data)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is no evaluation of maxrl ({error!r}); {remedy}") from error

    @property
    def state(self) -> State:
        """How the run stands now."""
        if (self.folder / "run.json").is_file():
            return "done"
        if at_work(self.folder):
            return "running"
        return "failed" if (self.folder / ERROR_FILE).is_file() else "stopped"

    @property
    def error(self) -> str | None:
        """Its last error, in one line; None where it recorded none."""
        path = self.folder / ERROR_FILE
        lines = (
            path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.is_file() else []
        )
        return lines[-1] if lines else None

    @property
    def estimator(self) -> str:
        """As the recipe names it; what a run with several tasks or stages has is in its summary."""
        return str(self.config.get("advantage_estimator") or self.summary.get("estimator") or "maxrl")

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config.get("seed", self.summary.get("seed", 42)))

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def max_steps(self) -> int | None:
        """Steps that the run is to make; None where epochs decide."""
        asked = int(self.config.get("max_steps", -1))
        return asked if asked > 0 else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, begun or done. An evaluation alone, as a comparison's `before`, is none."""
    if any((folder / name).is_file() for name in _OF_RUNS_ONLY):
        return True
    return any(path.is_dir() for path in folder.glob("checkpoint-*"))


def find_runs(paths: Iterable[Path]) -> list[StoredRun]:
    """The runs at or below each of the folders, in the order given, below one of them by name; each once.

    Of a run of stages these are its stages.

    Raises:
        InputError: a folder does not exist, or holds no run.
    """
    found: dict[Path, StoredRun] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path} is no folder; give a run's folder, or one that holds runs")
        below = _runs_below(path)
        if not below:
            raise InputError(
                f"{path} holds no run; give a folder that `maxrl train`, `compare` or `grid` wrote"
            )
        for folder in below:
            found.setdefault(folder.resolve(), StoredRun(folder))
    return list(found.values())


def varying_fields(
    runs: Sequence[StoredRun], *, without: Iterable[str] = ("output_dir",)
) -> dict[str, list[Any]]:
    """Fields of the recipes in which runs differ, with each run's value (None where it has none), in the runs' order."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    found: dict[str, list[Any]] = {}
    for name in names:
        values = [run.config.get(name) for run in runs]
        if name not in without and any(value != values[0] for value in values[1:]):
            found[name] = values
    return found


_MOST_NESTED = 4
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a tenth of the time, where it was built


def _runs_below(folder: Path, depth: int = 0) -> list[Path]:
    stages = sorted(
        (path for path in folder.glob("stage-*") if is_run(path)),
        key=lambda path: (len(path.name), path.name),
    )
    if stages:
        return stages
    if is_run(folder):
        return [folder]
    if depth == _MOST_NESTED:
        return []
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [run for path in inner for run in _runs_below(path, depth + 1)]
