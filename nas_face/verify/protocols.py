"""Verification as papers report it: ten-fold accuracy, and all else about a list of pairs."""

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.metrics import (
    auc,
    cosine_scores,
    eer,
    log_tar,
    n_accepts_allowed,
    tar_at_far,
)

REPORTED_FARS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False accept rates at which a result states the true accept rate, if its pairs support them."""

_LOG_TAR_MAX_FAR = 0.1
_THRESHOLDS = np.arange(0, 4, 0.01)  # squared distances, as InsightFace writes them


class PairIndices(Protocol):
    """Pairs of rows in the order that cuts them into folds (`data.PairList` is one)."""

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Row of the first image of each pair, `(P,)`."""

    @property
    def second(self) -> npt.NDArray[np.int64]:
        """Row of the second image of each pair, `(P,)`."""

    @property
    def same(self) -> npt.NDArray[np.bool_]:
        """Whether both show the same identity, `(P,)`."""

    @property
    def n_folds(self) -> int:
        """How many contiguous folds the list is cut into, at least 2."""


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
class VerificationResult:
    """Everything that a report says about one network on one list of pairs.

    Args:
        accuracy: mean accuracy over the folds, in [0, 1].
        accuracy_std: its standard deviation over the folds (divided by their number, as
            InsightFace does).
        fold_accuracies: one for each fold.
        threshold: median over the folds of the chosen threshold, as a cosine: a pair is "same"
            above it.
        auc: area under the ROC.
        eer: equal error rate.
        tar_at_far: (FAR, TAR) for those of `REPORTED_FARS` that the number of impostor pairs
            supports; may be empty.
        log_tar: see `metrics.log_tar` up to FAR 0.1; None with fewer than 10 impostor pairs.
        n_same: number of genuine pairs.
        n_different: number of impostor pairs.
    """

    accuracy: float
    accuracy_std: float
    fold_accuracies: tuple[float, ...]
    threshold: float
    auc: float
    eer: float
    tar_at_far: tuple[tuple[float, float], ...]
    log_tar: float | None
    n_same: int
    n_different: int

    def as_dict(self) -> dict[str, object]:
        """The same for JSON: lists for tuples, and `tar_at_far` as in `{"0.001": 0.95}`."""
        return {
            "accuracy": self.accuracy,
            "accuracy_std": self.accuracy_std,
            "fold_accuracies": list(self.fold_accuracies),
            "threshold": self.threshold,
            "auc": self.auc,
            "eer": self.eer,
            "tar_at_far": {f"{far:g}": tar for far, tar in self.tar_at_far},
            "log_tar": self.log_tar,
            "n_same": self.n_same,
            "n_different": self.n_different,
        }


def ten_fold_accuracy(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, n_folds: int = 10
) -> FoldAccuracies:
    """Accuracy on each fold at the threshold that is best on all others, as papers report it.

    Cosines become squared distances of unit vectors, 2 - 2 cos. The folds are contiguous and not
    shuffled, the first P mod n_folds of them one pair longer. For each, the first of the distances
    0.00, 0.01, ... 3.99 is chosen at which most pairs of the other folds are decided rightly,
    "same" meaning a distance below it.

    Args:
        scores: cosines `(P,)`; P is at least 2.
        same: bool `(P,)`.
        n_folds: at least 2; a list with fewer pairs is cut into folds of one pair each.

    Returns:
        Accuracy and threshold of each fold.

    Raises:
        MetricError: fewer than 2 pairs, or a score that is not finite.
        ValueError: `n_folds` is below 2, or the shapes differ.

    Source:
        InsightFace, recognition/arcface_torch/eval/verification.py, `calculate_roc`; the protocol
        is that of Huang et al., "Labeled Faces in the Wild", 2007.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    if scores.ndim != 1 or scores.shape != same.shape or same.dtype != np.bool_:
        raise ValueError(
            "scores and same must be of one shape (P,), and same of type bool, "
            f"got {scores.shape}, {same.shape} and {same.dtype}"
        )
    if len(scores) < 2:
        raise MetricError(f"folds take at least 2 pairs, got {len(scores)}")
    if not np.isfinite(scores).all():
        raise MetricError(
            f"scores must be finite, got {np.count_nonzero(~np.isfinite(scores))} of "
            f"{len(scores)} that are not"
        )
    n_folds = min(n_folds, len(scores))
    distances = 2.0 - 2.0 * scores.astype(np.float64)
    folds = np.array_split(np.arange(len(scores)), n_folds)
    right = np.stack(
        [_n_right(distances[fold], same[fold]) for fold in folds]
    )  # (folds, thresholds)
    on_others = right.sum(axis=0) - right
    best = on_others.argmax(axis=1)  # argmax takes the first of equals, as the protocol does
    return FoldAccuracies(
        accuracies=tuple(
            float(right[fold, best[fold]] / len(folds[fold])) for fold in range(n_folds)
        ),
        thresholds=tuple(float(1.0 - _THRESHOLDS[index] / 2.0) for index in best),
    )


def _n_right(
    distances: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Right decisions at each threshold, `(400,)`."""
    n_true_accepts = np.searchsorted(np.sort(distances[same]), _THRESHOLDS, side="left")
    n_false_accepts = np.searchsorted(np.sort(distances[~same]), _THRESHOLDS, side="left")
    return n_true_accepts + np.count_nonzero(~same) - n_false_accepts


def verify_embeddings(
    embeddings: npt.NDArray[np.floating], pairs: PairIndices
) -> VerificationResult:
    """Score a list of pairs by cosine, and compute every number that is reported about it.

    Works for tiny lists too, down to one genuine and one impostor pair: a list with fewer pairs
    than folds is cut into folds of one pair each, and what too few impostors cannot support is
    left out of `tar_at_far`, or None.

    Args:
        embeddings: one for each image, `(N, D)`, of any length but zero. By the usual protocol
            each is the sum of the embeddings of an image and its mirror image; summing is up to
            the caller.
        pairs: rows of `embeddings`, whether they are the same, and the number of folds.

    Returns:
        The result.

    Raises:
        MetricError: embeddings are zero or not finite, or all pairs are of one kind.
        ValueError, IndexError: the parts do not fit together.
    """
    same = pairs.same
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    area = auc(scores, same)  # first, because it refuses lists of one kind
    folds = ten_fold_accuracy(scores, same, n_folds=pairs.n_folds)
    n_different = int(np.count_nonzero(~same))
    supported = [far for far in REPORTED_FARS if n_accepts_allowed(far, n_different) >= 1]
    return VerificationResult(
        accuracy=float(np.mean(folds.accuracies)),
        accuracy_std=float(np.std(folds.accuracies)),
        fold_accuracies=folds.accuracies,
        threshold=float(np.median(folds.thresholds)),
        auc=area,
        eer=eer(scores, same),
        tar_at_far=tuple((far, tar_at_far(scores, same, far)) for far in supported),
        log_tar=(
            log_tar(scores, same, max_far=_LOG_TAR_MAX_FAR)
            if n_accepts_allowed(_LOG_TAR_MAX_FAR, n_different) >= 1
            else None
        ),
        n_same=len(same) - n_different,
        n_different=n_different,
    )
