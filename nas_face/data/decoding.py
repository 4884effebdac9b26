"""From a listing to images and pairs: what is broken is named, and the rest goes on."""

import logging
from collections.abc import Collection

import numpy as np

from nas_face.data.blobs import ChosenBlobs
from nas_face.data.faces import FaceImages, SkippedImage
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.pairs import DEFAULT_N_FOLDS, PairList, fold_order
from nas_face.data.pixels import DEFAULT_CACHE_BYTES, open_pixels
from nas_face.errors import DataError

DEFAULT_MAX_BROKEN_SHARE = 0.5
"""More broken images than this share of a data set are an error."""

_logger = logging.getLogger(__name__)


def decode_faces(
    listing: FaceListing,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    exclude: Collection[str] = (),
    max_broken_share: float = DEFAULT_MAX_BROKEN_SHARE,
) -> FaceImages:
    """Decode the images of a data set, in its order; identities are sorted by name.

    Images that cannot be decoded and identities without a readable image are left out, named in
    `skipped` with what the listing had left out already, and counted in one logged warning.

    Args:
        listing: the data set.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        cache_bytes: how much memory the decoded images may take; beyond it they are decoded again
            whenever they are asked for. All are decoded once here, so that broken ones are known.
        exclude: identities that are left out on purpose, and not named in `skipped`. Names that
            are not there are counted in a logged warning.
        max_broken_share: of the images that are not excluded, 0 to 1; if more are broken, that is
            an error.

    Returns:
        The images of at least two identities.

    Raises:
        DataError: there is no image, too many are broken, or fewer than two identities remain.
        ValueError: an argument is out of range.
    """
    if not 0 <= max_broken_share <= 1:
        raise ValueError(f"max_broken_share must lie in 0 to 1, got {max_broken_share}")
    excluded = set(exclude)
    left_out = [each for each in listing.skipped if _folder(each.name) not in excluded]
    _warn_of_absent(listing, excluded)
    chosen = [row for row, who in enumerate(listing.identities) if who not in excluded]
    if not chosen:
        why = "each of its identities is excluded" if listing.names else "it has no image"
        raise DataError(f"{listing.root}: {why}")
    blobs = listing.blobs
    if len(chosen) < len(blobs):
        blobs = ChosenBlobs(blobs, np.array(chosen, dtype=np.int64))
    pixels, broken = open_pixels(blobs, height=height, width=width, cache_bytes=cache_bytes)
    names = [listing.names[row] for row in chosen]
    owners = [listing.identities[row] for row in chosen]
    _refuse_if_mostly_broken(listing, names, broken, max_broken_share)

    rows = [row for row in range(len(chosen)) if row not in broken]
    identities = sorted({owners[row] for row in rows})
    lost = set(owners).difference(identities)
    left_out += [SkippedImage(name=name, reason="identity without an image") for name in lost]
    left_out.sort(key=lambda each: each.name)
    skipped = [SkippedImage(name=names[row], reason=broken[row]) for row in sorted(broken)]
    skipped += left_out
    if len(identities) < 2:
        raise DataError(
            f"{listing.root}: at least 2 identities are needed to tell faces apart, found only "
            f"{identities[0]!r}"
        )
    if skipped:
        _logger.warning(
            "%s: left out %d of its images and folders, first %s (%s)",
            listing.root,
            len(skipped),
            skipped[0].name,
            skipped[0].reason,
        )
    label_of = {name: label for label, name in enumerate(identities)}
    return FaceImages(
        pixels=pixels,
        rows=np.array(rows, dtype=np.int64),
        labels=np.array([label_of[owners[row]] for row in rows], dtype=np.int64),
        identities=tuple(identities),
        names=tuple(names[row] for row in rows),
        skipped=tuple(skipped),
    )


def decode_pairs(
    listing: PairListing, *, height: int, width: int, cache_bytes: int = DEFAULT_CACHE_BYTES
) -> PairList:
    """Decode the images of a list of pairs, each once.

    A broken image is refused, not skipped: without its pairs the protocol would be another.

    Args:
        listing: the pairs.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        cache_bytes: see `decode_faces`.

    Returns:
        The pairs in the listing's folds, or dealt to 10 folds of equal composition.

    Raises:
        DataError: the list is empty or of one kind, or an image is broken.
    """
    n_same, n_pairs = int(np.count_nonzero(listing.same)), len(listing.same)
    if n_pairs == 0:
        raise DataError(f"{listing.path}: the list of pairs is empty")
    if n_same in (0, n_pairs):
        raise DataError(
            f"{listing.path}: both same and different pairs are needed, got {n_same} same and "
            f"{n_pairs - n_same} different"
        )
    pixels, broken = open_pixels(
        listing.blobs, height=height, width=width, cache_bytes=cache_bytes
    )
    if broken:
        raise DataError(_broken_pair(listing, broken))
    identities, labels = np.unique(np.array(listing.identities, dtype=object), return_inverse=True)
    images = FaceImages(
        pixels=pixels,
        rows=np.arange(len(listing.names), dtype=np.int64),
        labels=labels.astype(np.int64),
        identities=tuple(str(identity) for identity in identities),
        names=listing.names,
    )
    order = np.arange(n_pairs)
    if listing.n_folds is None:
        order = fold_order(listing.same, DEFAULT_N_FOLDS)
    return PairList(
        images=images,
        first=listing.first[order],
        second=listing.second[order],
        same=listing.same[order],
        n_folds=listing.n_folds or DEFAULT_N_FOLDS,
    )


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _warn_of_absent(listing: FaceListing, excluded: set[str]) -> None:
    there = {*listing.identities, *(_folder(each.name) for each in listing.skipped)}
    absent = excluded - there
    if absent:
        _logger.warning(
            "%s: %d of %d excluded identities are not there, for one %r",
            listing.root,
            len(absent),
            len(excluded),
            min(absent),
        )


def _refuse_if_mostly_broken(
    listing: FaceListing, names: list[str], broken: dict[int, str], max_share: float
) -> None:
    if len(broken) <= max_share * len(names) and len(broken) < len(names):
        return
    first = min(broken)
    raise DataError(
        f"{listing.root}: {len(broken)} of {len(names)} images are broken, and a share of "
        f"{max_share:g} is allowed (max_broken_share); first {names[first]} ({broken[first]}); "
        "check how the data was copied"
    )


def _broken_pair(listing: PairListing, broken: dict[int, str]) -> str:
    row = min(broken)
    where = str(listing.path)
    if listing.lines:
        used_by = (listing.first == row) | (listing.second == row)
        where += f":{listing.lines[int(np.argmax(used_by))]}"
    return (
        f"{where}: image {listing.blobs.where(row)} is broken: {broken[row]} ({len(broken)} of "
        f"{len(listing.names)} images are); replace it, or remove its pairs"
    )
