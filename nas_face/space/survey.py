"""What a space costs: smallest, median and largest design, and how much of it fits a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.errors import ArchError
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import Choice, Label

N_SAMPLES = 1000

Measure = Callable[[Cost], float]
"""One number of a cost that is to be small, such as its multiply-adds."""


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
    best, value = start, measure(start.spec.cost())
    improved = True
    while improved:
        improved = False
        for path, choice in space.choices().items():
            if path not in best.choices:
                continue
            for label in choice.labels:
                try:
                    other = space.propose(_changed(best, path, label))
                except ArchError:
                    continue
                other_value = measure(other.spec.cost())
                if other_value < value:
                    best, value, improved = other, other_value, True
    return best


def _changed(design: Design, path: str, label: Label) -> Callable[[str, Choice], Label]:
    """The design with one label changed; choices that become active take their first option."""
    chosen = {**design.choices, path: label}
    return lambda at, choice: (
        chosen[at] if at in chosen and chosen[at] in choice.options else choice.labels[0]
    )
