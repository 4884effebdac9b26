"""First designs, spread over what is known before training.

Drawn evenly over the choices, most designs crowd around one cost and the ends of the front are
never met; so the first ones are spread evenly over the logarithm of each known objective instead.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_face.search.designs import Candidate, Designs

MAX_EVERYTHING = 20_000
"""Spaces up to this size are gone through as a whole."""

N_POOL = 600
"""Draws that stand for a larger space."""

N_STARTS, N_CHANGES = 3, 60
"""Walks to each end of a known objective, and changes that each tries."""

N_LOOKED_AT = 2000
"""Designs of the pool that a seed picks from: half of them, at most so many."""

N_NEAR = 16
"""Designs near the wanted cost, of which the one least like those before is taken."""

NEAR = 0.04
"""How near, as a share of the range of the logarithm."""


@functools.lru_cache(maxsize=8)
def pool_of(
    designs: Designs, names: tuple[str, ...], n_draws: int = N_POOL
) -> tuple[Candidate, ...]:
    """Many designs, the same ones at every call: all of a small space, else draws and, since few
    of these are near the ends, ever smaller and larger ones. Made once in a process.

    Args:
        designs: what can be proposed.
        names: of the known objectives, by which small and large is meant.
        n_draws: of a larger space; where the walls are tight, each takes up to 30 ms.
    """
    everything = designs.everything(MAX_EVERYTHING)
    if everything is not None:
        return tuple(everything)
    found = {each.key: each for each in itertools.islice(designs.draws(0), n_draws)}
    rng = np.random.default_rng(0)
    drawn = list(found.values())
    for name, sign in itertools.product(names, (1.0, -1.0)):
        for end in sorted(drawn, key=lambda each: sign * each.known[name])[:N_STARTS]:
            for _ in range(N_CHANGES):
                other = designs.mutate(end, rng)
                if other is not None and sign * other.known[name] < sign * end.known[name]:
                    end = other
                    found[end.key] = end
    return tuple(found.values())


def first_designs(
    pool: Sequence[Candidate],
    names: Sequence[str],
    tried: Sequence[Candidate],
    rng: np.random.Generator,
) -> Iterator[Candidate]:
    """Designs for the next turn, the best first: near this turn's cost, and unlike the others.

    The turns of each known objective visit its range in the order 1/2, 1/4, 3/4, 1/8, and so on;
    the objectives take turns. Without any, designs only have to be unlike those before.

    Args:
        pool: what to choose from.
        names: of the known objectives.
        tried: the designs before this one.
        rng: picks a part of the pool.
    """
    shuffled = [pool[at] for at in rng.permutation(len(pool))]
    n_looked_at = min(N_LOOKED_AT, (len(pool) + 1) // 2)
    picked, others = shuffled[:n_looked_at], shuffled[n_looked_at:]
    if not names:
        yield from _unlike(picked, tried)
        yield from others
        return
    name = names[len(tried) % len(names)]
    logs = logarithms([each.known[name] for each in pool])
    low, extent = float(logs.min(initial=math.inf)), float(np.ptp(logs)) if len(logs) else 0.0
    wanted = low + van_der_corput(len(tried) // len(names) + 1) * extent
    away = np.abs(logarithms([each.known[name] for each in picked]) - wanted)
    order = np.argsort(away, kind="stable")
    n_near = min(N_NEAR, max(1, int((away <= NEAR * extent).sum())))
    yield from _unlike([picked[at] for at in order[:n_near]], tried)
    yield from (picked[at] for at in order[n_near:])
    yield from others


def logarithms(values: Sequence[float]) -> NDArray[np.float64]:
    """Logarithms of costs, or the values themselves where one is not positive."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.log(numbers) if (numbers > 0).all() else numbers


def van_der_corput(turn: int) -> float:
    """Binary digits of `turn` mirrored behind the point: 1/2, 1/4, 3/4, 1/8, ... for 1, 2, 3, 4.

    Each new number lies in the widest gap that the earlier ones left.
    """
    digits = bin(turn)[2:][::-1]
    return int(digits, 2) / float(2 ** len(digits))


def _unlike(candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> list[Candidate]:
    """Ordered by the distance to the nearest of those tried, the farthest first."""
    if not candidates or not tried:
        return list(candidates)
    vectors = np.stack([each.vector for each in candidates])
    nearest = np.min(
        [np.square(vectors - each.vector).sum(axis=1) for each in tried[-N_LOOKED_AT:]], axis=0
    )
    return [candidates[at] for at in np.argsort(-nearest, kind="stable")]
