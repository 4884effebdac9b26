"""Images that the ranges of values are measured on."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import CompressionError

MIN_IMAGES: Final = 8


def require_images(images: NDArray[np.uint8], height: int, width: int, source: Path) -> None:
    """Refuse images that a file cannot be calibrated on.

    Args:
        images: to calibrate on.
        height: that the file takes.
        width: that the file takes.
        source: the file, for messages.

    Raises:
        CompressionError: they are too few, or of another type or size.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
        raise CompressionError(
            f"{source}: calibration images must be uint8 of shape (N, {height}, {width}, 3), got "
            f"{images.dtype} of shape {images.shape}"
        )
    if len(images) < MIN_IMAGES:
        raise CompressionError(
            f"{source}: calibration needs at least {MIN_IMAGES} images, got {len(images)}"
        )
