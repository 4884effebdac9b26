"""Pairs in the format of LFW's pairs.txt."""

from pathlib import Path

from nas_face.data.decoding import decode_pairs
from nas_face.data.formats.pair_lines import (
    PairLine,
    is_file,
    list_lines,
    read_lines,
    refuse_line_breaks,
)
from nas_face.data.listing import PairListing
from nas_face.data.pairs import PairList
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.errors import DataError

_SUFFIXES = (".jpg", ".png", ".jpeg")
_FORMS = "a line is 'NAME i j' or 'NAME1 i NAME2 j', separated by tabs"
_MAX_DIGITS = 9  # of an image's number; more is no number of an image


def list_lfw_pairs(pairs_file: Path, root: Path) -> PairListing:
    """List the pairs of a file in the format of LFW's pairs.txt.

    A line `NAME i j` pairs images i and j of one identity, a line `NAME1 i NAME2 j` images of two;
    image i of NAME is `root/NAME/NAME_000i.jpg` (or .png, .jpeg). A first line `n_folds
    n_per_fold` promises that each fold is n_per_fold same pairs and as many different ones; both
    that and the order are then kept. A list without it, or with `n_per_fold` alone (LFW's
    development lists, one fold), has no folds.

    Args:
        pairs_file: the list.
        root: the folder with one folder for each identity.

    Returns:
        The pairs, and only the images that they use, each once.

    Raises:
        DataError: the list or an image is missing, or the list does not keep to the format.

    Source:
        Huang et al., "Labeled Faces in the Wild", 2007: README of the data set, "pairs.txt
        format".
    """
    lines = read_lines(pairs_file)
    header = _header(lines[0][1]) if lines else None
    pairs = [_pair(pairs_file, *line) for line in (lines[1:] if header else lines)]
    n_folds = None
    if header:
        n_folds = _check_header(pairs_file, header, pairs)
    return list_lines(pairs_file, root, _with_suffixes(root, pairs), n_folds=n_folds)


def load_lfw_pairs(
    pairs_file: Path,
    root: Path,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> PairList:
    """List pairs by `list_lfw_pairs` and decode them by `decode_pairs`, whose arguments these are.

    Raises:
        DataError: see there.
    """
    return decode_pairs(
        list_lfw_pairs(pairs_file, root), height=height, width=width, cache_bytes=cache_bytes
    )


def _columns(line: str) -> list[str]:
    return [part.strip() for part in line.split("\t")] if "\t" in line.strip() else line.split()


def _header(line: str) -> tuple[int, ...] | None:
    columns = _columns(line)
    if len(columns) <= 2 and all(
        column.isdecimal() and len(column) <= _MAX_DIGITS for column in columns
    ):
        return tuple(int(column) for column in columns)
    return None


def _pair(path: Path, number: int, line: str) -> PairLine:
    columns = _columns(line)
    if len(columns) not in (3, 4):
        raise DataError(f"{path}:{number}: {_FORMS}, got {len(columns)} columns")
    same = len(columns) == 3
    names = (columns[0], columns[0]) if same else (columns[0], columns[2])
    indices = (columns[1], columns[-1])
    for index in indices:
        if not index.isdecimal() or len(index) > _MAX_DIGITS or int(index) < 1:
            raise DataError(
                f"{path}:{number}: images are counted by whole numbers from 1, got {index!r}; "
                f"{_FORMS}"
            )
    if not all(names):
        raise DataError(f"{path}:{number}: an identity has no name; {_FORMS}")
    refuse_line_breaks(path, number, *names)
    if not same and names[0] == names[1]:
        raise DataError(
            f"{path}:{number}: a line of 4 columns pairs two identities, got {names[0]} twice; "
            f"write '{names[0]} {indices[0]} {indices[1]}' for one"
        )
    first, second = (
        f"{name}/{name}_{int(index):04d}" for name, index in zip(names, indices, strict=True)
    )
    if first == second:
        raise DataError(f"{path}:{number}: an image is paired with itself, {first}")
    return PairLine(line=number, first=first, second=second, same=same)


def _check_header(path: Path, header: tuple[int, ...], pairs: list[PairLine]) -> int | None:
    n_folds, n_per_fold = header if len(header) == 2 else (1, header[0])
    promised = 2 * n_folds * n_per_fold
    if promised != len(pairs) or not pairs:
        raise DataError(
            f"{path}:1: the header promises {n_folds} folds of {n_per_fold} same and {n_per_fold} "
            f"different pairs, {promised} in all, found {len(pairs)}"
        )
    for fold in range(n_folds):
        part = pairs[2 * n_per_fold * fold : 2 * n_per_fold * (fold + 1)]
        n_same = sum(pair.same for pair in part)
        if n_same != n_per_fold:
            raise DataError(
                f"{path}:{part[0].line}: fold {fold + 1} must have {n_per_fold} same pairs as the "
                f"header says, found {n_same} of {len(part)}"
            )
    return n_folds if n_folds > 1 else None


def _with_suffixes(root: Path, pairs: list[PairLine]) -> list[PairLine]:
    """Complete each name by the suffix that is there, or by the usual one, to be missed later."""
    found: dict[str, str] = {}
    for name in {name for pair in pairs for name in (pair.first, pair.second)}:
        there = (name + suffix for suffix in _SUFFIXES if is_file(root / f"{name}{suffix}"))
        found[name] = next(there, name + _SUFFIXES[0])
    return [
        PairLine(
            line=pair.line, first=found[pair.first], second=found[pair.second], same=pair.same
        )
        for pair in pairs
    ]
