"""The threshold card: at which scores a model may be used, and what was seen there.

A threshold belongs to one model at one precision: a quantised file scores its pairs otherwise than
the network that it was made from. It is set on one list of pairs and must be checked on another.

    FMR  false match rate: share of the impostor pairs at or above the threshold (FAR elsewhere)
    TMR  true match rate: share of the genuine pairs at or above it
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from scipy.special import bdtr

from nas_face.errors import MetricError
from nas_face.verify.bootstrap import PairIdentities, bootstrap_intervals
from nas_face.verify.intervals import (
    Interval,
    check_confidence,
    clopper_pearson_interval,
    wilson_interval,
)
from nas_face.verify.metrics import check_scores, n_accepts_allowed

CARD_FMRS = (1e-2, 1e-3, 1e-4, 1e-5)
"""False match rates that a card has thresholds for, as far as its pairs support them."""

_ROUNDING = 1e-6  # cosines of single precision may lie that far outside [-1, 1]

_Floats = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CardThreshold:
    """The threshold for one false match rate.

    Args:
        fmr: the rate that is promised.
        cosine: a pair is the same from this cosine on: the k-th highest of the impostor pairs, k
            being the most that `fmr` allows. On average over lists of n independent impostor pairs
            its rate is k / (n + 1).
        cosine_interval: where the threshold of exactly this rate may lie.
        distance: the same threshold as the Euclidean distance of unit vectors, sqrt(2 - 2 cos): a
            pair is the same up to it.
        distance_interval: likewise.
        n_false_matches: impostor pairs that match.
        fmr_interval: Clopper-Pearson's, of their share.
        tmr: true match rate; not above `tar_at_far`, which takes the lowest threshold that accepts
            as many impostor pairs.
        tmr_interval: Wilson's.

    Raises:
        MetricError: `fmr` or `cosine` is out of range, as it may be in a file.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # for reading JSON

    fmr: float
    cosine: float
    cosine_interval: Interval
    distance: float
    distance_interval: Interval
    n_false_matches: int
    fmr_interval: Interval
    tmr: float
    tmr_interval: Interval

    def __post_init__(self) -> None:
        if not (0 < self.fmr <= 1 and -1 <= self.cosine <= 1):
            raise MetricError(
                "a threshold needs an fmr in (0, 1] and a cosine in [-1, 1], "
                f"got {self.fmr} and {self.cosine}"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedThreshold:
    """A false match rate for which the pairs give no threshold.

    Args:
        fmr: the rate.
        reason: why.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # for reading JSON

    fmr: float
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedThreshold:
    """A threshold of a card on other pairs.

    Args:
        fmr: the rate that the card promises.
        cosine: its threshold.
        observed_fmr: share of the other impostor pairs that match.
        n_false_matches: their number.
        fmr_interval: Clopper-Pearson's, of their share.
        observed_fnmr: share of the other genuine pairs that do not match.
        n_false_non_matches: their number.
        fnmr_interval: Clopper-Pearson's, of their share.
    """

    fmr: float
    cosine: float
    observed_fmr: float
    n_false_matches: int
    fmr_interval: Interval
    observed_fnmr: float
    n_false_non_matches: int
    fnmr_interval: Interval

    @property
    def holds(self) -> bool:
        """Whether the promised rate lies inside the interval of the observed one."""
        return self.fmr in self.fmr_interval

    @property
    def too_many(self) -> bool:
        """Whether more impostors match than the promise can explain."""
        return self.fmr < self.fmr_interval.low


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCheck:
    """A card on pairs that it was not made of.

    Args:
        pairs: name of those pairs.
        n_same: number of genuine pairs.
        n_different: number of impostor pairs.
        confidence: of the intervals.
        thresholds: one for each of the card's, in its order.
    """

    pairs: str
    n_same: int
    n_different: int
    confidence: float
    thresholds: tuple[CheckedThreshold, ...]

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, with `holds` and `too_many` of each threshold."""
        return {
            **asdict(self),
            "thresholds": [
                {**asdict(each), "holds": each.holds, "too_many": each.too_many}
                for each in self.thresholds
            ],
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCard:
    """Thresholds of one model at one precision.

    Args:
        model: its name.
        precision: such as `fp32` or `int8`.
        pairs: name of the list that set the thresholds.
        n_same: number of its genuine pairs.
        n_different: number of its impostor pairs.
        confidence: of the intervals.
        resampled: what the intervals of the thresholds come from: `identities` by bootstrap, or
            `none`: order statistics of the impostor pairs, as if they were independent.
        thresholds: by falling false match rate.
        refused: rates without a threshold, and why.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # for reading JSON

    model: str
    precision: str
    pairs: str
    n_same: int
    n_different: int
    confidence: float
    resampled: str
    thresholds: tuple[CardThreshold, ...]
    refused: tuple[RefusedThreshold, ...]

    def checked_on(
        self, scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, pairs: str = ""
    ) -> ThresholdCheck:
        """Try the thresholds on other pairs.

        Args:
            scores: cosines of the same model at the same precision, `(P,)`, in [-1, 1].
            same: bool `(P,)`.
            pairs: name of the list.

        Returns:
            What matched, and whether the promises hold.

        Raises:
            MetricError, ValueError: see `threshold_card`.
        """
        genuine, impostor = _checked(scores, same)

        def tried(threshold: CardThreshold) -> CheckedThreshold:
            n_false_matches = int(np.count_nonzero(impostor >= threshold.cosine))
            n_missed = int(np.count_nonzero(genuine < threshold.cosine))
            return CheckedThreshold(
                fmr=threshold.fmr,
                cosine=threshold.cosine,
                observed_fmr=n_false_matches / len(impostor),
                n_false_matches=n_false_matches,
                fmr_interval=clopper_pearson_interval(
                    n_false_matches, len(impostor), confidence=self.confidence
                ),
                observed_fnmr=n_missed / len(genuine),
                n_false_non_matches=n_missed,
                fnmr_interval=clopper_pearson_interval(
                    n_missed, len(genuine), confidence=self.confidence
                ),
            )

        return ThresholdCheck(
            pairs=pairs,
            n_same=len(genuine),
            n_different=len(impostor),
            confidence=self.confidence,
            thresholds=tuple(tried(each) for each in self.thresholds),
        )

    def to_json(self) -> str:
        """The card as text that `from_json` reads."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "threshold card") -> Self:
        """Read what `to_json` wrote.

        Args:
            text: JSON.
            where: the file that it came from; starts the message.

        Raises:
            MetricError: it is no card: a key is missing or unknown, or a value of another type.
        """
        try:
            card: Self = TypeAdapter[Any](cls).validate_json(text, strict=True)
        except ValidationError as failure:
            problem = failure.errors(include_url=False)[0]
            path = ".".join(str(part) for part in problem["loc"]) or "the text"
            raise MetricError(f"{where}: {path}: {problem['msg']}") from failure
        except MetricError as failure:  # a value out of range
            raise MetricError(f"{where}: {failure}") from failure
        return card


def threshold_card(
    scores: npt.NDArray[np.floating],
    same: npt.NDArray[np.bool_],
    *,
    model: str,
    precision: str,
    pairs: str = "",
    identities: PairIdentities | None = None,
    fmrs: tuple[float, ...] = CARD_FMRS,
    confidence: float = 0.95,
) -> ThresholdCard:
    """Set a model's thresholds on a list of pairs.

    Args:
        scores: cosines `(P,)`, in [-1, 1].
        same: bool `(P,)`.
        model: name of the model.
        precision: of the file that made the scores.
        pairs: name of the list.
        identities: of each pair. Where they tell who is who, the intervals of the thresholds come
            from resampling people, which takes seconds for a million pairs and more; None takes
            the pairs for independent.
        fmrs: false match rates, in (0, 1].
        confidence: of the intervals, in (0, 1).

    Returns:
        The card; what the pairs do not support is in `refused`.

    Raises:
        MetricError: scores are not finite, or all pairs are of one kind.
        ValueError: scores are no cosines, shapes differ, or a rate is out of range.
    """
    check_confidence(confidence)
    genuine, impostor = _checked(scores, same)
    impostor = np.sort(impostor)[::-1]
    n_matches: dict[float, int] = {}
    refused = []
    for fmr in sorted(fmrs, reverse=True):
        try:
            n_matches[fmr] = _most_matches(impostor, fmr)
        except MetricError as error:
            refused.append(RefusedThreshold(fmr=fmr, reason=str(error)))
    by_identity = identities is not None and identities.tell(same)
    if by_identity:
        resampled = bootstrap_intervals(
            scores, same, identities=identities, fars=tuple(n_matches), confidence=confidence
        )
        intervals = dict(resampled.threshold_at_far)
    else:
        intervals = {fmr: _quantile_interval(impostor, fmr, confidence) for fmr in n_matches}

    def threshold(fmr: float, n: int) -> CardThreshold:
        cosine = float(impostor[n - 1])
        interval = Interval(max(intervals[fmr].low, -1.0), min(intervals[fmr].high, 1.0))
        n_true = int(np.count_nonzero(genuine >= cosine))
        return CardThreshold(
            fmr=fmr,
            cosine=cosine,
            cosine_interval=interval,
            distance=_distance(cosine),
            distance_interval=Interval(_distance(interval.high), _distance(interval.low)),
            n_false_matches=n,
            fmr_interval=clopper_pearson_interval(n, len(impostor), confidence=confidence),
            tmr=n_true / len(genuine),
            tmr_interval=wilson_interval(n_true, len(genuine), confidence=confidence),
        )

    return ThresholdCard(
        model=model,
        precision=precision,
        pairs=pairs,
        n_same=len(genuine),
        n_different=len(impostor),
        confidence=confidence,
        resampled="identities" if by_identity else "none",
        thresholds=tuple(threshold(fmr, n) for fmr, n in n_matches.items()),
        refused=tuple(refused),
    )


def _checked(
    scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]
) -> tuple[_Floats, _Floats]:
    """Cosines of the genuine and of the impostor pairs."""
    check_scores(scores, same)
    largest = float(np.abs(scores).max())
    if largest > 1 + _ROUNDING:
        raise ValueError(f"scores must be cosines in [-1, 1], got {largest:g}")
    cosines = scores.astype(np.float64).clip(-1.0, 1.0)
    return cosines[same], cosines[~same]


def _most_matches(falling: _Floats, fmr: float) -> int:
    """How many impostor pairs may match at a rate of at most `fmr`, ties together.

    Raises:
        MetricError: none may; the message says why.
        ValueError: `fmr` is not in (0, 1].
    """
    n_allowed = n_accepts_allowed(fmr, len(falling))
    if n_allowed < 1:
        raise MetricError(
            f"a threshold for FMR {fmr:g} takes at least {math.ceil(1 / fmr - 1e-6)} pairs of "
            f"different identities, got {len(falling)}"
        )
    if n_allowed == len(falling):
        return n_allowed
    first_refused = float(falling[n_allowed])
    n_matches = int(np.count_nonzero(falling > first_refused))
    if n_matches == 0:
        n_tied = int(np.count_nonzero(falling == first_refused))
        raise MetricError(
            f"no threshold has FMR {fmr:g}: the {n_tied} highest impostor scores are all "
            f"{first_refused:g}, and {n_allowed} of {len(falling)} may match; the model does not "
            "tell faces apart"
        )
    return n_matches


def _quantile_interval(falling: _Floats, fmr: float, confidence: float) -> Interval:
    """Where the score lies that a share `fmr` of all impostor pairs exceeds.

    How many of n independent pairs exceed it is a binomial count; the scores of those ranks
    enclose it, and the ends of the range where the ranks go over the list.
    """
    n = len(falling)
    counts = np.arange(n + 1)
    at_most = bdtr(counts, n, fmr)
    tail = (1 - confidence) / 2
    fewest = int(np.searchsorted(at_most, tail))
    most = int(np.searchsorted(at_most, 1 - tail)) + 1
    return Interval(
        float(falling[most - 1]) if most <= n else -1.0,
        float(falling[fewest - 1]) if fewest >= 1 else 1.0,
    )


def _distance(cosine: float) -> float:
    """Euclidean distance of unit vectors."""
    return math.sqrt(2 - 2 * cosine)
