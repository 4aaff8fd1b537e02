"""Data: streams that depend on keys alone, Bayes' rule by hand, crops that stay inside, folders that say what is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maxrl.errors import InputError
from maxrl.experiments.classification.config import ClassifyConfig
from maxrl.experiments.classification.data import load_data
from maxrl.experiments.classification.images import (
    DEVIATION,
    MEAN,
    Pictures,
    _random_box,
    centre_crop,
    random_resized_crop,
    read_folder,
    to_tensor,
)
from maxrl.experiments.classification.synthetic import Clusters

MakeConfig = Callable[..., ClassifyConfig]

CLUSTERS = Clusters(classes=30, dimensions=6, noise=1.0, seed=0)

# --- classes made on the spot -----------------------------------------------------------------------------


def test_streams_are_their_own_and_come_again() -> None:
    again = Clusters(classes=30, dimensions=6, noise=1.0, seed=0)
    assert np.array_equal(CLUSTERS.centres, again.centres)
    assert not np.array_equal(CLUSTERS.centres, Clusters(classes=30, dimensions=6, noise=1.0, seed=1).centres)
    test, training = CLUSTERS.test(50), CLUSTERS.training(50, 0, 0, 0)
    assert torch.equal(test[0], again.test(50)[0])
    assert torch.equal(training[0], again.training(50, 0, 0, 0)[0])
    streams = [test, training, *(CLUSTERS.training(50, *key) for key in ((0, 0, 1), (0, 1, 0), (1, 0, 0)))]
    seen = torch.cat([points for points, _ in streams])
    assert len(seen.unique(dim=0)) == len(seen), "no example is in two streams"
    assert test[1].bincount(minlength=30).min() >= 0
    assert CLUSTERS.test(5000)[1].bincount(minlength=30).min() > 100


def test_the_posterior_is_bayes_rule() -> None:
    """Against densities written out; and what it believes comes true as often as it believes it."""
    points, labels = CLUSTERS.test(4000)
    posterior = CLUSTERS.log_posterior(points).exp()
    point = points[0].double().numpy()
    densities = []
    for centres, width in zip(
        CLUSTERS.centres.astype(np.float64), CLUSTERS.widths.astype(np.float64), strict=True
    ):
        each = [np.exp(-((point - c) ** 2).sum() / (2 * width**2)) / width**6 for c in centres]
        densities.append(np.mean(each))
    np.testing.assert_allclose(posterior[0].numpy(), np.array(densities) / np.sum(densities), rtol=1e-4)
    confidence, guess = posterior.max(1)
    error = (confidence.mean() - (guess == labels).double().mean()).abs()
    assert error < 5 * 0.5 / 4000**0.5
    assert 0.2 < float((guess == labels).double().mean()) < 0.95, "neither hopeless nor trivial"


def test_wide_classes_are_harder_and_siblings_are_what_is_mistaken() -> None:
    clusters = Clusters(classes=200, dimensions=16, noise=1.2, seed=0)
    points, labels = clusters.test(4000)
    guess = clusters.log_posterior(points).argmax(1)
    right = (guess == labels).double()
    wide = torch.from_numpy(clusters.widths)[labels] > float(np.median(clusters.widths))
    assert right[~wide].mean() > right[wide].mean() + 0.1
    mistaken = guess != labels
    siblings = (guess // 10 == labels // 10)[mistaken].double().mean()
    assert siblings > 0.5, "by chance it were 9 in 199"


# --- batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{}, {"fresh_examples": False}, {"data": "images", "model": "tiny", "image_size": 16}]
)
def test_batches_are_a_function_of_seed_epoch_and_number(
    make_config: MakeConfig, fields: dict[str, object]
) -> None:
    data = load_data(make_config(**fields))
    whole = list(data.train_batches(seed=0, epoch=1, first=0))
    assert len(whole) == 4
    assert all(len(labels) == 8 for _, labels in whole)
    rest = list(load_data(make_config(**fields)).train_batches(seed=0, epoch=1, first=2))
    for (inputs, labels), (inputs_again, labels_again) in zip(whole[2:], rest, strict=True):
        assert torch.equal(inputs, inputs_again)
        assert torch.equal(labels, labels_again)
    for seed, epoch in ((1, 1), (0, 2)):
        other = next(iter(data.train_batches(seed=seed, epoch=epoch, first=0)))
        assert not torch.equal(other[0], whole[0][0])
    assert [len(labels) for _, labels in data.test_batches()] == [16, 16, 8]


def test_fixed_examples_come_once_an_epoch_and_fresh_ones_never_again(make_config: MakeConfig) -> None:
    def seen(*, fresh: bool) -> torch.Tensor:
        data = load_data(make_config(fresh_examples=fresh))
        epochs = [torch.cat([x for x, _ in data.train_batches(seed=0, epoch=e, first=0)]) for e in (0, 1)]
        assert all(len(epoch.unique(dim=0)) == 32 for epoch in epochs)
        return torch.cat(epochs)

    assert len(seen(fresh=False).unique(dim=0)) == 32
    assert len(seen(fresh=True).unique(dim=0)) == 64


def test_synthetic_pictures_are_the_vectors_enlarged(make_config: MakeConfig) -> None:
    data = load_data(make_config(data="images", model="tiny", image_size=16))
    inputs, _ = next(iter(data.test_batches()))
    assert inputs.shape == (16, 3, 16, 16)
    assert data.input_size == 3 * 16 * 16
    assert torch.equal(inputs[:, :, ::2, ::2], inputs[:, :, 1::2, 1::2]), "each of 8 × 8 is two pixels wide"
    assert data.best() is not None


# --- a folder of pictures ---------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_whatever_the_suffix(image_folder: Path, make_config: MakeConfig) -> None:
    train, val, names = read_folder(image_folder, 8)
    assert names == ("blue", "red")
    assert (len(train), len(val)) == (18, 10)
    assert train.labels == (0,) * 9 + (1,) * 9
    assert list(train.files) == sorted(train.files)
    data = load_data(make_config(data="folder", image_folder=str(image_folder), model="tiny", image_size=8))
    assert (data.num_classes, data.train_examples, data.best()) == (2, 18, None)
    batches = list(data.train_batches(seed=0, epoch=0, first=0))
    assert [inputs.shape for inputs, _ in batches] == [(8, 3, 8, 8)] * 2
    again = list(data.train_batches(seed=0, epoch=0, first=1))
    assert torch.equal(again[0][0], batches[1][0])
    other = list(data.train_batches(seed=0, epoch=1, first=0))
    assert not torch.equal(other[0][0], batches[0][0])
    tested = list(data.test_batches())
    assert torch.cat([labels for _, labels in tested]).tolist() == [0] * 5 + [1] * 5
    with Image.open(val.files[2]) as picture:
        assert torch.equal(tested[0][0][2], to_tensor(centre_crop(picture.convert("RGB"), 8)))


def test_every_picture_is_cut_anew_in_every_epoch(image_folder: Path, make_config: MakeConfig) -> None:
    data = load_data(make_config(data="folder", image_folder=str(image_folder), model="tiny", image_size=8))
    batches = [inputs for epoch in (0, 1) for inputs, _ in data.train_batches(seed=0, epoch=epoch, first=0)]
    crops = torch.cat(batches).flatten(1)
    assert len(crops.unique(dim=0)) == len(crops) == 32
    train, *_ = read_folder(image_folder, 8)
    twice = Pictures((train.files[0],) * 2, (0, 0), 8)
    assert not torch.equal(twice[0, 5][0], twice[1, 5][0]), "nor are two pictures of an epoch cut alike"
    assert torch.equal(twice[0, 5][0], twice[0, 5][0])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later
def test_batches_are_the_same_whoever_loads_them(image_folder: Path, make_config: MakeConfig) -> None:
    def batches(workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        config = make_config(
            data="folder",
            image_folder=str(image_folder),
            model="tiny",
            image_size=8,
            per_device_train_batch_size=4,
            dataloader_num_workers=workers,
        )
        data = load_data(config)
        return [*data.train_batches(seed=0, epoch=1, first=1), *data.test_batches()]

    alone, together = batches(0), batches(2)
    assert len(alone) == 3 + 1
    for (inputs, labels), (inputs_again, labels_again) in zip(alone, together, strict=True):
        assert torch.equal(inputs, inputs_again)
        assert torch.equal(labels, labels_again)


def test_loading_leaves_the_global_random_state_alone(image_folder: Path, make_config: MakeConfig) -> None:
    before = torch.random.get_rng_state()
    data = load_data(make_config(data="folder", image_folder=str(image_folder), model="tiny", image_size=8))
    list(data.train_batches(seed=0, epoch=0, first=0))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (500, 20), (20, 500), (3, 3), (1, 1)])
def test_random_boxes_stay_inside_with_area_and_ratio_in_bounds(size: tuple[int, int]) -> None:
    rng, (width, height) = np.random.default_rng(0), size
    areas = []
    for _ in range(300):
        left, top, right, bottom = _random_box(width, height, rng)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if size in ((40, 30), (30, 40)):
            assert 0.7 < (right - left) / (bottom - top) < 1.45, "3/4 to 4/3 but for rounding"
            areas.append((right - left) * (bottom - top) / (width * height))
    if areas:
        assert 0.06 < min(areas) < 0.2
        assert max(areas) > 0.85
        assert 0.4 < np.mean(areas) < 0.62


def test_a_picture_too_long_for_any_box_is_cut_in_the_middle() -> None:
    assert _random_box(500, 20, np.random.default_rng(0)) == (236, 0, 263, 20)


def test_half_the_pictures_are_mirrored() -> None:
    """A picture that is dark on the left and light on the right, whatever part of it is taken."""
    image = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).convert("RGB")
    rng = np.random.default_rng(0)
    crops = [np.asarray(random_resized_crop(image, 16, rng))[0, :, 0].astype(int) for _ in range(400)]
    mirrored = sum(crop[0] > crop[-1] for crop in crops)
    assert 150 < mirrored < 250
    assert all(len(crop) == 16 for crop in crops)


def test_evaluation_takes_the_middle() -> None:
    """A white square of 224 in the middle of 256 × 356: the frame around it is cut off."""
    pixels = np.zeros((256, 356, 3), dtype=np.uint8)
    pixels[16:240, 66:290] = 255
    crop = np.asarray(centre_crop(Image.fromarray(pixels), 224))
    assert crop.shape == (224, 224, 3)
    assert crop.min() == 255
    assert centre_crop(Image.fromarray(pixels[:3, :2]), 8).size == (8, 8)


def test_pixels_are_normalised_per_channel() -> None:
    tensor = to_tensor(Image.new("RGB", (3, 2), (255, 0, 51)))
    assert tensor.shape == (3, 2, 3)
    expected = [(v - m) / d for v, m, d in zip((1.0, 0.0, 0.2), MEAN, DEVIATION, strict=True)]
    assert tensor[:, 1, 2].tolist() == pytest.approx(expected)


def _no_val(root: Path) -> None:
    shutil.rmtree(root / "val")


def _strange_class(root: Path) -> None:
    (root / "val" / "red").rename(root / "val" / "green")


def _empty_class(root: Path) -> None:
    (root / "train" / "green").mkdir()


def _no_classes(root: Path) -> None:
    for folder in (root / "val").iterdir():
        shutil.rmtree(folder)


def _one_class(root: Path) -> None:
    for split in ("train", "val"):
        shutil.rmtree(root / split / "red")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_val, "val does not exist"),
        (_strange_class, "a class that train lacks: green"),
        (_empty_class, "green holds no images"),
        (_no_classes, "holds no folders"),
        (_one_class, "holds one class"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(
    image_folder: Path, tmp_path: Path, spoil: object, says: str
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(image_folder, root)
    assert callable(spoil)
    spoil(root)
    with pytest.raises(InputError, match=says):
        read_folder(root, 8)


def test_a_folder_must_fill_a_batch(image_folder: Path, make_config: MakeConfig) -> None:
    config = make_config(
        data="folder", image_folder=str(image_folder), model="tiny", per_device_train_batch_size=19
    )
    with pytest.raises(InputError, match="holds 18 images, which fill no batch of 19"):
        load_data(config)
