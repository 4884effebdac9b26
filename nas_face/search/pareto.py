"""Pareto fronts: who is on them, in what order the others follow, and how much they dominate.

Every column is to be small, as a minimised objective is; turn the sign of the others.
"""

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 256
_CHUNK = 1 << 20


def pareto_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other dominates; of equal points, all.

    A point dominates another if it is nowhere worse and somewhere better. Up to three objectives
    are swept in `O(N log N)` comparisons (Kung, Luccio & Preparata, 1975).

    Args:
        points: `(N, M)`, every column to be small; infinity is allowed.

    Returns:
        `(N,)`.

    Raises:
        ValueError: the points are not a table, or one is not a number.
    """
    table = _table(points, "points")
    distinct, group = _distinct(table)
    match table.shape[1]:
        case 1:
            on_front = distinct[:, 0] == distinct[:1, 0]
        case 2:
            second = distinct[:, 1]
            before = np.minimum.accumulate(np.concatenate([[np.inf], second]))[:-1]
            on_front = second < before
            on_front[:1] = True  # also where its second value is infinite
        case 3:
            on_front = _swept_ranks(distinct, n_fronts=1) == 0
        case _:
            on_front = _blocked_front(distinct)
    return np.asarray(on_front[group])


def pareto_ranks(points: ArrayLike) -> NDArray[np.int64]:
    """Non-domination rank of each point, 0 for the front.

    The front without those of lower rank has rank 1, and so on (Goldberg, 1989).

    Args:
        points: `(N, M)`, every column to be small; infinity is allowed.

    Returns:
        `(N,)`.

    Raises:
        ValueError: the points are not a table, or one is not a number.
    """
    table = _table(points, "points")
    distinct, group = _distinct(table)
    if table.shape[1] <= 3:
        padded = np.zeros((len(distinct), 3))
        padded[:, : table.shape[1]] = distinct
        return _swept_ranks(padded, n_fronts=len(distinct))[group]
    ranks = np.zeros(len(distinct), dtype=np.int64)
    left = np.arange(len(distinct))
    while len(left):
        on_front = _blocked_front(distinct[left])
        left = left[~on_front]
        ranks[left] += 1
    return ranks[group]


def crowding_distance(points: ArrayLike) -> NDArray[np.float64]:
    """How lonely each point is among the others; infinite at the ends of each axis.

    The distance between a point's two neighbours along each axis, over the extent of the axis, is
    summed over the axes (Deb et al., NSGA-II, 2002).

    Args:
        points: `(N, M)`.

    Returns:
        `(N,)`.

    Raises:
        ValueError: the points are not a table, or one is not a number.
    """
    table = _table(points, "points")
    distance = np.zeros(len(table))
    if len(table) == 0:
        return distance
    for column in table.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if 0 < spread < np.inf:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return distance


def pareto_order(points: ArrayLike) -> NDArray[np.int64]:
    """Indices from best to worst: by rank, and within a rank the lonelier first.

    Args:
        points: `(N, M)`, every column to be small.

    Returns:
        `(N,)`.

    Raises:
        ValueError: the points are not a table, or one is not a number.
    """
    table = _table(points, "points")
    ranks = pareto_ranks(table)
    distance = np.empty(len(table))
    for rank in np.unique(ranks):
        members = ranks == rank
        distance[members] = crowding_distance(table[members])
    return np.lexsort((-distance, ranks))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate, up to a reference point; exact for any number of axes.

    Two objectives are summed up along the front and three are swept (Beume et al., 2009); more are
    brought down one at a time, each point being counted for what those that are better on the last
    axis leave to it (While, Bradstreet & Barone, WFG, 2012).

    Args:
        points: `(N, M)`, every column to be small. Points that do not lie below the reference on
            every axis add nothing; of none the volume is 0.
        reference: `(M,)`.

    Raises:
        ValueError: shapes do not match, a value is not a number, the reference is infinite, or a
            point is infinitely good.
    """
    corner = _reference(reference)
    return _volume(_inside(points, corner, "points"), corner)


