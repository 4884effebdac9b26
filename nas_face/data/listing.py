"""What a data set holds, before any image is decoded."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import Blobs
from nas_face.data.faces import SkippedImage


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceListing:
    """Encoded images with the identity of each.

    Args:
        root: file or folder that they came from.
        blobs: the images.
        names: of each image, unique: its path in the data set, `IDENTITY/FILE`, forward slashes.
        identities: of each image.
        skipped: what was left out already.
    """

    root: Path
    blobs: Blobs
    names: tuple[str, ...]
    identities: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.blobs) == len(self.names) == len(self.identities):
            raise ValueError(
                f"{len(self.blobs)} images, {len(self.names)} names and {len(self.identities)} "
                "identities do not fit together"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairListing:
    """Encoded images with pairs of them.

    Args:
        path: file or folder that states the pairs.
        blobs: the images.
        names: of each image, unique.
        identities: of each image; in a set that does not tell, its folder, or its own name.
        first: int64 `(P,)`, rows of the images.
        second: int64 `(P,)`, likewise.
        same: bool `(P,)`.
        n_folds: contiguous folds that the list comes in; None deals the pairs to 10.
        lines: where the list states each pair, such as `12` for a line, for messages; may be
            empty.
    """

    path: Path
    blobs: Blobs
    names: tuple[str, ...]
    identities: tuple[str, ...]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]
    n_folds: int | None
    lines: tuple[int, ...] = ()
