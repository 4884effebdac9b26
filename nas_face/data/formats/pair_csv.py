"""Pairs in a CSV file."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from nas_face.data.decoding import decode_pairs
from nas_face.data.formats.pair_lines import TRUTH, PairLine, list_lines, paths_pair, read_text
from nas_face.data.listing import PairListing
from nas_face.data.pairs import PairList
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.errors import DataError

_ROLES = ("first", "second", "same")
_COLUMN_NAMES = {
    **dict.fromkeys(("first", "file1", "filename1", "image1", "img1", "path1"), "first"),
    **dict.fromkeys(("second", "file2", "filename2", "image2", "img2", "path2"), "second"),
    **dict.fromkeys(("same", "issame", "label", "match"), "same"),
    "fold": "fold",
    **dict.fromkeys(("firstidentity", "identity1"), "first_identity"),
    **dict.fromkeys(("secondidentity", "identity2"), "second_identity"),
}  # compared in lower case, without blanks, _ and -
_DELIMITERS = ",;\t"
_MAX_DIGITS = 9  # of a fold's number


def list_pair_csv(pairs_file: Path, root: Path | None = None) -> PairListing:
    """List the pairs of a CSV file with the columns `first,second,same`.

    `first` and `second` are paths relative to `root`, `same` is 1 or 0, true or false, yes or no.
    The columns may stand in any order, and may be called `file1`, `path1`, `image1` or `img1` and
    so on, and `issame`, `label` or `match`. A column `fold` of whole numbers puts the pairs into
    folds; columns `first_identity` and `second_identity` say who is shown, which else is taken to
    be the image's folder. The pairs go by `same` alone. Other columns are not looked at.

    Without a line of names a line is the first three columns in the order above, or `same` first.
    Commas, semicolons or tabs separate them, whichever the first line has.

    Args:
        pairs_file: the list.
        root: what its paths are relative to; the list's own folder by default.

    Returns:
        The pairs, by fold, and only the images that they use, each once.

    Raises:
        DataError: the list or an image is missing, folds are not of one size, or the list does not
            keep to the format.
    """
    rows = list(_rows(pairs_file))
    n_folds = _n_folds(pairs_file, rows)
    if n_folds is not None:
        rows.sort(key=lambda row: int(row.fold))
    return list_lines(
        pairs_file,
        pairs_file.parent if root is None else root,
        [row.pair for row in rows],
        n_folds=n_folds,
        identity_of=_identities(pairs_file, rows),
    )


def write_pair_csv(listing: PairListing, files: Sequence[str], path: Path) -> None:
    """Write pairs as a CSV file that `list_pair_csv` reads back, folds and identities with them.

    Args:
        listing: the pairs.
        files: of each image, its path relative to the list's folder, or absolute.
        path: the list.
    """
    columns = [*_ROLES, "first_identity", "second_identity"]
    folds: list[int] = []
    if listing.n_folds is not None:
        columns.append("fold")
        runs = np.array_split(np.arange(len(listing.same)), listing.n_folds)
        folds = [fold for fold, run in enumerate(runs, start=1) for _ in run]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        rows = zip(listing.first.tolist(), listing.second.tolist(), listing.same, strict=True)
        for number, (first, second, same) in enumerate(rows):
            identities = (listing.identities[first], listing.identities[second])
            fold = folds[number : number + 1]
            writer.writerow([files[first], files[second], int(same), *identities, *fold])


def load_pair_csv(
    pairs_file: Path,
    root: Path | None = None,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> PairList:
    """List pairs by `list_pair_csv` and decode them by `decode_pairs`, whose arguments these are.

    Raises:
        DataError: see there.
    """
    return decode_pairs(
        list_pair_csv(pairs_file, root), height=height, width=width, cache_bytes=cache_bytes
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    pair: PairLine
    fold: str
    first_identity: str
    second_identity: str


def _rows(path: Path) -> Iterator[_Row]:
    text = read_text(path)
    top = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = next((each for each in _DELIMITERS if each in top.strip()), ",")
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=delimiter
    )
    roles: tuple[str, ...] = ()
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if not roles:
                roles, has_names = _roles(path, reader.line_num, row)
                if has_names:
                    continue
            if len(row) != len(roles):
                raise DataError(
                    f"{path}:{reader.line_num}: a line is {len(roles)} columns like the first, "
                    f"got {len(row)} columns"
                )
            yield _row(path, reader.line_num, dict(zip(roles, row, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error
    if not roles:
        raise _no_header(path, 1, [])


def _row(path: Path, number: int, cells: dict[str, str]) -> _Row:
    pair = paths_pair(path, number, cells["first"], cells["second"], cells["same"])
    fold = cells.get("fold", "")
    if "fold" in cells and not (fold.isdecimal() and len(fold) <= _MAX_DIGITS):
        raise DataError(f"{path}:{number}: fold must be a whole number, got {fold!r}")
    first_identity, second_identity = (
        cells.get(f"{each}_identity", "") for each in ("first", "second")
    )
    return _Row(
        pair=pair, fold=fold, first_identity=first_identity, second_identity=second_identity
    )


def _roles(path: Path, number: int, row: list[str]) -> tuple[tuple[str, ...], bool]:
    """What each column is, "" for none of ours, and whether this line says so by names."""
    names = ["".join(name.lower().replace("_", " ").replace("-", " ").split()) for name in row]
    roles = tuple(_COLUMN_NAMES.get(name, "") for name in names)
    if all(roles.count(role) == 1 for role in _ROLES):
        return roles, True
    # A name that some list takes for a truth, such as `1`, could also be a file's: both ends so
    # called tell nothing.
    truths = [cell.lower() in TRUTH for cell in row]
    if not any(roles) and truths == [False, False, True]:
        return _ROLES, False
    if not any(roles) and truths == [True, False, False]:
        return ("same", "first", "second"), False
    raise _no_header(path, number, row)


def _no_header(path: Path, number: int, row: list[str]) -> DataError:
    return DataError(
        f"{path}:{number}: the first line must be 'first,second,same', got {','.join(row)!r}; "
        "columns may be named otherwise (file1, file2, label), or be three without names"
    )


def _n_folds(path: Path, rows: list[_Row]) -> int | None:
    sizes = Counter(int(row.fold) for row in rows if row.fold)
    if len(sizes) < 2:
        return None
    # The protocol cuts the list into runs of one size, the first ones longer by one.
    size, n_longer = divmod(len(rows), len(sizes))
    for place, fold in enumerate(sorted(sizes)):
        expected = size + (place < n_longer)
        if sizes[fold] != expected:
            raise DataError(
                f"{path}: {len(sizes)} folds of {len(rows)} pairs must be of one size, fold "
                f"{fold} has {sizes[fold]} and must have {expected}"
            )
    return len(sizes)


def _identities(path: Path, rows: list[_Row]) -> dict[str, str]:
    known: dict[str, str] = {}
    for row in rows:
        said = ((row.pair.first, row.first_identity), (row.pair.second, row.second_identity))
        for image, identity in said:
            if identity and known.setdefault(image, identity) != identity:
                raise DataError(
                    f"{path}:{row.pair.line}: {image} is said to show {identity!r}, and above "
                    f"{known[image]!r}"
                )
    return known
