"""The design of a space that comes nearest to what is wanted, by walking; nothing is built."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from nas_face.space.screening import Screened, Screener, screener_of
from nas_face.space.space import SearchSpace
from nas_face.space.template import Label

N_STARTS = 4
N_ROUNDS = 10
N_STEPS = 400
"""Random steps from the best design that the descents find, in each round."""

ScreenedRank: TypeAlias = Callable[[Screened], tuple[float, ...]]
"""Numbers of a design that are to be small, the first before the second."""


def descended(
    space: SearchSpace,
    start: Screened,
    rank: ScreenedRank,
    *,
    enough: tuple[float, ...] | None = None,
) -> Screened:
    """Change one choice at a time as long as that lowers a design's rank.

    A label that opens further choices is judged with the best that those can be brought to.

    Args:
        space: the space.
        start: where the descent begins.
        rank: what is to be small; later numbers decide where earlier ones are equal.
        enough: a rank at which to stop; none to go on as long as anything helps.
    """
    options = [(path, label) for path, c in space.choices().items() for label in c.labels]
    return _descended(screener_of(space), options, start, rank, enough)


def _descended(
    screener: Screener,
    options: Sequence[tuple[str, Label]],
    start: Screened,
    rank: ScreenedRank,
    enough: tuple[float, ...] | None,
) -> Screened:
    best, least = start, rank(start)
    improved = True
    while improved:
        improved = False
        for path, label in options:
            if enough is not None and least <= enough:
                return best
            taken = best.choices
            if path not in taken or taken[path] == label:
                continue
            other = screener.changed(taken, {path: label})
            if other is None:
                continue
            opened = other.choices.keys() - taken.keys()
            if opened:
                inner = [option for option in options if option[0] in opened]
                other = _descended(screener, inner, other, rank, enough)
            if (found := rank(other)) < least:
                best, least, improved = other, found, True
    return best


def nearest(
    space: SearchSpace,
    starts: Sequence[Screened],
    rank: ScreenedRank,
    *,
    seed: int,
    enough: tuple[float, ...] | None = None,
) -> Screened:
    """The design of least rank that descents from the best of some designs find, and random steps
    behind them: two choices tied to each other cannot be changed one by one.

    Args:
        space: the space.
        starts: designs, of which the best few are begun with.
        rank: what is to be small; later numbers decide where earlier ones are equal.
        seed: of the steps.
        enough: a rank at which to stop; none to go on as long as anything helps.
    """
    screener, rng = screener_of(space), np.random.default_rng(seed)
    found = []
    for start in sorted(starts, key=rank)[:N_STARTS]:
        found.append(descended(space, start, rank, enough=enough))
        if enough is not None and rank(found[-1]) <= enough:
            return found[-1]
    best = min(found, key=rank)
    for _ in range(N_ROUNDS):
        before = least = rank(best)
        for turn in range(N_STEPS):
            other = screener.mutated(best.choices, rng)
            if other is not None and turn % 2:
                other = screener.mutated(other.choices, rng)
            if other is not None and rank(other) <= least:
                best, least = other, rank(other)
        best = descended(space, best, rank, enough=enough)
        if rank(best) == before or (enough is not None and rank(best) <= enough):
            break
    return best
