"""Metrics of verification scores: exact, by sorting, without a grid of thresholds.

Everywhere a higher score means more alike, and pairs that share a score are accepted together,
since no threshold can tell them apart.

    FAR  false accept rate: share of the pairs of different identities that are accepted
    TAR  true accept rate: share of the pairs of the same identity that are accepted
"""

import bisect
import math
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError

# rows worked on at once: their vectors stay in the processor's cache
_CHUNK = 128
# beyond these the squares of a vector's entries may have overflowed or vanished
_SAFE_LENGTHS = (1e-100, 1e100)

_Floats = npt.NDArray[np.float64]


def squared_distances(
    embeddings: npt.NDArray[np.floating],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
) -> _Floats:
    """Squared Euclidean distance between the embeddings of each pair, brought to length 1.

    Embeddings are divided by their lengths, and the squares of the differences are summed, all in
    double precision: the very roundings of InsightFace's evaluation.

    Args:
        embeddings: `(N, D)`, of any length but zero.
        first: `(P,)`, in 0..N - 1.
        second: `(P,)`, in 0..N - 1.

    Returns:
        Distances `(P,)` in [0, 4], but for rounding.

    Raises:
        MetricError: embeddings are zero or not finite; the message says how many.
        ValueError: `embeddings` is not two-dimensional.
        IndexError: a pair points outside the embeddings.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be of shape (N, D), got {embeddings.shape}")
    embeddings, lengths = _with_lengths(embeddings)
    distances = np.empty(len(first), dtype=np.float64)
    # in two small buffers, which is faster than to keep all embeddings in double precision
    buffers = np.empty((2, _CHUNK, embeddings.shape[1]), dtype=np.float64)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        one, other = buffers[:, : len(first[part])]
        for vectors, rows in ((one, first[part]), (other, second[part])):
            vectors[:] = embeddings[rows]
            vectors /= lengths[rows, np.newaxis]
        one -= other
        np.square(one, out=one)
        np.sum(one, axis=1, out=distances[part])
    return distances


def _with_lengths(
    embeddings: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], _Floats]:
    """The embeddings, huge and tiny ones brought to a moderate length, and their lengths."""
    lengths = np.empty(len(embeddings), dtype=np.float64)
    for start in range(0, len(embeddings), _CHUNK):
        part = embeddings[start : start + _CHUNK].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths[start : start + _CHUNK] = np.sqrt(np.einsum("nd,nd->n", part, part))
    shortest, longest = _SAFE_LENGTHS
    odd = np.flatnonzero(~((lengths > shortest) & (lengths < longest)))
    if not len(odd):
        return embeddings, lengths
    vectors = embeddings[odd].astype(np.float64)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    n_not_finite = len(odd) - np.count_nonzero(np.isfinite(largest))
    if n_not_finite:
        raise MetricError(
            f"embeddings must be finite, got {n_not_finite} of {len(embeddings)} with "
            "NaN or infinity; the network or its precision is broken"
        )
    n_zero = np.count_nonzero(largest == 0)
    if n_zero:
        raise MetricError(
            f"embeddings must not be zero, since a zero vector has no direction, got {n_zero} of "
            f"{len(embeddings)}; the network is dead or untrained"
        )
    vectors /= largest
    moderate = embeddings.astype(np.float64)
    moderate[odd] = vectors
    lengths[odd] = np.linalg.norm(vectors, axis=1)
    return moderate, lengths


def cosine_scores(
    embeddings: npt.NDArray[np.floating],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
) -> _Floats:
    """Cosine of the angle between the embeddings of each pair.

    Args:
        embeddings: `(N, D)`, of any length but zero.
        first: `(P,)`, in 0..N - 1.
        second: `(P,)`, in 0..N - 1.

    Returns:
        Scores `(P,)` in [-1, 1].

    Raises:
        MetricError, ValueError, IndexError: see `squared_distances`.
    """
    return cosines_of(squared_distances(embeddings, first, second))


def cosines_of(distances: _Floats) -> _Floats:
    """Cosines of unit vectors at these squared distances, in [-1, 1]."""
    return (1.0 - distances / 2.0).clip(-1.0, 1.0)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roc:
    """The receiver operating characteristic, one point for each distinct score.

    Args:
        thresholds: float64 `(K,)`, falling from infinity; at point k the pairs with score >=
            thresholds[k] are accepted.
        false_accepts: int64 `(K,)`, rising from 0 to n_different.
        true_accepts: int64 `(K,)`, rising from 0 to n_same.
        n_different: number of impostor pairs.
        n_same: number of genuine pairs.
    """

    thresholds: _Floats
    false_accepts: npt.NDArray[np.int64]
    true_accepts: npt.NDArray[np.int64]
    n_different: int
    n_same: int

    @property
    def far(self) -> _Floats:
        """False accept rate at each point, `(K,)`, from 0 to 1."""
        return self.false_accepts / np.float64(self.n_different)

    @property
    def tar(self) -> _Floats:
        """True accept rate at each point, `(K,)`, from 0 to 1."""
        return self.true_accepts / np.float64(self.n_same)

    def tar_within(self, n_false_accepts: npt.NDArray[np.int64]) -> _Floats:
        """Highest true accept rate with at most so many false accepts, for each of `(B,)`."""
        last = np.searchsorted(self.false_accepts, n_false_accepts, side="right") - 1
        return self.true_accepts[last] / np.float64(self.n_same)

    def point_at(self, far: float) -> int:
        """Index of the point with the lowest threshold that keeps the FAR to a limit.

        Args:
            far: the limit, in (0, 1].

        Raises:
            MetricError: there are fewer than 1 / far impostor pairs, so that not even one may be
                accepted.
            ValueError: `far` is out of range.
        """
        n_allowed = n_accepts_allowed(far, self.n_different)
        if n_allowed < 1:
            raise MetricError(
                f"TAR at FAR {far:g} takes at least {math.ceil(1 / far - 1e-6)} pairs of "
                f"different identities, got {self.n_different}; add pairs, or ask for a higher FAR"
            )
        return int(np.searchsorted(self.false_accepts, n_allowed, side="right")) - 1

    def tar_at_far(self, far: float) -> float:
        """See the function `tar_at_far`."""
        return int(self.true_accepts[self.point_at(far)]) / self.n_same

    def auc(self) -> float:
        """See the function `auc`."""
        # Twice the area, in whole numbers: exact whatever the number of pairs.
        heights = self.true_accepts[1:] + self.true_accepts[:-1]
        doubled = int(np.dot(np.diff(self.false_accepts), heights))
        return doubled / (2 * self.n_same * self.n_different)

    def eer(self) -> float:
        """See the function `eer`."""
        n_same, n_different = self.n_same, self.n_different

        def gap(point: int) -> int:
            """FAR less FRR, times n_same * n_different: rises along the curve, exactly."""
            accepts = int(self.false_accepts[point]) * n_same
            return accepts - (n_same - int(self.true_accepts[point])) * n_different

        after = bisect.bisect_left(range(len(self.thresholds)), 0, key=gap)
        before = after - 1
        share = gap(before) / (gap(before) - gap(after))
        start, stop = int(self.false_accepts[before]), int(self.false_accepts[after])
        return (start + share * (stop - start)) / n_different

    def log_tar(self, *, max_far: float = 0.1) -> float:
        """See the function `log_tar`."""
        n_allowed = n_accepts_allowed(max_far, self.n_different)
        if n_allowed < 1:
            raise MetricError(
                f"log_tar up to FAR {max_far:g} takes at least {math.ceil(1 / max_far - 1e-6)} "
                f"pairs of different identities, got {self.n_different}; add pairs, or raise "
                "max_far"
            )
        tars = self.tar_within(np.arange(1, n_allowed + 1))
        end = max(max_far * self.n_different, float(n_allowed))
        if end == 1.0:
            return float(tars[0])  # the range is one point
        edges = np.append(np.arange(1.0, n_allowed + 1), end)
        widths = np.diff(np.log(edges))
        return float(np.dot(tars, widths) / math.log(end))


def check_scores(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Numbers of genuine and of impostor pairs, if metrics of the scores are defined.

    Raises:
        MetricError: a score is not finite, or all pairs are of one kind.
        ValueError: the shapes differ, or `same` is not of type bool.
    """
    if scores.ndim != 1 or scores.shape != same.shape or same.dtype != np.bool_:
        raise ValueError(
            "scores and same must be of one shape (P,), and same of type bool, "
            f"got {scores.shape}, {same.shape} and {same.dtype}"
        )
    n_bad = len(scores) - int(np.count_nonzero(np.isfinite(scores)))
    if n_bad:
        raise MetricError(f"scores must be finite, got {n_bad} of {len(scores)} that are not")
    n_same = int(np.count_nonzero(same))
    n_different = len(same) - n_same
    if n_same == 0 or n_different == 0:
        raise MetricError(
            "a metric needs pairs of the same and pairs of different identities, "
            f"got {n_same} same and {n_different} different"
        )
    return n_same, n_different


