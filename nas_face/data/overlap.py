"""What a training set shares with the set that results are measured on."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.data.inspection import Progress
from nas_face.data.leakage import SharedIdentities, shared_identities
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.near_duplicates import (
    DEFAULT_DISTANCE,
    NearPair,
    equal_images,
    hash_images,
    near_duplicates,
)
from nas_face.data.statistics import tells_people

Listing = FaceListing | PairListing


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two data sets have in common.

    Args:
        n_images_a: images of the training set that were compared.
        n_images_b: images of the judging set that were compared.
        n_identities_a: of the training set; 0 where it does not tell.
        n_identities_b: of the judging set; 0 where it does not tell.
        shared: identities by name; none where one of the sets does not tell.
        equal: images whose files are equal.
        near: images that may be one photo, nearest first.
        skipped_a: why images of the training set were not compared, by name.
        skipped_b: likewise for the judging set.
        left_out: identities of the training set to leave out, by name, with why.
    """

    n_images_a: int
    n_images_b: int
    n_identities_a: int
    n_identities_b: int
    shared: SharedIdentities
    equal: tuple[NearPair, ...]
    near: tuple[NearPair, ...]
    skipped_a: dict[str, str]
    skipped_b: dict[str, str]
    left_out: dict[str, str]


def find_overlap(
    a: Listing,
    b: Listing,
    *,
    exclude: Collection[str] = (),
    distance: int = DEFAULT_DISTANCE,
    numbers_differ: bool = False,
    on_progress: Progress | None = None,
) -> Overlap:
    """Compare two data sets by names, by files and by what the images look like.

    Args:
        a: what is trained on.
        b: what results are measured on; of a list of pairs every image counts.
        exclude: identities of `a` that are left out.
        distance: see `near_duplicates`.
        numbers_differ: see `shared_identities`.
        on_progress: called as images of either set are read.

    Raises:
        ValueError: `distance` is out of range.
    """
    excluded = set(exclude)
    kept = [row for row, who in enumerate(a.identities) if who not in excluded]
    people_a = (
        {a.identities[row] for row in kept} if tells_people(a.names, a.identities) else set()
    )
    people_b = set(b.identities) if tells_people(b.names, b.identities) else set()
    shared = shared_identities(people_a, people_b, numbers_differ=numbers_differ)
    hashed_a = hash_images(a.blobs, np.array(kept, dtype=np.int64), on_progress=on_progress)
    hashed_b = hash_images(b.blobs, on_progress=on_progress)
    equal = equal_images(hashed_a, hashed_b)
    near = near_duplicates(hashed_a, hashed_b, distance=distance)
    return Overlap(
        n_images_a=len(hashed_a.rows),
        n_images_b=len(hashed_b.rows),
        n_identities_a=len(people_a),
        n_identities_b=len(people_b),
        shared=shared,
        equal=tuple(equal),
        near=tuple(near),
        skipped_a={a.names[row]: why for row, why in hashed_a.skipped.items()},
        skipped_b={b.names[row]: why for row, why in hashed_b.skipped.items()},
        left_out=_left_out(a, b, shared, [*equal, *near]),
    )


def _left_out(
    a: Listing, b: Listing, shared: SharedIdentities, pairs: list[NearPair]
) -> dict[str, str]:
    """The first reason found for each identity: its name, an equal file, the nearest photo."""
    why = dict.fromkeys(shared.equal, "has the same name")
    for name, other in shared.probable:
        why.setdefault(name, f"probably {other}")
    for pair in pairs:
        images = f"{a.names[pair.row_a]} and {b.names[pair.row_b]}"
        why.setdefault(a.identities[pair.row_a], f"{images}: {pair.kind}")
    return dict(sorted(why.items()))
