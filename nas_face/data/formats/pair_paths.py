"""Pairs as lines of two paths and whether they show one identity."""

from pathlib import Path

from nas_face.data.formats.folders import IMAGE_SUFFIXES
from nas_face.data.formats.pair_lines import TRUTH, PairLine, list_lines, paths_pair, read_lines
from nas_face.data.listing import PairListing
from nas_face.errors import DataError

_FORMS = "a line is 'PATH1 PATH2 1' (0: different), or the digit first"


def list_pair_paths(pairs_file: Path, root: Path | None = None) -> PairListing:
    """List the pairs of a file with lines `PATH1 PATH2 SAME` or `SAME PATH1 PATH2`.

    SAME is 1 or 0. Blanks separate the three, or tabs where paths have blanks. All lines are of
    the first one's form.

    Args:
        pairs_file: the list.
        root: what its paths are relative to; the list's own folder by default.

    Returns:
        The pairs, without folds, and only the images that they use, each once.

    Raises:
        DataError: the list or an image is missing, or the list does not keep to the format.
    """
    root = pairs_file.parent if root is None else root
    lines = read_lines(pairs_file)
    order = _order(lines[0][1]) if lines else None
    if lines and order is None:
        raise DataError(f"{pairs_file}:{lines[0][0]}: {_FORMS}, got {lines[0][1].strip()!r}")
    pairs = [_pair(pairs_file, number, line, order) for number, line in lines if order]
    return list_lines(pairs_file, root, pairs, n_folds=None)


def are_pair_paths(line: str) -> bool:
    """Whether a list's first line is of this format and no other's."""
    return _order(line) is not None


def _order(line: str) -> tuple[int, int, int] | None:
    columns = _columns(line)
    if len(columns) != 3:
        return None
    if columns[2].lower() in TRUTH and all(_is_path(each) for each in columns[:2]):
        return 0, 1, 2
    if columns[0].lower() in TRUTH and all(_is_path(each) for each in columns[1:]):
        return 1, 2, 0
    return None


def _columns(line: str) -> list[str]:
    return [part.strip() for part in line.split("\t")] if "\t" in line.strip() else line.split()


def _is_path(column: str) -> bool:
    return "/" in column or "\\" in column or Path(column).suffix.lower() in IMAGE_SUFFIXES


def _pair(path: Path, number: int, line: str, order: tuple[int, int, int]) -> PairLine:
    columns = _columns(line)
    if len(columns) != 3:
        raise DataError(
            f"{path}:{number}: {_FORMS}, got {len(columns)} columns; tabs separate paths that "
            "have blanks"
        )
    return paths_pair(path, number, *(columns[column] for column in order))
