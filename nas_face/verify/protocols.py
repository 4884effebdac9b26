"""Verification as papers report it: all that is said about one network on a list of pairs."""

from dataclasses import asdict, dataclass
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.accuracy import BestAccuracy, best_accuracy, exact_fold_accuracies
from nas_face.verify.bootstrap import BootstrapIntervals, PairIdentities, bootstrap_intervals
from nas_face.verify.insightface import (
    ValAtFar,
    chosen_distances,
    fold_accuracies,
    folds_of,
    val_at_far,
)
from nas_face.verify.intervals import Interval, wilson_interval
from nas_face.verify.metrics import Roc, cosines_of, n_accepts_allowed, roc, squared_distances

REPORTED_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False accept rates at which a result states the true accept rate, if its pairs support them."""

CONFIDENCE = 0.95
"""Of the intervals of a result."""

_LOG_TAR_MAX_FAR = 0.1


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
class OperatingPoint:
    """The lowest threshold within a false accept rate, and what it accepts.

    Args:
        far: the limit.
        tar: true accept rate there.
        interval: Wilson's of `tar`, as if the pairs were independent and the threshold given.
        threshold: as a cosine: accepted from it on. None if even the highest score is shared by
            too many impostors, so that nothing is accepted.
        n_false_accepts: impostor pairs accepted there. A FAR that rests on few of them is rough:
            a count of n varies by about its root.
    """

    far: float
    tar: float
    interval: Interval
    threshold: float | None
    n_false_accepts: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFar:
    """A false accept rate that the list cannot tell anything about.

    Args:
        far: the rate.
        reason: how many impostor pairs it takes, and how many there are.
    """

    far: float
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """That intervals be found by bootstrap, see `bootstrap.bootstrap_intervals`.

    Args:
        n_resamples: at least 2.
        seed: of the draws.
        identities: of each image, int64 `(N,)`, at least 0; None resamples pairs, which takes them
            for independent.
    """

    n_resamples: int = 1000
    seed: int = 0
    identities: npt.NDArray[np.int64] | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """Everything that a report says about one network on one list of pairs.

    Args:
        accuracy: mean accuracy over the folds, in [0, 1], as InsightFace computes it.
        accuracy_std: its standard deviation over the folds (divided by their number, as
            InsightFace does).
        accuracy_interval: Wilson's, of the share of pairs decided rightly over all folds.
        fold_accuracies: one for each fold.
        threshold: median over the folds of the chosen threshold, as a cosine: a pair is "same"
            above it.
        exact_accuracy: mean over the folds at thresholds that are not held to a grid.
        exact_accuracy_std: its standard deviation over the folds.
        best: the best accuracy of one threshold on all pairs, which flatters.
        insightface_val: InsightFace's "val" at FAR 0.001; None where a fold lacks pairs of one
            kind, for then it is not defined.
        auc: area under the ROC.
        eer: equal error rate.
        operating_points: at those of `REPORTED_FARS` that the number of impostor pairs supports;
            may be empty.
        refused_fars: the others.
        log_tar: see `metrics.log_tar` up to FAR 0.1; None with fewer than 10 impostor pairs.
        n_same: number of genuine pairs.
        n_different: number of impostor pairs.
        bootstrap: intervals by resampling, if they were asked for.
    """

    accuracy: float
    accuracy_std: float
    accuracy_interval: Interval
    fold_accuracies: tuple[float, ...]
    threshold: float
    exact_accuracy: float
    exact_accuracy_std: float
    best: BestAccuracy
    insightface_val: ValAtFar | None
    auc: float
    eer: float
    operating_points: tuple[OperatingPoint, ...]
    refused_fars: tuple[RefusedFar, ...]
    log_tar: float | None
    n_same: int
    n_different: int
    bootstrap: BootstrapIntervals | None = None

    @property
    def tar_at_far(self) -> tuple[tuple[float, float], ...]:
        """(FAR, TAR) of the operating points."""
        return tuple((point.far, point.tar) for point in self.operating_points)

    def as_dict(self) -> dict[str, object]:
        """The same for JSON: lists for tuples, and `tar_at_far` as in `{"0.001": 0.95}`."""
        data = asdict(self)
        return {
            **data,
            "fold_accuracies": list(self.fold_accuracies),
            "tar_at_far": {f"{far:g}": tar for far, tar in self.tar_at_far},
            "operating_points": [asdict(point) for point in self.operating_points],
            "refused_fars": {f"{each.far:g}": each.reason for each in self.refused_fars},
            "bootstrap": None if self.bootstrap is None else self.bootstrap.as_dict(),
        }


def verify_embeddings(
    embeddings: npt.NDArray[np.floating],
    pairs: PairIndices,
    *,
    resampling: Resampling | None = None,
) -> VerificationResult:
    """Score a list of pairs by cosine, and compute every number that is reported about it.

    Works for tiny lists too, down to one genuine and one impostor pair: a list with fewer pairs
    than folds is cut into folds of one pair each, and what too few impostors cannot support is
    refused by name, or None.

    Args:
        embeddings: one for each image, `(N, D)`, of any length but zero. By the usual protocol
            each is the sum of the embeddings of an image and its mirror image; summing is up to
            the caller.
        pairs: rows of `embeddings`, whether they are the same, and the number of folds.
        resampling: finds intervals by bootstrap besides, which takes longer than all the rest.

    Returns:
        The result.

    Raises:
        MetricError: embeddings are zero or not finite, or all pairs are of one kind, or too few
            identities are there to resample.
        ValueError, IndexError: the parts do not fit together.
    """
    same, n_folds = pairs.same, pairs.n_folds
    distances = squared_distances(embeddings, pairs.first, pairs.second)
    scores = cosines_of(distances)
    curve = roc(scores, same)  # first, because it refuses lists of one kind
    folds = fold_accuracies(distances, same, n_folds=n_folds)
    exact = exact_fold_accuracies(scores, same, n_folds=n_folds)
    fold = folds_of(scores, same, n_folds=n_folds)
    n_right = round(float(np.dot(folds.accuracies, np.bincount(fold))))
    points, refused = _operating_points(curve)
    intervals = None
    if resampling is not None:
        chosen = chosen_distances(distances, same, n_folds=n_folds)
        identities = resampling.identities
        intervals = bootstrap_intervals(
            scores,
            same,
            identities=(
                None
                if identities is None
                else PairIdentities(first=identities[pairs.first], second=identities[pairs.second])
            ),
            right=(distances < chosen[fold]) == same,
            fars=tuple(point.far for point in points),
            n_resamples=resampling.n_resamples,
            confidence=CONFIDENCE,
            seed=resampling.seed,
        )
    return VerificationResult(
        accuracy=float(np.mean(folds.accuracies)),
        accuracy_std=float(np.std(folds.accuracies)),
        accuracy_interval=wilson_interval(n_right, len(same), confidence=CONFIDENCE),
        fold_accuracies=folds.accuracies,
        threshold=float(np.median(folds.thresholds)),
        exact_accuracy=float(np.mean(exact.accuracies)),
        exact_accuracy_std=float(np.std(exact.accuracies)),
        best=best_accuracy(scores, same),
        insightface_val=_val_or_none(distances, same, n_folds),
        auc=curve.auc(),
        eer=curve.eer(),
        operating_points=points,
        refused_fars=refused,
        log_tar=(
            curve.log_tar(max_far=_LOG_TAR_MAX_FAR)
            if n_accepts_allowed(_LOG_TAR_MAX_FAR, curve.n_different) >= 1
            else None
        ),
        n_same=curve.n_same,
        n_different=curve.n_different,
        bootstrap=intervals,
    )


def _operating_points(curve: Roc) -> tuple[tuple[OperatingPoint, ...], tuple[RefusedFar, ...]]:
    """At the reported FARs, and why not at the others."""
    points, refused = [], []
    for far in REPORTED_FARS:
        try:
            at = curve.point_at(far)
        except MetricError as error:
            refused.append(RefusedFar(far=far, reason=str(error)))
            continue
        n_true = int(curve.true_accepts[at])
        points.append(
            OperatingPoint(
                far=far,
                tar=n_true / curve.n_same,
                interval=wilson_interval(n_true, curve.n_same, confidence=CONFIDENCE),
                threshold=None if at == 0 else float(curve.thresholds[at]),
                n_false_accepts=int(curve.false_accepts[at]),
            )
        )
    return tuple(points), tuple(refused)


def _val_or_none(
    distances: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], n_folds: int
) -> ValAtFar | None:
    try:
        return val_at_far(distances, same, n_folds=n_folds)
    except MetricError:  # a fold lacks pairs of one kind; all else is checked before
        return None
