"""Early stopping for several objectives: at a rung, go on only if the Pareto ranking says so."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import ConfigError
from nas_face.search.pareto import hypervolume_gains, pareto_ranks

_ROUNDING = 1e-9

REFERENCE_MARGIN = 0.1
"""The reference point lies beyond the worst value of each axis by this share of its extent."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """Where candidates are compared on their way, and how many go on.

    Candidates that reached a rung are ordered by Pareto rank, and within a rank by the hypervolume
    that each adds to the others of its rank. A candidate goes on if it is in the best `keep` of
    them.

    Nobody waits for anybody: a candidate is held against all that have reached the rung so far,
    stopped or not (asynchronous successive halving, Li et al., arXiv 1810.05934).

    The rank says how many layers of better trade-offs lie before a candidate, so that an accurate
    network that learns slowly is not held against what small ones reach, nor a tiny one stopped
    for its error. It says little where most are on the front, as with three objectives; there it
    matters who is spared among equals.

    Differs: Deb et al. (NSGA-II, 2002) break ties by crowding distance, which spares the ends of
    each axis whatever they add. What a candidate adds (Beume et al., SMS-EMOA, 2007) is what the
    front would lose without it. In replays (benchmarks/rungs.py) the two are alike for two
    objectives; for three, with keep=0.33, crowding kept .93 of the final hypervolume of made-up
    networks and .94 of trained ones, the contribution .97 and .99. All that came before are
    compared with: a window of the latest saved nothing more, even where later ones were better.

    Attributes:
        epochs: after which epochs, rising; the last rung lies before the end of the training.
        keep: share of the candidates that have reached a rung which may go on from it, above 0 and
            at most 1.
        n_warmup: candidates that pass a rung freely before anybody is stopped there.
        audit: share of those that a rung would stop which are trained to the end all the same, so
            that the report can say what rungs cost in quality, from 0 to 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: tuple[int, ...] = ()
    keep: float = 0.5
    n_warmup: int = 4
    audit: float = 0.1

    def __post_init__(self) -> None:
        if any(epoch < 1 for epoch in self.epochs) or list(self.epochs) != sorted(
            set(self.epochs)
        ):
            raise ConfigError(f"rungs.epochs must rise from 1, got {list(self.epochs)}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"rungs.keep must be above 0 and at most 1, got {self.keep}")
        if self.n_warmup < 1:
            raise ConfigError(f"rungs.n_warmup must be at least 1, got {self.n_warmup}")
        if not 0 <= self.audit <= 1:
            raise ConfigError(f"rungs.audit must be from 0 to 1, got {self.audit}")

    def promotes(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a candidate may go on from a rung.

        Units do not matter: stretching an axis changes no answer. A candidate with a value that is
        infinite never goes on, and as one of the others it counts as worse than any.

        Args:
            values: of the candidate, every one to be small.
            others: of the others that have reached this rung.
        """
        if not all(map(math.isfinite, values)):
            return False
        if len(others) < self.n_warmup:
            return True
        points = np.array([*others, values], dtype=np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        ranks = pareto_ranks(points)
        quota = max(1, math.ceil(self.keep * (len(others) + 1)))
        room = quota - int((ranks < ranks[-1]).sum())
        equals = np.flatnonzero(ranks == ranks[-1])
        if not 0 < room < len(equals):
            return room > 0
        worth = _contributions(points[equals], _reference(points))
        ahead = worth > worth[-1] * (1 + _ROUNDING)  # those that add the same all go on
        return int(ahead.sum()) < room

    def audits(self, key: str) -> bool:
        """Whether a candidate that is to be stopped goes on all the same.

        The same candidate is always answered the same.

        Args:
            key: what it is known by, such as its `arch_id`.
        """
        digest = hashlib.sha256(f"audit {key}".encode()).digest()
        return int.from_bytes(digest[:6], "big") < self.audit * 2**48


def _reference(points: NDArray[np.float64]) -> NDArray[np.float64]:
    worst = points.max(axis=0)
    extent = worst - points.min(axis=0)
    return np.asarray(worst + REFERENCE_MARGIN * np.where(extent > 0, extent, 1.0))


def _contributions(
    front: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the front would lose without each of its points."""
    everybody = np.arange(len(front))
    return np.array(
        [hypervolume_gains(front[[at]], front[everybody != at], reference)[0] for at in everybody]
    )
