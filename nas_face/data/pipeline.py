"""Images on their way into a network: shuffled, mirrored, shifted, batched."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from nas_face.data.faces import FaceImages
from nas_face.errors import DataError

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Images `(B, height, width, 3)` and their labels `(B,)`."""

# batch normalisation cannot train on one value per channel, which 1x1 feature maps would give
_MIN_BATCH = 2


def epoch_batches(
    images: FaceImages,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    flip: bool,
    shift: int = 0,
) -> Iterator[Batch]:
    """Go through all images once, in an order that only (seed, epoch) decides.

    The next batch is fetched in a thread while the caller works on this one. The last batch may be
    short; it is left out if it would hold a single image, on which batch normalisation cannot
    train.

    Args:
        images: at least 2.
        batch_size: images in a batch, at least 2; may exceed the number of images.
        seed: at least 0.
        epoch: at least 0; another epoch, another order.
        flip: whether each image is mirrored left to right with probability 1/2; the order is the
            same either way.
        shift: each image is moved by up to this many pixels in both directions, its edge repeated,
            for crops that are not aligned to landmarks; 0 leaves images where they are.

    Returns:
        An iterator over uint8 RGB `(B, height, width, 3)`, which the caller may change, and labels
        int64 `(B,)`.

    Raises:
        DataError: fewer than 2 images.
        ValueError: an argument is out of range.
    """
    if batch_size < _MIN_BATCH:
        raise ValueError(f"batch_size must be at least {_MIN_BATCH}, got {batch_size}")
    if shift < 0:
        raise ValueError(f"shift must be at least 0, got {shift}")
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must be at least 0, got {seed} and {epoch}")
    if len(images) < _MIN_BATCH:
        raise DataError(f"an epoch needs at least {_MIN_BATCH} images, got {len(images)}")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images))
    mirrored = rng.random(len(images)) < 0.5 if flip else np.zeros(len(images), dtype=np.bool_)
    moves = rng.integers(-shift, shift + 1, (len(images), 2)) if shift else None
    starts = range(0, len(images) - _MIN_BATCH + 1, batch_size)

    def fetch(start: int) -> Batch:
        chosen = order[start : start + batch_size]
        batch = images.batch(chosen)
        turn = mirrored[start : start + batch_size]
        batch[turn] = batch[turn, :, ::-1]
        if moves is not None:
            batch = _moved(batch, moves[start : start + batch_size], shift)
        return batch, images.labels[chosen]

    def prefetch() -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as thread:
            following: Future[Batch] = thread.submit(fetch, starts[0])
            for start in starts[1:]:
                current, following = following, thread.submit(fetch, start)
                yield current.result()
            yield following.result()

    return prefetch()


def _moved(
    batch: npt.NDArray[np.uint8], moves: npt.NDArray[np.int64], reach: int
) -> npt.NDArray[np.uint8]:
    """Each image moved down and right by its own `(B, 2)` pixels, edges repeated."""
    height, width = batch.shape[1:3]
    wide = np.pad(batch, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    corners = reach - moves
    return np.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(wide, corners, strict=True)
        ]
    )
