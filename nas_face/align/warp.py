"""Five points -> similarity transform -> crop."""

import math

import numpy as np
import numpy.typing as npt

from nas_face.align.opencv import opencv

TEMPLATE_SIZE = 112

TEMPLATE: npt.NDArray[np.float64] = np.array(
    [
        (38.2946, 51.6963),  # the eye on the left of the image
        (73.5318, 51.5014),  # the eye on the right of the image
        (56.0252, 71.7366),  # tip of the nose
        (41.5493, 92.3655),  # corner of the mouth on the left of the image
        (70.7299, 92.2041),  # corner of the mouth on the right of the image
    ]
)
"""Where InsightFace puts the five points in a crop of 112x112 pixels, as (x, y)."""
TEMPLATE.setflags(write=False)

# Shrinking by less than this is left to bilinear interpolation, as InsightFace does at any size.
_MILD_SHRINK = 1.25


def scaled_template(size: int) -> npt.NDArray[np.float64]:
    """The five points in a square crop of another size.

    Args:
        size: rows and columns of the crop, at least 1.

    Returns:
        `(5, 2)`, as (x, y) in pixels: `TEMPLATE` times size / 112.

    Differs:
        InsightFace scales so too where 112 divides the size; for multiples of 128 it leaves wider
        margins left and right.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"a crop needs a size of at least 1, got {size}")
    return TEMPLATE * (size / TEMPLATE_SIZE)


def similarity_transform(
    source: npt.NDArray[np.floating], target: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Rotation, uniform scale and shift that take points nearest to others, in least squares.

    Mirroring is not allowed.

    Args:
        source: `(N, 2)`, N at least 2, as (x, y).
        target: `(N, 2)`, likewise.

    Returns:
        `(2, 3)`, to be used as `apply_transform` does.

    Raises:
        ValueError: the shapes are others, a number is not finite, or the points of one side are
            all the same.

    Source:
        Umeyama, "Least-squares estimation of transformation parameters between two point
        patterns", IEEE TPAMI 13(4), 1991. In the plane its singular value decomposition comes down
        to two sums.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(
            f"points must be two arrays (N, 2) alike, got {source.shape} and {target.shape}"
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("points must be finite")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    spread = float((a**2).sum())
    cosine = float((a * b).sum())
    sine = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
    if spread == 0.0 or math.hypot(cosine, sine) == 0.0:
        raise ValueError("no similarity transform fits points that are all the same")
    turn = np.array([(cosine, -sine), (sine, cosine)]) / spread
    return np.column_stack([turn, target_mean - turn @ source_mean])


def apply_transform(
    transform: npt.NDArray[np.float64], points: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Move points `(N, 2)`, as (x, y), by a transform `(2, 3)`."""
    moved: npt.NDArray[np.float64] = points @ transform[:, :2].T + transform[:, 2]
    return moved


def inverse_transform(transform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The transform `(2, 3)` that undoes one."""
    back = np.linalg.inv(transform[:, :2])
    return np.column_stack([back, -back @ transform[:, 2]])


def warp(
    image: npt.NDArray[np.uint8], transform: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.uint8]:
    """Cut a square crop out of an image by a similarity transform.

    What lies outside the image is black, as in InsightFace's `norm_crop`. Interpolation is
    bilinear. An image that is shrunk is sampled k times as densely along each side, about once a
    pixel of it, and k x k samples are averaged: bilinear samples further apart would skip pixels,
    and fine texture would turn into false patterns.

    Args:
        image: uint8, `(H, W, 3)`.
        transform: `(2, 3)`, from the pixels of the image to those of the crop; whole numbers are
            the centres of pixels.
        size: rows and columns of the crop.

    Returns:
        uint8, `(size, size, 3)`.

    Differs:
        `norm_crop` interpolates bilinearly at any size.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    cv2 = opencv()
    back = inverse_transform(transform)
    shrink = math.sqrt(abs(float(np.linalg.det(back[:, :2]))))  # pixels of the image for one
    # The part of the image that the crop sees, because OpenCV takes no image of 32,768 columns.
    corners = np.array([(-1, -1), (size, -1), (size, size), (-1, size)], dtype=np.float64)
    seen = apply_transform(back, corners)
    left, top = np.maximum(np.floor(seen.min(axis=0)).astype(int) - 2, 0)
    right, bottom = np.maximum(np.ceil(seen.max(axis=0)).astype(int) + 3, 0)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    if part.size == 0:
        return np.zeros((size, size, 3), dtype=np.uint8)
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ (left, top)
    density = 1 if shrink < _MILD_SHRINK else math.ceil(shrink - 0.01)
    dense = density * shifted
    dense[:, 2] += (density - 1) / 2  # from centres of coarse pixels to centres of fine ones
    crop = cv2.warpAffine(
        part,
        dense,
        (density * size, density * size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0),
    )
    if density > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, dtype=np.uint8)
