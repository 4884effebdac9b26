"""Everything against everything: true accept rates at false accept rates down to 1e-8."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.gallery_blocks import BLANK, Block, SortedSet, for_each_block, sorted_set
from nas_face.verify.gallery_ranges import choose_ranges
from nas_face.verify.identification import IdentificationResult, Identifier
from nas_face.verify.metrics import n_accepts_allowed
from nas_face.verify.score_counts import (
    STEP,
    TOP_KEY,
    KeyHistogram,
    KeyRange,
    RangeCounter,
    threshold_of,
)

GALLERY_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""False accept rates at which a gallery is read by default, as far as its pairs support them."""

DEFAULT_BLOCK_BYTES = 32 * 2**20

_log = logging.getLogger(__name__)

_Index = npt.NDArray[np.int64]
_Counts = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryResult:
    """Exact counts of genuine and impostor scores at thresholds that are multiples of 2**-20.

    Args:
        n_genuine: number of genuine pairs.
        n_impostor: number of impostor pairs.
        genuine: genuine pairs by the multiple of 2**-20 that they reach, from -1 to 1, int64
            `(2**21 + 1,)`.
        impostor: impostor pairs likewise, zero outside `ranges`.
        ranges: where `impostor` is counted, as half-open ranges of its indices, the highest first.
        n_above: impostor pairs above each of them.
        fars: what was asked for and is supported.
        identification: see there; None if it was not asked for.
    """

    n_genuine: int
    n_impostor: int
    genuine: _Counts
    impostor: _Counts
    ranges: tuple[tuple[int, int], ...]
    n_above: tuple[int, ...]
    fars: tuple[float, ...]
    identification: IdentificationResult | None = None

    def tar_at(self, far: float) -> float:
        """True accept rate at the lowest threshold that keeps the false accept rate to a limit.

        Args:
            far: in (0, 1].

        Returns:
            Between 0 and 1, as `tar_at_far` computes it, but that scores within one multiple of
            2**-20 (about 1e-6) count as equal.

        Raises:
            MetricError: there are fewer than 1 / far impostor pairs.
            ValueError: `far` is out of range, or none of those that the counting was asked for and
                too high for the part that is always counted.
        """
        key = self._key_at(far)
        return int(self.genuine[key:].sum()) / self.n_genuine

    def threshold_at(self, far: float) -> float:
        """That threshold as a cosine; a pair is accepted from there on.

        Raises:
            MetricError, ValueError: see `tar_at`.
        """
        return threshold_of(self._key_at(far))

    def accepts_at(self, threshold: float) -> tuple[int, int]:
        """False and true accepts at a cosine, rounded up to a multiple of 2**-20.

        Raises:
            ValueError: impostor pairs are not counted there; see `ranges`.
        """
        key = min(max(math.ceil(threshold / STEP) + TOP_KEY // 2, 0), TOP_KEY + 1)
        if key > TOP_KEY:
            return 0, 0
        for (low, high), n_above in zip(self.ranges, self.n_above, strict=True):
            if low <= key <= high:
                false_accepts = n_above + int(self.impostor[key:high].sum())
                return false_accepts, int(self.genuine[key:].sum())
        raise ValueError(
            f"impostor pairs are not counted at the cosine {threshold}; counted are "
            + ", ".join(
                f"{threshold_of(low):.6f} to {threshold_of(high):.6f}" for low, high in self.ranges
            )
        )

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, in rates and without the histograms."""
        return {
            "n_genuine": self.n_genuine,
            "n_impostor": self.n_impostor,
            "tar_at_far": {f"{far:g}": self.tar_at(far) for far in self.fars},
            "threshold_at_far": {f"{far:g}": self.threshold_at(far) for far in self.fars},
            "identification": (
                None if self.identification is None else self.identification.as_dict()
            ),
        }

    def _key_at(self, far: float) -> int:
        n_allowed = n_accepts_allowed(far, self.n_impostor)
        if n_allowed < 1:
            raise MetricError(
                f"TAR at FAR {far:g} takes at least {math.ceil(1 / far - 1e-6)} impostor pairs, "
                f"got {self.n_impostor}; add images, or ask for a higher FAR"
            )
        for (low, high), n_above in zip(self.ranges, self.n_above, strict=True):
            if n_above > n_allowed:
                break
            accepts = n_above + np.cumsum(self.impostor[low:high][::-1])
            n_keys = int(np.searchsorted(accepts, n_allowed, side="right"))
            if n_keys < high - low:
                return high - n_keys
            if low == 0:
                return 0
        raise ValueError(
            f"FAR {far:g} was not counted; ask for it, as in gallery_scores(..., fars=({far:g},))"
        )


def gallery_scores(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.generic],
    *,
    probes: npt.NDArray[np.floating] | None = None,
    probe_labels: npt.NDArray[np.generic] | None = None,
    same_image: _Index | None = None,
    fars: Sequence[float] = GALLERY_FARS,
    identification: bool = False,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    n_threads: int | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> GalleryResult:
    """Compare all embeddings with each other, or probes with all of them, by cosine.

    Nothing is sampled: of each score it is counted whether it lies above the thresholds. Which
    ranges of scores can matter for `fars` is guessed from a few pairs first; should the guess fail
    (by chance, about once in a million), all is counted again with wider ones. Scores are float32
    products. Memory does not grow with the number of pairs: about 100 MB, and some bytes for each
    image; embeddings may lie in a mapped file that is larger than the memory.

    Args:
        embeddings: `(N, D)`, of any length but zero.
        labels: identity of each, `(N,)`, of any type that numpy can sort.
        probes: `(M, D)`, compared with `embeddings` instead of these with each other.
        probe_labels: identity of each probe, `(M,)`, of the type of `labels`.
        same_image: for each probe the row of `embeddings` that shows the same image, so that the
            pair is left out, or -1 for none; int64 `(M,)`.
        fars: false accept rates that are wanted; those that the impostor pairs cannot support are
            left out. Rates up to 0.001 are always counted.
        identification: also search each probe in the gallery. Takes about a fifth more time, and
            12 bytes for each genuine pair.
        block_bytes: rows that are held at a time take at most so much.
        n_threads: see `for_each_block`.
        on_block: called now and then with the pairs done and the pairs in all.

    Returns:
        The counts.

    Raises:
        MetricError: embeddings are zero or not finite, or all pairs are of one kind.
        ValueError: the parts do not fit together, or a rate is out of range.

    >>> vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]])
    >>> result = gallery_scores(vectors, np.array([1, 1, 2, 2]), fars=(0.5,))
    >>> result.n_genuine, result.n_impostor, result.tar_at(0.5)
    (2, 4, 1.0)
    """
    codes, probe_codes = _codes(embeddings, labels, probes, probe_labels, same_image)
    gallery = sorted_set(embeddings, codes, "embeddings", block_bytes=block_bytes)
    if probes is None:
        rows, columns, left_out = gallery, None, None
    else:
        assert probe_codes is not None
        rows = sorted_set(probes, probe_codes, "probes", block_bytes=block_bytes)
        columns = gallery
        left_out = None if same_image is None else _places_left_out(rows, columns, same_image)
    n_genuine, n_impostor = _n_pairs(rows, columns, left_out)
    supported = tuple(far for far in fars if n_accepts_allowed(far, n_impostor) >= 1)
    # 5 standard errors, then 25, then everything: the last cannot fail.
    for width in (5.0, 25.0, math.inf):
        ranges = choose_ranges(rows, columns, supported, n_impostor, width=width)
        counter = _PairCounter(rows, columns, left_out, ranges, identification=identification)
        for_each_block(
            rows,
            columns,
            counter,
            block_bytes=block_bytes,
            n_threads=n_threads,
            on_block=on_block,
        )
        result = counter.result(n_genuine, n_impostor, supported)
        if _holds(result):
            return result
        _log.info("the sampled pairs misjudged the thresholds; counting again in wider ranges")
    raise AssertionError("all scores are counted, and still a threshold is not found")


def _codes(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.generic],
    probes: npt.NDArray[np.floating] | None,
    probe_labels: npt.NDArray[np.generic] | None,
    same_image: _Index | None,
) -> tuple[_Index, _Index | None]:
    """Labels as numbers, after a check of all shapes."""
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            "embeddings must be of shape (N, D) and labels of shape (N,), "
            f"got {embeddings.shape} and {labels.shape}"
        )
    if (probes is None) != (probe_labels is None) or (probes is None and same_image is not None):
        raise ValueError("probes come with probe_labels, and same_image with probes")
    if probes is None or probe_labels is None:
        codes = np.unique(labels, return_inverse=True)[1]
        return codes.astype(np.int64), None
    if probes.shape != (len(probe_labels), embeddings.shape[1]) or probe_labels.ndim != 1:
        raise ValueError(
            f"probes must be of shape (M, {embeddings.shape[1]}) and probe_labels of shape (M,), "
            f"got {probes.shape} and {probe_labels.shape}"
        )
    if same_image is not None and (
        same_image.shape != probe_labels.shape
        or (len(same_image) and not -1 <= same_image.min() <= same_image.max() < len(labels))
    ):
        raise ValueError(f"same_image must be of shape (M,), each in -1..{len(labels) - 1}")
    both = np.unique(np.concatenate([labels, probe_labels]), return_inverse=True)[1]
    return both[: len(labels)].astype(np.int64), both[len(labels) :].astype(np.int64)


def _places_left_out(rows: SortedSet, columns: SortedSet, same_image: _Index) -> _Index:
    """For each place of the rows the place of the columns that it is not compared with, or -1."""
    place_of = np.empty(len(columns) + 1, dtype=np.int64)
    place_of[columns.order] = np.arange(len(columns))
    place_of[-1] = -1
    return place_of[same_image[rows.order]]


def _n_pairs(
    rows: SortedSet, columns: SortedSet | None, left_out: _Index | None
) -> tuple[int, int]:
    first, end = _mates(rows, columns)
    n_genuine = int((end - first).sum())
    if columns is None:
        total = len(rows) * (len(rows) - 1) // 2
    else:
        total = len(rows) * len(columns)
    if left_out is not None:
        n_genuine -= int(np.count_nonzero((first <= left_out) & (left_out < end)))
        total -= int(np.count_nonzero(left_out >= 0))
    if n_genuine == 0 or n_genuine == total:
        raise MetricError(
            "a gallery needs pairs of the same and pairs of different identities, "
            f"got {n_genuine} same and {total - n_genuine} different"
        )
    return n_genuine, total - n_genuine


def _mates(rows: SortedSet, columns: SortedSet | None) -> tuple[_Index, _Index]:
    """First place and end of the columns that are of each row's identity."""
    if columns is None:
        first = np.arange(1, len(rows) + 1)
        return first, np.searchsorted(rows.labels, rows.labels, side="right")
    return (
        np.searchsorted(columns.labels, rows.labels, side="left"),
        np.searchsorted(columns.labels, rows.labels, side="right"),
    )


