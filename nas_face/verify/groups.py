"""Whether one threshold serves all groups of people alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.accuracy import best_accuracy
from nas_face.verify.intervals import Interval, wilson_interval
from nas_face.verify.metrics import check_scores, roc

MIN_SAME = 30
"""Genuine pairs that a group needs for its TAR to be compared: the 95 % interval of a TAR of 0.9
is
then still 0.22 wide (assumed as the coarsest that is of use)."""

MIN_FALSE_ACCEPTS = 10
"""False accepts that a group needs to expect, at the rate of all pairs, for its FMR to be compared
(assumed: the 95 % interval then reaches from about half to nearly twice the value)."""

_Index = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """Some of the pairs at the threshold of all.

    Args:
        name: the group, or what the pairs are.
        n_same: genuine pairs.
        n_different: impostor pairs.
        n_true_accepts: genuine pairs accepted.
        n_false_accepts: impostor pairs accepted.
    """

    name: str
    n_same: int
    n_different: int
    n_true_accepts: int
    n_false_accepts: int

    @property
    def tar(self) -> float | None:
        """Share of the genuine pairs that are accepted; None if there are none. FNMR is the rest
        to 1."""
        return self.n_true_accepts / self.n_same if self.n_same else None

    @property
    def fmr(self) -> float | None:
        """Share of the impostor pairs that are accepted; None if there are none."""
        return self.n_false_accepts / self.n_different if self.n_different else None

    @property
    def accuracy(self) -> float | None:
        """Share of right decisions; depends on the shares of both kinds of pairs. None if there
        are none."""
        n_pairs = self.n_same + self.n_different
        n_right = self.n_true_accepts + self.n_different - self.n_false_accepts
        return n_right / n_pairs if n_pairs else None

    @property
    def tar_interval(self) -> Interval | None:
        """95 % Wilson interval of `tar`."""
        return wilson_interval(self.n_true_accepts, self.n_same) if self.n_same else None

    @property
    def fmr_interval(self) -> Interval | None:
        """95 % Wilson interval of `fmr`."""
        return (
            wilson_interval(self.n_false_accepts, self.n_different) if self.n_different else None
        )

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, each rate with its 95 % Wilson interval."""
        n_pairs = self.n_same + self.n_different
        n_right = self.n_true_accepts + self.n_different - self.n_false_accepts
        n_rejected = self.n_same - self.n_true_accepts
        return {
            "name": self.name,
            "n_same": self.n_same,
            "n_different": self.n_different,
            "tar": self.tar,
            "tar_interval": _ends(self.n_true_accepts, self.n_same),
            "fnmr": n_rejected / self.n_same if self.n_same else None,
            "fnmr_interval": _ends(n_rejected, self.n_same),
            "fmr": self.fmr,
            "fmr_interval": _ends(self.n_false_accepts, self.n_different),
            "accuracy": self.accuracy,
            "accuracy_interval": _ends(n_right, n_pairs),
        }


def _ends(n_hits: int, n: int) -> list[float] | None:
    if not n:
        return None
    interval = wilson_interval(n_hits, n)
    return [interval.low, interval.high]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """Groups at one threshold.

    Args:
        attribute: what the groups differ in.
        threshold: a pair is accepted at this score or above.
        far: the false accept rate, over all pairs, that the threshold keeps to; None where it is
            that of the best accuracy over all pairs.
        overall: all pairs, also those of images whose group is not known.
        groups: pairs within each group, in the order of the groups' names.
        cross_group: pairs between two known groups.
        too_small_for_tar: names of groups with fewer than `MIN_SAME` genuine pairs.
        too_small_for_fmr: names of groups that expect fewer than `MIN_FALSE_ACCEPTS` false
            accepts.
    """

    attribute: str
    threshold: float
    far: float | None
    overall: GroupFigures
    groups: tuple[GroupFigures, ...]
    cross_group: GroupFigures
    too_small_for_tar: tuple[str, ...]
    too_small_for_fmr: tuple[str, ...]

    @property
    def worst_tar(self) -> GroupFigures | None:
        """The group with the lowest TAR, the first of equals; None if all are too small."""
        large = [each for each in self.groups if each.name not in self.too_small_for_tar]
        return min(large, key=lambda each: _known(each.tar)) if large else None

    @property
    def worst_fmr(self) -> GroupFigures | None:
        """The group with the highest FMR, the first of equals; None if all are too small."""
        large = [each for each in self.groups if each.name not in self.too_small_for_fmr]
        return max(large, key=lambda each: _known(each.fmr)) if large else None

    @property
    def tar_gap(self) -> float | None:
        """Highest less lowest TAR; None with fewer than two groups that are large enough."""
        tars = [
            _known(each.tar) for each in self.groups if each.name not in self.too_small_for_tar
        ]
        return max(tars) - min(tars) if len(tars) > 1 else None

    @property
    def fmr_ratio(self) -> float | None:
        """Highest FMR divided by the lowest, infinite if that is 0; None with fewer than two
        groups
        that are large enough, or if nothing is accepted in any."""
        fmrs = [
            _known(each.fmr) for each in self.groups if each.name not in self.too_small_for_fmr
        ]
        if len(fmrs) < 2 or max(fmrs) == 0:
            return None
        return max(fmrs) / min(fmrs) if min(fmrs) else math.inf

    def as_dict(self) -> dict[str, object]:
        """The same for JSON; an infinite ratio is the text `inf`."""
        worst_tar, worst_fmr, ratio = self.worst_tar, self.worst_fmr, self.fmr_ratio
        return {
            "attribute": self.attribute,
            "threshold": self.threshold,
            "far": self.far,
            "overall": self.overall.as_dict(),
            "groups": [each.as_dict() for each in self.groups],
            "cross_group": self.cross_group.as_dict(),
            "worst_tar_group": None if worst_tar is None else worst_tar.name,
            "worst_fmr_group": None if worst_fmr is None else worst_fmr.name,
            "tar_gap": self.tar_gap,
            "fmr_ratio": "inf" if ratio == math.inf else ratio,
            "too_small_for_tar": list(self.too_small_for_tar),
            "too_small_for_fmr": list(self.too_small_for_fmr),
        }


