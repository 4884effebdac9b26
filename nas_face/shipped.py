"""Files that come with nas-face: search spaces, studies and recipes.

In a checkout they lie beside the package, in an installed wheel inside it.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOTS = (PACKAGE / "_shipped", PACKAGE.parent)


def shipped_files(folder: str, suffix: str) -> list[Path]:
    """Files of a shipped folder, sorted.

    Args:
        folder: `search_spaces` or `studies`.
        suffix: such as `.yaml`.
    """
    for root in ROOTS:
        if (root / folder).is_dir():
            return sorted((root / folder).glob(f"**/*{suffix}"))
    return []


def find_file(name: str, beside: Path | None = None) -> Path | None:
    """The file that a user means by a path.

    A path that exists is taken as it is; then one relative to the file that mentions it; then the
    shipped file of that path, so that `studies/quickstart.yaml` works in an empty folder.

    Args:
        name: the path as typed.
        beside: the file in which the path stands, if it stands in one.

    Returns:
        An existing file, or none.
    """
    tries = [Path(name)]
    if beside is not None:
        tries.append(beside.parent / name)
    tries += [root / name for root in ROOTS]
    return next((path for path in tries if path.is_file()), None)
