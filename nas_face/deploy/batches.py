"""Crops as the input of a file, a batch at a time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images `(N, H, W, 3)` as the network input `(N, 3, H, W)`, still RGB and 0 to 255."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


def embed_in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    images: NDArray[np.uint8],
    *,
    size: tuple[int, int],
    embedding_size: int,
    flip: bool,
    batch_size: int,
) -> NDArray[np.float32]:
    """`Session.embed` by means of `Session.run`.

    Args:
        run: the latter.
        images: crops.
        size: height and width that they must have.
        embedding_size: length of an embedding.
        flip: add the embedding of the mirrored crop.
        batch_size: images in one forward pass.

    Raises:
        ValueError: the images have another type or size, or `batch_size` is below 1.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (*size, 3):
        raise ValueError(
            f"images must be uint8 of shape (N, {size[0]}, {size[1]}, 3), "
            f"got {images.dtype} of shape {images.shape}"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    y = np.zeros((len(images), embedding_size), np.float32)
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        y[start : start + batch_size] = run(as_input(batch))
        if flip:
            y[start : start + batch_size] += run(as_input(batch[:, :, ::-1]))
    return y
