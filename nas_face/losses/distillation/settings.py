"""Settings of distillation: what of a teacher's embeddings a student is held to."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import BeforeValidator, Field

from nas_face.errors import ConfigError
from nas_face.losses.margins.settings import ArcFace, MarginSettings


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Angular:
    """Squared distance of unit embeddings; see `AngularDistillation`.

    Attributes:
        weight: of the mean over the batch.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 7.0
    kind: Literal["angular"] = "angular"

    def __post_init__(self) -> None:
        _require_positive(self, "weight")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """Square of one minus the cosine; see `ShrinkDistillation`.

    Attributes:
        weight: of the mean over the batch. Assumed.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 1.0
    kind: Literal["shrink"] = "shrink"

    def __post_init__(self) -> None:
        _require_positive(self, "weight")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Mean squared error over the elements of unit embeddings; see `TemplateDistillation`.

    Attributes:
        weight: of the mean over batch and elements.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 100.0
    kind: Literal["template"] = "template"

    def __post_init__(self) -> None:
        _require_positive(self, "weight")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Relational:
    """Distances and angles between the images of a batch; see `RelationalDistillation`.

    Attributes:
        weight: of the sum of both parts.
        distance: of the distances between pairs, 0 for none.
        angle: of the angles in triplets, 0 for none.
        angle_images: most images of a batch between which angles are compared; their number
            grows with its cube.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 25.0
    distance: float = 1.0
    angle: float = 2.0
    angle_images: int = 64
    kind: Literal["relational"] = "relational"

    def __post_init__(self) -> None:
        _require_positive(self, "weight")
        _require_not_negative(self, "distance", "angle")
        if self.distance == self.angle == 0:
            raise ConfigError("distil.relational: distance and angle are both 0; nothing is left")
        if self.angle_images < 3:
            raise ConfigError(
                f"distil.relational.angle_images must be at least 3, got {self.angle_images}"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairRanks:
    """Ranks of pairs among running thresholds of the negatives; see `PairRankDistillation`.

    Attributes:
        weight: of the sum of both parts.
        positive: of the pairs of one identity.
        negative: of the pairs of two identities.
        n_negatives: pairs of two identities that count: those most alike to the student.
        temperature: of the sigmoid that softens a rank, as a cosine.
        momentum: share of a batch in the running thresholds, above 0 to 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 1.0
    positive: float = 0.02
    negative: float = 0.01
    n_negatives: int = 2000
    temperature: float = 0.01
    momentum: float = 0.01
    kind: Literal["ranks"] = "ranks"

    def __post_init__(self) -> None:
        _require_positive(self, "weight", "temperature", "momentum")
        _require_not_negative(self, "positive", "negative")
        if self.positive == self.negative == 0:
            raise ConfigError("distil.ranks: positive and negative are both 0; nothing is left")
        if self.n_negatives < 1:
            raise ConfigError(
                f"distil.ranks.n_negatives must be at least 1, got {self.n_negatives}"
            )
        if self.momentum > 1:
            raise ConfigError(f"distil.ranks.momentum must be at most 1, got {self.momentum}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveCentres:
    """A margin loss against centres of the teacher's embeddings; see
    `AdaptiveCentreDistillation`.

    Attributes:
        weight: of the loss.
        loss: margin loss of the student against the centres.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 1.0
    loss: MarginSettings = field(default=ArcFace(margin=0.45))  # noqa: RUF009 (it is frozen)
    kind: Literal["adaptive_centres"] = "adaptive_centres"

    def __post_init__(self) -> None:
        _require_positive(self, "weight")


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


DistillationSettings = Annotated[
    Angular | Shrink | Template | Relational | PairRanks | AdaptiveCentres,
    Field(discriminator="kind"),
    BeforeValidator(_named),
]
"""Any of them; in YAML also the bare kind, which takes the published settings."""


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise ConfigError(f"distil.{settings.kind}.{name} must be above 0, got {value}")


def _require_not_negative(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < math.inf:
            raise ConfigError(f"distil.{settings.kind}.{name} must be 0 or above, got {value}")
