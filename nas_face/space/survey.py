"""What a space costs: smallest, median and largest design, and how much of it fits a budget."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.errors import ArchError
from nas_face.space.nearest import descended
from nas_face.space.picks import changed
from nas_face.space.screening import Screened, screener_of
from nas_face.space.space import Design, SearchSpace

N_SAMPLES = 2000
N_FITTING = 100
"""Designs that fit after which no more are drawn."""

Measure = Callable[[Cost], float]
"""One number of a cost that is to be small, such as its multiply-adds."""

Rank = Callable[[Design], tuple[float, ...]]
"""Numbers of a design that are to be small, the first before the second."""

Fits = Callable[[Cost], bool]
"""Whether a cost is within some limits."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Costs of designs drawn evenly from a space.

    Attributes:
        drawn: the designs.
        costs: one for each design.
        smallest: the design of least multiply-adds that a descent from the draws finds.
        n_fitting: designs that fit.
        n_fitting_alone: designs that fit each wall by itself, by the wall's name.
    """

    drawn: tuple[Screened, ...]
    costs: tuple[Cost, ...]
    smallest: Screened
    n_fitting: int
    n_fitting_alone: Mapping[str, int]

    @property
    def share_fitting(self) -> float:
        """Of the drawn designs, how many fit, 0 to 1."""
        return self.n_fitting / len(self.costs)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of the whole space lies, with 95 % confidence."""
        return interval(self.n_fitting, len(self.costs))

    def quantile(self, measure: Measure, share: float) -> float:
        """Quantile of one cost figure over the draws, `share` from 0 to 1."""
        return float(np.quantile([measure(cost) for cost in self.costs], share))


def survey(
    space: SearchSpace,
    fits: Fits,
    *,
    seed: int,
    walls: Mapping[str, Fits] | None = None,
    n_samples: int = N_SAMPLES,
    n_most: int | None = None,
) -> Survey:
    """Draw designs evenly and cost them; nothing is built.

    Args:
        space: the space.
        fits: whether a cost is within the budget.
        seed: of the draws.
        walls: parts of the budget that are counted by themselves, by name.
        n_samples: how many are drawn.
        n_most: how many are drawn at most, where few of them fit; none for no more.
    """
    draws = screener_of(space).draws(seed)
    drawn = list(itertools.islice(draws, n_samples))
    costs = [each.cost for each in drawn]
    n_fitting = sum(map(fits, costs))
    while n_fitting < N_FITTING and len(drawn) < (n_most or 0):
        drawn.append(next(draws))
        costs.append(drawn[-1].cost)
        n_fitting += fits(costs[-1])
    start = min(drawn, key=lambda each: (each.madds, each.params))
    return Survey(
        drawn=tuple(drawn),
        costs=tuple(costs),
        smallest=descended(space, start, lambda each: (each.madds, each.params)),
        n_fitting=n_fitting,
        n_fitting_alone={name: sum(map(wall, costs)) for name, wall in (walls or {}).items()},
    )


def interval(n_hits: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share, 0 to 1, of which `n` draws met `n_hits`.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = 1.959964
    share, spread = n_hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # Rounding must not take the ends past what is certain.
    return (
        0.0 if n_hits == 0 else max(0.0, centre - half),
        1.0 if n_hits == n else min(1.0, centre + half),
    )


def smallest(space: SearchSpace, start: Design, measure: Measure) -> Design:
    """Descend from a design, one choice at a time, until no single change makes it smaller.

    This is the smallest design of the space where choices act on the cost independently and in one
    direction each, as widths, repeats and kernels do.

    Args:
        space: the space.
        start: where the descent begins.
        measure: what is to be small.
    """
    return descend(space, start, lambda design: (measure(design.spec.cost()),))


def descend(
    space: SearchSpace,
    start: Design,
    rank: Rank,
    *,
    held: Collection[str] = (),
    places: tuple[str, ...] = ("",),
    enough: tuple[float, ...] | None = None,
) -> Design:
    """Change one choice at a time as long as that lowers a design's rank.

    Args:
        space: the space.
        start: where the descent begins.
        rank: what is to be small; later numbers decide where earlier ones are equal.
        held: paths of choices that stay as they are.
        places: starts of the paths of the others that are tried.
        enough: a rank at which to stop; none to go on as long as anything helps.
    """
    best, least = start, rank(start)
    choices = space.choices()
    improved = True
    while improved:
        improved = False
        for path, choice in choices.items():
            if path not in best.choices or path in held or not path.startswith(places):
                continue
            for label in choice.labels:
                if enough is not None and least <= enough:
                    return best
                if label == best.choices[path]:
                    continue
                try:
                    other = space.propose(changed(best.choices, {path: label}))
                except ArchError:
                    continue
                other_rank = rank(other)
                if other_rank < least:
                    best, least, improved = other, other_rank, True
    return best
