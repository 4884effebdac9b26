"""Metrics of verification scores: exact, by sorting, without a grid of thresholds.

Everywhere a higher score means more alike, and pairs that share a score are accepted together,
since no threshold can tell them apart.

    FAR  false accept rate: share of the pairs of different identities that are accepted
    TAR  true accept rate: share of the pairs of the same identity that are accepted
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError

# pairs multiplied at once: 64 MB at 512 dimensions, where all pairs of a set could fill the memory
_CHUNK = 16_384

_Floats = npt.NDArray[np.float64]


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
        MetricError: embeddings are zero or not finite; the message says how many.
        ValueError: `embeddings` is not two-dimensional.
        IndexError: a pair points outside the embeddings.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be of shape (N, D), got {embeddings.shape}")
    vectors = embeddings.astype(np.float64)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise MetricError(
            f"embeddings must be finite, got {np.count_nonzero(~finite)} of {len(vectors)} with "
            "NaN or infinity; the network or its precision is broken"
        )
    # Scaled by the largest entry first, so that squares of huge or tiny entries neither overflow
    # nor vanish.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    n_zero = np.count_nonzero(largest == 0)
    if n_zero:
        raise MetricError(
            f"embeddings must not be zero, since a zero vector has no direction, got {n_zero} of "
            f"{len(vectors)}; the network is dead or untrained"
        )
    vectors /= largest
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.empty(len(first), dtype=np.float64)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores[part] = np.einsum("pd,pd->p", vectors[first[part]], vectors[second[part]])
    return scores.clip(-1.0, 1.0)


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
        return self.tar[last]


def roc(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> Roc:
    """Count true and false accepts at every threshold that makes a difference.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.

    Returns:
        The curve; its first point accepts nothing, its last one everything.

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
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    last_of_tie = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    true_accepts = np.cumsum(same[order], dtype=np.int64)[last_of_tie]
    return Roc(
        thresholds=np.append(np.inf, falling[last_of_tie]),
        false_accepts=np.append(0, last_of_tie + 1 - true_accepts),
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
    curve = roc(scores, same)
    # Twice the area, in whole numbers: exact whatever the number of pairs.
    heights = curve.true_accepts[1:] + curve.true_accepts[:-1]
    doubled = int(np.sum(np.diff(curve.false_accepts) * heights))
    return doubled / (2 * curve.n_same * curve.n_different)


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
    curve = roc(scores, same)
    far, frr = curve.far, 1.0 - curve.tar
    gap = frr - far  # falls from 1 to -1
    after = int(np.argmax(gap <= 0.0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(far[before] + share * (far[after] - far[before]))


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
    curve = roc(scores, same)
    n_allowed = n_accepts_allowed(far, curve.n_different)
    if n_allowed < 1:
        raise MetricError(
            f"TAR at FAR {far:g} takes at least {math.ceil(1 / far - 1e-6)} pairs of different "
            f"identities, got {curve.n_different}; add pairs, or ask for a higher FAR"
        )
    return float(curve.tar_within(np.array([n_allowed]))[0])


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
    curve = roc(scores, same)
    n_allowed = n_accepts_allowed(max_far, curve.n_different)
    if n_allowed < 1:
        raise MetricError(
            f"log_tar up to FAR {max_far:g} takes at least {math.ceil(1 / max_far - 1e-6)} pairs "
            f"of different identities, got {curve.n_different}; add pairs, or raise max_far"
        )
    tars = curve.tar_within(np.arange(1, n_allowed + 1))
    end = max(max_far * curve.n_different, float(n_allowed))
    if end == 1.0:
        return float(tars[0])  # the range is one point
    edges = np.append(np.arange(1.0, n_allowed + 1), end)
    widths = np.diff(np.log(edges))
    return float(np.dot(tars, widths) / math.log(end))
