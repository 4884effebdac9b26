"""What a person wants to know of a space: how many designs, how large, and how many fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.errors import SpaceError
from nas_face.space.draws import Draw, draw, every_draw, quantile
from nas_face.space.space import Design, SearchSpace
from nas_face.space.survey import descend

EXACT_LIMIT = 2000
"""Most ways to choose that are gone through one by one."""

DRAWS_PER_SAMPLE = 20
"""Draws for each legal design that is wanted, before fewer have to do."""

MEASURES: Mapping[str, Callable[[Cost], int]] = {
    "madds": lambda cost: cost.madds,
    "params": lambda cost: cost.params,
    "peak_activations": lambda cost: cost.peak_activations,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over a space.

    Attributes:
        smallest: exact in a small space; otherwise the least that a descent by single changes
            from the smallest sample finds.
        median: of all legal designs; of the samples where they are too many.
        largest: as `smallest`.
    """

    smallest: int
    median: int
    largest: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How many designs a space has and what they cost.

    Attributes:
        n_ways: ways to choose, before any rule.
        exact: whether everything was gone through; otherwise the numbers below are estimates.
        n_designs: legal ways to choose.
        n_architectures: distinct architectures among them; none where that was not counted.
        n_drawn: designs looked at, illegal ones included.
        n_legal: legal ones among them.
        spreads: by the names of `MEASURES`.
        n_fitting: legal designs within the budget.
        some_fit: whether any was found to fit, by descent where no sample does.
    """

    n_ways: int
    exact: bool
    n_designs: float
    n_architectures: int | None
    n_drawn: int
    n_legal: int
    spreads: dict[str, Spread]
    n_fitting: float
    some_fit: bool

    @property
    def share_fitting(self) -> float:
        """Share of the legal designs that fit, 0 to 1."""
        return self.n_fitting / self.n_designs


def overview(
    space: SearchSpace,
    excess: Callable[[Cost], float],
    *,
    seed: int,
    n_samples: int,
) -> Overview:
    """Cost designs of a space; nothing is built.

    Args:
        space: the space.
        excess: how far a cost is over the budget, 0 where it fits.
        seed: of the draws.
        n_samples: legal designs wanted; a space of fewer than `EXACT_LIMIT` ways is gone through
            instead.

    Raises:
        SpaceError: no legal design was met.
    """
    exact = space.size <= EXACT_LIMIT
    draws = list(every_draw(space)) if exact else _draws(space, seed, n_samples)
    legal = [each for each in draws if each.design is not None]
    if not legal:
        reason = next(each.failure for each in reversed(draws))
        raise SpaceError(
            f"{space.name}: none of {len(draws)} designs is legal; the last: {reason}"
        )
    designs = [_design(each) for each in legal]
    costs = [each.spec.cost() for each in designs]
    weights = [each.weight for each in legal]
    n_designs = _estimate(space, draws, legal)
    fitting = [each for each, cost in zip(legal, costs, strict=True) if excess(cost) == 0.0]
    spreads = {}
    for name, measure in MEASURES.items():
        values = [measure(cost) for cost in costs]
        ends = min(values), max(values)
        if not exact:
            ends = _ends(space, designs, values, measure)
        spreads[name] = Spread(
            smallest=ends[0], median=round(quantile(values, weights, 0.5)), largest=ends[1]
        )
    return Overview(
        n_ways=space.size,
        exact=exact,
        n_designs=n_designs,
        n_architectures=len({each.spec.arch_id for each in designs}) if exact else None,
        n_drawn=len(draws),
        n_legal=len(legal),
        spreads=spreads,
        n_fitting=_estimate(space, draws, fitting),
        some_fit=bool(fitting) or (not exact and _reachable(space, designs, excess)),
    )


def _draws(space: SearchSpace, seed: int, n_samples: int) -> list[Draw]:
    rng = np.random.default_rng(seed)
    draws: list[Draw] = []
    n_legal = 0
    while n_legal < n_samples and len(draws) < DRAWS_PER_SAMPLE * n_samples:
        draws.append(draw(space, rng))
        n_legal += draws[-1].design is not None
    return draws


def _design(each: Draw) -> Design:
    assert each.design is not None
    return each.design


def _estimate(space: SearchSpace, draws: list[Draw], wanted: list[Draw]) -> float:
    """How many ways to choose are like the wanted draws."""
    return space.size * sum(each.weight for each in wanted) / sum(each.weight for each in draws)


def _ends(
    space: SearchSpace, designs: list[Design], values: list[int], measure: Callable[[Cost], int]
) -> tuple[int, int]:
    """Least and most that a descent from the least and an ascent from the most find."""
    low = designs[values.index(min(values))]
    high = designs[values.index(max(values))]
    low = descend(space, low, lambda each: _figures(each, measure, 1))
    high = descend(space, high, lambda each: _figures(each, measure, -1))
    return measure(low.spec.cost()), measure(high.spec.cost())


def _figures(design: Design, measure: Callable[[Cost], int], sign: int) -> tuple[float, ...]:
    """The measure, and what leads on where it does not move: a peak lies in one place only."""
    cost = design.spec.cost()
    return sign * measure(cost), sign * cost.madds, sign * cost.params


def _reachable(space: SearchSpace, designs: list[Design], excess: Callable[[Cost], float]) -> bool:
    start = min(designs, key=lambda each: excess(each.spec.cost()))
    best = descend(space, start, lambda each: (excess(each.spec.cost()),), enough=(0.0,))
    return excess(best.spec.cost()) == 0.0
