"""What became of each photo."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from nas_face.errors import DataError

Status = Literal["ok", "no face", "low score", "too small", "broken"]

STATUSES: tuple[Status, ...] = ("ok", "no face", "low score", "too small", "broken")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotoResult:
    """What became of one photo.

    Args:
        source: the photo, relative to the folder of photos, with forward slashes.
        status: `ok`; `no face` was found; the best has too `low score`; those that have it are
            `too small`; or the photo is `broken`.
        crop: relative to the folder of crops; None without one.
        n_faces: faces with the asked score.
        score: of the face that was taken, or of the one that came nearest to it; None without.
        box: of that face: x, y, width, height, in pixels of the upright photo.
        landmarks: of that face, `(5, 2)`, likewise.
        reason: why it is broken.
    """

    source: str
    status: Status
    crop: str | None = None
    n_faces: int = 0
    score: float | None = None
    box: tuple[float, float, float, float] | None = None
    landmarks: npt.NDArray[np.float64] | None = None
    reason: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignReport:
    """What became of a folder of photos.

    Args:
        photos: the folder.
        out: the folder of crops.
        results: one a photo, sorted by source.
        n_done_before: photos whose crops were there already.
        ignored: files with another ending than a photo's, by ending.
    """

    photos: Path
    out: Path
    results: tuple[PhotoResult, ...]
    n_done_before: int
    ignored: Mapping[str, int]

    @property
    def counts(self) -> dict[Status, int]:
        """Photos by status; every status is named."""
        found = Counter(result.status for result in self.results)
        return {status: found[status] for status in STATUSES}

    @property
    def missing_share(self) -> float:
        """Share of the photos that have no crop, 0..1."""
        return 1.0 - self.counts["ok"] / len(self.results)

    def missing(self, status: Status) -> tuple[PhotoResult, ...]:
        """The photos of one status."""
        return tuple(result for result in self.results if result.status == status)

    def check(self, max_missing: float | None = None) -> None:
        """Refuse a result with too few crops.

        Args:
            max_missing: share of the photos that may have none, 0..1; None accepts any as long as
                there is a crop.

        Raises:
            DataError: there is no crop at all, or more are missing.
        """
        n_missing = len(self.results) - self.counts["ok"]
        first = next((result for result in self.results if result.status != "ok"), None)
        if first is None:
            return
        why = f"first {first.source} ({first.reason or first.status})"
        if n_missing == len(self.results):
            raise DataError(
                f"{self.photos}: no face was found in any of its {n_missing} photos, {why}; "
                f"{self.out / 'aligned.csv'} lists them"
            )
        if max_missing is not None and self.missing_share > max_missing:
            raise DataError(
                f"{self.photos}: {n_missing} of {len(self.results)} photos have no crop, which is "
                f"more than the allowed share of {max_missing:g}, {why}; "
                f"{self.out / 'aligned.csv'} lists them"
            )
