"""Whether a run may be taken up by a study: only its number of trials may differ."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_face.errors import ConfigError
from nas_face.study.config import BUILT_IN_DATA, StudyConfig
from nas_face.study.layout import SPACE_FILE, TARGET_FILE

OF_A_MACHINE = (
    "data.source",
    "data.exclude",
    "data.attributes",
    "start_with",
    "training.teacher.model",
    "full_training.teacher.model",
)
"""Keys that may differ between the machines of one run."""


def require_same(folder: Path, old: StudyConfig, new: StudyConfig) -> None:
    """Check that a run folder holds a run of this very study.

    Args:
        folder: of the run.
        old: study of the run.
        new: study that the user asks for.

    Raises:
        ConfigError: they differ in more than the number of trials; the first difference is named.
    """
    was, now = _flat(old.to_data()), _flat(new.to_data())
    for data, config in ((was, old), (now, new)):
        data.pop("trials", None)
        data.pop("space", None)
        data["target"] = "target" in data
        # What a run started with is kept in its storage; by now the paths may lead nowhere.
        data["start_with"] = [Path(name).name for name in config.start_with]
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            raise ConfigError(
                f"{folder}: holds a run of another study: {key} was {was.get(key, 'not set')}, "
                f"now {now.get(key, 'not set')}; choose another folder with --out"
            )
    copies = {"space": (SPACE_FILE, new.space), "target": (TARGET_FILE, new.target)}
    for what, (copy, name) in copies.items():
        if name is not None and (folder / copy).read_bytes() != Path(name).read_bytes():
            raise ConfigError(
                f"{folder}: holds a run of another study: the {what} {name} has changed since; "
                "choose another folder with --out"
            )


def record_of(config: StudyConfig) -> dict[str, Any]:
    """What must be the same on all machines that share a storage; files by their digests."""
    data = _flat(config.to_data())
    for key in ("trials", *OF_A_MACHINE):
        data.pop(key, None)
    data["data"] = "built in" if config.data.sources == (BUILT_IN_DATA,) else "a folder"
    files = {"space": config.space, "target": config.target, "attributes": config.data.attributes}
    for key, name in files.items():
        if name is not None:
            data[key] = hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
    record: dict[str, Any] = json.loads(json.dumps(data))  # as the storage gives it back
    return record


def require_same_record(where: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a storage holds this very study under its name.

    Args:
        where: for the message.
        was: record of the study in the storage.
        now: record of the study that the user asks for.

    Raises:
        ConfigError: they differ; the first difference is named.
    """
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            raise ConfigError(
                f"{where} is another study there: {key} was {was.get(key, 'not set')}, now "
                f"{now.get(key, 'not set')}; give this one another name, or another storage"
            )


def _flat(data: object, path: str = "") -> dict[str, object]:
    if not isinstance(data, dict):
        return {path: data}
    flat: dict[str, object] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{path}.{key}" if path else key))
    return flat
