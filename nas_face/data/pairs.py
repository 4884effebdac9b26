"""Pairs of images to verify: the same person, or two different ones."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.faces import FaceImages
from nas_face.errors import DataError

DEFAULT_N_FOLDS = 10
"""Folds of the verification protocol where a list does not state its own."""

_Index = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairList:
    """Pairs of images in the order that cuts them into folds.

    Args:
        images: the images that the pairs point into.
        first: int64 `(P,)`, in 0..len(images) - 1.
        second: int64 `(P,)`, likewise.
        same: bool `(P,)`, whether both show the same identity.
        n_folds: into how many contiguous folds the list is cut, at least 2.

    Raises:
        DataError: the list is empty, or has only same or only different pairs.
        ValueError: the parts do not fit together.
    """

    images: FaceImages
    first: _Index
    second: _Index
    same: npt.NDArray[np.bool_]
    n_folds: int = DEFAULT_N_FOLDS

    def __post_init__(self) -> None:
        n_pairs = len(self.same)
        if not self.first.shape == self.second.shape == self.same.shape == (n_pairs,):
            raise ValueError(
                "first, second and same must be of one length, got shapes "
                f"{self.first.shape}, {self.second.shape} and {self.same.shape}"
            )
        if self.same.dtype != np.bool_:
            raise ValueError(f"same must be of type bool, got {self.same.dtype}")
        if self.n_folds < 2:
            raise ValueError(f"n_folds must be at least 2, got {self.n_folds}")
        for index in (self.first, self.second):
            if n_pairs and not 0 <= index.min() <= index.max() < len(self.images):
                raise ValueError(f"pairs must point into 0..{len(self.images) - 1}")
        if self.n_same == 0 or self.n_different == 0:
            raise DataError(
                "a pair list needs pairs of the same and pairs of different identities, "
                f"got {self.n_same} same and {self.n_different} different"
            )

    def __len__(self) -> int:
        return len(self.same)

    @property
    def n_same(self) -> int:
        """Number of genuine pairs."""
        return int(np.count_nonzero(self.same))

    @property
    def n_different(self) -> int:
        """Number of impostor pairs."""
        return len(self.same) - self.n_same


def all_pairs(images: FaceImages, *, max_impostors_per_genuine: int | None, seed: int) -> PairList:
    """Pair every two images of an identity, and images of different identities.

    Order: genuine pairs by identity, impostor pairs by their first image's identity, and each of
    the two sequences cut into 10 runs; fold k is run k of both. So every fold has about the same
    share of genuine pairs (each count within one of a tenth), and the genuine pairs of an identity
    lie in one fold, or in neighbours: a fold's threshold is mostly chosen on other people. That
    cannot hold for impostor pairs, which join two identities.

    Args:
        images: what is paired. Its identities may have any number of images; those with one only
            serve impostor pairs.
        max_impostors_per_genuine: how many impostor pairs are drawn for each genuine one, at least
            1; None takes all of them, a number that grows with the square of the images. 1 makes
            an accuracy whose chance level is 50 %.
        seed: which impostor pairs are drawn; without effect where all are taken.

    Returns:
        The pairs, each at most once, in 10 folds.

    Raises:
        DataError: no identity has two images, or there is only one identity.
        ValueError: `max_impostors_per_genuine` is below 1.
    """
    if max_impostors_per_genuine is not None and max_impostors_per_genuine < 1:
        raise ValueError(
            "max_impostors_per_genuine must be at least 1 or None, "
            f"got {max_impostors_per_genuine}"
        )
    order = np.argsort(images.labels, kind="stable")
    n_images = len(order)
    # Where in `order` the identity of each position ends: partners before that are genuine, from
    # there on impostors.
    ends = np.cumsum(np.bincount(images.labels))[images.labels[order]]
    n_genuine = ends - np.arange(n_images) - 1
    n_impostors = n_images - ends
    genuine = _nth_partners(np.arange(n_genuine.sum()), n_genuine, np.arange(n_images) + 1)
    total = int(n_impostors.sum())
    n_wanted = total
    if max_impostors_per_genuine is not None:
        n_wanted = max_impostors_per_genuine * int(n_genuine.sum())
    if n_wanted < total:
        rng = np.random.default_rng(seed)
        ranks = np.sort(rng.choice(total, size=n_wanted, replace=False, shuffle=False))
    else:
        ranks = np.arange(total)
    impostor = _nth_partners(ranks, n_impostors, ends)
    first, second = (order[np.concatenate(part)] for part in zip(genuine, impostor, strict=True))
    same = np.arange(len(first)) < len(genuine[0])
    folded = fold_order(same, DEFAULT_N_FOLDS)
    return PairList(images=images, first=first[folded], second=second[folded], same=same[folded])


def _nth_partners(ranks: _Index, n_partners: _Index, starts: _Index) -> tuple[_Index, _Index]:
    """Pairs by number, without a list of all of them.

    Position p has `n_partners[p]` partners, the positions from `starts[p]` on.
    """
    last_rank = np.cumsum(n_partners)
    first = np.searchsorted(last_rank, ranks, side="right")
    offset = ranks - (last_rank - n_partners)[first]
    return first, starts[first] + offset


def fold_order(same: npt.NDArray[np.bool_], n_folds: int) -> _Index:
    """The order in which contiguous folds get equal shares of both kinds of pairs.

    Each kind keeps its own order. A list that already comes in folds of equal composition, genuine
    pairs first in each, as LFW's does, stays as it is.

    Args:
        same: bool `(P,)`.
        n_folds: number of folds.

    Returns:
        A permutation of 0..P - 1, int64 `(P,)`.
    """
    n_same = int(np.count_nonzero(same))
    n_different = len(same) - n_same
    fold = np.arange(n_folds)
    same_sizes = n_same // n_folds + (fold < n_same % n_folds)
    # What is left over of the second kind goes on where the first kind's stopped: so the folds are
    # of equal size too, the longer ones first, and the protocol's cuts fall between them.
    turned = (fold - n_same % n_folds) % n_folds
    different_sizes = n_different // n_folds + (turned < n_different % n_folds)
    same_runs = np.split(np.flatnonzero(same), np.cumsum(same_sizes)[:-1])
    different_runs = np.split(np.flatnonzero(~same), np.cumsum(different_sizes)[:-1])
    runs = [run for both in zip(same_runs, different_runs, strict=True) for run in both]
    return np.concatenate(runs)
