"""Files of a run that a crash leaves old or new, never half."""

import os
from pathlib import Path


def partial_of(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(path.name + ".partial")


def write_text(path: Path, text: str) -> None:
    """Write a file; a crash leaves the old one or the new one."""
    partial = partial_of(path)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
