"""What a run trains on and is tested with, whether made on the spot or read from a folder.

Training batches are a pure function of the run's seed, the epoch and their number: arms with equal seeds see the same ones,
and a resumed run those that it would have seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maxrl.errors import InputError
from maxrl.experiments.classification.config import ClassifyConfig
from maxrl.experiments.classification.images import Key, read_folder
from maxrl.experiments.classification.measures import Measures, measure
from maxrl.experiments.classification.synthetic import Clusters

Batch = tuple[Tensor, Tensor]
"""Inputs and labels."""

PICTURE = 8
"""Side of a synthetic picture before it is enlarged: 8 × 8 in three colours are 192 dimensions."""


class Data(Protocol):
    """A classification problem."""

    @property
    def num_classes(self) -> int: ...

    @property
    def input_size(self) -> int:
        """Numbers in one input."""
        ...

    @property
    def train_examples(self) -> int:
        """Examples of an epoch; the last batch is dropped where it is not full."""
        ...

    def train_batches(self, *, seed: int, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on."""
        ...

    def test_batches(self) -> Iterator[Batch]: ...

    def best(self) -> Measures | None:
        """What Bayes' rule reaches on the test set, where it is known: no classifier can be expected to do better."""
        ...


def load_data(config: ClassifyConfig) -> Data:
    """The data that the options name.

    Raises:
        InputError: the folder cannot be used.
    """
    return FolderData(config) if config.data == "folder" else MadeData(config)


class MadeData:
    """Vectors, or the pictures they are, made on the spot."""

    def __init__(self, config: ClassifyConfig) -> None:
        self._config = config
        self._as_images = config.data == "images"
        self._clusters = Clusters(
            classes=config.num_classes,
            dimensions=3 * PICTURE**2 if self._as_images else config.input_size,
            noise=config.noise,
            seed=config.data_seed,
        )
        self._test = self._clusters.test(config.test_examples)
        self._fixed = None if config.fresh_examples else self._clusters.training(config.train_examples)
        self.num_classes = config.num_classes
        self.input_size = 3 * config.image_size**2 if self._as_images else config.input_size
        self.train_examples = config.train_examples

    def train_batches(self, *, seed: int, epoch: int, first: int) -> Iterator[Batch]:
        size = self._config.per_device_train_batch_size
        order = None if self._fixed is None else _order(self.train_examples, seed, epoch)
        for number in range(first, self.train_examples // size):
            if self._fixed is None or order is None:
                points, labels = self._clusters.training(size, seed, epoch, number)
            else:
                chosen = torch.from_numpy(order[number * size : (number + 1) * size])
                points, labels = self._fixed[0][chosen], self._fixed[1][chosen]
            yield self._input(points), labels

    def test_batches(self) -> Iterator[Batch]:
        size = self._config.per_device_eval_batch_size
        for points, labels in zip(self._test[0].split(size), self._test[1].split(size), strict=True):
            yield self._input(points), labels

    def best(self) -> Measures:
        points, labels = self._test
        log_p_BV = self._clusters.log_posterior(points)
        top_1 = float((log_p_BV.argmax(1) == labels).double().mean())
        return measure(log_p_BV.gather(1, labels[:, None]).squeeze(1), top_1, self._config.eval_ks)

    def _input(self, points: Float[Tensor, "examples d"]) -> Tensor:
        if not self._as_images:
            return points
        pictures = points.view(-1, 3, PICTURE, PICTURE)
        return torch.nn.functional.interpolate(pictures, size=self._config.image_size, mode="nearest")


class FolderData:
    """Pictures from a folder."""

    def __init__(self, config: ClassifyConfig) -> None:
        assert config.image_folder is not None, "data folder comes with image_folder"
        self._config = config
        self._train, self._val, names = read_folder(Path(config.image_folder), config.image_size)
        if len(self._train) < config.per_device_train_batch_size:
            raise InputError(
                f"{config.image_folder}/train holds {len(self._train)} images, which fill no batch of "
                f"{config.per_device_train_batch_size}: lower per_device_train_batch_size"
            )
        self._pin = config.torch_device().type == "cuda"
        self.num_classes = len(names)
        self.input_size = 3 * config.image_size**2
        self.train_examples = len(self._train)

    def train_batches(self, *, seed: int, epoch: int, first: int) -> Iterator[Batch]:
        size = self._config.per_device_train_batch_size
        order = _order(self.train_examples, seed, epoch)
        crops = int(np.random.default_rng((seed, epoch, 1)).integers(2**62))
        keys: list[list[Key]] = [
            [(int(index), crops) for index in order[number * size : (number + 1) * size]]
            for number in range(first, self.train_examples // size)
        ]
        return self._train.batches(keys, workers=self._config.dataloader_num_workers, pin_memory=self._pin)

    def test_batches(self) -> Iterator[Batch]:
        size, count = self._config.per_device_eval_batch_size, len(self._val)
        keys = [
            [(index, -1) for index in range(start, min(start + size, count))]
            for start in range(0, count, size)
        ]
        return self._val.batches(keys, workers=self._config.dataloader_num_workers, pin_memory=self._pin)

    def best(self) -> None:
        return None


def _order(count: int, seed: int, epoch: int) -> Int[np.ndarray, " count"]:
    return np.random.default_rng((seed, epoch, 0)).permutation(count)
