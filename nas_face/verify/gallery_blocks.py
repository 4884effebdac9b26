"""All scores between two sets of embeddings, one block after the other, on all cores.

Each core multiplies small blocks that stay in its cache until they are counted; a product that
spread one block over the cores would leave all but one of them idle while it is counted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import local
from typing import final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_info, threadpool_limits

from nas_face.errors import MetricError

BLANK = np.float32(-2.0)
"""Stands in a block where there is no pair: below every score and every threshold."""

# One block is 0.5 MB, so that it is still in the second-level cache when it is counted (measured:
# larger ones multiply no faster, and from 2 MB on are counted half as fast).
_N_ROWS = 256
_N_COLUMNS = 512

_Index = npt.NDArray[np.int64]
_Scores = npt.NDArray[np.float32]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedSet:
    """Embeddings in the order of their labels, brought to unit length where they are read.

    Args:
        embeddings: `(N, D)`, perhaps in a mapped file.
        order: int64 `(N,)`, which row is at each place.
        labels: int64 `(N,)`, rising: the label at each place.
    """

    embeddings: npt.NDArray[np.floating]
    order: _Index
    labels: _Index

    def __len__(self) -> int:
        return len(self.order)

    def unit(self, places: slice | _Index) -> _Scores:
        """Unit vectors at some places, `(n, D)`."""
        rows = self.embeddings[self.order[places]]
        if rows.dtype.itemsize < 4:
            rows = rows.astype(np.float32)
        # Scaled by the largest entry first, so that no square overflows or vanishes.
        rows = rows / np.abs(rows).max(axis=1, keepdims=True)
        rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
        return np.ascontiguousarray(rows, dtype=np.float32)


def sorted_set(
    embeddings: npt.NDArray[np.floating], labels: _Index, name: str, *, block_bytes: int
) -> SortedSet:
    """Check the embeddings, block by block, and sort them by label.

    Raises:
        MetricError: embeddings are zero or not finite; the message says how many.
    """
    step = max(1, block_bytes // (8 * embeddings.shape[1]))
    n_not_finite = n_zero = 0
    for start in range(0, len(embeddings), step):
        largest = np.abs(embeddings[start : start + step]).max(axis=1)  # NaN wins
        n_not_finite += len(largest) - int(np.count_nonzero(np.isfinite(largest)))
        n_zero += int(np.count_nonzero(largest == 0))
    if n_not_finite or n_zero:
        raise MetricError(
            f"{name} must be finite and not zero, got {n_not_finite} of {len(embeddings)} with "
            f"NaN or infinity and {n_zero} that are zero; the network or its precision is broken"
        )
    order = np.argsort(labels, kind="stable")
    return SortedSet(embeddings=embeddings, order=order, labels=labels[order])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Scores between neighbouring places of two sets.

    Args:
        scores: float32 `(h, w)`, `BLANK` where there is no pair; valid only during the call that
            it is handed to, which may write to it.
        row: place of its first row.
        column: place of its first column.
    """

    scores: _Scores
    row: int
    column: int


def for_each_block(
    rows: SortedSet,
    columns: SortedSet | None,
    visit: Callable[[Block], None],
    *,
    block_bytes: int,
    n_threads: int | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> None:
    """Multiply everything with everything, and hand each block of scores to a function.

    Args:
        rows: one set.
        columns: the other; None pairs the first with itself, each two places once, the earlier one
            as the row.
        visit: called from several threads at once.
        block_bytes: the rows that are held at a time take at most so much, and at least 1 MB.
        n_threads: how many blocks are worked on at a time; as many as the BLAS library has threads
            by default, which `OMP_NUM_THREADS` sets.
        on_block: called from the calling thread with the pairs done and the pairs in all.
    """
    n_dims = rows.embeddings.shape[1]
    panel = max(_N_ROWS, block_bytes // (4 * n_dims) // _N_ROWS * _N_ROWS)
    total = len(rows) * (len(rows) - 1) // 2 if columns is None else len(rows) * len(columns)
    if n_threads is None:
        n_threads = max((each["num_threads"] for each in threadpool_info()), default=1)
    n_done = 0
    memory = local()
    with threadpool_limits(1), ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(rows), panel):
            stop = min(start + panel, len(rows))
            held = rows.unit(slice(start, stop))
            tasks = [
                pool.submit(_strip, held, start, rows, columns, place, visit, memory)
                for place in _columns_of(start, len(rows if columns is None else columns), columns)
            ]
            try:
                for task in as_completed(tasks):
                    n_done += task.result()
                    if on_block is not None:
                        on_block(n_done, total)
            finally:
                _cancel(tasks)


def _columns_of(start: int, n_columns: int, columns: SortedSet | None) -> Iterator[int]:
    """First columns of the strips, the longest strips first, so that no thread is left alone."""
    first = start if columns is None else 0
    return reversed(range(first, n_columns, _N_COLUMNS))


def _cancel(tasks: list[Future[int]]) -> None:
    for task in tasks:
        task.cancel()


def _strip(
    held: _Scores,
    start: int,
    rows: SortedSet,
    columns: SortedSet | None,
    column: int,
    visit: Callable[[Block], None],
    memory: local,
) -> int:
    """All blocks of some columns; returns the number of their pairs."""
    others = (rows if columns is None else columns).unit(slice(column, column + _N_COLUMNS))
    room: _Scores | None = getattr(memory, "room", None)
    if room is None:
        room = memory.room = np.empty(_N_ROWS * _N_COLUMNS, dtype=np.float32)
    end = start + len(held)
    if columns is None:
        end = min(end, column + len(others))  # beyond that the columns are the earlier places
    n_pairs = 0
    for row in range(start, end, _N_ROWS):
        left = held[row - start : min(row + _N_ROWS, end) - start]
        # Columns before the block's first row were paired the other way round.
        skipped = max(0, row - column) if columns is None else 0
        right = others[skipped:]
        scores = room[: len(left) * len(right)].reshape(len(left), len(right))
        np.matmul(left, right.T, out=scores)
        n_pairs += scores.size
        first = column + skipped
        if columns is None and first < row + len(left):
            behind = np.arange(len(right)) + first <= (np.arange(len(left)) + row)[:, None]
            n_pairs -= int(np.count_nonzero(behind))
            np.copyto(scores, BLANK, where=behind)
        visit(Block(scores=scores, row=row, column=first))
    return n_pairs
