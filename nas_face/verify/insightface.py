"""Verification as InsightFace's evaluation computes it, which most published figures come from.

All of it works on squared distances of unit vectors, over ten folds in the order of the list, at
thresholds on a grid. `accuracy` has the same without a grid.

Source: InsightFace, recognition/arcface_torch/eval/verification.py; the folds are those of Huang
et al., "Labeled Faces in the Wild", 2007.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError

VAL_FAR = 1e-3
"""False accept rate at which InsightFace states the true accept rate, as "val"."""

_ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
_VAL_THRESHOLDS = np.arange(0, 4, 0.001)

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPairs:
    """Pairs of neighbouring rows, the order of InsightFace's `.bin` files.

    Args:
        same: bool `(P,)`, of rows 2i and 2i + 1 of the embeddings.
        n_folds: how many contiguous folds the list is cut into, at least 2.
    """

    same: npt.NDArray[np.bool_]
    n_folds: int = 10

    @property
    def first(self) -> _Ints:
        """Row of the first image of each pair, `(P,)`."""
        return np.arange(0, 2 * len(self.same), 2)

    @property
    def second(self) -> _Ints:
        """Row of the second image of each pair, `(P,)`."""
        return np.arange(1, 2 * len(self.same), 2)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FoldAccuracies:
    """Accuracy by fold, at thresholds chosen on the other folds.

    Args:
        accuracies: share of right decisions in each held-out fold, each in [0, 1].
        thresholds: the threshold of each fold as a cosine: a pair is "same" above it.
    """

    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ValAtFar:
    """True accept rate on held-out folds at a FAR that the other folds set: InsightFace's "val".

    Args:
        val: mean true accept rate over the folds, in [0, 1].
        val_std: its standard deviation over the folds (divided by their number).
        far: mean false accept rate over the folds. With 300 impostor pairs a fold, as in LFW, it
            strays far from the target of 0.001.
    """

    val: float
    val_std: float
    far: float


def ten_fold_accuracy(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, n_folds: int = 10
) -> FoldAccuracies:
    """Accuracy on each fold at the threshold that is best on all others, as papers report it.

    Cosines become squared distances of unit vectors, 2 - 2 cos, for `fold_accuracies`.

    Args:
        scores: cosines `(P,)`; P is at least 2.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.

    Returns:
        Accuracy and threshold of each fold.

    Raises:
        MetricError, ValueError: see `fold_accuracies`.
    """
    return fold_accuracies(2.0 - 2.0 * scores.astype(np.float64), same, n_folds=n_folds)


def fold_accuracies(
    distances: _Floats, same: npt.NDArray[np.bool_], *, n_folds: int = 10
) -> FoldAccuracies:
    """Accuracy on each fold at the threshold that is best on all others.

    The folds are contiguous and not shuffled, the first P mod n_folds of them one pair longer. For
    each, the first of the distances 0.00, 0.01, ... 3.99 is chosen at which most pairs of the
    other folds are decided rightly, "same" meaning a distance below it.

    Args:
        distances: squared, of unit vectors, `(P,)`; P is at least 2.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.

    Returns:
        Accuracy and threshold of each fold.

    Raises:
        MetricError: fewer than 2 pairs, or a score that is not finite.
        ValueError: `n_folds` is below 2, or the shapes differ.
    """
    fold = folds_of(distances, same, n_folds=n_folds)
    chosen = chosen_distances(distances, same, n_folds=n_folds)
    right = (distances < chosen[fold]) == same
    return FoldAccuracies(
        accuracies=tuple((np.bincount(fold, weights=right) / np.bincount(fold)).tolist()),
        thresholds=tuple((1.0 - chosen / 2.0).tolist()),
    )


def chosen_distances(
    distances: _Floats, same: npt.NDArray[np.bool_], *, n_folds: int = 10
) -> _Floats:
    """The threshold of each fold of `fold_accuracies` as a squared distance, `(folds,)`.

    Args:
        distances: squared, of unit vectors, `(P,)`; P is at least 2.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.

    Raises:
        MetricError, ValueError: see `fold_accuracies`.
    """
    fold = folds_of(distances, same, n_folds=n_folds)
    true_accepts, false_accepts = _accepts(distances, same, fold, _ACCURACY_THRESHOLDS)
    # right decisions but for a number that is the same at all thresholds
    gains = true_accepts - false_accepts  # (folds, thresholds)
    on_others = gains.sum(axis=0) - gains
    # argmax takes the first of equals, as the protocol does
    chosen: _Floats = _ACCURACY_THRESHOLDS[on_others.argmax(axis=1)]
    return chosen


def val_at_far(
    distances: _Floats, same: npt.NDArray[np.bool_], *, n_folds: int = 10, far: float = VAL_FAR
) -> ValAtFar:
    """True accept rate on each fold at the threshold that has a given FAR on all others.

    That threshold lies on straight lines through the FARs at 0.000, 0.001, ... 3.999; where they
    never reach the target it is 0, which accepts nothing. A FAR that holds at several thresholds
    counts with the last of them towards higher FARs, and with the first towards lower ones.

    Args:
        distances: squared, of unit vectors, `(P,)`.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.
        far: the target, in (0, 1].

    Returns:
        Means over the folds.

    Raises:
        MetricError: a fold, or all others together, lacks pairs of one kind; or see
            `fold_accuracies`.
        ValueError: `far` is out of range; or see `fold_accuracies`.

    Source:
        The lines are those of SciPy's `interp1d(kind="slinear")`, down to the rounding, before it
        took to refusing several thresholds with one FAR (InsightFace's issue 2152).
    """
    if not 0 < far <= 1:
        raise ValueError(f"far must lie in (0, 1], got {far}")
    fold = folds_of(distances, same, n_folds=n_folds)
    n_same, n_different = (
        np.bincount(fold, weights=kind).astype(np.int64) for kind in (same, ~same)
    )
    for at, counts in enumerate(zip(n_same.tolist(), n_different.tolist(), strict=True)):
        if min(counts) == 0:
            raise MetricError(
                "val at a FAR takes pairs of both kinds in every fold, got "
                f"{counts[0]} same and {counts[1]} different in fold {at + 1} of {len(n_same)}; "
                "mix the order of the pairs, or take fewer folds"
            )
    _, false_accepts = _accepts(distances, same, fold, _VAL_THRESHOLDS)
    others = (false_accepts.sum(axis=0) - false_accepts) / (n_different.sum() - n_different)[
        :, None
    ]
    thresholds = np.array([_threshold_at(far, rates) for rates in others])
    accepted = distances < thresholds[fold]
    n_folds = len(n_same)
    vals = np.bincount(fold[accepted & same], minlength=n_folds) / n_same
    fars = np.bincount(fold[accepted & ~same], minlength=n_folds) / n_different
    return ValAtFar(
        val=float(np.mean(vals)), val_std=float(np.std(vals)), far=float(np.mean(fars))
    )


def folds_of(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, n_folds: int
) -> _Ints:
    """The fold of each pair, contiguous and the longer ones first, `(P,)`.

    Raises:
        MetricError: fewer than 2 pairs, or a score that is not finite.
        ValueError: `n_folds` is below 2, or the shapes differ.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    if scores.ndim != 1 or scores.shape != same.shape or same.dtype != np.bool_:
        raise ValueError(
            "scores and same must be of one shape (P,), and same of type bool, "
            f"got {scores.shape}, {same.shape} and {same.dtype}"
        )
    n_pairs = len(scores)
    if n_pairs < 2:
        raise MetricError(f"folds take at least 2 pairs, got {n_pairs}")
    finite = np.isfinite(scores)
    if not finite.all():
        raise MetricError(
            f"scores must be finite, got {np.count_nonzero(~finite)} of {n_pairs} that are not"
        )
    n_folds = min(n_folds, n_pairs)
    sizes = np.full(n_folds, n_pairs // n_folds)
    sizes[: n_pairs % n_folds] += 1
    return np.repeat(np.arange(n_folds), sizes)


def _accepts(
    distances: _Floats, same: npt.NDArray[np.bool_], fold: _Ints, thresholds: _Floats
) -> tuple[_Ints, _Ints]:
    """True and false accepts in each fold at each threshold, two of `(folds, thresholds)`."""
    n_folds, n_bins = int(fold[-1]) + 1, len(thresholds) + 1
    # the first threshold that a distance lies below; the last bin lies below none
    bins = fold * n_bins + np.searchsorted(thresholds, distances, side="right")
    true_accepts, false_accepts = (
        np.bincount(bins[kind], minlength=n_folds * n_bins)
        .reshape(n_folds, n_bins)[:, :-1]
        .cumsum(axis=1)
        for kind in (same, ~same)
    )
    return true_accepts, false_accepts


def _threshold_at(far: float, rates: _Floats) -> float:
    """Where the line through (rate, threshold) reaches `far`, or 0."""
    if rates[-1] < far:
        return 0.0
    above = min(int(np.searchsorted(rates, far, side="right")), len(rates) - 1)
    below = above - 1
    if rates[above] == rates[below]:  # the rates end level at `far`
        return 0.0
    slope = 1.0 / (rates[above] - rates[below])
    return float(
        _VAL_THRESHOLDS[below] * (slope * (rates[above] - far))
        + _VAL_THRESHOLDS[above] * (slope * (far - rates[below]))
    )
