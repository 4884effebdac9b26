import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_face.data import FaceImages, load_folder
from nas_face.data.augment import AugmentSettings, altered
from nas_face.data.pipeline import NetworkBatch, training_batches
from nas_face.data.sampling import BalancedSampling, BatchPlan, PeopleSampling, RandomSampling
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]

RANDOM = RandomSampling()
PLAIN = AugmentSettings(flip=False)
BUSY = AugmentSettings(
    shift=2,
    rotate=20.0,
    zoom=0.2,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    grey=0.2,
    low_resolution=0.3,
    blur=0.3,
    erase=0.3,
)


def faces(n: int) -> FaceImages:
    """Images that name themselves: the left pixel is the row number, the right one is 255."""
    pixels = np.full((n, 1, 2, 3), 255, dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(n)[:, None]
    return FaceImages.from_array(pixels, np.arange(n) // 2)


def noise(n: int, height: int = 5, width: int = 6) -> FaceImages:
    pixels = np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    return FaceImages.from_array(pixels, np.arange(n) // 2)


def as_they_are(pixels: np.ndarray, values: np.ndarray) -> None:
    values[...] = pixels


def batches_of(
    images: FaceImages,
    *,
    batch_size: int = 4,
    seed: int = 0,
    epoch: int = 0,
    augment: AugmentSettings = PLAIN,
    normalise: Callable[[np.ndarray, np.ndarray], None] = as_they_are,
    channels: int = 3,
    sampling: Any = RANDOM,
    n_ranks: int = 1,
    **options: Any,
) -> Iterator[NetworkBatch]:
    plan = BatchPlan(
        labels=images.labels, batch_size=batch_size, seed=seed, sampling=sampling, n_ranks=n_ranks
    )
    return training_batches(
        images, normalise, channels=channels, plan=plan, augment=augment, epoch=epoch, **options
    )


def run(images: FaceImages, **options: Any) -> NetworkBatch:
    """An epoch as one batch."""
    batches = list(batches_of(images, **options))
    parts = ("values", "labels", "indices", "mirrored")
    return NetworkBatch(
        **{part: np.concatenate([getattr(each, part) for each in batches]) for part in parts}
    )


def assert_same(left: NetworkBatch, right: NetworkBatch) -> None:
    for part in ("values", "labels", "indices", "mirrored"):
        one, other = getattr(left, part), getattr(right, part)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other), part


def written_out(
    images: FaceImages, *, seed: int, epoch: int, augment: AugmentSettings
) -> np.ndarray:
    """All images of an epoch of random order, one after another."""
    n, reach = len(images), augment.shift
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(n)
    mirrored = rng.random(n) < 0.5 if augment.flip else [False] * n
    moves = rng.integers(-reach, reach + 1, (n, 2))
    rows, columns = np.arange(images.height), np.arange(images.width)
    found = []
    for place in range(n):
        image = images.batch(order[place : place + 1])[0]
        image = image[:, ::-1] if mirrored[place] else image
        down, right = moves[place]
        image = image[np.clip(rows - down, 0, images.height - 1)]
        image = image[:, np.clip(columns - right, 0, images.width - 1)]
        found.append(altered(image, augment, np.random.default_rng([seed, epoch, place + 1])))
    return np.stack(found)


@pytest.mark.parametrize("n", [2, 9, 40, 131])
@pytest.mark.parametrize("batch_size", [2, 50])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (2**40, 3)])
@pytest.mark.parametrize(
    "augment", [PLAIN, AugmentSettings(), AugmentSettings(shift=2), BUSY], ids=str
)
def test_it_is_the_epoch_written_out(
    n: int, batch_size: int, seed: int, epoch: int, augment: AugmentSettings
) -> None:
    images = noise(n)
    found = run(images, batch_size=batch_size, seed=seed, epoch=epoch, augment=augment)
    expected = written_out(images, seed=seed, epoch=epoch, augment=augment)
    assert np.array_equal(found.values, expected[: n if n % batch_size != 1 else -1])
    assert found.values.dtype == np.float32
    assert np.array_equal(found.labels, images.labels[found.indices])