def _holds(result: GalleryResult) -> bool:
    """Whether every rate that was asked for lies in a range."""
    try:
        for far in result.fars:
            result.threshold_at(far)
    except ValueError:
        return False
    return True


@final
class _PairCounter:
    """Parts the blocks into genuine and impostor pairs, and counts both."""

    def __init__(
        self,
        rows: SortedSet,
        columns: SortedSet | None,
        left_out: _Index | None,
        ranges: tuple[KeyRange, ...],
        *,
        identification: bool,
    ) -> None:
        self._first, self._end = _mates(rows, columns)
        self._left_out = left_out
        self._genuine = KeyHistogram()
        self._impostor = RangeCounter(ranges)
        self._identifier = Identifier(rows, columns) if identification else None

    def __call__(self, block: Block) -> None:
        rows = slice(block.row, block.row + len(block.scores))
        stop = block.column + block.scores.shape[1]
        if self._left_out is not None:
            places = self._left_out[rows]
            hit = np.flatnonzero((block.column <= places) & (places < stop))
            block.scores[hit, places[hit] - block.column] = BLANK
        row, column, scores = self._take_genuine(block, rows, stop)
        self._impostor.add(block.scores)
        if self._identifier is not None:
            self._identifier.add(block, row, column, scores)

    def _take_genuine(
        self, block: Block, rows: slice, stop: int
    ) -> tuple[_Index, _Index, npt.NDArray[np.float32]]:
        """Row, column and score of the genuine pairs, which are counted and made blank."""
        # Both sets are sorted by label: a row's mates are neighbours, and most blocks have none.
        if self._end[rows.stop - 1] <= block.column or self._first[rows.start] >= stop:
            none = np.empty(0, dtype=np.int64)
            return none, none, np.empty(0, dtype=np.float32)
        first = self._first[rows].clip(block.column, stop)
        n_mates = self._end[rows].clip(first, stop) - first
        row = np.repeat(np.arange(len(n_mates)), n_mates)
        before = np.cumsum(n_mates) - n_mates
        column = np.arange(len(row)) + np.repeat(first - block.column - before, n_mates)
        scores = block.scores[row, column]
        paired = scores > BLANK
        if not paired.all():
            row, column, scores = row[paired], column[paired], scores[paired]
        block.scores[row, column] = BLANK
        self._genuine.add(scores)
        return row, column, scores

    def result(self, n_genuine: int, n_impostor: int, fars: tuple[float, ...]) -> GalleryResult:
        genuine = self._genuine.finish()
        assert int(genuine.sum()) == n_genuine
        return GalleryResult(
            n_genuine=n_genuine,
            n_impostor=n_impostor,
            genuine=genuine,
            impostor=self._impostor.histogram.finish(),
            ranges=tuple(
                (each.low, TOP_KEY + 1 if each.high is None else each.high)
                for each in self._impostor.ranges
            ),
            n_above=tuple(int(n) for n in self._impostor.n_above),
            fars=fars,
            identification=None if self._identifier is None else self._identifier.result(),
        )
