"""Several tasks in one run: every generation batch holds the same groups of each, and metrics are told apart."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from maxrl.errors import InputError
from maxrl.objectives.diagnostics import group_diagnostics
from maxrl.training.diagnostics import diagnostic_metrics
from maxrl.training.estimating import Estimating
from maxrl.training.layout import Layout
from maxrl.training.signal import Draw, signal_metrics
from maxrl.training.task_settings import Composition


class MixtureSampler(Sampler[int]):
    """Rows of a data set by task: each generation batch as the composition says, each row as often as its group is large.

    A task's rows are gone through again and again, by themselves, shuffled anew each time. An epoch ends when the task that
    lasts longest has been gone through once; rows at its end that fill no batch are left out, as TRL does, unless they are
    all. The order depends on the seed and the epoch alone, so that a resumed run finds it again.

    Args:
        tasks: task of each row.
        composition: of a generation batch.
        repeat_count: how often each batch comes, one time after the other (see TRL's `RepeatSampler`).
        shuffle: False leaves the rows of a task in the order of the data set.
        seed: of the shuffling.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        composition: Composition,
        *,
        repeat_count: int = 1,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.composition = composition
        self.repeat_count = repeat_count
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self._rows: dict[str, list[int]] = {task: [] for task in composition.settings}
        for row, task in enumerate(tasks):
            self._rows[task].append(row)
        needs = {task: composition.tasks.count(task) for task in self._rows}
        self.batches = max(1, *(len(rows) // needs[task] for task, rows in self._rows.items()))

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch by accelerate and by transformers."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.composition.layout.rows * self.repeat_count

    def __iter__(self) -> Iterator[int]:
        streams = {task: self._endless(task) for task in self._rows}
        for _ in range(self.batches):
            groups = [next(streams[task]) for task in self.composition.tasks]
            for _ in range(self.repeat_count):
                for row, size in zip(groups, self.composition.layout.sizes, strict=True):
                    yield from [row] * size

    def _endless(self, task: str) -> Iterator[int]:
        rows = self._rows[task]
        rng = random.Random(repr(("maxrl mixture", self.seed, self.epoch, task)))
        while True:
            yield from rng.sample(rows, len(rows)) if self.shuffle else rows


class MixesTasks(GRPOTrainer):
    """`GRPOTrainer` whose generation batches hold the groups that `task_settings` asks for, if it does.

    Overrides, and why:

    - `__init__`: looks at the data set's column `task`; tells TRL, which cuts a batch into groups of one size for vLLM and
      for a metric, the largest size that divides all.
    - `_get_train_sampler`: TRL's repeats every row alike, and leaves the ratio of the tasks to the order of the data set.
    """

    composition: Composition | None = None
    """Of a generation batch in training; None without `task_settings`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        settings = self.args.tasks()
        if settings:
            _check_data(self, set(settings))
            self.composition = Composition(settings, self.args.generation_batch_size)
            self.num_generations = self.composition.common_size

    def layout_of(self, rows: int) -> Layout:
        """The groups in a batch of so many rows over all ranks."""
        if not self.model.training:
            return Layout.uniform(rows, self.num_generations_eval)
        if self.composition is not None:
            return self.composition.layout
        return Layout.uniform(rows, self.num_generations)

    def threshold_of(self, tasks: Sequence[str], layout: Layout) -> Tensor | float | None:
        """`correctness_threshold`: of each row where tasks have their own, NaN for none; else the run's."""
        run = self.args.correctness_threshold
        if self.composition is None:
            return run
        own = {task: settings.correctness_threshold for task, settings in self.composition.settings.items()}
        of_groups = [own.get(task, run) for task in tasks]  # an evaluation may hold other tasks
        thresholds = [math.nan if threshold is None else threshold for threshold in of_groups]
        return torch.tensor(thresholds, dtype=torch.float64).repeat_interleave(torch.tensor(layout.sizes))

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        if self.composition is None:
            return super()._get_train_sampler(dataset)
        return MixtureSampler(
            list(map(str, self.train_dataset["task"])),
            self.composition,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )


def _check_data(trainer: Any, named: set[str]) -> None:
    """Refuse training data that cannot be mixed by task.

    Raises:
        InputError: it is a stream, or its column `task` and the settings do not name the same tasks.
    """
    dataset = trainer.train_dataset
    if not isinstance(dataset, Dataset):
        raise InputError(
            "task_settings needs training data whose rows can be picked by task, but it is of type "
            f"{type(dataset).__name__}; load it as a Dataset"
        )
    if "task" not in dataset.column_names:
        raise InputError(
            "task_settings needs a column 'task' in the training data, which names the task of each row; it has "
            f"{', '.join(dataset.column_names)}"
        )
    if trainer.args.remove_unused_columns:
        raise InputError("task_settings needs the column 'task' of each row: set remove_unused_columns=False")
    found = set(map(str, dataset.unique("task")))
    if found != named:
        lacking = [f"'{task}' is not in task_settings" for task in sorted(found - named)]
        lacking += [f"no row of the training data is of task '{task}'" for task in sorted(named - found)]
        raise InputError(f"task_settings must name the tasks of the training data: {'; '.join(lacking)}")


def task_metrics(draw: Draw, estimating: Estimating, step: int, *, training: bool) -> dict[str, float]:
    """Figures of each task by itself, under `tasks/{name}/`; see `MaxRLTrainer`."""
    metrics: dict[str, float] = {}
    for task in dict.fromkeys(draw.tasks):
        own = draw.of_task(task)
        figures = {
            **signal_metrics(own),
            **estimating.metrics(own.signal_GN, own.tasks, step),
            "reward": float(own.rewards_GN.nanmean()),
            "frac_rollouts": own.layout.rows / draw.layout.rows,
        }
        if training:
            figures |= diagnostic_metrics(group_diagnostics(own.signal_GN, own.advantages_GN))
        metrics |= {f"tasks/{task}/{name}": value for name, value in figures.items()}
    return metrics


def frac_zero_std(draw: Draw) -> float:
    """TRL's `frac_reward_zero_std`, the fraction of rollouts in whose group rewards do not differ, of groups as they are."""
    std_G1 = nanstd(draw.rewards_GN, dim=1, keepdim=True)
    alike_GN = torch.isclose(std_G1, torch.zeros_like(std_G1)).expand_as(draw.rewards_GN)
    return draw.layout.flat(alike_GN).float().mean().item()
