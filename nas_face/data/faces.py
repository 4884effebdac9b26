"""Face images with the identities that they show."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt

from nas_face.data.pixels import MemoryPixels, PixelSource
from nas_face.errors import DataError, near_names


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedImage:
    """Something that was found while loading and left out.

    Args:
        name: the image, or the identity's folder, relative to the data set's root.
        reason: why it was left out.
    """

    name: str
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceImages:
    """Images of one size, each with the identity that it shows.

    Args:
        pixels: where the images come from; several `FaceImages` may share one source.
        rows: the row of each image in `pixels`, int64 `(N,)`.
        labels: the identity of each image, int64 `(N,)`, in 0..n_identities - 1; each identity has
            an image.
        identities: the name of each label, without repetition.
        names: the name of each image: its path relative to the data set's root, with forward
            slashes.
        skipped: what was left out while loading.

    Raises:
        ValueError: the parts do not fit together.

    >>> images = FaceImages.from_array(np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 1, 1]))
    >>> len(images), images.n_identities, images.batch(np.array([2, 0])).shape
    (3, 2, (2, 8, 8, 3))
    """

    pixels: PixelSource
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    identities: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()

    def __post_init__(self) -> None:
        if self.rows.shape != (len(self.names),) or self.labels.shape != (len(self.names),):
            raise ValueError(
                f"{len(self.names)} names need as many rows and labels, "
                f"got shapes {self.rows.shape} and {self.labels.shape}"
            )
        if len(set(self.identities)) != len(self.identities):
            raise ValueError("identities must not repeat a name")
        if not np.array_equal(np.unique(self.labels), np.arange(len(self.identities))):
            raise ValueError(
                f"labels must use each of 0..{len(self.identities) - 1}, one for each identity"
            )
        if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < len(self.pixels):
            raise ValueError(f"rows must lie in 0..{len(self.pixels) - 1}")

    @classmethod
    def from_array(
        cls,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        identities: Sequence[str] | None = None,
    ) -> Self:
        """Wrap images that are already in memory.

        Args:
            pixels: uint8 RGB, `(N, height, width, 3)`; not copied.
            labels: `(N,)`, using each of 0..K - 1.
            identities: K names; `id0`, `id1`, ... by default.

        Returns:
            The images, named `IDENTITY/ROW`.

        Raises:
            ValueError: the parts do not fit together.
        """
        labels = np.asarray(labels, dtype=np.int64)
        if identities is None:
            identities = [f"id{label}" for label in range(len(np.unique(labels)))]
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(identities):
            raise ValueError(f"labels must use each of 0..{len(identities) - 1}")
        return cls(
            pixels=MemoryPixels(array=pixels),
            rows=np.arange(len(pixels), dtype=np.int64),
            labels=labels,
            identities=tuple(identities),
            names=tuple(f"{identities[label]}/{row}" for row, label in enumerate(labels)),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_identities(self) -> int:
        """Number of identities."""
        return len(self.identities)

    @property
    def height(self) -> int:
        """Rows of every image, in pixels."""
        return self.pixels.height

    @property
    def width(self) -> int:
        """Columns of every image, in pixels."""
        return self.pixels.width

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Pixels of some images.

        Args:
            indices: `(B,)`, in 0..N - 1; may repeat.

        Returns:
            uint8 RGB, `(B, height, width, 3)`, an array that the caller may change.

        Raises:
            DataError: an image that is decoded on demand has become unreadable since it was
                loaded.
            IndexError: an index is out of range.
        """
        return self.pixels.read(self.rows[np.asarray(indices, dtype=np.int64)])

    def subset(self, identities: Collection[str]) -> "FaceImages":
        """The images of some identities, relabelled 0..K - 1; everything keeps its order.

        Args:
            identities: names, each of them known; their own order does not matter.

        Returns:
            Images that share the pixels with these; `skipped` does not go with them.

        Raises:
            DataError: `identities` is empty or holds an unknown name.
        """
        wanted = set(identities)
        if not wanted:
            raise DataError("a subset of the identities must name at least one, got none")
        unknown = sorted(wanted.difference(self.identities))
        if unknown:
            raise DataError(
                f"no identity is named {unknown[0]!r} ({len(unknown)} of {len(wanted)} names "
                f"are unknown); {near_names(unknown[0], self.identities)}"
            )
        kept = np.array([name in wanted for name in self.identities])
        new_labels = np.cumsum(kept) - 1
        chosen = np.flatnonzero(kept[self.labels])
        return FaceImages(
            pixels=self.pixels,
            rows=self.rows[chosen],
            labels=new_labels[self.labels[chosen]].astype(np.int64),
            identities=tuple(name for name in self.identities if name in wanted),
            names=tuple(self.names[index] for index in chosen),
        )
