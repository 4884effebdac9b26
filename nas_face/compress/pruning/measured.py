"""Pruning to a cost that has to be measured, such as a latency: noisy, and only nearly rising with
the multiply-accumulates."""

import logging
from dataclasses import dataclass, field
from statistics import fmean
from typing import final

import numpy as np

from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.target import Target
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)

N_NEAREST = 4  # points that a line goes through


@final
@dataclass(slots=True, kw_only=True)
class Point:
    """One network and what was measured of it.

    Attributes:
        counts: classes of each family.
        madds: of the network.
        values: what each measurement gave.
    """

    counts: Counts
    madds: int
    values: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """Mean of the measurements."""
        return fmean(self.values)


def fit_measured(
    cutter: Cutter, original: FaceModel, target: Target, *, tolerance: float, max_calls: int
) -> tuple[Counts, tuple[Point, ...]]:
    """The network whose measured cost is nearest to the target.

    Multiply-accumulates are the handle. The given and the smallest network are measured first;
    then a line through the points nearest to the target says which to try, or the middle of the
    two around it where the line leaves them. What seems to meet the target is measured once more,
    and counts only if the mean of both does.

    Args:
        cutter: of the model.
        original: the model.
        target: a cost with its value.
        tolerance: how near is near enough, as a share of the value.
        max_calls: most measurements, 4 at least.

    Returns:
        The nearest network, and all points in the order in which they were first measured.

    Raises:
        CompressionError: the value is above what the model has, or below what the smallest network
            has.
    """
    assert target.cost is not None and target.value is not None
    value, measure = target.value, target.cost
    whole = tuple(grid.size for grid in cutter.selection.grids)
    points: dict[Counts, Point] = {}
    n_calls = 0

    def measured(counts: Counts) -> Point:
        nonlocal n_calls
        n_calls += 1
        point = points.setdefault(
            counts, Point(counts=counts, madds=cutter.counter("madds")(counts))
        )
        found = float(measure(original if counts == whole else cutter.model(counts)))
        if not 0 < found < float("inf"):
            raise CompressionError(f"target: cost must be a positive number, got {found}")
        point.values.append(found)
        logger.info("%s MAdds: %s", f"{point.madds:,}", target.said(found))
        return point

    def off(point: Point) -> float:
        return abs(point.value / value - 1)

    most = measured(whole)
    if most.value < value * (1 - tolerance):
        raise CompressionError(
            f"target: at most the {target.said(most.value)} that the model has, got "
            f"{target.said(value)}; pruning only removes"
        )
    least = measured(cutter.selection.floors)
    if least.value > value * (1 + tolerance):
        raise CompressionError(
            f"target: {target.said(value)} cannot be reached: with min_keep="
            f"{cutter.selection.min_keep} and round_to={cutter.selection.round_to} the smallest "
            f"network has {target.said(least.value)}; lower them, or start from a smaller network"
        )
    while n_calls < max_calls:
        nearest = min(points.values(), key=off)
        if off(nearest) <= tolerance:
            if len(nearest.values) > 1:
                break
            measured(nearest.counts)
            continue
        budget = min(max(_proposed(list(points.values()), value), least.madds), most.madds)
        counts = cutter.fit("madds", budget, tolerance=0.0)
        if counts in points and len(points[counts].values) > 1:
            break  # the grid of widths has nothing nearer
        measured(counts)
    nearest = min(points.values(), key=lambda point: (off(point), -len(point.values)))
    return nearest.counts, tuple(points.values())


def _proposed(points: list[Point], value: float) -> int:
    """Multiply-accumulates that should give a value, by what was measured so far."""
    near = sorted(points, key=lambda point: abs(point.value - value))[:N_NEAREST]
    madds = np.array([point.madds for point in near], np.float64)
    values = np.array([point.value for point in near])
    weights = 1 / (np.abs(values - value) + 0.01 * value)
    spread = values - np.average(values, weights=weights)
    slope = float(np.sum(weights * spread * madds) / np.sum(weights * spread**2))
    line = float(np.average(madds, weights=weights)) + slope * (
        value - float(np.average(values, weights=weights))
    )
    below = [point.madds for point in points if point.value <= value]
    above = [point.madds for point in points if point.value > value]
    low, high = max(below, default=min(madds)), min(above, default=max(madds))
    low, high = min(low, high), max(low, high)  # noise may have turned them round
    if not low < line < high:
        line = (low + high) / 2
    return round(line)
