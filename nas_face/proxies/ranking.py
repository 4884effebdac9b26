"""Several figures of the same networks, joined by their ranks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def log_rank_sum(figures: Sequence[Sequence[float] | NDArray[np.float64]]) -> NDArray[np.float64]:
    """Score of each network: the sum over figures of log(rank / N), the best figure at rank N.

    The logarithm costs a network dearly that is last in one figure, whatever it is in the others.

    Source: Lee and Ham, AZ-NAS, arXiv 2403.19232, section 3.4. Equal figures share the mean of
    their ranks; NaN is worse than anything, as in the authors' code.

    Args:
        figures: `(M, N)`, M figures of N networks, large is good.

    Returns:
        `(N,)`, at most 0.
    """
    table = np.asarray(figures, dtype=np.float64)
    ranks = np.stack([_ranks(row) for row in np.where(np.isnan(table), -np.inf, table)])
    total: NDArray[np.float64] = np.log(ranks / table.shape[1]).sum(axis=0)
    return total


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 1, smallest first; equal values share the mean."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[where]
    return ranks
