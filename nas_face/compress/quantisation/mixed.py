"""Which layers stay in float, found by measuring a few quantised networks: mixed precision under
an accuracy floor or a latency ceiling."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from nas_face.compress.quantisation.sensitivity import Sensitivity
from nas_face.errors import CompressionError

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a quantised network is worth.

    Attributes:
        accuracy: or any other number of which more is better.
        latency_ms: of one call.
    """

    accuracy: float
    latency_ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.accuracy) and math.isfinite(self.latency_ms)):
            raise CompressionError(
                f"a measured network has numbers that are finite, got {self.accuracy} and "
                f"{self.latency_ms} ms"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MixedTrial:
    """One network that was measured.

    Attributes:
        keep_float: paths of the layers that stayed in float.
        n_rows: rows of the order that these are, beside those that stay in any case.
        measured: what it is worth.
    """

    keep_float: frozenset[str]
    n_rows: int
    measured: Measured


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPrecision:
    """Outcome of a search.

    Attributes:
        best: the trial chosen.
        satisfied: whether it keeps floor and ceiling; where not, `best` came nearest.
        trials: all that were measured, in that order.
    """

    best: MixedTrial
    satisfied: bool
    trials: tuple[MixedTrial, ...]


def search_mixed(
    rows: Sequence[Sensitivity],
    quantise: Callable[[frozenset[str]], Measured],
    *,
    accuracy_floor: float | None = None,
    latency_ceiling_ms: float | None = None,
    always: frozenset[str] = frozenset(),
    costs: Mapping[str, float] | None = None,
    max_calls: int = 12,
) -> MixedPrecision:
    """The smallest set of layers in float that keeps an accuracy floor, or, with a ceiling alone,
    the most accurate network below it.

    Rows are put in order of their loss for what they cost in float, and the sets tried are the
    first 0, 1, 2, 4, 8 ... rows of that order, then those by bisection between the two that differ
    in keeping the limit. That finds the smallest set (or the largest, below a ceiling) where each
    row more in float makes a network more accurate and slower. Measured networks do not always do
    that, so what is chosen is always one that was measured: with a floor the smallest set that
    keeps all limits, with a ceiling alone the most accurate one, the faster of equal ones. Where
    no trial keeps them, it is the one that misses the floor by least, and of these the one that
    misses the ceiling by least. The last row stays quantised: with all layers in float there is
    nothing to quantise.

    Args:
        rows: parts that may stay in float, in any order.
        quantise: from paths of layers that stay in float to what the real quantiser makes of it.
        accuracy_floor: least accuracy; None with a ceiling.
        latency_ceiling_ms: most milliseconds; None with a floor. Both may be given.
        always: paths of layers that stay in float in any case; rows of these are passed over.
        costs: what leaving a row in float costs, such as milliseconds, by its path, above 0; its
            multiply-adds by default.
        max_calls: networks to measure at most.

    Raises:
        CompressionError: neither limit is given, there are no rows to choose from, `costs` lacks a
            row or is not above 0, or `max_calls` is below 1.
    """
    order = _ordered(rows, always, costs)
    if accuracy_floor is None and latency_ceiling_ms is None:
        raise CompressionError("mixed precision needs accuracy_floor or latency_ceiling_ms")
    if max_calls < 1:
        raise CompressionError(f"max_calls must be at least 1, got {max_calls}")
    limits = _Limits(accuracy_floor, latency_ceiling_ms)
    trials: dict[int, MixedTrial] = {}

    def keeps(n_rows: int) -> bool | None:
        """Whether a set keeps the limit that is searched for; nothing once calls are used up."""
        if n_rows not in trials:
            if len(trials) == max_calls:
                return None
            kept = always.union(*(row.layers for row in order[:n_rows]))
            measured = quantise(kept)
            trials[n_rows] = MixedTrial(keep_float=kept, n_rows=n_rows, measured=measured)
            logger.info(
                "%d layers in float: accuracy %.5g, %.3g ms",
                len(kept),
                measured.accuracy,
                measured.latency_ms,
            )
        return limits.reached(trials[n_rows].measured)

    _bisect(keeps, most=len(order) - 1, growing=accuracy_floor is not None)
    found = tuple(trials.values())
    good = [each for each in found if limits.kept(each.measured)]
    if good:
        return MixedPrecision(best=min(good, key=limits.preference), satisfied=True, trials=found)
    nearest = min(found, key=lambda each: (*limits.misses(each.measured), each.n_rows))
    logger.info("no trial keeps the limits; %d rows in float come nearest", nearest.n_rows)
    return MixedPrecision(best=nearest, satisfied=False, trials=found)


def _bisect(keeps: Callable[[int], bool | None], *, most: int, growing: bool) -> None:
    """Ask for growing numbers of rows until the answer turns, then for numbers in between.

    Args:
        keeps: the question; None ends it.
        most: rows to ask for at most.
        growing: whether the answer is expected to turn from no to yes, as accuracy against a floor
            does, or from yes to no, as latency against a ceiling does.
    """
    before: int | None = None  # the greatest number before the turn
    for behind in _sizes(most):
        answer = keeps(behind)
        if answer is None:
            return
        if answer is not growing:
            before = behind
        elif growing or before is not None:
            break
    else:
        return
    while before is not None and behind - before > 1:
        middle = (before + behind) // 2
        answer = keeps(middle)
        if answer is None:
            return
        if answer is growing:
            behind = middle
        else:
            before = middle


def _sizes(most: int) -> list[int]:
    """0, 1, 2, 4, 8 and so on up to `most`."""
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return [0, *(each for each in powers if each < most), *([most] if most else [])]


@final
@dataclass(frozen=True, slots=True)
class _Limits:
    """What a network has to keep.

    Attributes:
        floor: of accuracy.
        ceiling: of latency in milliseconds.
    """

    floor: float | None
    ceiling: float | None

    def misses(self, measured: Measured) -> tuple[float, float]:
        """By how much a network misses floor and ceiling."""
        below = 0.0 if self.floor is None else max(0.0, self.floor - measured.accuracy)
        above = 0.0 if self.ceiling is None else max(0.0, measured.latency_ms - self.ceiling)
        return below, above

    def kept(self, measured: Measured) -> bool:
        """Whether a network keeps both."""
        return self.misses(measured) == (0.0, 0.0)

    def reached(self, measured: Measured) -> bool:
        """Whether it keeps the limit that the search follows: the floor if there is one."""
        below, above = self.misses(measured)
        return (above if self.floor is None else below) == 0.0

    def preference(self, trial: MixedTrial) -> tuple[float, float]:
        """Least for the best of the trials that keep both."""
        measured = trial.measured
        if self.floor is None:
            return -measured.accuracy, measured.latency_ms
        return trial.n_rows, measured.latency_ms


def _ordered(
    rows: Sequence[Sensitivity], always: frozenset[str], costs: Mapping[str, float] | None
) -> list[Sensitivity]:
    """Rows to choose from, the greatest loss for its cost first."""
    free = [row for row in rows if not always.issuperset(row.layers)]
    if not free:
        raise CompressionError("mixed precision: every row stays in float, none is left to choose")
    if costs is None:
        costs = {row.path: float(max(1, row.madds)) for row in free}
    for row in free:
        if not costs.get(row.path, 0.0) > 0:
            raise CompressionError(
                f"costs[{row.path!r}] must be above 0, got {costs.get(row.path)}"
            )
    gains = {row.path: row.mean_loss / costs[row.path] for row in free}
    return sorted(free, key=lambda row: (-gains[row.path], row.position))
