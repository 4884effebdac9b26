"""Images on their way into a network: in the order of a plan, altered, normalised, batched."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.augment import AugmentSettings, altered, mirror, shifted
from nas_face.data.faces import FaceImages
from nas_face.data.pixels import RUN, data_threads
from nas_face.data.sampling import BatchPlan

_Pixels = npt.NDArray[np.uint8]
_Values = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.int64]

# images, in whole batches, that are made while the caller works on a batch
_AHEAD = 512


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkBatch:
    """What a network takes in one step, or one process's share of it.

    Attributes:
        values: float32 `(B, height, width, channels)`, normalised.
        labels: int64 `(B,)`, the identity of each image.
        indices: int64 `(B,)`, the number of each among the images that are trained on.
        mirrored: bool `(B,)`, whether each was turned left to right.
    """

    values: _Values
    labels: _Rows
    indices: _Rows
    mirrored: npt.NDArray[np.bool_]


def training_batches(
    images: FaceImages,
    normalise: Callable[[_Pixels, _Values], None],
    *,
    channels: int,
    plan: BatchPlan,
    augment: AugmentSettings,
    epoch: int,
    first: int = 0,
    share: Callable[[int], slice] | None = None,
) -> Iterator[NetworkBatch]:
    """The batches of an epoch, ready for the network.

    The next batches are read, decoded, altered and normalised by as many threads as there are
    cores while the caller works on this one. What becomes of an image is decided by the seed, the
    epoch and its place in the epoch: neither `first` nor `share` change it.

    Args:
        images: those that the plan is of.
        normalise: writes what the network reads, `(R, height, width, channels)`, of images
            `(R, height, width, 3)`, which it may change; called by several threads at once.
        channels: that the network reads.
        plan: which images come together, and the seed.
        augment: how images are altered. The order is the same whatever it says.
        epoch: at least 0; another epoch, another order and other alterations.
        first: batches to leave out, for an epoch that goes on in its middle.
        share: which part of a batch of so many images this process takes; all of it by default.

    Returns:
        An iterator over the batches; the caller may change their arrays.

    Raises:
        DataError: in the iterator, for an image that has become unreadable.
        ValueError: an argument is out of range, or the plan is of images with other labels.
    """
    if not np.array_equal(plan.labels, images.labels):
        raise ValueError("the plan is of images with other labels")
    if not 0 <= first <= plan.n_batches:
        raise ValueError(f"first must be from 0 to {plan.n_batches}, got {first}")
    rng = plan.generator(epoch)
    order = plan.order(rng)
    n_places = len(order)
    mirrored = rng.random(n_places) < 0.5 if augment.flip else np.zeros(n_places, dtype=np.bool_)
    reach = augment.shift
    work = _Epoch(
        images=images,
        augment=augment,
        key=(plan.seed, epoch),
        order=order,
        mirrored=mirrored,
        moves=rng.integers(-reach, reach + 1, (n_places, 2)) if reach else None,
    )
    places = []
    for position in range(first, plan.n_batches):
        start = position * plan.batch_size
        whole = range(start, start + plan.size(position))
        places.append(whole if share is None else whole[share(len(whole))])
    return _made(work, places, channels, normalise)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Epoch:
    """What happens to each image of an epoch, in its order.

    Args:
        images: of which it is an epoch.
        augment: what is done to them.
        key: seed and epoch, for what is drawn for one image alone.
        order: `(M,)`, numbers of images.
        mirrored: `(M,)`, by place in the order.
        moves: `(M, 2)` by place in the order, down and right.
    """

    images: FaceImages
    augment: AugmentSettings
    key: tuple[int, int]
    order: _Rows
    mirrored: npt.NDArray[np.bool_]
    moves: _Rows | None

    def read(self, places: slice) -> _Pixels:
        """The images at some places of the order."""
        order = self.order[places]
        shape = (len(order), self.images.height, self.images.width, 3)
        pixels = np.empty(shape, dtype=np.uint8)
        self.images.pixels.read_into(self.images.rows[order], pixels)
        for position in np.flatnonzero(self.mirrored[places]):
            mirror(pixels[position])
        if self.moves is not None:
            pixels = shifted(pixels, self.moves[places], self.augment.shift)
        if not self.augment.only_moves:
            for image, place in zip(pixels, range(len(self.order))[places], strict=True):
                # a zero at the end would give the generator of the order
                rng = np.random.default_rng([*self.key, place + 1])
                image[...] = altered(image, self.augment, rng)
        return pixels


_Begun = tuple[list[Future[None]], NetworkBatch]
"""A batch that is being filled, and what fills it."""


def _made(
    epoch: _Epoch,
    batches: list[range],
    channels: int,
    normalise: Callable[[_Pixels, _Values], None],
) -> Iterator[NetworkBatch]:
    """The batches at these places; some are begun before they are asked for."""
    n_ahead = max(1, _AHEAD // max(map(len, batches), default=1))
    begun: deque[_Begun] = deque()
    try:
        for places in batches:
            begun.append(_begin(epoch, places, channels, normalise))
            if len(begun) > n_ahead:
                yield _finished(begun)
        while begun:
            yield _finished(begun)
    finally:
        for tasks, _ in begun:
            for task in tasks:
                task.cancel()


def _begin(
    epoch: _Epoch, places: range, channels: int, normalise: Callable[[_Pixels, _Values], None]
) -> _Begun:
    shape = (len(places), epoch.images.height, epoch.images.width, channels)
    values = np.empty(shape, dtype=np.float32)

    def fill(first: int) -> None:
        last = min(first + RUN, places.stop)
        normalise(
            epoch.read(slice(first, last)), values[first - places.start : last - places.start]
        )

    tasks = [data_threads().submit(fill, first) for first in places[::RUN]]
    part = slice(places.start, places.stop)
    indices = epoch.order[part]
    return tasks, NetworkBatch(
        values=values,
        labels=epoch.images.labels[indices],
        indices=indices,
        mirrored=epoch.mirrored[part],
    )


def _finished(begun: deque[_Begun]) -> NetworkBatch:
    """The oldest batch, once all of it is there."""
    for task in begun[0][0]:
        task.result()
    return begun.popleft()[1]