def hypervolume_gains(
    candidates: ArrayLike, points: ArrayLike, reference: ArrayLike
) -> NDArray[np.float64]:
    """What each candidate alone would add to the volume that the points dominate.

    Up to three objectives the space that is not dominated is cut into boxes once, of which there
    are at most `2 N + 1` (Lacour, Klamroth & Fonseca, 2017), and every candidate gains its share
    of each box.

    Args:
        candidates: `(K, M)`, every column to be small.
        points: `(N, M)`.
        reference: `(M,)`.

    Returns:
        `(K,)`, each at least 0.

    Raises:
        ValueError: shapes do not match, a value is not a number, the reference is infinite, or a
            point is infinitely good.
    """
    corner = _reference(reference)
    wanted = _against(candidates, corner, "candidates")
    dominated = _inside(points, corner, "points")
    gains = np.zeros(len(wanted))
    inside = np.flatnonzero((wanted < corner).all(axis=1))
    if len(corner) <= 3:
        low, high = free_boxes(dominated, corner)
        step = max(1, _CHUNK // len(low))
        for start in range(0, len(inside), step):
            which = inside[start : start + step]
            share = np.ones((len(which), len(low)))
            for axis in range(len(corner)):
                share *= np.maximum(
                    high[:, axis] - np.maximum(low[:, axis], wanted[which, axis, None]), 0.0
                )
            gains[which] = share.sum(axis=1)
        return gains
    for at in inside:
        own = float(np.prod(corner - wanted[at]))
        gains[at] = max(0.0, own - _volume(np.maximum(dominated, wanted[at]), corner))
    return gains


def _table(points: ArrayLike, name: str) -> NDArray[np.float64]:
    table = np.asarray(points, dtype=np.float64)
    if table.shape == (0,):
        return np.empty((0, 1))
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"{name} must be (N, M) with M at least 1, got shape {table.shape}")
    if np.isnan(table).any():
        raise ValueError(f"{name} must be numbers, got NaN")
    return table


def _reference(reference: ArrayLike) -> NDArray[np.float64]:
    corner = np.asarray(reference, dtype=np.float64)
    if corner.ndim != 1 or len(corner) == 0:
        raise ValueError(f"reference must be (M,) with M at least 1, got shape {corner.shape}")
    if not np.isfinite(corner).all():
        raise ValueError(f"reference must be finite, got {corner.tolist()}")
    return corner


