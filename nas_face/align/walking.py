"""Which photos a folder holds, and how their crops are called."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import final

from nas_face.data.formats.folders import IMAGE_SUFFIXES
from nas_face.errors import DataError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPhotos:
    """What a folder of photos holds.

    Args:
        names: photos relative to the folder, with forward slashes, sorted.
        unlisted: folders in it that cannot be read -> why.
        ignored: files with other endings, by ending.
    """

    names: tuple[str, ...]
    unlisted: Mapping[str, str]
    ignored: Mapping[str, int]


def find_photos(root: Path) -> FoundPhotos:
    """List the photos of a folder and of those in it, at any depth.

    Names that begin with a dot are not looked at. Links are followed, unless to a folder that the
    link lies in; a photo that links to nothing is listed, so that it is reported as broken.

    Raises:
        DataError: `root` is missing, not a folder, cannot be listed or has no photo.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"{root}: {what}; a folder of photos is needed")
    walk = _Walk(root)
    walk.enter(root, ())
    if "." in walk.unlisted:
        raise DataError(f"{root}: cannot be listed: {walk.unlisted['.']}")
    if not walk.names and not walk.unlisted:
        others = ", ".join(f"{n} {suffix}" for suffix, n in sorted(walk.ignored.items()))
        seen = f"; other files: {others}" if others else ""
        raise DataError(
            f"{root}: no photo in it, at any depth (known endings: "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}){seen}"
        )
    return FoundPhotos(
        names=tuple(sorted(walk.names)), unlisted=walk.unlisted, ignored=dict(walk.ignored)
    )


@final
@dataclass(slots=True)
class _Walk:
    root: Path
    names: list[str] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    def enter(self, folder: Path, inside: tuple[Path, ...]) -> None:
        here = folder.resolve()
        if here in inside:  # a link upwards
            return
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.unlisted[self._name(folder)] = f"the folder cannot be listed: {error.strerror}"
            return
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                self.enter(path, (*inside, here))
            elif path.suffix.lower() not in IMAGE_SUFFIXES:
                self.ignored[path.suffix.lower() or "(none)"] += 1
            elif path.is_file() or not path.exists():  # no pipe or device
                self.names.append(self._name(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def crop_names(photos: Iterable[str], known: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Name the crop of each photo: its own path with another ending.

    Where two photos differ by nothing but their ending or by upper case, which some file systems
    do not tell apart, the second is `NAME_ENDING`, then `NAME_ENDING_2`, and so on.

    Args:
        photos: paths relative to the folder of photos, with forward slashes.
        known: photo -> crop of an earlier run, kept.
        suffix: ending of the crops, such as `.jpg`.

    Returns:
        Photo -> crop, both relative; no crop twice, ignoring case.
    """
    named = {photo: known[photo] for photo in photos if photo in known}
    taken = {crop.casefold() for crop in known.values()}
    for photo in photos:
        if photo in named:
            continue
        path = PurePosixPath(photo)
        ending = f"{path.stem}_{path.suffix.removeprefix('.').lower()}"
        stem, number = path.stem, 1
        while (crop := path.with_name(stem + suffix).as_posix()).casefold() in taken:
            stem = ending if number == 1 else f"{ending}_{number}"
            number += 1
        named[photo] = crop
        taken.add(crop.casefold())
    return named
