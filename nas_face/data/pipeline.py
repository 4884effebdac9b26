"""Images on their way into a network: shuffled, mirrored, shifted, normalised, batched."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt

from nas_face.data.faces import FaceImages
from nas_face.data.pixels import RUN, data_threads
from nas_face.errors import DataError

_Pixels = npt.NDArray[np.uint8]
_Values = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.int64]

Batch = tuple[_Pixels, _Rows]
"""Images `(B, height, width, 3)` and their labels `(B,)`."""

NetworkBatch = tuple[_Values, _Pixels, _Rows]
"""Network input `(B, height, width, channels)`, the images that it comes from, their labels."""

_Begun = tuple[list[Future[None]], NetworkBatch]
"""A batch that is being filled, and what fills it."""

# images, in whole batches, that are made while the caller works on a batch
_AHEAD = 512

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

    The next batches are read, decoded and mirrored by as many threads as there are cores while the
    caller works on this one. The last batch may be short; it is left out if it would hold a single
    image, on which batch normalisation cannot train.

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
    plan = _Epoch.plan(images, batch_size, seed, epoch, flip=flip, shift=shift)
    return ((pixels, labels) for _, pixels, labels in plan.batches(0, None))


def network_batches(
    images: FaceImages,
    normalise: Callable[[_Pixels, _Values], None],
    *,
    channels: int,
    batch_size: int,
    seed: int,
    epoch: int,
    flip: bool,
    shift: int = 0,
) -> Iterator[NetworkBatch]:
    """The batches of `epoch_batches`, normalised by the threads that decode them.

    Args:
        images: see `epoch_batches`, as for the arguments that are not named here.
        normalise: writes what the network reads, `(R, height, width, channels)`, of images
            `(R, height, width, 3)`; called by several threads at once.
        channels: that the network reads.

    Returns:
        An iterator over float32 `(B, height, width, channels)`, and what `epoch_batches` gives.

    Raises:
        DataError: see `epoch_batches`.
        ValueError: see `epoch_batches`.
    """
    plan = _Epoch.plan(images, batch_size, seed, epoch, flip=flip, shift=shift)
    return plan.batches(channels, normalise)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Epoch:
    """What happens to each image of an epoch, in its order.

    Args:
        images: of which it is an epoch.
        batch_size: images in a batch.
        order: `(N,)`, numbers of images.
        mirrored: `(N,)`, by place in the order.
        moves: `(N, 2)` by place in the order, down and right; zeros if `shift` is 0.
        shift: farthest move.
    """

    images: FaceImages
    batch_size: int
    order: _Rows
    mirrored: npt.NDArray[np.bool_]
    moves: _Rows
    shift: int

    @classmethod
    def plan(
        cls, images: FaceImages, batch_size: int, seed: int, epoch: int, *, flip: bool, shift: int
    ) -> Self:
        if batch_size < _MIN_BATCH:
            raise ValueError(f"batch_size must be at least {_MIN_BATCH}, got {batch_size}")
        if shift < 0:
            raise ValueError(f"shift must be at least 0, got {shift}")
        if seed < 0 or epoch < 0:
            raise ValueError(f"seed and epoch must be at least 0, got {seed} and {epoch}")
        n_images = len(images)
        if n_images < _MIN_BATCH:
            raise DataError(f"an epoch needs at least {_MIN_BATCH} images, got {n_images}")
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(n_images)
        mirrored = rng.random(n_images) < 0.5 if flip else np.zeros(n_images, dtype=np.bool_)
        return cls(
            images=images,
            batch_size=batch_size,
            order=order,
            mirrored=mirrored,
            moves=rng.integers(-shift, shift + 1, (n_images, 2)),
            shift=shift,
        )

    def batches(
        self, channels: int, normalise: Callable[[_Pixels, _Values], None] | None
    ) -> Iterator[NetworkBatch]:
        """All batches; some are begun before they are asked for."""
        n_ahead = max(1, _AHEAD // self.batch_size)
        begun: deque[_Begun] = deque()
        try:
            for start in range(0, len(self.order) - _MIN_BATCH + 1, self.batch_size):
                begun.append(self._begin(start, channels, normalise))
                if len(begun) > n_ahead:
                    yield _finished(begun)
            while begun:
                yield _finished(begun)
        finally:
            for tasks, _ in begun:
                for task in tasks:
                    task.cancel()

    def _begin(
        self, start: int, channels: int, normalise: Callable[[_Pixels, _Values], None] | None
    ) -> _Begun:
        stop = min(start + self.batch_size, len(self.order))
        shape = (stop - start, self.images.height, self.images.width)
        pixels = np.empty((*shape, 3), dtype=np.uint8)
        values = np.empty((*shape, channels), dtype=np.float32)

        def fill(first: int) -> None:
            last = min(first + RUN, stop)
            part = slice(first - start, last - start)
            self._fetch(slice(first, last), pixels[part])
            if normalise is not None:
                normalise(pixels[part], values[part])

        tasks = [data_threads().submit(fill, first) for first in range(start, stop, RUN)]
        return tasks, (values, pixels, self.images.labels[self.order[start:stop]])

    def _fetch(self, places: slice, pixels: _Pixels) -> None:
        """Write the images at some places of the order."""
        self.images.pixels.read_into(self.images.rows[self.order[places]], pixels)
        for position in np.flatnonzero(self.mirrored[places]):
            _mirror(pixels[position])
        if self.shift:
            pixels[...] = _moved(pixels, self.moves[places], self.shift)


def _finished(begun: deque[_Begun]) -> NetworkBatch:
    """The oldest batch, once all of it is there."""
    for task in begun[0][0]:
        task.result()
    return begun.popleft()[1]


def _mirror(image: _Pixels) -> None:
    """Left to right, in place."""
    still = image.copy()
    for channel in range(3):  # a third of the time of all channels at once (measured)
        image[..., channel] = still[:, ::-1, channel]


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
