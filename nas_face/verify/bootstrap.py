"""Intervals of verification figures by resampling, which allow for pairs that share a person.

A person whom a network confuses spoils every pair that he or she is in. To resample pairs as if
each came by chance on its own would call the figures surer than they are, so identities are
resampled where they are known, and all pairs of each with them.
"""

import math
from dataclasses import asdict, dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.intervals import Interval, check_confidence
from nas_face.verify.metrics import roc

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

# weights held at once: 16 MB for each of the few arrays of them
_MAX_WEIGHTS = 2_000_000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapIntervals:
    """Percentile intervals of the figures of one list of scores.

    Args:
        by: what was resampled, `identities` or `pairs`.
        n_resamples: how often.
        confidence: of each interval.
        accuracy: of the share of right decisions, at the thresholds that the protocol chose; None
            without decisions.
        auc: of the area under the ROC.
        eer: of the equal error rate.
        tar_at_far: (FAR, interval of the TAR) for the FARs asked for, the threshold chosen anew in
            each resample.
        threshold_at_far: (FAR, interval of that threshold), for the same FARs.
    """

    by: str
    n_resamples: int
    confidence: float
    accuracy: Interval | None
    auc: Interval
    eer: Interval
    tar_at_far: tuple[tuple[float, Interval], ...]
    threshold_at_far: tuple[tuple[float, Interval], ...]

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, FARs as keys and the ends of thresholds null where infinite."""
        return {
            **asdict(self),
            "tar_at_far": {f"{far:g}": asdict(each) for far, each in self.tar_at_far},
            "threshold_at_far": {
                f"{far:g}": {
                    name: end if math.isfinite(end) else None for name, end in asdict(each).items()
                }
                for far, each in self.threshold_at_far
            },
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairIdentities:
    """Whom the images of each pair show, in any numbering from 0 on.

    Args:
        first: int64 `(P,)`, at least 0.
        second: int64 `(P,)`, likewise.
    """

    first: _Ints
    second: _Ints

    def tell(self, same: npt.NDArray[np.bool_]) -> bool:
        """Whether they are people: in some lists each image only has a name of its own."""
        return bool(np.array_equal(self.first == self.second, same))


def bootstrap_intervals(
    scores: npt.NDArray[np.floating],
    same: npt.NDArray[np.bool_],
    *,
    identities: PairIdentities | None,
    right: npt.NDArray[np.bool_] | None = None,
    fars: tuple[float, ...] = (),
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapIntervals:
    """Draw identities, or pairs, with replacement again and again, and see how figures vary.

    An identity that is drawn w times gives each of its genuine pairs the weight w, and an impostor
    pair weighs as much as the product of its two identities' draws. That counts what is common to
    the pairs of a person in full. What is not common it counts up to three times for impostor
    pairs (in variance), so with few pairs a person, as in LFW, their intervals are up to 1.7 times
    as wide as they need be. Pairs are drawn from either kind apart.

    A mistake that the list never shows appears in no resample either: at 0 or 1 an interval has no
    width, and `wilson_interval` is the one to read.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.
        identities: of each pair; None, or identities that do not tell who is who, resamples pairs.
        right: bool `(P,)`, whether each pair was decided rightly, for the accuracy.
        fars: false accept rates, in (0, 1].
        n_resamples: at least 2; the ends of an interval of 95 % take 1,000.
        confidence: in (0, 1).
        seed: of the draws.

    Returns:
        The intervals.

    Raises:
        MetricError: more than half of the resamples have no pairs of a kind; a FAR is not
            supported; or see `metrics.roc`.
        ValueError: an argument is out of range, or see `metrics.roc`.

    Source:
        Owen and Eckles, "Bootstrapping data arrays of arbitrary order", 2012 (product weights);
        Poh, Martin and Bengio, "Performance generalization in biometric authentication using joint
        user-specific and sample bootstraps", 2007.
    """
    check_confidence(confidence)
    if n_resamples < 2:
        raise ValueError(f"n_resamples must be at least 2, got {n_resamples}")
    curve = roc(scores, same)  # checks the scores
    for far in fars:
        curve.point_at(far)
    sorted_pairs = _SortedPairs.of(scores, same, right)
    by_identity = identities is not None and identities.tell(same)
    draw: _IdentityDraws | _PairDraws
    if identities is not None and by_identity:
        draw = _IdentityDraws.of(identities, sorted_pairs)
    else:
        draw = _PairDraws(n_same=curve.n_same, n_different=curve.n_different)
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_WEIGHTS // len(scores))
    parts = []
    for start in range(0, n_resamples, at_once):
        genuine, impostor = draw(rng, min(at_once, n_resamples - start))
        parts.append(sorted_pairs.figures(genuine, impostor, fars))
    figures = np.concatenate(parts, axis=1)
    usable = ~np.isnan(figures).any(axis=0)
    if 2 * np.count_nonzero(usable) <= n_resamples:
        raise MetricError(
            f"{n_resamples - np.count_nonzero(usable)} of {n_resamples} resamples have no pairs "
            "of one kind; the list has too few identities for intervals"
        )
    tail = (1 - confidence) / 2
    # an observed value each, no mean of two: thresholds may be infinite
    low, high = np.quantile(figures[:, usable], [tail, 1 - tail], axis=1, method="nearest")
    accuracy, auc, eer, *at_fars = (
        Interval(float(lower), float(upper)) for lower, upper in zip(low, high, strict=True)
    )
    return BootstrapIntervals(
        by="identities" if by_identity else "pairs",
        n_resamples=n_resamples,
        confidence=confidence,
        accuracy=None if right is None else accuracy,
        auc=auc,
        eer=eer,
        tar_at_far=tuple(zip(fars, at_fars[: len(fars)], strict=True)),
        threshold_at_far=tuple(zip(fars, at_fars[len(fars) :], strict=True)),
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _PairDraws:
    """Draws of pairs, from either kind apart."""

    n_same: int
    n_different: int

    def __call__(self, rng: np.random.Generator, n: int) -> tuple[_Floats, _Floats]:
        """Weights of the genuine and the impostor pairs, `(n_same, n)` and `(n_different, n)`."""
        return _counts(rng, self.n_same, n), _counts(rng, self.n_different, n)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _IdentityDraws:
    """Draws of identities.

    Attributes:
        n_identities: how many there are.
        of_genuine: identity of each genuine pair in the order of scores, `(n_same,)`.
        of_impostors: identities of each impostor pair, `(2, n_different)`.
    """

    n_identities: int
    of_genuine: _Ints
    of_impostors: _Ints

    @classmethod
    def of(cls, identities: PairIdentities, pairs: "_SortedPairs") -> "_IdentityDraws":
        both = np.stack([identities.first, identities.second])
        names, numbers = np.unique(both, return_inverse=True)
        numbers = numbers.reshape(both.shape)
        return cls(
            n_identities=len(names),
            of_genuine=numbers[0, pairs.genuine],
            of_impostors=numbers[:, pairs.impostor],
        )

    def __call__(self, rng: np.random.Generator, n: int) -> tuple[_Floats, _Floats]:
        """Weights of the genuine and the impostor pairs, `(n_same, n)` and `(n_different, n)`."""
        draws = _counts(rng, self.n_identities, n)
        one, other = self.of_impostors
        impostor = draws[one]
        impostor *= draws[other]
        return draws[self.of_genuine], impostor


def _counts(rng: np.random.Generator, n: int, n_resamples: int) -> _Floats:
    """How often each of n cases comes up in n draws, `(n, n_resamples)`."""
    drawn = rng.integers(0, n, (n, n_resamples))
    drawn *= n_resamples
    drawn += np.arange(n_resamples)
    counts = np.bincount(drawn.ravel(), minlength=n * n_resamples)
    return counts.reshape(n, n_resamples).astype(np.float64)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _SortedPairs:
    """Pairs by falling score, either kind apart, with where the one kind lies in the other.

    Attributes:
        genuine: positions in the list of the genuine pairs, `(n_same,)`.
        impostor: positions in the list of the impostor pairs, `(n_different,)`.
        impostor_scores: `(n_different,)`.
        n_above: genuine pairs that score above each impostor pair, `(n_different,)`.
        n_at_least: likewise, those of equal score included.
        ends: 0, and how many impostor pairs score at least each distinct score of theirs, rising.
        points: at each distinct score, genuine and impostor pairs of at least that score, `(2, K)`
            from (0, 0) on.
        right: whether each genuine and each impostor pair was decided rightly, or None.
    """

    genuine: _Ints
    impostor: _Ints
    impostor_scores: _Floats
    n_above: _Ints
    n_at_least: _Ints
    ends: _Ints
    points: _Ints
    right: tuple[_Floats, _Floats] | None

    @classmethod
    def of(
        cls,
        scores: npt.NDArray[np.floating],
        same: npt.NDArray[np.bool_],
        right: npt.NDArray[np.bool_] | None,
    ) -> "_SortedPairs":
        order = np.argsort(-scores, kind="stable")
        genuine, impostor = order[same[order]], order[~same[order]]
        lost = -scores[genuine].astype(np.float64)  # rising, as searchsorted wants it
        impostor_lost = -scores[impostor].astype(np.float64)
        curve = roc(scores, same)
        return cls(
            genuine=genuine,
            impostor=impostor,
            impostor_scores=-impostor_lost,
            n_above=np.searchsorted(lost, impostor_lost, side="left"),
            n_at_least=np.searchsorted(lost, impostor_lost, side="right"),
            ends=np.append(
                0, np.append(np.flatnonzero(np.diff(impostor_lost)) + 1, len(impostor))
            ),
            points=np.stack([curve.true_accepts, curve.false_accepts]),
            right=(
                None
                if right is None
                else (right[genuine].astype(np.float64), right[impostor].astype(np.float64))
            ),
        )

    def figures(self, genuine: _Floats, impostor: _Floats, fars: tuple[float, ...]) -> _Floats:
        """Accuracy, AUC, EER, TARs and thresholds of each resample, `(3 + 2 F, B)`.

        NaN where no pair of a kind has a weight.
        """
        true_accepts, false_accepts = _running(genuine), _running(impostor)
        n_same, n_different = true_accepts[-1], false_accepts[-1]
        columns = np.arange(len(n_same))
        with np.errstate(invalid="ignore"):
            accuracy = np.zeros(len(n_same))
            if self.right is not None:
                share = len(self.genuine) / (len(self.genuine) + len(self.impostor))
                accuracy = share * (self.right[0] @ genuine) / n_same
                accuracy += (1 - share) * (self.right[1] @ impostor) / n_different
            heights = true_accepts[self.n_above]
            heights += true_accepts[self.n_at_least]
            area = np.einsum("pb,pb->b", impostor, heights)
            auc = area / (2 * n_same * n_different)
            eer = self._eer(true_accepts, false_accepts)
            tars, thresholds = [], []
            at_ends = false_accepts[self.ends] if fars else false_accepts
            for far in fars:
                limits = far * n_different * (1 + 1e-12)
                n_accepted = self.ends[_last_within(at_ends, limits)]
                rejected = np.append(self.n_above, len(self.genuine))[n_accepted]
                tars.append(true_accepts[rejected, columns] / n_same)
                # of the impostors that were drawn: the sums are whole numbers
                accepted = false_accepts[n_accepted, columns]
                lowest = _last_within(false_accepts, accepted - 0.5)
                threshold = self.impostor_scores[np.minimum(lowest, len(self.impostor) - 1)]
                thresholds.append(np.where(accepted == 0, np.inf, threshold))
        figures = np.stack([accuracy, auc, eer, *tars, *thresholds])
        figures[:, (n_same == 0) | (n_different == 0)] = np.nan
        return figures

    def _eer(self, true_accepts: _Floats, false_accepts: _Floats) -> _Floats:
        """Where FAR and FRR meet, by bisection of each column, `(B,)`."""
        columns = np.arange(true_accepts.shape[1])

        def rates(point: _Ints) -> tuple[_Floats, _Floats]:
            far = false_accepts[self.points[1, point], columns] / false_accepts[-1]
            frr = 1.0 - true_accepts[self.points[0, point], columns] / true_accepts[-1]
            return far, frr

        low = np.zeros(len(columns), dtype=np.int64)
        high = np.full(len(columns), self.points.shape[1] - 1)
        while (high - low > 1).any():
            middle = (low + high) // 2
            far, frr = rates(middle)
            below = far < frr
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        far, frr = rates(low)
        far_after, frr_after = rates(high)
        gap, gap_after = frr - far, frr_after - far_after
        eer: _Floats = far + gap / (gap - gap_after) * (far_after - far)
        return eer


def _last_within(rising: _Floats, limits: _Floats) -> _Ints:
    """Last row of each column, rising from 0, that is at most the column's limit, `(B,)`.

    A limit below 0 gives row 0 too.
    """
    columns = np.arange(rising.shape[1])
    low = np.zeros(len(columns), dtype=np.int64)
    high = np.full(len(columns), len(rising))
    while (high - low > 1).any():
        middle = (low + high) // 2
        within = rising[middle, columns] <= limits
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return low


def _running(weights: _Floats) -> _Floats:
    """Sums of the first 0, 1, ... rows, `(P + 1, B)`."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
