"""Deployment targets by name or file."""

from pathlib import Path

from nas_face.errors import SpaceError, near_names
from nas_face.shipped import find_file, shipped_files
from nas_face.space.target import Target, load_target


def find_target(name: str, beside: Path | None = None) -> Target:
    """The target that a user means: a shipped one by its name, or a file.

    Args:
        name: as typed.
        beside: the file in which it stands, if it stands in one.

    Raises:
        SpaceError: there is none, or its file is broken.
    """
    return load_target(find_target_file(name, beside))


def find_target_file(name: str, beside: Path | None = None) -> Path:
    """The file of `find_target`.

    Raises:
        SpaceError: there is none.
    """
    path = find_file(name, beside) or find_file(f"targets/{name}.yaml")
    if path is None:
        known = [each.stem for each in shipped_files("targets", ".yaml")]
        raise SpaceError(f"{name}: no such target; {near_names(name, known)}")
    return path
