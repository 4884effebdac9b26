"""How far a share that was counted may lie from the true one, when the cases are independent.

Pairs that share a person are not: `bootstrap` has intervals that allow for that.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import betaincinv, ndtri


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure may lie.

    Args:
        low: lower end.
        high: upper end, at least `low`.
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson_interval(n_hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a share: near the stated confidence on average, even for few cases.

    Args:
        n_hits: cases counted, in 0..n.
        n: all cases, at least 1.
        confidence: in (0, 1).

    Returns:
        Ends in [0, 1]; never of zero width.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    _check_counts(n_hits, n, confidence)
    z = float(ndtri(0.5 + confidence / 2))
    share = n_hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2))
    # at the ends rounding must not keep the share itself out
    return Interval(
        0.0 if n_hits == 0 else max(middle - half, 0.0),
        1.0 if n_hits == n else min(middle + half, 1.0),
    )


def clopper_pearson_interval(n_hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a share: at least the stated confidence, whatever the true share.

    Args:
        n_hits: cases counted, in 0..n.
        n: all cases, at least 1.
        confidence: in (0, 1).

    Returns:
        Ends in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Source:
        Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
        the binomial", 1934.
    """
    _check_counts(n_hits, n, confidence)
    tail = (1 - confidence) / 2
    return Interval(
        0.0 if n_hits == 0 else float(betaincinv(n_hits, n - n_hits + 1, tail)),
        1.0 if n_hits == n else float(betaincinv(n_hits + 1, n - n_hits, 1 - tail)),
    )


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless it lies in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")


def _check_counts(n_hits: int, n: int, confidence: float) -> None:
    check_confidence(confidence)
    if n < 1 or not 0 <= n_hits <= n:
        raise ValueError(f"a share takes 0 <= n_hits <= n and n >= 1, got {n_hits} of {n}")
