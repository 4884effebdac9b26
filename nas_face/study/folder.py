"""The files with which a run folder begins, and the lock under which they are written."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from nas_face.errors import ConfigError
from nas_face.study.config import StudyConfig
from nas_face.study.layout import (
    LOCK_FILE,
    SPACE_FILE,
    STORAGE_URL_FILE,
    STUDY_FILE,
    TARGET_FILE,
)

PARTIAL = ".partial"
LOCK_S = 60
_COPIES = (SPACE_FILE, TARGET_FILE, STUDY_FILE, STORAGE_URL_FILE)
_FILES_AT_START = (LOCK_FILE, *_COPIES, *(name + PARTIAL for name in _COPIES))


def has_begun(folder: Path) -> bool:
    """Whether a folder holds more than the files with which a run starts."""
    return folder.is_dir() and any(each.name not in _FILES_AT_START for each in folder.iterdir())


def write_files(folder: Path, config: StudyConfig, storage_url: str | None) -> None:
    """Write the files with which a run starts; the study last, since it makes the folder one.

    Args:
        folder: of the run.
        config: the study.
        storage_url: where the trials are, if not in the folder; without a password.
    """
    _write(folder / SPACE_FILE, Path(config.space).read_bytes())
    if config.target is not None:
        _write(folder / TARGET_FILE, Path(config.target).read_bytes())
    if storage_url is not None:
        _write(folder / STORAGE_URL_FILE, f"{storage_url}\n".encode())
    _write(folder / STUDY_FILE, f"{json.dumps(config.to_data(), indent=1)}\n".encode())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the files of a run folder, for the moment that it takes to write them.

    Raises:
        ConfigError: another process does not let go of them.
    """
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=LOCK_S)
    except filelock.Timeout as failure:
        raise ConfigError(
            f"{folder}: another process has held its files for {LOCK_S} seconds; end that one, or "
            "choose another folder with --out"
        ) from failure
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, content: bytes) -> None:
    """In one step, so that others read the old file or the new one."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_bytes(content)
    os.replace(partial, path)
