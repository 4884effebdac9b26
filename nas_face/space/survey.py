"""What a space costs: smallest, median and largest design, and how much of it fits a budget."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.errors import ArchError
from nas_face.space.picks import changed
from nas_face.space.space import Design, SearchSpace

N_SAMPLES = 1000

Measure = Callable[[Cost], float]
"""One number of a cost that is to be small, such as its multiply-adds."""

Rank = Callable[[Design], tuple[float, ...]]
"""Numbers of a design that are to be small, the first before the second."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Costs of designs drawn evenly from a space.

    Attributes:
        costs: one for each design.
        smallest: the design of least multiply-adds that a descent from the samples finds.
        share_fitting: of the sampled designs, how many fit, 0 to 1.
    """

    costs: tuple[Cost, ...]
    smallest: Design
    share_fitting: float

    def quantile(self, measure: Measure, share: float) -> float:
        """Quantile of one cost figure over the samples, `share` from 0 to 1."""
        return float(np.quantile([measure(cost) for cost in self.costs], share))


def survey(
    space: SearchSpace, fits: Callable[[Cost], bool], *, seed: int, n_samples: int = N_SAMPLES
) -> Survey:
    """Draw designs evenly and cost them; nothing is built.

    Args:
        space: the space.
        fits: whether a cost is within the budget.
        seed: of the draws.
        n_samples: how many.
    """
    rng = np.random.default_rng(seed)
    designs = [space.sample(rng) for _ in range(n_samples)]
    costs = tuple(design.spec.cost() for design in designs)
    start = min(range(n_samples), key=lambda each: costs[each].madds)
    return Survey(
        costs=costs,
        smallest=smallest(space, designs[start], lambda cost: cost.madds),
        share_fitting=sum(fits(cost) for cost in costs) / n_samples,
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
