"""What a data set consists of: counts, sizes, encodings, odd images, equal files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from nas_face.data.faces import SkippedImage
from nas_face.data.inspection import InspectedImages
from nas_face.data.listing import FaceListing, PairListing

_T = TypeVar("_T", str, tuple[int, int])

DARK = 20.0
"""Images of less mean luma than this, of 255, are called dark (assumed)."""
BRIGHT = 235.0
"""Images of more mean luma than this, of 255, are called bright (assumed)."""
FLAT = 10.0
"""Images whose luma has a smaller standard deviation than this are called flat (assumed)."""
CONSTANT = 1.0
"""Images whose luma has a smaller standard deviation than this show nothing: only a lossy
encoder's noise."""

DEFAULT_FEW = 2
"""Identities with fewer images than this are near-empty: they make no genuine pair."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of some numbers; all NaN where there is none."""

    minimum: float
    median: float
    mean: float
    maximum: float

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> Self:
        if not len(values):
            return cls(minimum=np.nan, median=np.nan, mean=np.nan, maximum=np.nan)
        numbers = values.astype(np.float64)
        return cls(
            minimum=float(numbers.min()),
            median=float(np.median(numbers)),
            mean=float(numbers.mean()),
            maximum=float(numbers.max()),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a histogram: how many numbers lie in `first` to `last`, both included."""

    first: int
    last: int
    count: int


def bars_of(values: npt.NDArray[np.int64]) -> tuple[Bar, ...]:
    """A histogram of counts of at least 1, whose bars begin at 1, 2, 5, 10, 20, 50, ...

    Bars before the smallest and behind the largest number are left out, empty ones between them
    are not.
    """
    if not len(values):
        return ()
    largest = int(values.max())
    starts = [first * 10**zeros for zeros in range(len(str(largest)) + 1) for first in (1, 2, 5)]
    bars = [
        Bar(
            first=first,
            last=after - 1,
            count=int(np.count_nonzero((first <= values) & (values < after))),
        )
        for first, after in zip(starts, starts[1:], strict=False)
    ]
    filled = [number for number, bar in enumerate(bars) if bar.count]
    return tuple(bars[filled[0] : filled[-1] + 1])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStatistics:
    """How the images of a data set spread over its identities; no image is opened for it.

    Args:
        n_identities: with an image.
        n_images: listed.
        images_per_identity: spread of their numbers.
        bars: histogram of their numbers.
        few: the identities with fewer images than asked, with their numbers, by name.
        skipped: what the listing had left out.
    """

    n_identities: int
    n_images: int
    images_per_identity: Spread
    bars: tuple[Bar, ...]
    few: tuple[tuple[str, int], ...]
    skipped: tuple[SkippedImage, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EqualImages:
    """Images whose files are equal to the last byte.

    Args:
        names: two or more.
        identities: of each, in the same order.
    """

    names: tuple[str, ...]
    identities: tuple[str, ...]

    @property
    def n_identities(self) -> int:
        """Different ones; more than one means that a person has two names, or a wrong image."""
        return len(set(self.identities))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatistics:
    """What the images that were looked at are like.

    Args:
        n_images: looked at, broken ones included.
        broken: that cannot be decoded, in the data set's order.
        size_bytes: all encoded images together.
        bytes_per_image: spread.
        sizes: upright `(height, width)` with the number of images, the common ones first.
        encodings: such as `JPEG`, with the number of images, the common ones first.
        kinds: `colour`, `grey`, `CMYK`, `16-bit`, `palette`, `transparent`, likewise.
        n_turned: that EXIF says are stored turned or mirrored.
        brightness: mean luma, 0 to 255, spread over images.
        contrast: standard deviation of luma, spread over images.
        dark: names of images below `DARK`, without the constant ones.
        bright: names of images above `BRIGHT`, likewise.
        flat: names of images below `FLAT`, likewise.
        constant: names of images below `CONSTANT`.
        equal: groups of equal files.
    """

    n_images: int
    broken: tuple[SkippedImage, ...]
    size_bytes: int
    bytes_per_image: Spread
    sizes: tuple[tuple[tuple[int, int], int], ...]
    encodings: tuple[tuple[str, int], ...]
    kinds: tuple[tuple[str, int], ...]
    n_turned: int
    brightness: Spread
    contrast: Spread
    dark: tuple[str, ...]
    bright: tuple[str, ...]
    flat: tuple[str, ...]
    constant: tuple[str, ...]
    equal: tuple[EqualImages, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatistics:
    """How a list of pairs is made; no image is opened for it.

    Args:
        n_same: genuine pairs.
        n_different: impostor pairs.
        folds: same and different pairs of each fold; empty where the list has none of its own.
        n_images: that pairs use.
        n_identities: that pairs use.
        names_people: whether the set tells who is shown; False where each image is its own
            identity.
        uses_per_image: in how many pairs an image is, spread over the used images.
        uses_per_identity: likewise for identities; a pair within an identity counts once.
        most_used: the images in most pairs, with their numbers.
        n_in_both: images that are in pairs of both kinds.
        n_repeated: pairs that came before, in either order.
        contradictory: images of pairs that are said to be of one identity and are listed under
            two, or the reverse; empty where the set does not tell.
    """

    n_same: int
    n_different: int
    folds: tuple[tuple[int, int], ...]
    n_images: int
    n_identities: int
    names_people: bool
    uses_per_image: Spread
    uses_per_identity: Spread
    most_used: tuple[tuple[str, int], ...]
    n_in_both: int
    n_repeated: int
    contradictory: tuple[tuple[str, str], ...]


def identity_statistics(listing: FaceListing, *, few: int = DEFAULT_FEW) -> IdentityStatistics:
    """Count the images of each identity.

    Args:
        listing: the data set.
        few: identities with fewer images than this are named, at least 1.

    Raises:
        ValueError: `few` is below 1.
    """
    if few < 1:
        raise ValueError(f"few must be at least 1, got {few}")
    found = Counter(listing.identities)
    counts = np.array(list(found.values()), dtype=np.int64)
    return IdentityStatistics(
        n_identities=len(found),
        n_images=len(listing.names),
        images_per_identity=Spread.of(counts),
        bars=bars_of(counts),
        few=tuple(sorted((name, count) for name, count in found.items() if count < few)),
        skipped=listing.skipped,
    )


def image_statistics(
    images: InspectedImages, names: Sequence[str], identities: Sequence[str]
) -> ImageStatistics:
    """Sum up what was seen.

    Args:
        images: what was seen of images of a data set.
        names: of every image of the data set, by row.
        identities: likewise.
    """
    good = images.heights > 0
    contrast, brightness = images.contrast, images.brightness
    with np.errstate(invalid="ignore"):
        constant = contrast < CONSTANT
        dark, bright = (brightness < DARK) & ~constant, (brightness > BRIGHT) & ~constant
        flat = (contrast < FLAT) & ~constant
    sizes = zip(images.heights[good].tolist(), images.widths[good].tolist(), strict=True)

    def named(mask: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(names[row] for row in images.rows[mask])

    return ImageStatistics(
        n_images=len(images.rows),
        broken=tuple(
            SkippedImage(name=names[row], reason=images.broken[row])
            for row in sorted(images.broken)
        ),
        size_bytes=int(images.size_bytes.sum()),
        bytes_per_image=Spread.of(images.size_bytes[images.size_bytes > 0]),
        sizes=_common_first(Counter(sizes)),
        encodings=_common_first(Counter(filter(None, images.encodings))),
        kinds=_common_first(Counter(filter(None, images.kinds))),
        n_turned=int(np.count_nonzero(images.turned)),
        brightness=Spread.of(brightness[good]),
        contrast=Spread.of(contrast[good]),
        dark=named(dark),
        bright=named(bright),
        flat=named(flat),
        constant=named(constant),
        equal=_equal_images(images, names, identities),
    )


def pair_statistics(listing: PairListing) -> PairStatistics:
    """Count how pairs use images and identities."""
    n_images = len(listing.names)
    both = np.stack([listing.first, listing.second], axis=1)  # (P, 2)
    uses = np.bincount(both.ravel(), minlength=n_images)
    same_uses = np.bincount(both[listing.same].ravel(), minlength=n_images)
    used = np.flatnonzero(uses)
    known, label = np.unique(np.array(listing.identities, dtype=object), return_inverse=True)
    owners = np.sort(label[both], axis=1)  # (P, 2)
    one_owner = owners[:, 0] == owners[:, 1]
    identity_uses = np.bincount(owners[:, 0], minlength=len(known))
    identity_uses += np.bincount(owners[~one_owner, 1], minlength=len(known))
    names_people = tells_people(listing.names, listing.identities)
    wrong = np.flatnonzero((one_owner != listing.same) & names_people)
    distinct = len(np.unique(np.sort(both, axis=1), axis=0))
    order = sorted(used.tolist(), key=lambda row: (-uses[row], listing.names[row]))
    return PairStatistics(
        n_same=int(np.count_nonzero(listing.same)),
        n_different=int(np.count_nonzero(~listing.same)),
        folds=_folds(listing),
        n_images=len(used),
        n_identities=int(np.count_nonzero(identity_uses)),
        names_people=names_people,
        uses_per_image=Spread.of(uses[used]),
        uses_per_identity=Spread.of(identity_uses[identity_uses > 0]),
        most_used=tuple((listing.names[row], int(uses[row])) for row in order[:5]),
        n_in_both=int(np.count_nonzero((same_uses > 0) & (same_uses < uses))),
        n_repeated=len(both) - distinct,
        contradictory=tuple(
            (listing.names[listing.first[pair]], listing.names[listing.second[pair]])
            for pair in wrong
        ),
    )


def tells_people(names: Sequence[str], identities: Sequence[str]) -> bool:
    """Whether identities are more than the images' own names."""
    return any(name != identity for name, identity in zip(names, identities, strict=True))


def _folds(listing: PairListing) -> tuple[tuple[int, int], ...]:
    if listing.n_folds is None:
        return ()
    runs = np.array_split(listing.same, listing.n_folds)
    return tuple((int(run.sum()), int((~run).sum())) for run in runs)


def _common_first(counts: Counter[_T]) -> tuple[tuple[_T, int], ...]:
    """By falling count; equal counts by value."""
    return tuple(sorted(sorted(counts.items()), key=lambda item: -item[1]))


def _equal_images(
    images: InspectedImages, names: Sequence[str], identities: Sequence[str]
) -> tuple[EqualImages, ...]:
    groups: dict[bytes, list[int]] = {}
    for row, digest in zip(images.rows.tolist(), images.digests.tolist(), strict=True):
        if row not in images.broken:
            groups.setdefault(digest, []).append(row)
    return tuple(
        EqualImages(
            names=tuple(names[row] for row in rows),
            identities=tuple(identities[row] for row in rows),
        )
        for rows in groups.values()
        if len(rows) > 1
    )
