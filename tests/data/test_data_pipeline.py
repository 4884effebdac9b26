from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from nas_face.data import FaceImages, epoch_batches, load_folder
from nas_face.data.pipeline import network_batches
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]


def faces(n: int) -> FaceImages:
    """Images that name themselves: the left pixel is the row number, the right one is 255."""
    pixels = np.full((n, 1, 2, 3), 255, dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(n)[:, None]
    return FaceImages.from_array(pixels, np.arange(n) // 2)


def run(
    images: FaceImages, size: int = 4, seed: int = 0, epoch: int = 0, flip: bool = False
) -> tuple[list[int], np.ndarray, np.ndarray]:
    batches = list(epoch_batches(images, batch_size=size, seed=seed, epoch=epoch, flip=flip))
    return (
        [len(labels) for _, labels in batches],
        np.concatenate([pixels for pixels, _ in batches]),
        np.concatenate([labels for _, labels in batches]),
    )


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (11, 4, [4, 4, 3]),
        (9, 4, [4, 4]),  # the ninth alone would break batch normalisation
        (3, 4, [3]),
        (2, 4, [2]),
        (2, 2, [2]),
        (3, 2, [2]),
        (5, 1000, [5]),
    ],
)
def test_sizes_of_batches(n: int, size: int, expected: list[int]) -> None:
    sizes, pixels, _ = run(faces(n), size)
    assert sizes == expected
    assert len(np.unique(pixels[:, 0, 0, 0])) == sum(expected)


def test_labels_belong_to_their_images() -> None:
    _, pixels, labels = run(faces(20))
    assert np.array_equal(pixels[:, 0, 0, 0] // 2, labels)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    images = faces(40)
    order = run(images)[1][:, 0, 0, 0]
    assert np.array_equal(run(images)[1][:, 0, 0, 0], order)
    assert not np.array_equal(run(images, seed=1)[1][:, 0, 0, 0], order)
    assert not np.array_equal(run(images, epoch=1)[1][:, 0, 0, 0], order)
    assert not np.array_equal(order, np.arange(40))
    assert np.array_equal(run(images, size=8)[1][:, 0, 0, 0], order)


def test_about_half_the_images_are_mirrored_in_the_same_order() -> None:
    images = faces(200)
    plain, mirrored = run(images)[1], run(images, flip=True)[1]
    turned = (mirrored[:, 0, ::-1] == plain[:, 0]).all(axis=(1, 2))
    kept = (mirrored[:, 0] == plain[:, 0]).all(axis=(1, 2))
    assert (turned ^ kept).all()
    assert 70 < turned.sum() < 130
    assert np.array_equal(run(images, flip=True)[1], mirrored)
    assert not np.array_equal(run(images, flip=True, epoch=1)[1], mirrored)


def test_the_images_themselves_are_not_changed() -> None:
    images = faces(10)
    before = images.batch(np.arange(10))
    for batch, labels in epoch_batches(images, batch_size=4, seed=0, epoch=0, flip=True):
        batch[:] = 0
        labels[:] = 0
    assert np.array_equal(images.batch(np.arange(10)), before)
    assert images.labels.max() == 4


def test_files_give_the_same_batches_as_memory(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 5, "b": 6})
    cached = load_folder(root, height=8, width=8)
    on_demand = load_folder(root, height=8, width=8, cache_bytes=0)
    assert np.array_equal(run(cached, flip=True)[1], run(on_demand, flip=True)[1])


def test_an_epoch_can_be_left_early() -> None:
    batches = epoch_batches(faces(20), batch_size=4, seed=0, epoch=0, flip=False)
    assert next(batches)[0].shape == (4, 1, 2, 3)
    batches.close()
    assert list(batches) == []


def test_an_image_that_breaks_meanwhile_is_named(make_faces: MakeFaces) -> None:
    root: Path = make_faces({"a": 2, "b": 2})
    images = load_folder(root, height=8, width=8, cache_bytes=0)
    (root / "a" / "a_0001.png").unlink()
    with pytest.raises(DataError, match=r"a_0001\.png"):
        run(images, size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "batch_size must be at least 2"),
        ({"seed": -1}, "seed"),
        ({"epoch": -1}, "epoch"),
    ],
)
def test_arguments_are_checked_at_the_call(options: dict[str, int], message: str) -> None:
    arguments = {"size": 4, "seed": 0, "epoch": 0} | options
    with pytest.raises(ValueError, match=message):
        epoch_batches(
            faces(8),
            batch_size=arguments["size"],
            seed=arguments["seed"],
            epoch=arguments["epoch"],
            flip=False,
        )


def test_a_single_image_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        epoch_batches(faces(1), batch_size=4, seed=0, epoch=0, flip=False)


def test_shifted_images_are_moved_by_at_most_the_shift_with_their_edge_repeated() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 6, 7, 3), dtype=np.uint8)
    images = FaceImages.from_array(pixels, np.arange(40) // 2)
    ((batch, _),) = epoch_batches(images, batch_size=40, seed=3, epoch=1, flip=False, shift=2)
    ((plain, _),) = epoch_batches(images, batch_size=40, seed=3, epoch=1, flip=False)
    rows, columns = np.arange(6), np.arange(7)
    moves = []
    for moved, still in zip(batch, plain, strict=True):
        candidates = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(
                moved,
                still[np.clip(rows - down, 0, 5)][:, np.clip(columns - right, 0, 6)],
            )
        ]
        assert len(candidates) == 1
        moves += candidates
    assert {down for down, _ in moves} == {right for _, right in moves} == {-2, -1, 0, 1, 2}


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="shift must be at least 0, got -1"):
        epoch_batches(faces(4), batch_size=2, seed=0, epoch=0, flip=False, shift=-1)


def half(pixels: np.ndarray, values: np.ndarray) -> None:
    """A network that reads the mean of the channels, and their maximum."""
    values[..., 0] = pixels.mean(axis=3)
    values[..., 1] = pixels.max(axis=3)


@pytest.mark.parametrize("n", [2, 40, 131])
@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_network_batches_are_those_batches_normalised(
    make_faces: MakeFaces, n: int, cache_bytes: int
) -> None:
    images = load_folder(
        make_faces({"a": 1, "b": n - 1}), height=8, width=8, cache_bytes=cache_bytes
    )
    options = {"batch_size": 50, "seed": 2, "epoch": 3, "flip": True, "shift": 1}
    plain = list(epoch_batches(images, **options))
    normalised = list(network_batches(images, half, channels=2, **options))
    for (pixels, labels), (values, same, owners) in zip(plain, normalised, strict=True):
        expected = np.stack([pixels.mean(axis=3), pixels.max(axis=3)], axis=3)
        assert np.array_equal(values, expected.astype(np.float32))
        assert values.dtype == np.float32
        assert np.array_equal(same, pixels)
        assert np.array_equal(owners, labels)


def test_what_goes_wrong_in_a_thread_reaches_the_caller() -> None:
    def fail(pixels: np.ndarray, values: np.ndarray) -> None:
        raise ArithmeticError("here")

    batches = network_batches(
        faces(8), fail, channels=3, batch_size=4, seed=0, epoch=0, flip=False
    )
    with pytest.raises(ArithmeticError, match="here"):
        next(batches)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_mirroring_is_numpys(width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, width, 3), dtype=np.uint8)
    images = FaceImages.from_array(pixels, np.arange(64) // 2)
    order = {image.tobytes(): image for image in run(images, size=64)[1]}
    for image in run(images, size=64, flip=True)[1]:
        assert image.tobytes() in order or image[:, ::-1].tobytes() in order