@pytest.mark.parametrize(
    ("n", "batch_size", "seed", "epoch", "augment", "digest"),
    [
        (
            131,
            50,
            7,
            3,
            AugmentSettings(shift=2),
            "0cf3f0263225ba09e5b69c2bec9d98c163b2d708cd68a2e4ef95bc57afb49863",
        ),
        (
            41,
            4,
            0,
            0,
            AugmentSettings(),
            "4de27d76b8c8f75cc622b0dbd8f86fd703ae38e671884d2166505b4807455e96",
        ),
        (
            1000,
            64,
            2**40,
            3,
            AugmentSettings(),
            "a7593ee1ade1bf8638b212a66ec3d9ca68ac66961a24905564cb931b703536ed",
        ),
        (9, 4, 0, 3, PLAIN, "6d2e8d7bf64b4f4f22337b40e7dd6d236e68b40a5c7249816d9e74bac4e2c865"),
    ],
)
def test_batches_are_those_of_every_version_so_far(
    n: int, batch_size: int, seed: int, epoch: int, augment: AugmentSettings, digest: str
) -> None:
    found = hashlib.sha256()
    for batch in batches_of(
        noise(n), batch_size=batch_size, seed=seed, epoch=epoch, augment=augment
    ):
        values = (batch.values - np.float32(127.5)) / np.float32(127.5)
        found.update(str(values.shape).encode() + values.tobytes() + batch.labels.tobytes())
    assert found.hexdigest() == digest


