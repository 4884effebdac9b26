"""Which margin loss, and its numbers; the defaults are the published ones.

In a study file ``loss: arcface`` and ``loss: {kind: arcface, margin: 0.3}`` both do.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import BeforeValidator, Field

from nas_face.errors import ConfigError, near_names


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CosFace:
    """Cosine margin: cos(theta) - m.

    Attributes:
        margin: m, from 0 to below 1.5; 0.35 in several papers on small networks.
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    margin: float = 0.40
    scale: float = 64.0
    kind: Literal["cosface"] = "cosface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.margin)
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArcFace:
    """Angular margin: cos(theta + m).

    Attributes:
        margin: m in radians, from 0 to below 1.5.
        scale: s, by which all cosines are multiplied.
        past_pi: what follows where theta + m passes pi: ``fall_back`` to cos(theta) - m sin(m),
            which goes on falling, or ``none``, so that the target logit rises again.
        gradient: ``true``, or ``straight_through``: the margin changes the logit's value and not
            its derivative by cos(theta), which is that of a plain cosine.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    margin: float = 0.5
    scale: float = 64.0
    past_pi: Literal["fall_back", "none"] = "fall_back"
    gradient: Literal["true", "straight_through"] = "true"
    kind: Literal["arcface"] = "arcface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.margin)
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """All three margins: cos(m1 theta + m2) - m3.

    Attributes:
        m1: factor on the angle, above 0 and up to 4.
        m2: radians added to it, from 0 to below 1.5.
        m3: taken from the cosine, from 0 to below 1.5.
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    m1: float = 1.0
    m2: float = 0.3
    m3: float = 0.2
    scale: float = 64.0
    kind: Literal["combined"] = "combined"

    def __post_init__(self) -> None:
        _require("m1", self.m1, 0 < self.m1 <= 4, "above 0 and at most 4")
        _require_margin("m2", self.m2)
        _require_margin("m3", self.m3)
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LiArcFace:
    """Angular margin on a logit that is linear in the angle: (pi - 2 (theta + m)) / pi.

    Attributes:
        margin: m in radians, from 0 to below 1.5.
        scale: s, by which all logits are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    margin: float = 0.45
    scale: float = 64.0
    kind: Literal["li_arcface"] = "li_arcface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.margin)
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticFace:
    """A margin for each image and step, drawn from a normal distribution.

    Attributes:
        form: where the margin goes: ``arcface`` or ``cosface``.
        margin: mean of the margins, from 0 to below 1.5; by default 0.5 for ``arcface`` and 0.35
            for ``cosface``.
        sigma: standard deviation of the margins, from 0 to below 1; by default 0.05, and with
            ``sort`` 0.0175 for ``arcface`` and 0.02 for ``cosface``.
        sort: hand the margins of a batch out by rank, the largest to the image that is farthest
            from the centre of its class (the paper's "+").
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    form: Literal["arcface", "cosface"] = "arcface"
    margin: float | None = None
    sigma: float | None = None
    sort: bool = False
    scale: float = 64.0
    kind: Literal["elasticface"] = "elasticface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.mean_margin)
        sigma = self.margin_deviation
        _require("sigma", sigma, 0 <= sigma < 1, "from 0 to below 1")
        _require_scale(self.scale)

    @property
    def mean_margin(self) -> float:
        """`margin`, or the published one of `form`."""
        if self.margin is not None:
            return self.margin
        return 0.5 if self.form == "arcface" else 0.35

    @property
    def margin_deviation(self) -> float:
        """`sigma`, or the published one of `form` and `sort`."""
        if self.sigma is not None:
            return self.sigma
        if not self.sort:
            return 0.05
        return 0.0175 if self.form == "arcface" else 0.02


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CurricularFace:
    """ArcFace whose hard negatives gain weight as the training goes on.

    Attributes:
        margin: m in radians, from 0 to below 1.5.
        momentum: share of a batch in the running mean of the target cosine, above 0 and up to 1.
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    margin: float = 0.5
    momentum: float = 0.01
    scale: float = 64.0
    kind: Literal["curricularface"] = "curricularface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.margin)
        _require_momentum(self.momentum)
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MagFace:
    """ArcFace whose margin grows with the length of the embedding.

    Attributes:
        lower_norm: shortest length that counts, above 0; shorter embeddings are taken for it.
        upper_norm: longest length that counts, above `lower_norm`.
        lower_margin: radians at `lower_norm`, from 0 to below 1.5.
        upper_margin: radians at `upper_norm`, from `lower_margin` to below 1.5.
        norm_weight: weight (lambda) of the term that rewards long embeddings, 0 or more.
        easy_margin: a margin only where the angle is below pi/2. Without, where theta + m passes
            pi the target falls back to cos(theta) - m sin(m).
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    lower_norm: float = 10.0
    upper_norm: float = 110.0
    lower_margin: float = 0.45
    upper_margin: float = 0.8
    norm_weight: float = 35.0
    easy_margin: bool = True
    scale: float = 64.0
    kind: Literal["magface"] = "magface"

    def __post_init__(self) -> None:
        lower, upper = self.lower_norm, self.upper_norm
        _require("lower_norm", lower, 0 < lower < math.inf, "above 0")
        _require("upper_norm", upper, lower < upper < math.inf, f"above lower_norm ({lower})")
        _require_margin("lower_margin", self.lower_margin)
        _require(
            "upper_margin",
            self.upper_margin,
            self.lower_margin <= self.upper_margin < 1.5,
            f"from lower_margin ({self.lower_margin}) to below 1.5",
        )
        weight = self.norm_weight
        _require("norm_weight", weight, 0 <= weight < math.inf, "at least 0")
        _require_scale(self.scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaFace:
    """A margin that follows from the quality of the image, of which the length of the embedding
    is taken for a sign.

    Attributes:
        margin: m, from 0 to below 1.5.
        concentration: h, above 0: how many standard deviations of the lengths, 1 / h, reach the
            ends of the range of margins.
        momentum: share of a batch in the running mean and deviation of the lengths, above 0 and
            up to 1; at 1 each batch is judged by itself.
        scale: s, by which all cosines are multiplied.

    Raises:
        ConfigError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    margin: float = 0.4
    concentration: float = 0.333
    momentum: float = 0.01
    scale: float = 64.0
    kind: Literal["adaface"] = "adaface"

    def __post_init__(self) -> None:
        _require_margin("margin", self.margin)
        h = self.concentration
        _require("concentration", h, 0 < h < math.inf, "above 0")
        _require_momentum(self.momentum)
        _require_scale(self.scale)


def _require(name: str, value: float, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"loss.{name} must be {rule}, got {value}")


def _require_margin(name: str, value: float) -> None:
    _require(name, value, 0 <= value < 1.5, "from 0 to below 1.5")


def _require_scale(value: float) -> None:
    _require("scale", value, 0 < value < math.inf, "above 0")


def _require_momentum(value: float) -> None:
    _require("momentum", value, 0 < value <= 1, "above 0 and at most 1")


_CLASSES = (
    CosFace,
    ArcFace,
    Combined,
    LiArcFace,
    ElasticFace,
    CurricularFace,
    MagFace,
    AdaFace,
)
KINDS = tuple(each().kind for each in _CLASSES)


def _with_kind(value: Any) -> Any:
    """A name stands for its mapping; a mapping has the kind of a margin loss."""
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, dict) and value.get("kind") not in KINDS:
        if "kind" not in value:
            raise ConfigError(f"loss.kind is missing; {near_names('', KINDS)}")
        raise ConfigError(
            f"loss: there is no margin loss {value['kind']!r}; "
            f"{near_names(str(value['kind']), KINDS)}"
        )
    return value


MarginSettings = Annotated[
    CosFace | ArcFace | Combined | LiArcFace | ElasticFace | CurricularFace | MagFace | AdaFace,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
