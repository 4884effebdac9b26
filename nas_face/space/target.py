"""Deployment targets: files that say what a runtime or a chip runs badly or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from nas_face.arch.features import FEATURES
from nas_face.errors import SpaceError, near_names
from nas_face.space.loader import read_yaml

KEYS = ("name", "description", "avoid", "slow")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a deployment target lacks, by names of `nas_face.arch.features.FEATURES`.

    Attributes:
        name: short name.
        description: one line for people.
        avoid: features that it does not run at all, or only at a price that rules them out.
        slow: features that it runs, but poorly.
    """

    name: str
    description: str
    avoid: frozenset[str]
    slow: frozenset[str]

    def refused(self, *, allow_slow: bool = False) -> frozenset[str]:
        """Features that no design for this target has.

        Args:
            allow_slow: whether what runs poorly is offered all the same.
        """
        return self.avoid if allow_slow else self.avoid | self.slow


def load_target(path: Path) -> Target:
    """Read a target.

    Args:
        path: YAML file with the keys `name`, `description`, `avoid` and `slow`.

    Raises:
        SpaceError: the file cannot be read or breaks a rule; one line, with the file's name.
    """
    raw = read_yaml(path)
    try:
        return _target(raw)
    except SpaceError as failure:
        raise SpaceError(f"{path}: {failure}") from failure


def _target(raw: Mapping[str, Any]) -> Target:
    for key in raw:
        if key not in KEYS:
            raise SpaceError(f"{key} is not a known key; {near_names(str(key), KEYS)}")
    if not isinstance(raw.get("name"), str):
        raise SpaceError(f"name: expected a word, got {raw.get('name')!r}")
    avoid, slow = (_features(raw.get(key), key) for key in ("avoid", "slow"))
    if avoid & slow:
        raise SpaceError(f"{min(avoid & slow)} is in both lists; what is avoided is not slow")
    return Target(
        name=raw["name"],
        description=" ".join(str(raw.get("description") or "").split()),
        avoid=avoid,
        slow=slow,
    )


def _features(raw: object, key: str) -> frozenset[str]:
    if raw is None:
        return frozenset()
    if not isinstance(raw, list):
        raise SpaceError(f"{key}: expected a list of features, got {raw!r}")
    for name in raw:
        if not isinstance(name, str) or name not in FEATURES:
            raise SpaceError(f"{key}: no feature {name!r}; {near_names(str(name), FEATURES)}")
    return frozenset(raw)
