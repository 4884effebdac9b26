"""Whether two ways of running a model give the same embeddings."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import DeployError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Agreement of two sets of embeddings of the same images.

    Attributes:
        n_images: images compared.
        min_cosine: lowest cosine of an image's two embeddings.
        p01_cosine: first percentile of the cosines, interpolated linearly.
        mean_cosine: their mean.
        max_abs_difference: largest difference of a single value.
    """

    n_images: int
    min_cosine: float
    p01_cosine: float
    mean_cosine: float
    max_abs_difference: float


def embedding_parity(a: NDArray[np.floating], b: NDArray[np.floating]) -> Parity:
    """Compare embeddings row by row, in double precision.

    Two all-zero rows agree (cosine 1); a single one does not (cosine 0). A row with a value that
    is not finite has cosine -1, so that no gate lets it through, and makes the largest difference
    infinite.

    Args:
        a: `(N, D)`.
        b: `(N, D)`, of the same images.

    Raises:
        ValueError: the shapes differ, are not `(N, D)`, or there is no image.

    Example:
        >>> a = np.array([[3.0, 4.0], [1.0, 0.0]])
        >>> embedding_parity(a, 2 * a).min_cosine
        1.0
    """
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise ValueError(f"embeddings must be two arrays (N, D), N > 0, got {a.shape}, {b.shape}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    cosines = np.full(len(a), -1.0)
    cosines[finite] = _cosines(a[finite], b[finite])
    return Parity(
        n_images=len(a),
        min_cosine=float(cosines.min()),
        p01_cosine=float(np.percentile(cosines, 1)),
        mean_cosine=float(cosines.mean()),
        max_abs_difference=float(np.abs(a - b).max()) if finite.all() else float("inf"),
    )


def require_parity(parity: Parity, *, min_cosine: float, where: str) -> None:
    """Refuse a file that does not agree with its source.

    Args:
        parity: what was measured.
        min_cosine: the worst image must reach this cosine.
        where: file or step; starts the message.

    Raises:
        DeployError: it does not.
    """
    if parity.min_cosine < min_cosine:
        raise DeployError(
            f"{where}: embeddings must keep cosine {min_cosine:g} with those of the source on "
            f"every image, got {parity.min_cosine:.5f} at worst and {parity.mean_cosine:.5f} on "
            f"average over {parity.n_images} images"
        )


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths_a * lengths_b
    both_zero = (lengths_a == 0) & (lengths_b == 0)
    cosines = (a * b).sum(axis=1) / np.where(product == 0, 1.0, product)
    return np.where(both_zero, 1.0, np.clip(cosines, -1.0, 1.0))
