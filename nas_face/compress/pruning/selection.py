"""Which classes to remove for a cost: rank, cut by bisection on the exact cost, give back what
still fits, and trade steps of some families for others where that leaves a gap (numpy only)."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning.channels import Coupling, Family
from nas_face.compress.pruning.scope import Scope, priorities

Counts = tuple[int, ...]  # classes that stay, one number for each family
_Steps = dict[int, tuple[int, float]]  # family -> cost and priorities of a step

MAX_TRADES = 20  # most of them need one or two
MAX_TRIED = 200  # of the trades that should fit by first differences


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
    def of(family: Family, *, round_to: int, min_keep: float, whole: int | None = None) -> "Grid":
        """Grid of a family.

        Args:
            family: the family.
            round_to: channels; widths of the narrowest tensor become multiples of it.
            min_keep: fraction of the channels that must stay; one class always does.
            whole: channels that the fraction is of, where the family has lost some before.
        """
        size = len(family.classes)
        step = round_to // math.gcd(round_to, family.class_width)
        before = size if whole is None else whole / family.class_width
        fewest = min(size, max(1, math.ceil(min_keep * before - 1e-9)))
        return Grid(size=size, step=step, floor=_up(fewest, step, size))

    def at_least(self, count: int) -> int:
        """Smallest permitted number that is not below `count`."""
        return _up(max(count, self.floor), self.step, self.size)

    def above(self, count: int) -> int:
        """Next permitted number above `count`."""
        return self.at_least(count + 1)

    def below(self, count: int) -> int:
        """Next permitted number below `count`, which is permitted and above the floor."""
        return max(self.floor, (count - 1) // self.step * self.step)


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
        scope: Scope = "global",
        whole: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            coupling: classes and families.
            scores: `(n_classes,)`, comparable over families.
            round_to: channels in which widths move, as far as the class width permits.
            min_keep: fraction of each family that must stay, 0 to 1.
            scope: which families are ranked together.
            whole: channels of families before they lost any, by name; `min_keep` is of these.
        """
        self.coupling = coupling
        self.scores = scores
        self.round_to = round_to
        self.min_keep = min_keep
        self.scope: Scope = scope
        self.whole = whole or {}
        self.grids = [
            Grid.of(
                family,
                round_to=round_to,
                min_keep=min_keep,
                whole=self.whole.get(family.name),
            )
            for family in coupling.families
        ]
        # Most important first; equal scores keep the order of the network.
        self.ranked = [
            sorted(family.classes, key=lambda member: -scores[member])
            for family in coupling.families
        ]
        self.priorities = priorities(coupling, scores, scope)
        # Equal priorities, as of a fresh batch normalisation, thin all families out evenly.
        least_first = sorted(
            (self.priorities[member], -place / len(ranked), number)
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
            scope=self.scope,
            whole=self.whole,
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

    def fit(
        self, budget: int, cost: Callable[[Counts], int], *, tolerance: float = 0.01
    ) -> Counts:
        """Most classes at or under a budget.

        The number of least important classes that go is found by bisection, which is exact
        because cost only falls with it. What that leaves unused is filled by giving steps back,
        the most important first, as long as they fit. Where more than `tolerance` of the budget is
        still unused, because every further step is too large, steps are traded.

        Args:
            budget: the most that `cost` may give; `floors` must cost no more.
            cost: cost of keeping so many of each family.
            tolerance: share of the budget that may stay unused without a trade.
        """
        low, high = 0, len(self.least_first)  # `high` is always within the budget
        while low < high:
            middle = (low + high) // 2
            if cost(self.without(middle)) <= budget:
                high = middle
            else:
                low = middle + 1
        counts = self._given_back(self.without(high), budget, cost)
        for _ in range(MAX_TRADES):
            if cost(counts) >= (1 - tolerance) * budget:
                break
            traded = self._traded(counts, budget, cost, tolerance)
            if traded is None:
                break
            counts = self._given_back(traded, budget, cost)
        return counts

    def _given_back(self, counts: Counts, budget: int, cost: Callable[[Counts], int]) -> Counts:
        """Steps given back until none fits; one that does not fit once never will, because the
        wider the other tensors are, the dearer it is."""
        open_families = {at for at, grid in enumerate(self.grids) if counts[at] < grid.size}
        while open_families:
            best = max(sorted(open_families), key=lambda at: self._urgency(counts, at))
            wider = _with(counts, {best: self.grids[best].above(counts[best])})
            if cost(wider) <= budget:
                counts = wider
                if counts[best] == self.grids[best].size:
                    open_families.remove(best)
            else:
                open_families.remove(best)
        return counts

    def _traded(
        self,
        counts: Counts,
        budget: int,
        cost: Callable[[Counts], int],
        tolerance: float,
    ) -> Counts | None:
        """One or two families a step narrower and others a step wider, so that more of the budget
        is used: first what ends within the tolerance and loses the least importance. None if there
        is nothing of the kind.

        What a step costs is taken with all other families as they are, so a trade is tried before
        it is believed, and also where it should miss by little.
        """
        now = cost(counts)
        up, down = self._steps(counts, cost)
        closer = None
        for n_wider, n_narrower in ((1, 1), (1, 2), (2, 1)):
            trades = _trades(up, down, n_wider, n_narrower, budget - now, tolerance * budget)
            for _, _, wider, narrower in heapq.nsmallest(MAX_TRIED, trades):
                moved = {at: self.grids[at].above(counts[at]) for at in wider}
                moved |= {at: self.grids[at].below(counts[at]) for at in narrower}
                traded = _with(counts, moved)
                if (1 - tolerance) * budget <= cost(traded) <= budget:
                    return traded
                if now < cost(traded) <= budget and closer is None:
                    closer = traded
        return closer

    def _steps(self, counts: Counts, cost: Callable[[Counts], int]) -> tuple[_Steps, _Steps]:
        """What the next step of each family would cost, and what its last one does, each with the
        priorities of its classes; families that have no such step are left out."""
        now = cost(counts)
        up, down = {}, {}
        for at, (grid, count) in enumerate(zip(self.grids, counts, strict=True)):
            if count < grid.size:
                above = grid.above(count)
                up[at] = (cost(_with(counts, {at: above})) - now, self._weight(at, count, above))
            if count > grid.floor:
                below = grid.below(count)
                down[at] = (now - cost(_with(counts, {at: below})), self._weight(at, below, count))
        return up, down

    def _weight(self, family: int, low: int, high: int) -> float:
        """Priorities of the classes that a family has with `high` and not with `low` of them, as a
        share of all of its classes."""
        ranked = self.ranked[family]
        return float(self.priorities[ranked[low:high]].sum()) / len(ranked)

    def _urgency(self, counts: Counts, family: int) -> tuple[float, float]:
        """Mean priority of the classes that the next step of a family gives back; among equals,
        how much of the family is gone."""
        ranked, count = self.ranked[family], counts[family]
        step = ranked[count : self.grids[family].above(count)]
        return float(self.priorities[step].mean()), -count / len(ranked)


def _with(counts: Counts, moved: Mapping[int, int]) -> Counts:
    return tuple(moved.get(at, count) for at, count in enumerate(counts))


def _trades(
    up: _Steps, down: _Steps, n_wider: int, n_narrower: int, unused: int, tolerated: float
) -> Iterator[tuple[float, float, tuple[int, ...], tuple[int, ...]]]:
    """Trades of so many steps: how far each ends outside of what is tolerated, priorities that are
    lost, families that become wider, families that become narrower."""
    for wider in itertools.combinations(up, n_wider):
        dearer = sum(up[at][0] for at in wider)
        gained = sum(up[at][1] for at in wider)
        for narrower in itertools.combinations(down, n_narrower):
            left = unused - dearer + sum(down[at][0] for at in narrower)
            if left < unused and not set(wider) & set(narrower):
                lost = sum(down[at][1] for at in narrower) - gained
                yield max(-left, left - tolerated, 0.0), lost, wider, narrower
