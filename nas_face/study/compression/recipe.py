"""Compression recipes: what is done to a model, in which order."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from nas_face.arch.codec import from_data
from nas_face.compress.pruning import Importance
from nas_face.deploy.quantise import MIN_IMAGES
from nas_face.errors import ConfigError, SpaceError
from nas_face.search import parse_quantity
from nas_face.shipped import find_file
from nas_face.space import read_yaml
from nas_face.study.config import require_folder_name

DEFAULT_RECIPE = "studies/recipes/prune_distil_int8.yaml"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStep:
    """Structured pruning to a multiply-add target.

    Attributes:
        share: target as a share of the multiply-adds in front of this step, between 0 and 1; or
        madds: target in multiply-adds. Exactly one of the two is given.
        importance: which channels go first.
        round_to: widths become multiples of this where the network permits.
        min_keep: share of each group of channels that stays.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    share: float | None = None
    madds: int | None = None
    importance: Importance = "l2"
    round_to: int = 8
    min_keep: float = 0.25
    kind: Literal["prune"] = "prune"

    def __post_init__(self) -> None:
        if (self.share is None) == (self.madds is None):
            raise ConfigError("prune: give share or madds, and not both")
        if self.share is not None and not 0 < self.share < 1:
            raise ConfigError(f"prune: share must be between 0 and 1, got {self.share}")
        if self.madds is not None and self.madds < 1:
            raise ConfigError(f"prune: madds must be at least 1, got {self.madds}")
        if self.round_to < 1:
            raise ConfigError(f"prune: round_to must be at least 1, got {self.round_to}")
        if not 0 <= self.min_keep <= 1:
            raise ConfigError(f"prune: min_keep must be from 0 to 1, got {self.min_keep}")

    def target_madds(self, madds: int) -> int:
        """Multiply-adds to reach from a network that has `madds`."""
        return self.madds if self.madds is not None else int((self.share or 1.0) * madds)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DistilStep:
    """Training with the unpruned network as teacher, on top of the study's margin loss.

    Attributes:
        epochs: passes over the training images.
        learning_rate: peak; lower than in a training from scratch.
        weight: of the distance to the teacher's embedding.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 20
    learning_rate: float = 0.05
    weight: float = 7.0
    kind: Literal["distil"] = "distil"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"distil: epochs must be at least 1, got {self.epochs}")
        for name in ("learning_rate", "weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"distil: {name} must be above 0, got {getattr(self, name)}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiseStep:
    """Static int8 by calibration; ends the recipe.

    Attributes:
        method: how ranges follow from the values seen.
        n_images: training images to calibrate on.
        reduce_range: 7-bit weights; by default where the processor has no VNNI.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    method: Literal["minmax", "percentile", "entropy"] = "percentile"
    n_images: int = 128
    reduce_range: bool | None = None
    kind: Literal["quantise"] = "quantise"

    def __post_init__(self) -> None:
        if self.n_images < MIN_IMAGES:
            raise ConfigError(
                f"quantise: n_images must be at least {MIN_IMAGES}, got {self.n_images}"
            )


Step = Annotated[PruneStep | DistilStep | QuantiseStep, Field(discriminator="kind")]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps in order.

    Attributes:
        name: of the recipe; part of the default output folder.
        steps: pruning and distillation in any order; quantisation last, if at all.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        if not self.steps:
            raise ConfigError("steps: at least one is needed")
        if any(isinstance(step, QuantiseStep) for step in self.steps[:-1]):
            raise ConfigError("steps: quantise must be the last step")


def load_recipe(name: str) -> Recipe:
    """Read a recipe file.

    Args:
        name: path of a YAML file, also of a shipped one.

    Raises:
        ConfigError: there is none, or it breaks a rule.
    """
    path = find_file(name) or find_file(f"studies/recipes/{name}.yaml")
    if path is None:
        raise ConfigError(f"{name}: no such recipe; give a YAML file, such as {DEFAULT_RECIPE}")
    return _recipe(path)


def _recipe(path: Path) -> Recipe:
    try:
        raw = dict(read_yaml(path))
    except SpaceError as failure:
        raise ConfigError(str(failure)) from failure
    steps = raw.get("steps")
    for position, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict) and isinstance(step.get("madds"), str):
            step["madds"] = parse_quantity(step["madds"], where=f"{path}: steps.{position}.madds")
    try:
        return from_data(Recipe, raw, where=str(path), error=ConfigError)
    except ConfigError as failure:
        text = str(failure)
        raise ConfigError(text if text.startswith(str(path)) else f"{path}: {text}") from failure