def roc(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> Roc:
    """Count true and false accepts at every threshold that makes a difference.

    Every other metric is a method of the curve, so that the scores are sorted once. Besides the
    scores it takes about 60 bytes a pair at its peak, and 24 to keep.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.

    Returns:
        The curve; its first point accepts nothing, its last one everything.

    Raises:
        MetricError: a score is not finite, or all pairs are of one kind.
        ValueError: the shapes differ, or `same` is not of type bool.
    """
    n_same, n_different = check_scores(scores, same)
    if scores.dtype != np.float32:
        scores = scores.astype(np.float64, copy=False)
    # Sorting plain numbers is several times faster than sorting their indices. So all of them are
    # sorted, and those of the rarer kind are looked up.
    rising = np.sort(scores)
    is_new = np.empty(len(rising), dtype=np.bool_)
    is_new[0] = True
    np.not_equal(rising[1:], rising[:-1], out=is_new[1:])
    start_of_tie = np.flatnonzero(is_new)
    levels = rising[start_of_tie]
    del rising, is_new
    is_rare = same if n_same <= n_different else ~same
    at_level = np.searchsorted(levels, np.sort(scores[np.flatnonzero(is_rare)]))
    rare_accepts = np.cumsum(np.bincount(at_level, minlength=len(levels))[::-1])
    other_accepts = (len(scores) - start_of_tie)[::-1] - rare_accepts
    true_accepts, false_accepts = (
        (rare_accepts, other_accepts) if is_rare is same else (other_accepts, rare_accepts)
    )
    return Roc(
        thresholds=np.append(np.inf, levels[::-1]),
        false_accepts=np.append(0, false_accepts),
        true_accepts=np.append(0, true_accepts),
        n_different=n_different,
        n_same=n_same,
    )


def auc(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> float:
    """Chance that a genuine pair scores above an impostor pair, a tie counting one half.

    That is the area under the ROC with straight lines between its points.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.

    Returns:
        Between 0 and 1; 0.5 is chance.

    Raises:
        MetricError, ValueError: see `roc`.

    >>> auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    return roc(scores, same).auc()


def eer(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> float:
    """Equal error rate: as large a share of impostors accepted as of genuine pairs rejected.

    Between two neighbouring points of the ROC the two error rates are interpolated linearly. Pairs
    that share a score are one such step, as if that share of the tie were accepted that makes the
    errors equal; so a constant score gives 0.5.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.

    Returns:
        Between 0 and 1; 0.5 is chance.

    Raises:
        MetricError, ValueError: see `roc`.
    """
    return roc(scores, same).eer()


def tar_at_far(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], far: float) -> float:
    """True accept rate at the lowest threshold that keeps the false accept rate to a limit.

    No interpolation: some threshold does reach the value. A tie that would go over the limit is
    rejected as a whole.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.
        far: the limit, in (0, 1].

    Returns:
        Between 0 and 1.

    Raises:
        MetricError: there are fewer than 1 / far impostor pairs, so that not even one may be
            accepted; or see `roc`.
        ValueError: `far` is out of range; or see `roc`.
    """
    return roc(scores, same).tar_at_far(far)


def n_accepts_allowed(far: float, n_different: int) -> int:
    """Most false accepts among `n_different` impostor pairs at a rate of at most `far`.

    Raises:
        ValueError: `far` is not in (0, 1].
    """
    if not 0 < far <= 1:
        raise ValueError(f"far must lie in (0, 1], got {far}")
    # 0.001 * 3000 may come out a hair below 3, and must count as 3.
    return math.floor(far * n_different * (1 + 1e-12))


def log_tar(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, max_far: float = 0.1
) -> float:
    """Mean true accept rate over false accept rates that are spread evenly on a logarithmic axis.

    The area under the ROC, drawn as a step function over log FAR, from the smallest FAR that the
    impostors support (one false accept) to `max_far`, divided by the width of that range. Each
    tenfold drop of the FAR counts alike, so it still tells networks apart whose AUC is
    0.99-something, and it uses more of the scores than a TAR at one FAR does. Values compare only
    between lists with as many impostor pairs. Integrated exactly: FAR in [k / n, (k + 1) / n) has
    the TAR of k false accepts.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.
        max_far: upper end, in (0, 1].

    Returns:
        Between 0 and 1.

    Raises:
        MetricError: there are fewer than 1 / max_far impostor pairs; or see `roc`.
        ValueError: `max_far` is out of range; or see `roc`.
    """
    return roc(scores, same).log_tar(max_far=max_far)
