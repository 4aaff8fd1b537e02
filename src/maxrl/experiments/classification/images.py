"""Pictures: a folder laid out as ImageNet's, the transforms of training and evaluation, and batches loaded by key.

    FOLDER/train/CLASS/anything.jpg
    FOLDER/val/CLASS/anything.jpg

Training: a random part of the image (RandomResizedCrop), perhaps mirrored. Evaluation: the shorter side at 256/224 of the
size, and the middle of it. Both: numbers from 0 to 1, normalised per channel. A training picture depends on the seed, the
epoch and its index alone, not on who loads it when.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maxrl.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pixels of ImageNet, per channel, as everybody uses them."""
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""What RandomResizedCrop may take: a share of the area, and width over height."""
RESIZE = 256 / 224
"""Shorter side of an evaluated image before the middle is cut out, over its size."""

Key = tuple[int, int]
"""Index of an image, and the seed of its random crop; −1 for evaluation."""


@dataclass(frozen=True)
class Pictures(Dataset[tuple[Tensor, int]]):
    """The images of one split, loaded by key."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> tuple[Float[Tensor, "3 size size"], int]:
        index, seed = key
        with Image.open(self.files[index]) as picture:
            image = picture.convert("RGB")
        if seed < 0:
            return to_tensor(centre_crop(image, self.size)), self.labels[index]
        rng = np.random.default_rng((seed, index))
        return to_tensor(random_resized_crop(image, self.size, rng)), self.labels[index]

    def batches(
        self, keys: list[list[Key]], *, workers: int, pin_memory: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images and labels, in the order of `keys`."""
        yield from DataLoader(
            self,
            batch_sampler=keys,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else it draws its workers' seeds, which nobody uses, from the global one
        )


def read_folder(folder: Path, size: int) -> tuple[Pictures, Pictures, tuple[str, ...]]:
    """The images for training and for evaluation, and the names of the classes, which are numbered in sorted order.

    Raises:
        InputError: no such folder, a split without classes or images, one class alone, or a class in val that train lacks.
    """
    train, val = _split(folder, "train"), _split(folder, "val")
    names = tuple(sorted(train))
    if len(names) < 2:
        raise InputError(f"{folder / 'train'} holds one class ({names[0]}); there must be at least two")
    if strange := sorted(set(val) - set(names)):
        raise InputError(f"{folder / 'val'} holds a class that train lacks: {strange[0]}")
    number = {name: label for label, name in enumerate(names)}

    def pictures(split: dict[str, list[Path]]) -> Pictures:
        pairs = [(file, number[name]) for name in sorted(split) for file in split[name]]
        return Pictures(tuple(file for file, _ in pairs), tuple(label for _, label in pairs), size)

    return pictures(train), pictures(val), names


def _split(folder: Path, split: str) -> dict[str, list[Path]]:
    """Class → its images."""
    root = folder / split
    if not root.is_dir():
        raise InputError(
            f"{root} does not exist; image_folder must hold train/CLASS/… and val/CLASS/…, a folder of images per class"
        )
    found = {
        sub.name: sorted(file for file in sub.iterdir() if file.suffix.lower() in SUFFIXES)
        for sub in root.iterdir()
        if sub.is_dir()
    }
    if not found:
        raise InputError(f"{root} holds no folders; there must be one per class")
    if empty := sorted(name for name, files in found.items() if not files):
        raise InputError(f"{root / empty[0]} holds no images ({', '.join(SUFFIXES)})")
    return found


def random_resized_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of an image, resized to a square of `size`, mirrored half the time.

    Its area is uniform in `AREA` of the whole, its width over height log-uniform in `RATIO`; where ten attempts do not fit,
    the middle, cut to the nearest allowed ratio.
    """
    box = _random_box(image.width, image.height, rng)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle of an image whose shorter side is resized to 256/224 of `size`."""
    scale = round(RESIZE * size) / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """Channels first, each normalised with `MEAN` and `DEVIATION`."""
    pixels = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy((pixels - np.float32(MEAN)) / np.float32(DEVIATION)).permute(2, 0, 1).contiguous()
