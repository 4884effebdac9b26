"""Designs drawn evenly from the choices of a space, with what each draw stands for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from nas_face.errors import ArchError
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import Choice, Label


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw, legal or not.

    Attributes:
        choices: label of every active choice.
        weight: number of equally likely draws that it is one of: the product of the numbers of
            options. Choices open further choices, so that drawing evenly at each meets designs
            with few choices too often; weighted like this, every design counts once.
        design: what came out, or none.
        failure: why nothing came out, or none.
    """

    choices: dict[str, Label]
    weight: float
    design: Design | None
    failure: ArchError | None


def draw(space: SearchSpace, rng: np.random.Generator) -> Draw:
    """One draw; what breaks a rule or cannot be built is drawn as well."""
    choices: dict[str, Label] = {}
    weight = 1.0

    def pick(path: str, choice: Choice) -> Label:
        nonlocal weight
        weight *= len(choice.labels)
        choices[path] = choice.labels[int(rng.integers(len(choice.labels)))]
        return choices[path]

    try:
        design = space.propose(pick)
    except ArchError as failure:
        return Draw(choices=choices, weight=weight, design=None, failure=failure)
    return Draw(choices=choices, weight=weight, design=design, failure=None)


def every_draw(space: SearchSpace) -> Iterator[Draw]:
    """Every way to choose once, each of weight 1."""
    for choices in space.ways():
        try:
            design = space.design(choices)
        except ArchError as failure:
            yield Draw(choices=choices, weight=1.0, design=None, failure=failure)
        else:
            yield Draw(choices=choices, weight=1.0, design=design, failure=None)


def quantile(values: Sequence[float], weights: Sequence[float], share: float) -> float:
    """Smallest value that at least `share` of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    heaped = np.cumsum(np.asarray(weights, dtype=float)[order])
    at = int(np.searchsorted(heaped, share * heaped[-1] * (1 - 1e-12)))
    return float(values[order[min(at, len(values) - 1)]])
