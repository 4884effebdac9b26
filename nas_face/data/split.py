"""Identities shared out between training, searching and reporting."""

import hashlib
import math
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.data.faces import FaceImages
from nas_face.errors import DataError

_MIN_IDENTITIES = 2  # below, a part has no impostor pair, and a classifier nothing to tell apart


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdentitySplit:
    """Three sets of images without a common identity.

    Args:
        train: what networks are trained on.
        search: what the search chooses by.
        test: what is reported, and nothing is ever chosen by.

    Raises:
        ValueError: two parts share an identity.
    """

    train: FaceImages
    search: FaceImages
    test: FaceImages

    def __post_init__(self) -> None:
        parts = (self.train, self.search, self.test)
        every = [name for part in parts for name in part.identities]
        if len(set(every)) != len(every):
            raise ValueError("the parts of a split must not share an identity")


def split_identities(
    images: FaceImages, *, search_fraction: float, test_fraction: float, seed: int
) -> IdentitySplit:
    """Share out whole identities, so that no network is judged by a face that it was trained on.

    Identities are put in the order of a SHA-256 hash of (seed, name). The first with two images or
    more become the test part, the next the search part, all others are trained on. So a part does
    not depend on the order in the folder, and an identity that is added later moves at most one
    other across each border, or two where rounding grows a part.

    Args:
        images: what is shared out.
        search_fraction: share of the identities with two images or more to search by, in (0, 1),
            rounded to a whole number of them. Identities with one image are all trained on: a
            genuine pair takes two.
        test_fraction: share of them to report on, likewise; the two must leave something to train
            on.
        seed: another seed, another split.

    Returns:
        The three parts; every image is in exactly one.

    Raises:
        DataError: a part would get fewer than 2 identities.
        ValueError: a fraction is out of range.
    """
    if not (search_fraction > 0 and test_fraction > 0 and search_fraction + test_fraction < 1):
        raise ValueError(
            "search_fraction and test_fraction must be positive and sum to less than 1, "
            f"got {search_fraction} and {test_fraction}"
        )
    n_identities = images.n_identities
    n_images = np.bincount(images.labels, minlength=n_identities)
    order = sorted(range(n_identities), key=lambda label: _rank(seed, images.identities[label]))
    paired = [images.identities[label] for label in order if n_images[label] >= 2]
    n_search, n_test = (_part(len(paired), share) for share in (search_fraction, test_fraction))
    n_train = n_identities - n_search - n_test
    if min(n_train, n_search, n_test) < _MIN_IDENTITIES:
        raise DataError(
            f"a split needs {_MIN_IDENTITIES} identities in each part, and {n_identities} "
            f"identities, {len(paired)} of them with the 2 images that a genuine pair takes, give "
            f"{n_train} to train, {n_search} to search and {n_test} to test; "
            f"{_n_enough(search_fraction, test_fraction)} identities of 2 images or more are "
            "enough for that"
        )
    test = paired[:n_test]
    search = paired[n_test : n_test + n_search]
    train = set(images.identities).difference(test, search)
    return IdentitySplit(
        train=images.subset(train), search=images.subset(search), test=images.subset(test)
    )


def _rank(seed: int, identity: str) -> bytes:
    # surrogatepass: a file name may hold bytes that are no valid text.
    return hashlib.sha256(f"{seed}\0{identity}".encode("utf-8", "surrogatepass")).digest()


def _part(n: int, share: float) -> int:
    return math.floor(share * n + 0.5)


def _n_enough(search_fraction: float, test_fraction: float) -> int:
    # A part of share f holds 2 from 1.5 / f identities on; rounding costs the train part 1.
    train_fraction = 1 - search_fraction - test_fraction
    return 1 + math.floor(max(1.5 / search_fraction, 1.5 / test_fraction, 3 / train_fraction))
