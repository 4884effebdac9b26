"""Files with a space of recipes: found, read, and every mistake named."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nas_face.arch.codec import from_data
from nas_face.errors import ConfigError, SpaceError, near_names
from nas_face.search import Budget
from nas_face.search.budget import parse_wall
from nas_face.shipped import find_file, shipped_files
from nas_face.space import read_yaml
from nas_face.study.compression.recipe_search.space import CHOICES, RecipeSpace
from nas_face.study.compression.step_settings import DistilStep, LowBitsStep, QuantiseStep

DEFAULT_SPACE: Final = "studies/recipe_spaces/without_training.yaml"

_PARTS: Mapping[str, type[QuantiseStep] | type[LowBitsStep] | type[DistilStep]] = {
    "quantise": QuantiseStep,
    "low_bits": LowBitsStep,
    "recover": DistilStep,
}


def load_recipe_space(name: str | None, changes: Mapping[str, Any]) -> RecipeSpace:
    """Read the space of a search for a recipe.

    Args:
        name: path of a YAML file, or the name of a shipped one; None for `DEFAULT_SPACE`.
        changes: values of keys that replace those of the file; of `budget`, single walls.

    Raises:
        ConfigError: there is no such file, or it breaks a rule.
    """
    path = _found(name or DEFAULT_SPACE)
    where = str(path)
    raw = _read(path)
    if "steps" in raw:
        raise ConfigError(
            f"{where}: is a recipe (it has steps) and no space; carry it out with --recipe, "
            "without --search"
        )
    _require_keys(raw, where)
    if not isinstance(raw.get("budget") or {}, Mapping):
        raise ConfigError(
            f"{where}: budget: expected walls such as {{max_latency_ms: 2ms}}, got "
            f"{raw['budget']!r}"
        )
    budget = dict(raw.get("budget") or {})
    budget = {
        key: parse_wall(key, value, where=f"{where}: budget.{key}")
        if isinstance(value, str)
        else value
        for key, value in budget.items()
    }
    budget |= changes.get("budget", {})
    raw = {**raw, **changes, "budget": budget}
    for key, kind in _PARTS.items():
        if isinstance(raw.get(key), dict):
            raw[key] = {"kind": kind().kind, **raw[key]}
    try:
        return from_data(RecipeSpace, raw, where=where, error=ConfigError)
    except ConfigError as failure:
        text = str(failure)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from failure


def _require_keys(raw: Mapping[str, Any], where: str) -> None:
    """Raise if a key is none, and name the near ones; or if one choice stands for a list."""
    parts = {"": RecipeSpace, "budget": Budget, **_PARTS}
    for part, kind in parts.items():
        data = raw.get(part) if part else raw
        known = [each.name for each in dataclasses.fields(kind)]
        for key in data if isinstance(data, Mapping) else ():
            if key not in known:
                of = f"{part}: " if part else ""
                raise ConfigError(f"{where}: {of}{key!r} is no key; {near_names(str(key), known)}")
    stages = raw.get("stages")
    lists = {key: raw[key] for key in ("shares", *CHOICES) if key in raw}
    lists |= {
        f"stages.{stage}": of for stage, of in (stages if isinstance(stages, dict) else {}).items()
    }
    for key, given in lists.items():
        if not isinstance(given, list):
            raise ConfigError(
                f"{where}: {key}: a list of choices is needed, such as [{given}], got {given!r}"
            )


def _found(name: str) -> Path:
    path = find_file(name) or find_file(f"studies/recipe_spaces/{name}.yaml")
    if path is None:
        known = [each.stem for each in shipped_files("studies/recipe_spaces", ".yaml")]
        raise ConfigError(
            f"{name}: no such space of recipes; give a YAML file, or a shipped one by its name; "
            f"{near_names(name, known)}"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_yaml(path))
    except SpaceError as failure:
        raise ConfigError(str(failure)) from failure
