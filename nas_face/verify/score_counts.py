"""How many of very many scores lie above a threshold, exactly, in bounded memory.

Cosines are counted by the multiple of 2**-20 (about 1e-6) that they reach: a float32 product of
unit vectors is itself only that good (its rounding error is near 1e-7). Every such multiple is a
float32 number, so no score is rounded; only thresholds are, to multiples.
"""

from dataclasses import dataclass
from threading import Lock, local
from typing import final

import numpy as np
import numpy.typing as npt

STEP = 2.0**-20
"""Thresholds are multiples of this cosine."""

TOP_KEY = 2**21
"""Key of the cosine 1; that of -1 is 0."""

_FLUSH_SIZE = 1 << 20

_Keys = npt.NDArray[np.int32]


def keys_of(scores: npt.NDArray[np.float32]) -> _Keys:
    """Which multiple of `STEP` above -1 each cosine reaches, in 0..`TOP_KEY`."""
    # A product with a power of two is exact.
    steps = np.floor(scores * np.float32(1 / STEP)).astype(np.int32)
    keys: _Keys = (steps + TOP_KEY // 2).clip(0, TOP_KEY)
    return keys


def threshold_of(key: int) -> float:
    """The lowest cosine of a key."""
    return (key - TOP_KEY // 2) * STEP


@final
@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range in which scores are counted one by one.

    Args:
        low: its lowest key.
        high: the lowest key above it; None where it reaches to the top.
    """

    low: int
    high: int | None


@final
class KeyHistogram:
    """Counts by key, filled from several threads."""

    def __init__(self) -> None:
        self.counts = np.zeros(TOP_KEY + 1, dtype=np.int64)
        self._waiting: list[_Keys] = []
        self._n_waiting = 0
        self._lock = Lock()

    def add(self, scores: npt.NDArray[np.float32]) -> None:
        """Count scores."""
        keys = keys_of(scores)
        with self._lock:
            self._waiting.append(keys)
            self._n_waiting += len(keys)
            if self._n_waiting >= _FLUSH_SIZE:
                self._flush()

    def finish(self) -> npt.NDArray[np.int64]:
        """The counts, `(TOP_KEY + 1,)`."""
        with self._lock:
            self._flush()
        return self.counts

    def _flush(self) -> None:
        if self._waiting:
            self.counts += np.bincount(np.concatenate(self._waiting), minlength=TOP_KEY + 1)
        self._waiting.clear()
        self._n_waiting = 0


@final
class RangeCounter:
    """Counts the scores of blocks: one by one inside some ranges, in all above each of them.

    Args:
        ranges: from the highest to the lowest, disjoint; the first reaches to the top.
    """

    def __init__(self, ranges: tuple[KeyRange, ...]) -> None:
        self.ranges = ranges
        self.histogram = KeyHistogram()
        self.n_above = np.zeros(len(ranges), dtype=np.int64)
        self._lock = Lock()
        self._memory = local()

    def add(self, scores: npt.NDArray[np.float32]) -> None:
        """Count the scores of a contiguous block of any shape."""
        scores = scores.reshape(-1)
        inside, mask = self._room(scores.size)
        above = np.zeros(len(self.ranges), dtype=np.int64)
        np.greater_equal(scores, _bound(self.ranges[0].low), out=inside)
        for index, each in enumerate(self.ranges[1:], start=1):
            assert each.high is not None
            np.greater_equal(scores, _bound(each.high), out=mask)
            above[index] = np.count_nonzero(mask)
            # Above an odd number of the bounds so far is inside a range.
            np.logical_xor(inside, mask, out=inside)
            np.greater_equal(scores, _bound(each.low), out=mask)
            np.logical_xor(inside, mask, out=inside)
        self.histogram.add(scores.compress(inside))
        with self._lock:
            self.n_above += above

    def _room(self, size: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Two masks of this thread; fresh ones would be fresh pages, which cost as much again."""
        room: npt.NDArray[np.bool_] | None = getattr(self._memory, "room", None)
        if room is None or room.shape[1] < size:
            room = self._memory.room = np.empty((2, size), dtype=np.bool_)
        return room[0, :size], room[1, :size]


def _bound(key: int) -> np.float32:
    """The lowest score of a key; -1.5 for the first, since a product may come out below -1."""
    return np.float32(threshold_of(key) if key else -1.5)
