"""What a search for a recipe may choose, and within which walls."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from nas_face.arch.codec import from_data
from nas_face.compress.pruning import BY_GRADIENT, Importance, Scope
from nas_face.errors import ConfigError, SpaceError, near_names
from nas_face.search import DEFAULT_SAMPLER, Budget
from nas_face.search.budget import parse_wall
from nas_face.search.samplers import require_sampler
from nas_face.shipped import find_file
from nas_face.space import read_yaml
from nas_face.study.compression.step_settings import (
    DistilStep,
    LowBitsStep,
    QuantiseStep,
    require_floor,
)
from nas_face.study.config import require_folder_name

Precision = Literal["fp32", "int8", "w8", "w6", "w4"]
"""Of the file: float32, int8, or weights in so many bits."""

StagePrecision = Literal["few", "float"]
"""Of one stage: that of the file, or float32."""

N_OBJECTIVES = 3
MEASURED_WALLS = ("madds", "params", "size_bytes", "latency_ms")
"""What a budget of a recipe search can limit."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSpace:
    """Choices of a search for a recipe; of each list one entry is chosen.

    Attributes:
        name: of the recipe that is found; part of the default output folder.
        runtime: that files are judged and timed on; as in a recipe.
        deliver: what ships in the end; as in a recipe.
        sampler: that proposes, by its name.
        trials: recipes that are tried.
        shares: of the channels of a stage, those that stay; for each stage.
        stages: shares of single stages, instead of `shares`.
        importance: which channels go first.
        scope: within what channels of a stage compete.
        round_to: widths become multiples of this.
        min_keep: share of each group of channels that stays in any case.
        recover_epochs: of training behind the pruning; 0 measures norms anew and no more.
        recover: how that training is done; its epochs are those of `recover_epochs`.
        precision: of the file.
        stage_precision: of the weights of a stage, where the file has few bits; for each stage.
        keep_float: layers that stay in float32 in any case.
        quantise: how int8 files are made.
        low_bits: how files with weights in few bits are made.
        budget: walls. MAdds, parameters and an estimate of the bytes refuse a proposal; latency
            and the bytes of the file are measured.
        floor: points of accuracy, 0 or below, that may be lost to the original.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "searched"
    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto"
    deliver: tuple[str, ...] = ()
    sampler: str = DEFAULT_SAMPLER
    trials: int = 30
    shares: tuple[float, ...] = (1.0, 0.75, 0.5, 0.35, 0.25)
    stages: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    importance: tuple[Importance, ...] = ("l2", "fpgm", "taylor")
    scope: tuple[Scope, ...] = ("local", "global", "isomorphic")
    round_to: tuple[int, ...] = (8, 16)
    min_keep: float = 0.125
    recover_epochs: tuple[int, ...] = (0,)
    recover: DistilStep = DistilStep()
    precision: tuple[Precision, ...] = ("fp32", "int8", "w6", "w4")
    stage_precision: tuple[StagePrecision, ...] = ("few", "float")
    keep_float: tuple[str, ...] = ()
    quantise: QuantiseStep = QuantiseStep()
    low_bits: LowBitsStep = LowBitsStep()
    budget: Budget = Budget()
    floor: float | None = None

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        require_sampler(self.sampler, N_OBJECTIVES)
        if self.trials < 1:
            raise ConfigError(f"trials must be at least 1, got {self.trials}")
        for where, shares in (
            ("shares", self.shares),
            *((f"stages.{each}", of) for each, of in self.stages.items()),
        ):
            if not shares or any(not 0 < each <= 1 for each in shares):
                raise ConfigError(
                    f"{where}: shares above 0 and at most 1 are needed, got {shares}"
                )
        for name in _CHOICES:
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"{name}: one or more different choices are needed, got {given}")
        if min(self.round_to) < 1:
            raise ConfigError(f"round_to must be at least 1, got {min(self.round_to)}")
        if min(self.recover_epochs) < 0:
            raise ConfigError(f"recover_epochs must be at least 0, got {min(self.recover_epochs)}")
        if not 0 <= self.min_keep <= 1:
            raise ConfigError(f"min_keep must be from 0 to 1, got {self.min_keep}")
        for wall in self.budget.walls:
            if wall.quantity not in MEASURED_WALLS:
                raise ConfigError(f"budget.{wall.name} is no wall of a search for a recipe")
        for step in (self.quantise, self.low_bits):
            if step.floor is not None:
                raise ConfigError(f"{step.kind}: floor goes in the space itself")
            if step.keep_float:
                raise ConfigError(f"{step.kind}: keep_float goes in the space itself")
        require_floor(self.floor, "floor")

    @property
    def needs_gradients(self) -> bool:
        """Whether a criterion looks at gradients."""
        return any(each in BY_GRADIENT for each in self.importance)

    def shares_of(self, stage: str) -> tuple[float, ...]:
        """Shares that a stage may keep."""
        return tuple(dict.fromkeys(self.stages.get(stage, self.shares)))


_CHOICES = (
    "importance",
    "scope",
    "round_to",
    "recover_epochs",
    "precision",
    "stage_precision",
)


def load_recipe_space(name: str | None, changes: Mapping[str, Any]) -> RecipeSpace:
    """Read the space of a search for a recipe.

    Args:
        name: path of a YAML file; None for what holds by default.
        changes: values of keys that replace those of the file; of `budget`, single walls.

    Raises:
        ConfigError: there is no such file, or it breaks a rule.
    """
    raw: dict[str, Any] = {}
    where = "recipe search"
    if name is not None:
        path = find_file(name)
        if path is None:
            raise ConfigError(f"{name}: no such file with a space of recipes")
        where = str(path)
        raw = _read(path)
    budget = dict(raw.get("budget") or {})
    budget = {
        key: parse_wall(key, value, where=f"{where}: budget.{key}")
        if isinstance(value, str)
        else value
        for key, value in budget.items()
    }
    budget |= changes.get("budget", {})
    raw = {**raw, **changes, "budget": budget}
    known = [each.name for each in dataclasses.fields(RecipeSpace)]
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where}: {key!r} is no key; {near_names(str(key), known)}")
    for key in ("quantise", "low_bits", "recover"):
        if isinstance(raw.get(key), dict):
            kind = "distil" if key == "recover" else key
            raw[key] = {"kind": kind, **raw[key]}
    try:
        return from_data(RecipeSpace, raw, where=where, error=ConfigError)
    except ConfigError as failure:
        text = str(failure)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from failure


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_yaml(path))
    except SpaceError as failure:
        raise ConfigError(str(failure)) from failure
