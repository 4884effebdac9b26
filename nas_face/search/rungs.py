"""Early stopping for several objectives: at a rung, go on only if the Pareto ranking says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """Where candidates are compared on their way, and how many go on.

    Attributes:
        epochs: after which epochs, rising; the last rung lies before the end of the training.
        keep: share of the candidates that have reached a rung which may go on from it, above 0 and
            at most 1.
        n_warmup: candidates that pass a rung freely before anybody is stopped there.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: tuple[int, ...] = ()
    keep: float = 0.5
    n_warmup: int = 4

    def __post_init__(self) -> None:
        if any(epoch < 1 for epoch in self.epochs) or list(self.epochs) != sorted(
            set(self.epochs)
        ):
            raise ConfigError(f"rungs.epochs must rise from 1, got {list(self.epochs)}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"rungs.keep must be above 0 and at most 1, got {self.keep}")
        if self.n_warmup < 1:
            raise ConfigError(f"rungs.n_warmup must be at least 1, got {self.n_warmup}")

    def promotes(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a candidate may go on from a rung.

        Candidates are ordered by non-domination rank, and within a rank by crowding distance, the
        lonelier first; the candidate goes on if it is in the best `keep` of all that have reached
        the rung, itself included. Nobody waits for anybody: later arrivals are held against all
        earlier ones, stopped or not (asynchronous successive halving, Li et al., arXiv 1810.05934,
        with Deb et al.'s order for several objectives, NSGA-II, 2002).

        Args:
            values: of the candidate, every one to be small.
            others: of those that reached this rung before.
        """
        if len(others) < self.n_warmup:
            return True
        points = np.array([*others, values], dtype=np.float64)
        order = _pareto_order(points)
        place = int(np.flatnonzero(order == len(points) - 1)[0])
        return place < max(1, int(np.ceil(self.keep * len(points))))


def pareto_ranks(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Non-domination rank of each point, 0 for the front.

    Args:
        points: `(N, M)`, every column to be small.

    Returns:
        `(N,)`.
    """
    worse_or_equal = (points[:, None, :] >= points[None, :, :]).all(axis=2)  # (N, N)
    somewhere_worse = (points[:, None, :] > points[None, :, :]).any(axis=2)
    dominated_by = worse_or_equal & somewhere_worse
    ranks = np.full(len(points), -1, dtype=np.int64)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        front = left & ~(dominated_by & left[None, :]).any(axis=1)
        ranks[front] = rank
        rank += 1
    return ranks


def crowding_distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """How lonely each point is among the others; infinite at the ends of each axis.

    Args:
        points: `(N, M)`.

    Returns:
        `(N,)`.
    """
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if spread > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return distance


def _pareto_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices from best to worst."""
    ranks = pareto_ranks(points)
    distance = np.empty(len(points))
    for rank in np.unique(ranks):
        members = ranks == rank
        distance[members] = crowding_distance(points[members])
    return np.lexsort((-distance, ranks))