def _known(rate: float | None) -> float:
    assert rate is not None  # groups that are large enough have pairs
    return rate


def group_report(
    scores: npt.NDArray[np.floating],
    same: _Bools,
    first_groups: _Index,
    second_groups: _Index,
    names: Sequence[str],
    *,
    attribute: str,
    far: float | None = None,
) -> GroupReport:
    """Judge each group at the threshold of all pairs together.

    A pair belongs to a group if both of its images do.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.
        first_groups: group of each pair's first image, in 0..len(names) - 1 or -1 where it is not
            known, int64 `(P,)`.
        second_groups: of the second image, likewise.
        names: of the groups.
        attribute: what the groups differ in, for the report.
        far: false accept rate over all pairs that the threshold is to keep to; None for the
            threshold of the best accuracy over all pairs.

    Returns:
        The report.

    Raises:
        MetricError: a score is not finite, all pairs are of one kind, or the impostor pairs do not
            support `far`.
        ValueError: the shapes differ, or a group or `far` is out of range.
    """
    scores = scores.astype(np.float64)  # float32 would round the threshold
    threshold = _threshold(scores, same, far)
    _check_groups(same, first_groups, second_groups, len(names))
    accepted = scores >= threshold
    within = (first_groups >= 0) & (first_groups == second_groups)
    cross = (first_groups >= 0) & (second_groups >= 0) & ~within
    figures = tuple(
        _figures(name, same, accepted, within & (first_groups == code))
        for code, name in enumerate(names)
    )
    overall = _figures("all pairs", same, accepted, np.ones_like(same))
    expected_fmr = overall.n_false_accepts / overall.n_different
    return GroupReport(
        attribute=attribute,
        threshold=threshold,
        far=far,
        overall=overall,
        groups=figures,
        cross_group=_figures("between groups", same, accepted, cross),
        too_small_for_tar=tuple(each.name for each in figures if each.n_same < MIN_SAME),
        too_small_for_fmr=tuple(
            each.name for each in figures if each.n_different * expected_fmr < MIN_FALSE_ACCEPTS
        ),
    )


def _threshold(scores: npt.NDArray[np.floating], same: _Bools, far: float | None) -> float:
    """The lowest score that is accepted."""
    if far is None:
        check_scores(scores, same)
        # Accepted above the best threshold is the same as from the next number on.
        return math.nextafter(best_accuracy(scores, same).threshold, math.inf)
    curve = roc(scores, same)
    return float(curve.thresholds[curve.point_at(far)])


def _check_groups(same: _Bools, first: _Index, second: _Index, n_groups: int) -> None:
    if not first.shape == second.shape == same.shape:
        raise ValueError(
            "first_groups, second_groups and same must be of one shape (P,), "
            f"got {first.shape}, {second.shape} and {same.shape}"
        )
    for groups in (first, second):
        if not -1 <= groups.min() <= groups.max() < n_groups:
            raise ValueError(f"groups must lie in -1..{n_groups - 1}")


def _figures(name: str, same: _Bools, accepted: _Bools, chosen: _Bools) -> GroupFigures:
    genuine, impostor = chosen & same, chosen & ~same
    return GroupFigures(
        name=name,
        n_same=int(np.count_nonzero(genuine)),
        n_different=int(np.count_nonzero(impostor)),
        n_true_accepts=int(np.count_nonzero(genuine & accepted)),
        n_false_accepts=int(np.count_nonzero(impostor & accepted)),
    )


def worst_group_tar(
    scores: npt.NDArray[np.floating], same: _Bools, groups: _Index, far: float
) -> float:
    """Lowest TAR of any group at the threshold that keeps the FAR of all pairs to a limit.

    Args:
        scores: `(P,)`, higher means more alike.
        same: bool `(P,)`.
        groups: of each pair, if both images are of one group, or -1 otherwise; int64 `(P,)`. Those
            with fewer than `MIN_SAME` genuine pairs are left out.
        far: the limit, in (0, 1].

    Returns:
        Between 0 and 1.

    Raises:
        MetricError: no group has enough genuine pairs, the impostor pairs do not support `far`; or
            see `roc`.
        ValueError: the shapes differ, or `far` is out of range.
    """
    scores = scores.astype(np.float64)
    threshold = _threshold(scores, same, far)
    _check_groups(same, groups, groups, int(groups.max(initial=-1)) + 1)
    genuine = same & (groups >= 0)
    n_same = np.bincount(groups[genuine])
    n_accepted = np.bincount(groups[genuine & (scores >= threshold)], minlength=len(n_same))
    large = n_same >= MIN_SAME
    if not large.any():
        raise MetricError(
            f"the worst group's TAR takes a group with at least {MIN_SAME} genuine pairs, "
            f"got at most {n_same.max(initial=0)}; add pairs, or merge groups"
        )
    return float((n_accepted[large] / n_same[large]).min())
