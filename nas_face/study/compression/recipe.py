"""Compression recipes: what is done to a model, in which order, and what may be lost by it."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from nas_face.arch.codec import from_data
from nas_face.errors import ConfigError, SpaceError, near_names
from nas_face.search import parse_quantity
from nas_face.search.budget import parse_milliseconds
from nas_face.shipped import find_file, shipped_files
from nas_face.space import read_yaml
from nas_face.study.compression.step_settings import (
    STEPS,
    AwareTraining,
    DistilStep,
    LowBitsStep,
    QuantiseStep,
    Step,
    require_floor,
)
from nas_face.study.config import require_folder_name

DEFAULT_RECIPE = "studies/recipes/prune_distil_int8.yaml"

RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8", "w4", "w6", "w8")

_PARTS = {"recover": DistilStep, "aware": AwareTraining}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps in order.

    Attributes:
        name: of the recipe; part of the default output folder.
        runtime: that the files are judged and timed on; `auto` is OpenVINO on x86 where it is
            installed, and ONNX Runtime elsewhere.
        deliver: what is left in the end, as RUNTIME or RUNTIME/PRECISION; by default every
            precision that the steps make, for every runtime that is installed.
        floor: points of accuracy, 0 or below, that the whole may lose to the original.
        steps: in any order that leaves files of the last weights: whatever changes weights behind
            a quantisation needs another one behind itself.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto"
    deliver: tuple[str, ...] = ()
    floor: float | None = None
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        if not self.steps:
            raise ConfigError("steps: at least one is needed")
        require_floor(self.floor, "floor")
        _require_order(self.steps)
        _require_deliverable(self)

    @property
    def precisions(self) -> tuple[str, ...]:
        """That the steps make, float32 first."""
        made = [_precision_of(step) for step in self.steps]
        return ("fp32", *dict.fromkeys(each for each in made if each is not None))


def _precision_of(step: Step) -> str | None:
    """Of the files that a step makes; None where it makes weights."""
    match step:
        case QuantiseStep():
            return "int8"
        case LowBitsStep():
            return f"w{step.bits}"
    return None


def _require_order(steps: tuple[Step, ...]) -> None:
    """Raise if a step comes to nothing where it stands."""
    made: dict[str, int] = {}  # files of the present weights, by precision
    for number, step in enumerate(steps):
        precision = _precision_of(step)
        if precision is not None:
            if precision in made:
                raise ConfigError(
                    f"steps.{number}: {step.kind} makes {precision} files of the same weights as "
                    f"steps.{made[precision]}; leave one of them out"
                )
            made[precision] = number
            continue
        if made and not any(_precision_of(later) for later in steps[number + 1 :]):
            what = steps[max(made.values())].kind
            raise ConfigError(
                f"steps.{number}: {step.kind} behind {what} changes the float weights, of which "
                f"no file in few bits would be left; put {what} behind it"
            )
        made.clear()


def _require_deliverable(recipe: Recipe) -> None:
    for each in recipe.deliver:
        runtime, slash, precision = each.partition("/")
        if runtime not in RUNTIMES:
            raise ConfigError(
                f"deliver: no runtime {runtime!r}; {near_names(runtime, RUNTIMES)} (give RUNTIME "
                "or RUNTIME/PRECISION)"
            )
        if slash and precision not in PRECISIONS:
            raise ConfigError(
                f"deliver: no precision {precision!r}; {near_names(precision, PRECISIONS)}"
            )
        if slash and precision not in recipe.precisions:
            raise ConfigError(
                f"deliver: no step makes {precision}; there will be {', '.join(recipe.precisions)}"
            )
        if slash and runtime == "openvino" and precision.startswith("w"):
            raise ConfigError(f"deliver: {precision} files are for onnxruntime only, got {each}")


def load_recipe(name: str) -> Recipe:
    """Read a recipe file.

    Args:
        name: path of a YAML file, also of a shipped one.

    Raises:
        ConfigError: there is none, or it breaks a rule.
    """
    path = find_file(name) or find_file(f"studies/recipes/{name}.yaml")
    if path is None:
        known = [each.stem for each in shipped_files("studies/recipes", ".yaml")]
        raise ConfigError(
            f"{name}: no such recipe; give a YAML file, such as {DEFAULT_RECIPE}, or a shipped "
            f"one by its name; {near_names(name, known)}"
        )
    return _recipe(path)


def _recipe(path: Path) -> Recipe:
    try:
        raw = dict(read_yaml(path))
    except SpaceError as failure:
        raise ConfigError(str(failure)) from failure
    _require_known(raw, Recipe, str(path))
    for where, step in _steps_of(raw):
        kind = str(step.get("kind"))
        if kind in STEPS:
            _require_known(step, STEPS[kind], f"{path}: {where}", name=kind)
        for key in ("madds", "params"):
            if isinstance(step.get(key), str):
                step[key] = parse_quantity(step[key], where=f"{path}: {where}.{key}")
        for key in ("latency_ms", "max_latency_ms"):
            if isinstance(step.get(key), str):
                step[key] = parse_milliseconds(step[key], where=f"{path}: {where}.{key}")
        for key, part in _PARTS.items():
            if isinstance(step.get(key), dict):
                _require_known(step[key], part, f"{path}: {where}.{key}", name=key)
    try:
        return from_data(Recipe, raw, where=str(path), error=ConfigError)
    except ConfigError as failure:
        text = str(failure)
        raise ConfigError(text if text.startswith(str(path)) else f"{path}: {text}") from failure


def _steps_of(raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    steps = raw.get("steps")
    for position, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict):
            yield f"steps.{position}", step


def _require_known(data: Mapping[str, Any], kind: type, where: str, name: str = "") -> None:
    """Raise if a key is none of a dataclass's, and name the near ones."""
    known = [each.name for each in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            of = f" of {name}" if name else ""
            raise ConfigError(f"{where}: {key!r} is no key{of}; {near_names(str(key), known)}")
