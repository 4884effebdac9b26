"""Writing a file so that a reader never meets half of it."""

import os
from pathlib import Path

from nas_face.errors import DeployError


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, then move it into place; a crash leaves the old file or the new.

    Args:
        path: target; missing parent folders are made.
        data: whole content.

    Raises:
        DeployError: the file cannot be written; nothing is left beside the target.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as failure:
        partial.unlink(missing_ok=True)
        raise DeployError(f"{path}: cannot be written ({failure.strerror})") from failure
