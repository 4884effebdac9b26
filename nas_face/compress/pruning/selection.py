"""Which classes to remove for a cost: rank, cut by bisection on the exact cost, then give back
what still fits (numpy only)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning.channels import Coupling, Family

Counts = tuple[int, ...]  # classes that stay, one number for each family


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How many classes of a family may stay: all, or multiples of `step` from `floor` up.

    Attributes:
        size: classes of the family.
        step: classes that fill a multiple of the rounding with channels.
        floor: fewest classes that may stay.
    """

    size: int
    step: int
    floor: int

    @staticmethod
    def of(family: Family, *, round_to: int, min_keep: float) -> "Grid":
        """Grid of a family.

        Args:
            family: the family.
            round_to: channels; widths of the narrowest tensor become multiples of it.
            min_keep: fraction of the classes that must stay; at least one always does.
        """
        size = len(family.classes)
        step = round_to // math.gcd(round_to, family.class_width)
        fewest = max(1, math.ceil(min_keep * size - 1e-9))
        return Grid(size=size, step=step, floor=_up(fewest, step, size))

    def at_least(self, count: int) -> int:
        """Smallest permitted number that is not below `count`."""
        return _up(max(count, self.floor), self.step, self.size)

    def above(self, count: int) -> int:
        """Next permitted number above `count`."""
        return self.at_least(count + 1)


def _up(count: int, step: int, size: int) -> int:
    return min(size, -(-count // step) * step)


@final
class Selection:
    """Families of a network in order of importance, and what may be removed of each."""

    def __init__(
        self,
        coupling: Coupling,
        scores: NDArray[np.float64],
        *,
        round_to: int,
        min_keep: float,
    ) -> None:
        """
        Args:
            coupling: classes and families.
            scores: `(n_classes,)`, comparable over families.
            round_to: channels in which widths move, as far as the class width permits.
            min_keep: fraction of each family that must stay, 0 to 1.
        """
        self.coupling = coupling
        self.round_to = round_to
        self.min_keep = min_keep
        self.grids = [
            Grid.of(family, round_to=round_to, min_keep=min_keep) for family in coupling.families
        ]
        # Most important first; equal scores keep the order of the network.
        self.ranked = [
            sorted(family.classes, key=lambda member: -scores[member])
            for family in coupling.families
        ]
        self.scores = scores
        # Equal scores, as of a fresh batch normalisation, thin all families out evenly.
        least_first = sorted(
            (scores[member], -place / len(ranked), number)
            for number, ranked in enumerate(self.ranked)
            for place, member in enumerate(ranked)
        )
        self.least_first = [number for _, _, number in least_first]  # family of each class

    def loosened(
        self, *, round_to: int | None = None, min_keep: float | None = None
    ) -> "Selection":
        """The same with another rounding or another floor."""
        return Selection(
            self.coupling,
            self.scores,
            round_to=self.round_to if round_to is None else round_to,
            min_keep=self.min_keep if min_keep is None else min_keep,
        )

    @property
    def floors(self) -> Counts:
        """Fewest classes of each family."""
        return tuple(grid.floor for grid in self.grids)

    def alive(self, counts: Counts) -> NDArray[np.bool_]:
        """`(n_classes,)`, whether each class stays when `counts` of each family do."""
        alive = np.ones(self.coupling.n_classes, np.bool_)
        for ranked, count in zip(self.ranked, counts, strict=True):
            alive[ranked[count:]] = False
        return alive

    def without(self, n_least: int) -> Counts:
        """Classes of each family that stay when the `n_least` least important of all families
        go, as far as rounding and floors let them."""
        counts = [grid.size for grid in self.grids]
        for number in self.least_first[:n_least]:
            counts[number] -= 1
        return tuple(grid.at_least(count) for grid, count in zip(self.grids, counts, strict=True))

    def fit(self, budget: int, cost: Callable[[Counts], int]) -> Counts:
        """Most classes at or under a budget.

        The number of least important classes that go is found by bisection, which is exact
        because cost only falls with it. What that leaves unused is filled by giving steps back,
        the most important first, as long as they fit; a step that does not fit once never will,
        because the wider the other tensors are, the dearer it is.

        Args:
            budget: the most that `cost` may give; `floors` must cost no more.
            cost: cost of keeping so many of each family.
        """
        low, high = 0, len(self.least_first)  # `high` is always within the budget
        while low < high:
            middle = (low + high) // 2
            if cost(self.without(middle)) <= budget:
                high = middle
            else:
                low = middle + 1
        counts = self.without(high)
        open_families = {at for at, grid in enumerate(self.grids) if counts[at] < grid.size}
        while open_families:
            best = max(sorted(open_families), key=lambda at: self._urgency(counts, at))
            wider = (*counts[:best], self.grids[best].above(counts[best]), *counts[best + 1 :])
            if cost(wider) <= budget:
                counts = wider
                if counts[best] == self.grids[best].size:
                    open_families.remove(best)
            else:
                open_families.remove(best)
        return counts

    def _urgency(self, counts: Counts, family: int) -> tuple[float, float]:
        """Mean importance of the classes that the next step of a family gives back; among equals,
        how much of the family is gone."""
        ranked, count = self.ranked[family], counts[family]
        step = ranked[count : self.grids[family].above(count)]
        return float(self.scores[step].mean()), -count / len(ranked)
