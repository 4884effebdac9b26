"""Images to calibrate on: of the study, of another source, or made up."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas_face.data import FaceImages
from nas_face.deploy.calibration import MIN_IMAGES
from nas_face.errors import CompressionError
from nas_face.search import derive_seed
from nas_face.study.compression.step_settings import STUDY_IMAGES, SYNTHETIC_IMAGES
from nas_face.study.config import DataSettings
from nas_face.study.faces import load_source, sample_images

_SCALES = (4, 8, 16, 32, 64)  # pixels


def calibration_images(
    source: str, n_images: int, train: FaceImages, *, seed: int
) -> NDArray[np.uint8]:
    """Crops to calibrate on, `(n, H, W, 3)` RGB of the size of `train`.

    Args:
        source: `study`, `synthetic`, or faces in any format that a study takes.
        n_images: how many; fewer where there are no more.
        train: training images of the study.
        seed: of the choice, or of what is made up.

    Raises:
        DataError: the source has no faces that can be read.
        CompressionError: it has too few.
    """
    own = derive_seed(seed, "calibration")
    if source == SYNTHETIC_IMAGES:
        return made_up_images(n_images, train.height, train.width, seed=own)
    images = train
    if source != STUDY_IMAGES:
        settings = replace(DataSettings(), source=source)
        images = load_source(settings, height=train.height, width=train.width)
    found = sample_images(images, n_images, seed=own)
    if len(found) < MIN_IMAGES:
        raise CompressionError(
            f"calibration takes at least {MIN_IMAGES} face crops, and {source} has {len(found)}"
        )
    return found


def made_up_images(n: int, height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Noise with the spectrum of photographs, `(n, height, width, 3)`: strong where it is coarse.

    Real crops set better ranges; this is for where none may be used.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((n, height, width, 3))
    for scale in _SCALES:
        rows, columns = (-(-side // scale) + 1 for side in (height, width))
        coarse = rng.normal(size=(n, rows, columns, 3)) + rng.normal(size=(n, rows, columns, 1))
        total += scale**0.5 * _stretched(coarse, height, width, scale)
    total -= total.mean(axis=(1, 2, 3), keepdims=True)
    total /= total.std(axis=(1, 2, 3), keepdims=True)
    contrast, brightness = rng.uniform(35, 65, (n, 1, 1, 1)), rng.uniform(90, 150, (n, 1, 1, 1))
    return np.clip(brightness + contrast * total, 0, 255).round().astype(np.uint8)


def _stretched(
    coarse: NDArray[np.float64], height: int, width: int, scale: int
) -> NDArray[np.float64]:
    """A grid of values made finer by straight lines between them."""
    for axis, side in ((1, height), (2, width)):
        at = np.arange(side) / scale
        low = at.astype(np.int64)
        share = (at - low).reshape([-1 if axis == each else 1 for each in range(4)])
        lower, upper = np.take(coarse, low, axis), np.take(coarse, low + 1, axis)
        coarse = lower * (1 - share) + upper * share
    return coarse
