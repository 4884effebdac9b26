"""Pairs in a CSV file."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from nas_face.data.pair_lines import PairLine, decode_pairs, read_text
from nas_face.data.pairs import PairList
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.errors import DataError

_COLUMNS = ["first", "second", "same"]
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def load_pair_csv(
    pairs_file: Path,
    root: Path | None = None,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> PairList:
    """Load a CSV file with the columns `first,second,same`.

    `first` and `second` are paths relative to `root`, `same` is 1 or 0, true or false, yes or no.
    The pairs are dealt to 10 folds of equal composition. An image's identity is taken to be its
    folder; the pairs go by `same` alone.

    Args:
        pairs_file: the list.
        root: what its paths are relative to; the list's own folder by default.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        cache_bytes: see `load_folder`.

    Returns:
        The pairs, and only the images that they use, each once.

    Raises:
        DataError: the list or an image is missing or broken, or the list does not keep to the
            format.
    """
    return decode_pairs(
        pairs_file,
        pairs_file.parent if root is None else root,
        list(_pairs(pairs_file)),
        n_folds=None,
        height=height,
        width=width,
        cache_bytes=cache_bytes,
    )


def _pairs(path: Path) -> Iterator[PairLine]:
    reader = csv.reader(io.StringIO(read_text(path)), strict=True, skipinitialspace=True)
    try:
        header = next(reader, [])
        if [column.strip().lower() for column in header] != _COLUMNS:
            raise DataError(
                f"{path}:1: the first line must be 'first,second,same', got {','.join(header)!r}"
            )
        for row in reader:
            if any(cell.strip() for cell in row):
                yield _pair(path, reader.line_num, [cell.strip() for cell in row])
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


def _pair(path: Path, number: int, row: list[str]) -> PairLine:
    if len(row) != 3:
        raise DataError(f"{path}:{number}: a line is 'first,second,same', got {len(row)} columns")
    first, second = (cell.replace("\\", "/") for cell in row[:2])
    if not first or not second:
        raise DataError(f"{path}:{number}: an image has no name; a line is 'first,second,same'")
    if first == second:
        raise DataError(f"{path}:{number}: an image is paired with itself, {first}")
    same = _TRUTH.get(row[2].lower())
    if same is None:
        raise DataError(f"{path}:{number}: same must be 1 or 0, got {row[2]!r}")
    return PairLine(line=number, first=first, second=second, same=same)
