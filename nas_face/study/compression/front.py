"""The whole front of a run compressed: before and after in the same units, and which member
wins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy import measure_in_turns
from nas_face.errors import ConfigError
from nas_face.search.pareto import pareto_front
from nas_face.study.compression.results import Compression, FileResult
from nas_face.study.compression.runtimes import file_name
from nas_face.study.compression.steps import ORIGINAL_FOLDER, PLAIN_FILE
from nas_face.study.report import front_of
from nas_face.study.run import Run


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of the front, compressed.

    Attributes:
        trial: of the run.
        folder: of its compression.
        compression: what it came to.
    """

    trial: int
    folder: Path
    compression: Compression


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one member is worth before or after, in units that are the same for all.

    Attributes:
        precision: of the file.
        judged: accuracy on the pairs that decide, 0 to 1.
        accuracy: 10-fold, on the pairs that are reported, 0 to 1.
        latency_ms: on the recipe's runtime, one image, one thread.
        size_bytes: of the file.
        madds: multiply-accumulates.
        on_front: whether no other member has more accuracy on the pairs that decide, less latency
            and fewer bytes.
    """

    precision: str
    judged: float
    accuracy: float
    latency_ms: float
    size_bytes: int
    madds: int
    on_front: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A member before and after.

    Attributes:
        trial: of the run.
        folder: of its compression.
        reached: whether its recipe did all that was asked.
        before: the original on the recipe's runtime, in float32.
        after: the file to use.
    """

    trial: int
    folder: str
    reached: bool
    before: Standing
    after: Standing


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedFront:
    """The front before and after compression.

    Attributes:
        rows: of all members, in the order of the front.
        best_before: trial nearest to the ideal point before.
        best_after: trial nearest to the ideal point after.
    """

    rows: tuple[Row, ...]
    best_before: int
    best_after: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "members": [asdict(row) for row in self.rows],
            "best_before": self.best_before,
            "best_after": self.best_after,
        }


def front_members(folder: Path) -> list[int]:
    """Trials on the front of a run, cheapest first.

    Raises:
        ConfigError: it is no run, or its front is empty.
    """
    members = front_of(Run.open(folder)).members
    if members.empty:
        raise ConfigError(f"{folder}: its front is empty; search first: nas-face search")
    return [int(trial) for trial in members["trial"]]


def compressed_front(members: Sequence[Member]) -> CompressedFront:
    """Members side by side.

    The files were timed one after another, perhaps on different days; so they are timed once more
    here, each in turns with the plain original of the first member.

    Args:
        members: at least one, all of one recipe.

    Raises:
        DeployError: a file does not run.
    """
    reference = _steps(members[0]) / PLAIN_FILE
    reference_ms = measure_in_turns(reference, reference).reference_ms

    def timed(path: Path) -> float:
        return measure_in_turns(path, reference).ratio * reference_ms

    before = [(each.compression.results[0].first, timed(_original_file(each))) for each in members]
    after = [(each.compression.delivered[0], timed(_shipped_file(each))) for each in members]
    fronts = [_points(files) for files in (before, after)]
    standing = [pareto_front(points) for points in fronts]
    rows = tuple(
        Row(
            trial=each.trial,
            folder=str(each.folder),
            reached=each.compression.reached,
            before=_standing(
                *before[at], each.compression.results[0].madds, bool(standing[0][at])
            ),
            after=_standing(*after[at], each.compression.results[-1].madds, bool(standing[1][at])),
        )
        for at, each in enumerate(members)
    )
    best = [members[nearest_to_ideal(points)].trial for points in fronts]
    return CompressedFront(rows=rows, best_before=best[0], best_after=best[1])


def nearest_to_ideal(points: NDArray[np.float64]) -> int:
    """Place of the point nearest to the ideal one, axes scaled to the extent of the front.

    Args:
        points: `(N, M)`, small is good; N at least 1.
    """
    front = np.flatnonzero(pareto_front(points))
    losses = points[front]
    spread = losses.max(axis=0) - losses.min(axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    return int(front[int(np.argmin((scaled**2).sum(axis=1)))])


def _points(files: Sequence[tuple[FileResult, float]]) -> NDArray[np.float64]:
    return np.array([(-file.judged, latency_ms, file.size_bytes) for file, latency_ms in files])


def _standing(file: FileResult, latency_ms: float, madds: int, on_front: bool) -> Standing:
    return Standing(
        precision=file.precision,
        judged=file.judged,
        accuracy=file.accuracy,
        latency_ms=latency_ms,
        size_bytes=file.size_bytes,
        madds=madds,
        on_front=on_front,
    )


def _steps(member: Member) -> Path:
    return member.folder / "steps" / ORIGINAL_FOLDER


def _original_file(member: Member) -> Path:
    return _steps(member) / member.compression.results[0].first.file


def _shipped_file(member: Member) -> Path:
    file = member.compression.delivered[0]
    return member.folder / file_name(file.precision, file.runtime)
