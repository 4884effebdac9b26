"""Which tars a path means: one, those of a folder, or those of a pattern."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from nas_face.errors import DataError

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_COUNTER = re.compile(r"%0?(\d{0,2})d")


def is_pattern(path: Path) -> bool:
    """Whether a path names several tars, as `shards-{000..009}.tar` or `shards-%06d.tar` does."""
    return path.suffix.lower() == ".tar" and bool(
        _RANGE.search(path.name) or _COUNTER.search(path.name)
    )


def has_counter(path: Path) -> bool:
    """Whether tars are numbered, as by `shards-%06d.tar`."""
    return _COUNTER.search(path.name) is not None


def counted_tars(path: Path) -> list[Path]:
    """The tars that are there of those that `write_tars` would write, counted from 0."""
    if not has_counter(path):
        return [path] if path.exists() else []
    shards = (numbered_tar(path, number) for number in itertools.count())
    return list(itertools.takewhile(Path.exists, shards))


def tars_of(path: Path) -> Iterator[Path]:
    """The tars of a path, in their order.

    Raises:
        DataError: one is missing.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() == ".tar")
        if not found:
            raise DataError(f"{path}: no .tar in this folder")
        yield from found
    elif path.exists() or not is_pattern(path):
        yield path
    elif _RANGE.search(path.name):
        for name in _expand(path.name):
            shard = path.with_name(name)
            if not shard.exists():  # before the next one: a range may be of any length
                raise DataError(f"{shard}: there is no such tar")
            yield shard
    else:
        found = counted_tars(path)
        if not found:
            raise DataError(f"{numbered_tar(path, 0)}: there is no such tar")
        yield from found


def numbered_tar(path: Path, number: int) -> Path:
    """Number `number`, from 0, of the tars that a path with a counter means."""

    def digits(counter: re.Match[str]) -> str:
        return str(number).zfill(int(counter.group(1) or 0))

    return path.with_name(_COUNTER.sub(digits, path.name, count=1))


def _expand(name: str) -> Iterator[str]:
    span = _RANGE.search(name)
    if span is None:
        yield name
        return
    low, high = span.groups()
    if int(low) > int(high):
        raise DataError(f"{name}: the numbers of a range go up, got {span.group()}")
    for number in range(int(low), int(high) + 1):
        yield from _expand(name[: span.start()] + str(number).zfill(len(low)) + name[span.end() :])
