"""Searching a gallery for a person: closed set with distractors, and open set."""

import math
from dataclasses import dataclass
from threading import Lock
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.gallery_blocks import BLANK, Block, SortedSet
from nas_face.verify.metrics import n_accepts_allowed

_Index = npt.NDArray[np.int64]
_Scores = npt.NDArray[np.float32]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdentificationResult:
    """What each probe finds in the gallery; mates are the gallery's images of its identity.

    Args:
        best_mate: highest score with a mate, float32 `(M,)` in the order of the probes; -2 for a
            probe without.
        best_impostor: highest score with any other image, likewise.
        rank_1: share of the probes with mates that score higher with one of them than with any
            other image; a tie counts as a failure.
        rank_1_by_mate: share of the genuine pairs that score higher than the probe does with any
            other identity: the gallery holds one mate at a time, all else being distractors.

    Source:
        Kemelmacher-Shlizerman et al., "The MegaFace benchmark", arXiv:1512.00596, section 3, for
        `rank_1_by_mate`; NIST FRTE 1:N for FNIR and FPIR.
    """

    best_mate: _Scores
    best_impostor: _Scores
    rank_1: float
    rank_1_by_mate: float

    def fnir_at(self, fpir: float) -> float:
        """False negative identification rate at a limit on the false positive one.

        A search without mates is each probe's search with its mates taken out of the gallery. FPIR
        is the share of those that return anything at the threshold. FNIR is the share of the
        probes with mates whose best mate is below it, or not the first.

        Args:
            fpir: the limit, in (0, 1].

        Returns:
            Between 0 and 1.

        Raises:
            MetricError: there are fewer than 1 / fpir probes.
            ValueError: `fpir` is out of range.

        Differs:
            NIST searches other people's probes for FPIR, which a single labelled set rarely has.
        """
        n_allowed = n_accepts_allowed(fpir, len(self.best_impostor))
        if n_allowed < 1:
            raise MetricError(
                f"FNIR at FPIR {fpir:g} takes at least {math.ceil(1 / fpir - 1e-6)} probes, "
                f"got {len(self.best_impostor)}; add probes, or ask for a higher FPIR"
            )
        falling = -np.sort(-self.best_impostor)
        # Above the first score that may not be returned any more.
        limit = falling[n_allowed] if n_allowed < len(falling) else BLANK
        mated = self.best_mate > BLANK
        found = (self.best_mate > limit) & (self.best_mate > self.best_impostor)
        return 1.0 - int(np.count_nonzero(found)) / int(np.count_nonzero(mated))

    def as_dict(self) -> dict[str, object]:
        """The rates for JSON."""
        return {
            "n_probes": len(self.best_mate),
            "n_probes_with_mates": int(np.count_nonzero(self.best_mate > BLANK)),
            "rank_1": self.rank_1,
            "rank_1_by_mate": self.rank_1_by_mate,
            "fnir_at_fpir": {
                f"{fpir:g}": self.fnir_at(fpir)
                for fpir in (1e-1, 1e-2, 1e-3)
                if n_accepts_allowed(fpir, len(self.best_impostor)) >= 1
            },
        }


@final
class Identifier:
    """Keeps the best scores of each probe, block by block, from several threads.

    Args:
        rows: the probes.
        columns: the gallery; None for the probes themselves, each searched among all others.
    """

    def __init__(self, rows: SortedSet, columns: SortedSet | None) -> None:
        self._order = rows.order
        self._symmetric = columns is None
        self._best_mate = np.full(len(rows), BLANK)
        self._best_impostor = np.full(len(rows), BLANK)
        self._pairs: list[tuple[npt.NDArray[np.int32], _Scores]] = []
        self._lock = Lock()

    def add(self, block: Block, row: _Index, column: _Index, scores: _Scores) -> None:
        """Take in a block.

        Args:
            block: impostor scores; genuine ones are `BLANK`.
            row: rows of the genuine pairs within the block.
            column: their columns.
            scores: their scores.
        """
        by_row = block.scores.max(axis=1)
        by_column = block.scores.max(axis=0) if self._symmetric else None
        pairs = [(row + block.row, scores)]
        if self._symmetric:
            pairs.append((column + block.column, scores))
        with self._lock:
            _raise(self._best_impostor, block.row, by_row)
            if by_column is not None:
                _raise(self._best_impostor, block.column, by_column)
            for probe, score in pairs:
                if len(probe):
                    np.maximum.at(self._best_mate, probe, score)
                    self._pairs.append((probe.astype(np.int32), score))

    def result(self) -> IdentificationResult:
        mated = self._best_mate > BLANK
        first = self._best_mate[mated] > self._best_impostor[mated]
        n_won = sum(
            int(np.count_nonzero(score > self._best_impostor[probe]))
            for probe, score in self._pairs
        )
        n_pairs = sum(len(probe) for probe, _ in self._pairs)
        best_mate = np.empty_like(self._best_mate)
        best_impostor = np.empty_like(self._best_impostor)
        best_mate[self._order] = self._best_mate
        best_impostor[self._order] = self._best_impostor
        return IdentificationResult(
            best_mate=best_mate,
            best_impostor=best_impostor,
            rank_1=float(np.mean(first)),
            rank_1_by_mate=n_won / n_pairs,
        )


def _raise(best: _Scores, start: int, scores: _Scores) -> None:
    part = best[start : start + len(scores)]
    np.maximum(part, scores, out=part)
