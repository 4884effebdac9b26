"""Checkpoints of a training: tensors and plain numbers only, replaced in one step, in rotation."""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

_SUFFIX: Final = ".safetensors"
_TENSOR: Final = "tensor"  # stands in the plain part where a tensor was

_LOG = logging.getLogger(__name__)

State = dict[str, Any]
"""Nested mappings with strings or integers as keys, and sequences; in them tensors, numbers,
strings and None."""


@final
class Checkpoints:
    """A folder of checkpoints, of which the newest few are kept.

    A checkpoint is one safetensors file, so reading it runs no code. It is written beside its
    place and moved there in one step: a crash or a full disk leaves the ones before as they are.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many are kept, at least 1.
        every_s: seconds from one to the next within an epoch; the end of an epoch always makes
            one.
    """

    def __init__(self, folder: Path, *, keep: int = 2, every_s: float = 120.0) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = folder
        self.keep = keep
        self.every_s = every_s
        self._written_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for another."""
        return time.monotonic() - self._written_at >= self.every_s

    def save(self, step: int, state: State) -> None:
        """Write the state after `step` steps; older checkpoints beyond `keep` go.

        Those of later steps go as well: they are broken, or of another training.

        Raises:
            OSError: the disk is full or the folder cannot be written to; older checkpoints stay.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}{_SUFFIX}"
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_bytes(_to_bytes(state))
            os.replace(partial, path)
        except OSError as failure:
            partial.unlink(missing_ok=True)
            failure.filename = failure.filename or str(path)  # writing names no file
            raise
        files = self._files()
        position = files.index(path)
        for other in (*files[:position], *files[position + self.keep :]):
            other.unlink(missing_ok=True)
        self._written_at = time.monotonic()

    def latest(self, identity: str) -> State | None:
        """The newest readable state of the training of this `identity`; None where there is none.

        A file that is broken is passed over with a warning, and one of another training without.
        """
        for path in self._files():
            state = _read(path)
            if state is not None and state.get("identity") == identity:
                return state
        return None

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if nothing else is in it."""
        for path in (*self._files(), *self.folder.glob(f"step-*{_SUFFIX}.partial")):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob(f"step-*{_SUFFIX}"), reverse=True)


def _to_bytes(state: State) -> bytes:
    tensors: dict[str, torch.Tensor] = {}
    plain = _parted(state, "", tensors)
    return bytes(to_bytes(tensors, metadata={"state": json.dumps(plain)}))


def _parted(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The plain part of a value; tensors go into `tensors` under their path."""
    match value:
        case torch.Tensor():
            # A copy: tensors that share memory cannot go into one file.
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {_TENSOR: path}
        case Mapping():
            items = [(key, _parted(each, f"{path}/{key}", tensors)) for key, each in value.items()]
            return {"items": items}
        case list() | tuple():
            return [_parted(each, f"{path}/{at}", tensors) for at, each in enumerate(value)]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} ({path})")


def _read(path: Path) -> State | None:
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            state = _joined(plain, file.get_tensor)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as failure:
        reason = " ".join(str(failure).split())[:200]
        _LOG.warning("%s: not a readable checkpoint (%s); passed over", path, reason)
        return None
    return state if isinstance(state, dict) else None


def _joined(value: Any, tensor: Any) -> Any:
    match value:
        case {"tensor": name}:
            return tensor(name)
        case {"items": items}:
            return {key: _joined(each, tensor) for key, each in items}
        case list():
            return [_joined(each, tensor) for each in value]
    return value
