"""Groups of people among the pairs of a study: who belongs where, and the figures of each."""

import functools
import hashlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import PairList
from nas_face.data.formats.attributes import AttributeTable, ImageGroups
from nas_face.errors import DataError
from nas_face.verify.groups import MIN_SAME, GroupReport, group_report, worst_group_tar
from nas_face.verify.metrics import n_accepts_allowed

_logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairGroups:
    """Groups of the people on the images of a pair list, by one attribute or several.

    Attributes:
        pairs: the pairs.
        far: over all pairs; the lowest threshold that keeps to it is that of all groups.
        attributes: groups of the images by each attribute that any image has a value of; in at
            least one of them a group has enough genuine pairs.
        remarks: what people should know, such as how many identities are in no group.
    """

    pairs: PairList
    far: float
    attributes: tuple[ImageGroups, ...]
    remarks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Equal where the same images are in the same groups, at the same FAR."""
        found = hashlib.sha256(repr(self.far).encode())
        for each in self.attributes:
            found.update(repr((each.attribute, each.names)).encode())
            found.update(each.codes.tobytes())
        return found.hexdigest()

    def worst_tar(self, scores: NDArray[np.floating]) -> float:
        """Lowest TAR of any group of any attribute; those with too few genuine pairs are left out.

        Args:
            scores: of the pairs, `(P,)`, higher means more alike.

        Returns:
            Between 0 and 1.

        Raises:
            MetricError: a score is not finite.
        """
        return min(
            worst_group_tar(scores, self.pairs.same, groups, self.far)
            for groups in (_within(each, self.pairs) for each in self.attributes)
            if _most_same(groups, self.pairs) >= MIN_SAME
        )

    def reports(self, scores: NDArray[np.floating]) -> tuple[GroupReport, ...]:
        """Figures of every group, by each attribute.

        Raises:
            MetricError: a score is not finite.
        """
        pairs = self.pairs
        return tuple(
            group_report(
                scores,
                pairs.same,
                each.codes[pairs.first],
                each.codes[pairs.second],
                each.names,
                attribute=each.attribute,
                far=self.far,
            )
            for each in self.attributes
        )


def _within(groups: ImageGroups, pairs: PairList) -> NDArray[np.int64]:
    """Group of each pair, `(P,)`; -1 where its images are not of one known group."""
    first, second = groups.codes[pairs.first], groups.codes[pairs.second]
    return np.where(first == second, first, -1)


def _most_same(groups: NDArray[np.int64], pairs: PairList) -> int:
    """Genuine pairs of the group that has most of them."""
    return int(np.bincount(groups[pairs.same & (groups >= 0)]).max(initial=0))


def find_groups(table: AttributeTable, pairs: PairList, *, far: float, of: str) -> PairGroups:
    """Sort the people on pairs into groups by their attributes.

    Args:
        table: the attributes.
        pairs: the pairs.
        far: over all pairs, in (0, 1).
        of: what the pairs are, for messages.

    Raises:
        DataError: no attribute has a value for any image, no group has enough genuine pairs, or
            the impostor pairs do not support `far`.
    """
    images = pairs.images
    identities = [images.identities[label] for label in images.labels]
    found: list[ImageGroups] = []
    failures: list[DataError] = []
    for attribute in table.attributes:
        try:
            found.append(table.groups(attribute, names=images.names, identities=identities))
        except DataError as failure:
            failures.append(failure)
    if not found:
        raise DataError(f"{of}: {failures[0]}") from failures[0]
    largest = max(_most_same(_within(each, pairs), pairs) for each in found)
    if largest < MIN_SAME:
        raise DataError(
            f"{of}: {table.path}: the worst group's TAR takes a group with at least {MIN_SAME} "
            f"pairs of the same identity, got at most {largest}; merge groups, or take more faces"
        )
    if n_accepts_allowed(far, pairs.n_different) < 1:
        raise DataError(
            f"{of}: a FAR of {far:g} over all pairs takes at least {math.ceil(1 / far - 1e-6):,} "
            f"pairs of different identities, got {pairs.n_different:,}; raise the group FAR, or "
            "take more pairs"
        )
    remarks = (*_unlisted(table, pairs, of), *(f"{of}: {each}" for each in failures))
    return PairGroups(pairs=pairs, far=far, attributes=tuple(found), remarks=remarks)


def _unlisted(table: AttributeTable, pairs: PairList, of: str) -> Iterator[str]:
    images = pairs.images
    keys, what = (
        (images.identities, "identities") if table.key == "identity" else (images.names, "images")
    )
    n_unlisted = sum(key not in table.values for key in keys)
    if n_unlisted:
        yield f"{of}: {n_unlisted:,} of {len(keys):,} {what} are not in {table.path}: in no group"


def worst_tar_of(reports: Iterable[GroupReport]) -> float | None:
    """The same as `PairGroups.worst_tar`, of reports; None without a group that is large
    enough."""
    worst = [each.worst_tar for each in reports]
    return min(
        (each.tar for each in worst if each is not None and each.tar is not None), default=None
    )


@functools.cache
def say_once(line: str) -> None:
    """Warn of something, once in a process: faces are loaded anew for every input size."""
    _logger.warning("%s", line)
