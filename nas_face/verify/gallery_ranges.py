"""Which scores of a gallery can matter for a false accept rate, judged by a few pairs."""

import math

import numpy as np
import numpy.typing as npt

from nas_face.verify.gallery_blocks import SortedSet
from nas_face.verify.score_counts import KeyRange, keys_of

TAIL_FAR = 1e-3
"""Up to this false accept rate all impostor scores are counted one by one."""

# Up to so many pairs it costs next to nothing to count all of them one by one.
_FEW_PAIRS = 1 << 22
_GROUP = 16  # images of either kind that are multiplied with each other
_GROUPS_AT_ONCE = 128  # 8 MB at 512 dimensions
_MIN_GROUPS, _MAX_GROUPS = 512, 4096
_PAIRS_FOR_ONE_GROUP = 1 << 17  # so that drawing takes a few hundredths of the counting

_Floats = npt.NDArray[np.float64]


def choose_ranges(
    rows: SortedSet,
    columns: SortedSet | None,
    fars: tuple[float, ...],
    n_impostor: int,
    *,
    width: float,
) -> tuple[KeyRange, ...]:
    """Ranges of scores that hold the thresholds of some false accept rates.

    Up to a million pairs are drawn, as small groups of images with each other. The groups are
    drawn independently, so the spread between them tells how far the sample may be off.

    Args:
        rows: one set.
        columns: the other, or None for the first itself.
        fars: the rates.
        n_impostor: number of impostor pairs.
        width: how many standard errors the ranges reach to either side; infinity for one range
            that holds all scores.

    Returns:
        Disjoint ranges, the highest first; that one reaches to the top, and down to `TAIL_FAR`.
    """
    if math.isinf(width) or n_impostor <= _FEW_PAIRS:
        return (KeyRange(low=0, high=None),)
    wanted = -(-n_impostor // _PAIRS_FOR_ONE_GROUP)
    n_groups = min(max(wanted, _MIN_GROUPS), _MAX_GROUPS) // _GROUPS_AT_ONCE * _GROUPS_AT_ONCE
    groups, scores = _sampled_impostors(rows, columns, n_groups)
    order = np.argsort(-scores)
    groups, falling = groups[order], scores[order]
    bounds = [_share_bounds(groups, n_groups, far, width) for far in fars if far > TAIL_FAR]
    tail = _share_bounds(groups, n_groups, TAIL_FAR, width)
    ranges: list[KeyRange] = []
    for low_share, high_share in sorted([(0.0, tail[1]), *bounds], key=lambda each: each[1]):
        low = _key_at_share(falling, high_share)
        high = None if low_share <= 0 else _key_at_share(falling, low_share) + 1
        if not ranges or (high is not None and high < ranges[-1].low):
            ranges.append(KeyRange(low=low, high=high))
        else:
            ranges[-1] = KeyRange(low=min(low, ranges[-1].low), high=ranges[-1].high)
    return tuple(ranges)


def _sampled_impostors(
    rows: SortedSet, columns: SortedSet | None, n_groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Group and score of impostor pairs, each `(S,)`."""
    # The counts are exact whatever is drawn, so that no seed is asked for.
    rng = np.random.default_rng(0)
    others = rows if columns is None else columns
    groups, scores = [], []
    for start in range(0, n_groups, _GROUPS_AT_ONCE):
        shape = (_GROUPS_AT_ONCE, _GROUP)
        left = rng.integers(len(rows), size=shape)
        right = rng.integers(len(others), size=shape)
        n_dims = rows.embeddings.shape[1]
        a = rows.unit(left.ravel()).reshape(*shape, n_dims)
        b = others.unit(right.ravel()).reshape(*shape, n_dims)
        products = a @ b.transpose(0, 2, 1)
        impostor = rows.labels[left][:, :, None] != others.labels[right][:, None, :]
        numbers = np.arange(start, start + _GROUPS_AT_ONCE)
        group = np.broadcast_to(numbers[:, None, None], impostor.shape)
        groups.append(group[impostor])
        scores.append(products[impostor])
    return np.concatenate(groups), np.concatenate(scores)


def _share_bounds(
    groups: npt.NDArray[np.int64], n_groups: int, far: float, width: float
) -> tuple[float, float]:
    """Shares of the sample between which the share `far` of all pairs surely lies."""
    n_sampled = len(groups)
    n_above = np.bincount(groups[: round(far * n_sampled)], minlength=n_groups)
    by_group = float(np.std(n_above)) * math.sqrt(n_groups) / n_sampled
    alone = math.sqrt(far * (1 - far) / n_sampled)
    error = width * max(by_group, alone)
    return far - error, far + error + width**2 / n_sampled


def _key_at_share(falling: npt.NDArray[np.float32], share: float) -> int:
    """Key of the score that is reached by a share of the sample."""
    index = math.ceil(share * len(falling))
    return int(keys_of(falling[index : index + 1])[0]) if index < len(falling) else 0
