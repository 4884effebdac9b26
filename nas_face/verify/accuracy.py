"""Accuracy at thresholds of any value, where the usual protocol tries a grid of 400."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.verify.insightface import FoldAccuracies, folds_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BestAccuracy:
    """The highest accuracy that one threshold reaches on the pairs that chose it.

    Args:
        accuracy: share of right decisions, in [0, 1]; too high for other pairs, and more so the
            fewer pairs there are.
        threshold: a pair is "same" above it.
    """

    accuracy: float
    threshold: float


def best_accuracy(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> BestAccuracy:
    """Accuracy at the best of all thresholds, chosen on the same pairs.

    Some published figures are that (GhostFaceNets' are); `exact_fold_accuracies` is the honest
    one.

    Args:
        scores: `(P,)`, higher means more alike; P is at least 2.
        same: bool `(P,)`; all of one kind is allowed.

    Returns:
        Accuracy and threshold: the middle of the widest of the equally good gaps between scores,
        and of equally wide ones the highest.

    Raises:
        MetricError: fewer than 2 pairs, or a score that is not finite.
        ValueError: the shapes differ.
    """
    folds_of(scores, same, n_folds=2)  # checks them
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    threshold, n_right = _best_gap(scores[order].astype(np.float64), same[order])
    return BestAccuracy(accuracy=n_right / len(scores), threshold=threshold)


def exact_fold_accuracies(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, n_folds: int = 10
) -> FoldAccuracies:
    """Accuracy on each fold at the best of all thresholds on the others.

    As `insightface.fold_accuracies`, without its grid: so a network whose distances lie within a
    few steps of the grid is not judged by the steps.

    Args:
        scores: `(P,)`, higher means more alike; P is at least 2.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.

    Returns:
        Accuracy and threshold of each fold: the middle of the widest of the gaps between scores of
        the other folds that decide most of them rightly, and of equally wide ones the highest.

    Raises:
        MetricError: fewer than 2 pairs, or a score that is not finite.
        ValueError: `n_folds` is below 2, or the shapes differ.
    """
    fold = folds_of(scores, same, n_folds=n_folds)
    scores = scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    accuracies, thresholds = [], []
    for held_out in range(int(fold[-1]) + 1):
        others = order[fold[order] != held_out]
        threshold, _ = _best_gap(scores[others], same[others])
        own = slice(*np.searchsorted(fold, [held_out, held_out + 1]))
        accuracies.append(float(np.mean((scores[own] > threshold) == same[own])))
        thresholds.append(threshold)
    return FoldAccuracies(accuracies=tuple(accuracies), thresholds=tuple(thresholds))


def _best_gap(falling: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """The threshold and how many of the pairs it decides rightly.

    Below all scores and above all of them there is no gap to lie in the middle of: such a
    threshold lies as near as it can.
    """
    n_pairs = len(falling)
    n_accepted = np.append(0, np.append(np.flatnonzero(np.diff(falling)) + 1, n_pairs))
    n_true = np.append(0, np.cumsum(same))[n_accepted]
    n_right = 2 * n_true - n_accepted + np.count_nonzero(~same)
    widths = np.zeros(len(n_accepted))
    inner = n_accepted[1:-1]
    widths[1:-1] = falling[inner - 1] - falling[inner]
    most = int(n_right.max())
    best = int(np.argmax(np.where(n_right == most, widths, -1.0)))
    n_above = int(n_accepted[best])
    if n_above == 0:
        return float(falling[0]), most
    if n_above == n_pairs:
        return math.nextafter(float(falling[-1]), -math.inf), most
    higher, lower = float(falling[n_above - 1]), float(falling[n_above])
    middle = lower + (higher - lower) / 2
    return (middle if middle < higher else lower), most
