"""Whether a run folder may be taken up by a study: only its number of trials may differ."""

from pathlib import Path

from nas_face.errors import ConfigError
from nas_face.study.config import StudyConfig
from nas_face.study.layout import SPACE_FILE, TARGET_FILE


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
    for data in (was, now):
        data.pop("trials", None)
        data.pop("space", None)
        data["target"] = "target" in data
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


def _flat(data: object, path: str = "") -> dict[str, object]:
    if not isinstance(data, dict):
        return {path: data}
    flat: dict[str, object] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{path}.{key}" if path else key))
    return flat
