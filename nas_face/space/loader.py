"""Search spaces from YAML files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nas_face.errors import SpaceError, near_names
from nas_face.space.constraints import parse_constraints
from nas_face.space.space import INPUT_SHAPE, SearchSpace
from nas_face.space.template import parse

KEYS = (
    "name",
    "description",
    INPUT_SHAPE,
    "shared",
    "stem",
    "stages",
    "head",
    "constraints",
)
PARTS = ("stem", "stages", "head")
REQUIRED = ("name", INPUT_SHAPE, *PARTS)


def load_space(path: Path) -> SearchSpace:
    """Read a search space and check that designs of it can be built.

    Args:
        path: a YAML file; the README describes its keys.

    Raises:
        SpaceError: the file cannot be read, is not YAML, or breaks a rule; one line, with the path
            inside the file.
    """
    raw = read_yaml(path)
    try:
        return _space(raw)
    except SpaceError as failure:
        raise SpaceError(f"{path}: {failure}") from failure


def read_yaml(path: Path) -> Mapping[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        SpaceError: it cannot be read or holds something else.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as failure:
        raise SpaceError(f"{path}: cannot be read ({failure.strerror})") from failure
    except RecursionError as failure:
        raise SpaceError(f"{path}: nested too deeply") from failure
    except (UnicodeDecodeError, yaml.YAMLError) as failure:
        reason = " ".join(str(failure).split())
        raise SpaceError(f"{path}: not valid YAML ({reason})") from failure
    if not isinstance(raw, dict):
        raise SpaceError(f"{path}: expected a mapping of keys, got {type(raw).__name__}")
    return raw


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, but a key that is given twice is an error and not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Mapping of a node.

        Raises:
            YAMLError: a key is given twice.
        """
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _space(raw: Mapping[str, Any]) -> SearchSpace:
    for key in raw:
        if key not in KEYS:
            raise SpaceError(f"{key} is not a known key; {near_names(str(key), KEYS)}")
    for key in REQUIRED:
        if key not in raw:
            raise SpaceError(f"{key} is missing")
    for key in PARTS:
        if not isinstance(raw[key], list | dict) or not raw[key]:
            raise SpaceError(f"{key}: expected blocks, or a choice of them, got {raw[key]!r}")
    shared_raw = raw.get("shared") or {}
    if not isinstance(shared_raw, dict):
        raise SpaceError(f"shared: expected a mapping of names, got {shared_raw!r}")
    names = frozenset(map(str, shared_raw))
    shapes = _input_shapes(raw[INPUT_SHAPE])
    keys = [*([INPUT_SHAPE] if isinstance(raw[INPUT_SHAPE], dict) else []), *PARTS]
    space = SearchSpace(
        name=str(raw["name"]),
        description=" ".join(str(raw.get("description", "")).split()),
        input_shape=shapes[0],
        template={key: parse(raw[key], key, names) for key in keys},
        shared={
            str(name): parse(value, f"shared.{name}", frozenset())
            for name, value in shared_raw.items()
        },
    )
    rules = parse_constraints(
        raw.get("constraints") or [], space.choices(), space.template, space.shared
    )
    space = replace(space, constraints=rules)
    space.sample(np.random.default_rng(0))
    return space


def _input_shapes(raw: Any) -> list[tuple[int, int, int]]:
    """The shape of the image, or all those that may be chosen."""
    match raw:
        case [int(channels), int(height), int(width)] if channels in (1, 3) and min(raw) >= 1:
            return [(channels, height, width)]
        case {"choice": dict(options)} if len(raw) == 1 and options:
            return [shape for option in options.values() for shape in _input_shapes(option)]
        case _:
            raise SpaceError(
                "input_shape must be [channels, height, width] with 1 channel (grey) or 3, or a "
                "choice "
                f"of such with labels, got {raw!r}"
            )
