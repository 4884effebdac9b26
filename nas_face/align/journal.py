"""OUT/aligned.csv: one line a photo, written as each is done."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self, final

import numpy as np

from nas_face.align.report import STATUSES, PhotoResult
from nas_face.errors import ConfigError

_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_BOX = ("box_x", "box_y", "box_width", "box_height")

COLUMNS = (
    *("source", "status", "crop", "n_faces", "score"),
    *_BOX,
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "reason",
)
"""Left and right are those of the image."""

_NUMBERS = slice(5, 19)


@final
class Journal:
    """The results in OUT, which another process could not lose by being killed.

    Lines are appended as photos are done, and put in order at the end.

    Args:
        out: folder of crops, there already.
        settings: of this run, such as the size of the crops; those of an earlier one must be the
            same, or crops of two kinds would be mixed.
        force: delete the crops of earlier runs, and begin anew.

    Raises:
        ConfigError: the folder holds files of something else, or crops made with other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, object], *, force: bool) -> None:
        self._path = out / "aligned.csv"
        notes = out / "aligned.json"
        if notes.exists():
            earlier = _settings_of(notes)
            if not force:
                _refuse_others(out, earlier, settings)
        elif any(not path.name.startswith(".") for path in out.iterdir()):
            raise ConfigError(
                f"{out}: the folder has files in it that no `nas-face data align` has made; "
                "choose an empty or a new one"
            )
        self.before = read_journal(self._path)
        """Results of earlier runs, by photo."""
        if force:
            for result in self.before.values():
                if result.crop is not None:
                    (out / result.crop).unlink(missing_ok=True)
            self.before = {}
            self._path.unlink(missing_ok=True)
        write_whole(notes, (json.dumps(dict(settings), indent=2) + "\n").encode())
        # Written anew, because the last line may be torn where a run was killed.
        _write_rows(self._path, self.before.values())

    def __enter__(self) -> Self:
        self._file = _open_text(self._path, "a")
        self._writer = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, result: PhotoResult) -> None:
        """Write one result down; it replaces an earlier one of the same photo."""
        self._writer.writerow(_row(result))
        self._file.flush()

    def finish(self) -> None:
        """Put the lines in order of the photos, one each."""
        _write_rows(self._path, read_journal(self._path).values())


def read_journal(path: Path) -> dict[str, PhotoResult]:
    """Results by photo, sorted; lines that are torn or not from here are left out."""
    try:
        with _open_text(path, "r") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    whole = text[: text.rfind("\n") + 1]
    results = {}
    # Lines with their ends, so that a quoted name may have a line end in it.
    for row in csv.reader(io.StringIO(whole, newline="")):
        result = _result(row)
        if result is not None:
            results[result.source] = result
    return dict(sorted(results.items()))


def write_whole(path: Path, data: bytes, partial: Path | None = None) -> None:
    """Write a file so that it is there in full or not at all.

    Args:
        path: the file.
        data: what it holds.
        partial: where it is until then, on the same file system; beside it by default.
    """
    partial = partial or path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    os.replace(partial, path)


def _row(result: PhotoResult) -> list[str]:
    numbers: list[float] = []
    if result.box is not None and result.landmarks is not None:
        numbers = [*result.box, *result.landmarks.ravel().tolist()]
    return [
        result.source,
        result.status,
        result.crop or "",
        str(result.n_faces),
        "" if result.score is None else f"{result.score:.4f}",
        *([f"{number:.2f}" for number in numbers] or [""] * (_NUMBERS.stop - _NUMBERS.start)),
        result.reason,
    ]


def _result(row: list[str]) -> PhotoResult | None:
    if len(row) != len(COLUMNS) or not row[3].isdigit():
        return None
    status = next((each for each in STATUSES if each == row[1]), None)
    crop = PurePosixPath(row[2])
    if status is None or crop.is_absolute() or ".." in crop.parts:
        return None
    try:
        score = float(row[4]) if row[4] else None
        numbers = [float(cell) for cell in row[_NUMBERS] if cell]
    except ValueError:
        return None
    box = landmarks = None
    if len(numbers) == _NUMBERS.stop - _NUMBERS.start:
        box = (numbers[0], numbers[1], numbers[2], numbers[3])
        landmarks = np.array(numbers[4:]).reshape(5, 2)
    return PhotoResult(
        source=row[0],
        status=status,
        crop=row[2] or None,
        n_faces=int(row[3]),
        score=score,
        box=box,
        landmarks=landmarks,
        reason=row[-1],
    )


def _write_rows(path: Path, results: Iterable[PhotoResult]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_row, results))
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _open_text(path: Path, mode: str) -> io.TextIOWrapper:
    # File names need not be UTF-8; surrogateescape brings their bytes through.
    file = path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
    assert isinstance(file, io.TextIOWrapper)
    return file


def _settings_of(notes: Path) -> dict[str, object]:
    try:
        found = json.loads(notes.read_bytes())
    except ValueError as error:
        raise ConfigError(
            f"{notes}: not the settings that `nas-face data align` writes: {error}"
        ) from error
    return found if isinstance(found, dict) else {}


def _refuse_others(
    out: Path, earlier: Mapping[str, object], settings: Mapping[str, object]
) -> None:
    for key, value in settings.items():
        if earlier.get(key) != value:
            raise ConfigError(
                f"{out}: its crops were made with {key.replace('_', ' ')} {earlier.get(key)}, and "
                f"{value} is asked; choose another folder, or --force to make all crops again"
            )
