"""A list of pairs in whichever format it comes."""

from pathlib import Path

from nas_face.data.lfw_pairs import load_lfw_pairs
from nas_face.data.pair_csv import load_pair_csv
from nas_face.data.pair_lines import read_lines
from nas_face.data.pairs import PairList
from nas_face.data.pixels import DEFAULT_CACHE_BYTES


def load_pairs(
    path: Path,
    root: Path | None = None,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> PairList:
    """Load a list of pairs in either format, told apart by the ending `.csv` or by commas.

    Args:
        path: the list.
        root: the folder that its image names start from; the list's own folder by default.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        cache_bytes: see `load_folder`.

    Returns:
        What `load_pair_csv` or `load_lfw_pairs` returns.

    Raises:
        DataError: see there.
    """
    lines = read_lines(path)
    is_csv = path.suffix.lower() == ".csv" or (bool(lines) and "," in lines[0][1])
    load = load_pair_csv if is_csv else load_lfw_pairs
    return load(
        path,
        path.parent if root is None else root,
        height=height,
        width=width,
        cache_bytes=cache_bytes,
    )
