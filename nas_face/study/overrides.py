"""Values of the command line in place of those of a study file, by dotted key."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nas_face.arch.codec import to_data
from nas_face.errors import ConfigError
from nas_face.train.settings import TrainSettings

_RECIPES = ("training", "full_training")
_KIND = "kind"
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_SHORT = {"teacher": "model"}
"""Parts of a recipe that a word stands for: the key that it is the value of, if not `kind`."""


def override(data: dict[str, Any], dotted: str, value: Any, *, where: str) -> None:
    """Put a value into plain data.

    A part of a recipe that the file leaves out starts from its default, and one that is a word
    from that word: with ``loss: arcface``, ``full_training.loss.margin`` is the margin of ArcFace.
    A part that gets another `kind` loses its other keys, which were those of the old kind.

    Args:
        data: of a study; changed.
        dotted: key, such as `full_training.loss.margin`.
        value: plain data.
        where: file that the data came from, for messages.

    Raises:
        ConfigError: the key leads through something that is no mapping.
    """
    *parents, last = dotted.split(".")
    inner = data
    for depth, parent in enumerate(parents):
        if parent not in inner:
            inner[parent] = _default(parents[: depth + 1])
        elif isinstance(inner[parent], str) and depth == 1 and parents[0] in _RECIPES:
            inner[parent] = {_SHORT.get(parent, _KIND): inner[parent]}
        else:
            inner[parent] = _copy(inner[parent])
        inner = inner[parent]
        if not isinstance(inner, dict):
            raise ConfigError(f"{where}: {parent}: expected a mapping of keys, got {inner!r}")
    if last == _KIND and inner.get(_KIND) != value:
        inner.clear()
    inner[last] = value


def recipe_values(settings: Sequence[str], recipe: str = "full_training") -> dict[str, Any]:
    """What the user sets of a recipe, for `override`.

    Args:
        settings: `KEY=VALUE` each, in order; a key is dotted, a value is YAML.
        recipe: the part of the study that the keys belong to.

    Raises:
        ConfigError: one is not of that form.

    >>> recipe_values(["loss.margin=0.3", "distil=[angular]"])
    {'full_training.loss.margin': 0.3, 'full_training.distil': ['angular']}
    """
    values: dict[str, Any] = {}
    for each in settings:
        key, equals, text = each.partition("=")
        key = key.strip().removeprefix(f"{recipe}.")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set takes KEY=VALUE, such as loss.margin=0.3, got {each!r}")
        values[f"{recipe}.{key}"] = _value(text, key)
    return values


def _value(text: str, key: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as failure:
        reason = " ".join(str(failure).split())
        raise ConfigError(f"--set {key}: not valid YAML ({reason})") from failure
    # YAML 1.1 takes 1e-3 for a word.
    return float(text) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _default(path: Sequence[str]) -> dict[str, Any]:
    """What a part is where the file says nothing; empty where it has no default."""
    recipe, *rest = path
    if recipe not in _RECIPES or len(rest) != 1:
        return {}
    default = to_data(getattr(TrainSettings(), rest[0], None))
    return default if isinstance(default, dict) else {}


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
