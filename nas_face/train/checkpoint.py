"""Checkpoints of a training: tensors and plain numbers only, replaced in one step."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nas_face.errors import BuildError


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values; a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # Serialised in memory first: torch reports a full disk in ways of its own.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    partial.write_bytes(buffer.getbuffer())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; never runs code from the file.

    Raises:
        BuildError: the file is unreadable or holds something else than tensors and numbers.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as failure:  # torch raises many types for a broken file
        reason = " ".join(str(failure).split())[:200]
        raise BuildError(
            f"{path}: not a readable checkpoint ({reason}); delete it to start over"
        ) from failure
    if not isinstance(state, dict):
        raise BuildError(f"{path}: not a checkpoint, but {type(state).__name__}; delete it")
    return state
