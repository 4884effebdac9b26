"""Writing so that a reader never meets half of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_face.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; at the end it is moved into
    place.

    What lay at `path` is replaced then, a folder with all that is in it. If the block fails,
    `path` is as it was, and nothing is left beside it.

    Args:
        path: target; missing parent folders are made.

    Raises:
        DataError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if path.is_dir() and not path.is_symlink():
            _swap_folder(partial, path)
        else:
            os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(partial)


def _swap_folder(partial: Path, path: Path) -> None:
    """A full folder cannot be replaced in one step: move it aside first, back if that fails."""
    aside = partial.with_suffix(".old")
    os.rename(path, aside)
    try:
        os.rename(partial, path)
    except OSError:
        os.rename(aside, path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