def test_a_batch_says_which_images_it_holds_and_how() -> None:
    images = faces(200)
    found = run(images, augment=AugmentSettings())
    left = np.where(found.mirrored, found.values[:, 0, 1, 0], found.values[:, 0, 0, 0])
    right = np.where(found.mirrored, found.values[:, 0, 0, 0], found.values[:, 0, 1, 0])
    assert np.array_equal(left, found.indices)
    assert (right == 255).all()
    assert np.array_equal(found.labels, found.indices // 2)
    assert 70 < found.mirrored.sum() < 130
    assert not run(images).mirrored.any()


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    images = faces(40)
    order = run(images).indices
    assert np.array_equal(run(images).indices, order)
    assert np.array_equal(run(images, batch_size=8).indices, order)
    assert np.array_equal(run(images, augment=BUSY).indices, order)
    assert not np.array_equal(run(images, seed=1).indices, order)
    assert not np.array_equal(run(images, epoch=1).indices, order)
    assert not np.array_equal(order, np.arange(40))


@pytest.mark.parametrize("sampling", [RandomSampling(), BalancedSampling(), PeopleSampling()])
@pytest.mark.parametrize("first", range(8))
def test_an_epoch_goes_on_in_its_middle_as_if_never_left(sampling: Any, first: int) -> None:
    options = {"batch_size": 8, "sampling": sampling, "augment": BUSY, "epoch": 2}
    whole = list(batches_of(noise(50), **options))
    rest = list(batches_of(noise(50), **options, first=first))
    assert len(whole) == 7
    assert len(rest) == 7 - first
    for one, other in zip(rest, whole[first:], strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("sampling", [RandomSampling(), BalancedSampling(), PeopleSampling()])
@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_shares_of_a_batch_make_up_the_batch(sampling: Any, n_ranks: int) -> None:
    options = {"batch_size": 8, "sampling": sampling, "augment": BUSY, "first": 1}
    whole = list(batches_of(noise(46), **options))

    def share_of(rank: int) -> Callable[[int], slice]:
        def share(n: int) -> slice:
            part = np.array_split(np.arange(n), n_ranks)[rank]
            return slice(int(part[0]), int(part[-1]) + 1)

        return share

    shares = [
        list(batches_of(noise(46), **options, n_ranks=n_ranks, share=share_of(rank)))
        for rank in range(n_ranks)
    ]
    for parts, batch in zip(zip(*shares, strict=True), whole, strict=True):
        assert {len(part.labels) for part in parts} <= {
            len(batch.labels) // n_ranks,
            len(batch.labels) // n_ranks + 1,
        }
        for part in ("values", "labels", "indices", "mirrored"):
            joined = np.concatenate([getattr(each, part) for each in parts])
            assert np.array_equal(joined, getattr(batch, part))


def test_copies_of_an_image_in_one_epoch_are_altered_apart() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    images = FaceImages.from_array(pixels, np.array([0, 1, 1]))
    found = run(
        images,
        batch_size=4,
        sampling=PeopleSampling(images_per_identity=2),
        augment=AugmentSettings(rotate=30.0),
    )
    copies = found.values[found.indices == 0]
    assert len(copies) == 2
    assert not np.array_equal(copies[0], copies[1])


def test_the_images_themselves_are_not_changed() -> None:
    images = noise(10)
    before, labels = images.batch(np.arange(10)), images.labels.copy()
    for batch in batches_of(images, augment=BUSY):
        batch.values[:] = 0
        batch.labels[:] = 0
        batch.indices[:] = 0
        batch.mirrored[:] = True
    assert np.array_equal(images.batch(np.arange(10)), before)
    assert np.array_equal(images.labels, labels)


def test_changing_a_batch_does_not_change_the_next() -> None:
    images, options = noise(40), {"augment": AugmentSettings(), "batch_size": 8}
    expected = list(batches_of(images, **options))
    for batch, same in zip(batches_of(images, **options), expected, strict=True):
        assert_same(batch, same)
        batch.values[:] = 0
        batch.labels[:] = 0
        batch.indices[:] = 0
        batch.mirrored[:] = True


def test_files_give_the_same_batches_as_memory(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 5, "b": 6})
    cached = load_folder(root, height=8, width=8)
    on_demand = load_folder(root, height=8, width=8, cache_bytes=0)
    assert_same(run(cached, augment=BUSY), run(on_demand, augment=BUSY))


def test_a_subset_gives_its_own_images() -> None:
    images = faces(20)
    part = images.subset(["id3", "id4", "id9"])
    found = run(part)
    assert set(found.values[:, 0, 0, 0]) == {6, 7, 8, 9, 18, 19}
    assert np.array_equal(np.sort(found.indices), np.arange(6))


def test_an_epoch_can_be_left_early() -> None:
    batches = batches_of(faces(20))
    assert next(batches).values.shape == (4, 1, 2, 3)
    batches.close()
    assert list(batches) == []


def test_an_image_that_breaks_meanwhile_is_named(make_faces: MakeFaces) -> None:
    root: Path = make_faces({"a": 2, "b": 2})
    images = load_folder(root, height=8, width=8, cache_bytes=0)
    (root / "a" / "a_0001.png").unlink()
    with pytest.raises(DataError, match=r"a_0001\.png"):
        run(images, batch_size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": -1}, "epoch must be at least 0, got -1"),
        ({"first": -1}, "first must be from 0 to 2, got -1"),
        ({"first": 3}, "first must be from 0 to 2, got 3"),
    ],
)
def test_arguments_are_checked_at_the_call(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches_of(faces(8), **options)


def test_a_plan_of_other_images_is_refused() -> None:
    plan = BatchPlan(labels=faces(10).labels, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="other labels"):
        training_batches(faces(8), as_they_are, channels=3, plan=plan, augment=PLAIN, epoch=0)


def half(pixels: np.ndarray, values: np.ndarray) -> None:
    """A network that reads the mean of the channels, and their maximum."""
    values[..., 0] = pixels.mean(axis=3)
    values[..., 1] = pixels.max(axis=3)


@pytest.mark.parametrize("n", [2, 40, 131])
@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_values_are_the_images_normalised(make_faces: MakeFaces, n: int, cache_bytes: int) -> None:
    images = load_folder(
        make_faces({"a": 1, "b": n - 1}), height=8, width=8, cache_bytes=cache_bytes
    )
    options = {"batch_size": 50, "seed": 2, "epoch": 3, "augment": AugmentSettings(shift=1)}
    pixels = run(images, **options).values.astype(np.uint8)
    values = run(images, **options, normalise=half, channels=2).values
    expected = np.stack([pixels.mean(axis=3), pixels.max(axis=3)], axis=3)
    assert np.array_equal(values, expected.astype(np.float32))


def test_what_goes_wrong_in_a_thread_reaches_the_caller() -> None:
    def fail(pixels: np.ndarray, values: np.ndarray) -> None:
        raise ArithmeticError("here")

    with pytest.raises(ArithmeticError, match="here"):
        next(batches_of(faces(8), normalise=fail))