def _against(points: ArrayLike, reference: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Points that may have a volume against a reference."""
    table = _table(points, name)
    if len(table) == 0:
        return np.empty((0, len(reference)))
    if table.shape[1] != len(reference):
        raise ValueError(
            f"{name} must have a column for each axis of the reference, {len(reference)}, "
            f"got {table.shape[1]}"
        )
    if np.isneginf(table).any():
        raise ValueError(f"{name} must not be infinitely good, got -inf")
    return table


def _inside(points: ArrayLike, reference: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    table = _against(points, reference, name)
    return table[(table < reference).all(axis=1)]


def _distinct(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows in lexical order, equal ones once, and for each row of the table which one it is.

    A row can only be dominated by rows that come before it.
    """
    order = np.lexsort(table.T[::-1])
    ordered = table[order]
    new = np.ones(len(table), dtype=np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(table), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return ordered[new], group


def _swept_ranks(distinct: NDArray[np.float64], n_fronts: int) -> NDArray[np.int64]:
    """Ranks of different points `(N, 3)` in lexical order, `n_fronts` for any beyond the last.

    Each front keeps the staircase of its members' second and third values: a point that comes
    later is dominated by the front if its corner lies on or above the stairs. A point that one
    front does not dominate is not dominated by the later ones, so the first of these is found by
    bisection (efficient non-dominated sort, Zhang et al., 2015; with staircases, Jensen, 2003).
    """
    ranks = np.empty(len(distinct), dtype=np.int64)
    stairs: list[tuple[list[float], list[float]]] = []
    for at, (second, third) in enumerate(distinct[:, 1:].tolist()):
        low, high = 0, len(stairs)
        while low < high:
            middle = (low + high) // 2
            seconds, thirds = stairs[middle]
            place = bisect_right(seconds, second)
            if place and thirds[place - 1] <= third:
                low = middle + 1
            else:
                high = middle
        ranks[at] = low
        if low == n_fronts:
            continue
        if low == len(stairs):
            stairs.append(([], []))
        seconds, thirds = stairs[low]
        start = end = bisect_left(seconds, second)
        while end < len(thirds) and thirds[end] >= third:
            end += 1
        seconds[start:end] = [second]
        thirds[start:end] = [third]
    return ranks


def _blocked_front(distinct: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Front of different points `(N, M)` in lexical order, a block at a time."""
    on_front = np.zeros(len(distinct), dtype=np.bool_)
    for start in range(0, len(distinct), _BLOCK):
        block = distinct[start : start + _BLOCK]
        free = ~_dominated(block, distinct[:start][on_front[:start]])
        free[free] = ~_dominated(block[free], block[free])
        on_front[start : start + _BLOCK] = free
    return on_front


def _dominated(points: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points another one is nowhere above; a point is not compared with itself."""
    nowhere_above = np.ones((len(points), len(by)), dtype=np.bool_)
    equal = np.ones((len(points), len(by)), dtype=np.bool_)
    for axis in range(points.shape[1]):
        mine, theirs = points[:, axis, None], by[None, :, axis]
        nowhere_above &= theirs <= mine
        equal &= theirs == mine
    return np.asarray((nowhere_above & ~equal).any(axis=1))


def _volume(inside: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Hypervolume of points that lie below the reference on every axis."""
    if len(inside) == 0:
        return 0.0
    match len(reference):
        case 1:
            return float(reference[0] - inside[:, 0].min())
        case 2:
            stairs = inside[pareto_front(inside)]
            first, second = stairs[np.argsort(stairs[:, 0])].T
            widths = np.append(first[1:], reference[0]) - first
            return float(widths @ (reference[1] - second))
        case 3:
            return _sweep(inside, reference)[0]
        case _:
            return _volume_by_slices(inside[pareto_front(inside)], reference)


def _volume_by_slices(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """What each point has to itself beside those that are better on the last axis, summed."""
    front = front[np.argsort(front[:, -1], kind="stable")]
    total = 0.0
    for at, point in enumerate(front):
        base, corner = point[:-1], reference[:-1]
        others = _volume(np.maximum(front[:at, :-1], base), corner)
        alone = float(np.prod(corner - base)) - others
        total += alone * float(reference[-1] - point[-1])
    return total


Box = tuple[float, float, float, float, float]
"""Of the space that no point dominates: first axis from and to, second axis to, third axis from
and to; the second is open below."""


def _sweep(inside: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, list[Box]]:
    """Volume below the reference that points `(N, 3)` dominate, and the rest of it as boxes.

    Points come in the order of their third value. What they dominate of the plane of the first two
    is bounded by stairs: from `firsts[i]` to `firsts[i + 1]`, everything above `seconds[i]`. The
    area that a new point adds stays dominated up to the reference.
    """
    right, top, far = reference.tolist()
    firsts, seconds, since = [-np.inf, right], [top, -np.inf], [-np.inf, far]
    boxes: list[Box] = []
    volume = 0.0
    for first, second, third in inside[np.argsort(inside[:, 2], kind="stable")].tolist():
        step = bisect_right(firsts, first) - 1  # the step above the point
        height = seconds[step]
        if height <= second:
            continue
        area, left, end = 0.0, first, step
        while height > second:
            if since[end] < third:
                boxes.append((firsts[end], firsts[end + 1], height, since[end], third))
            area += (firsts[end + 1] - left) * (height - second)
            end += 1
            left, height = firsts[end], seconds[end]
        volume += area * (far - third)
        if firsts[step] < first:  # the step's left part stays as high as it was
            firsts[step + 1 : end] = [first]
            since[step:end] = [third, third]
            seconds[step + 1 : end] = [second]
        else:
            firsts[step:end] = [first]
            seconds[step:end] = [second]
            since[step:end] = [third]
    for step in range(len(firsts) - 1):
        boxes.append((firsts[step], firsts[step + 1], seconds[step], since[step], far))
    return volume, boxes


def free_boxes(
    inside: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes that fill what is not dominated of the space below the reference.

    Args:
        inside: `(N, M)` with M of at most 3, every one below the reference on every axis.
        reference: `(M,)`.

    Returns:
        Lower corners, which may be minus infinity, and upper corners, each `(B, M)`.
    """
    n_axes = len(reference)
    padded = np.zeros((len(inside), 3))
    padded[:, :n_axes] = inside
    corner = np.ones(3)
    corner[:n_axes] = reference
    boxes = np.array(_sweep(padded, corner)[1])
    open_below = np.full(len(boxes), -np.inf)
    low = np.stack([boxes[:, 0], open_below, boxes[:, 3]], axis=1)
    high = boxes[:, [1, 2, 4]]
    if n_axes < 3:  # the axes that were added reach from 0 to 1; drop what lies below
        kept = (high[:, n_axes:] > 0).all(axis=1)
        low, high = low[kept], high[kept]
    return low[:, :n_axes], high[:, :n_axes]
