"""The steps of a recipe: what each is asked to do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, final

from pydantic import Field

from nas_face.compress.pruning import Importance, Scope
from nas_face.deploy.calibration import MIN_IMAGES
from nas_face.errors import ConfigError

ORIGINAL = "original"
"""The teacher that is the model as it was given."""

STUDY_IMAGES = "study"
"""Calibration on the training images of the study."""

SYNTHETIC_IMAGES = "synthetic"
"""Calibration on made-up images."""

LAYER_RULES = ("first", "last", "gates", "depthwise")
"""Words of `keep_float` that stand for layers."""

Bits = Literal[4, 6, 8]
"""Of weights that are kept in few."""

_TARGETS = ("share", "madds", "params", "params_share", "latency_ms", "latency_share", "stages")
_SHARES = ("share", "params_share", "latency_share")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DistilStep:
    """Training with a teacher.

    Attributes:
        epochs: passes over the training images.
        learning_rate: peak; lower than in a training from scratch.
        weight: of the distance to the teacher's embedding.
        batch_size: images an optimiser step; the study's by default.
        teacher: `original` for the model that is compressed, as it was given; or what a study
            takes as a teacher: `sface`, a model folder, or an ONNX file.
        loss: `margin` keeps the study's margin loss beside the teacher; `none` learns from the
            teacher alone, without labels.
        floor: points of accuracy, 0 or below: a training that loses more is rolled back.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 20
    learning_rate: float = 0.05
    weight: float = 7.0
    batch_size: int | None = None
    teacher: str = ORIGINAL
    loss: Literal["margin", "none"] = "margin"
    floor: float = 0.0
    kind: Literal["distil"] = "distil"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"distil: epochs must be at least 1, got {self.epochs}")
        for name in ("learning_rate", "weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"distil: {name} must be above 0, got {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size < 2:
            raise ConfigError(f"distil: batch_size must be at least 2, got {self.batch_size}")
        if not self.teacher.strip():
            raise ConfigError("distil: teacher must be original, sface, or a model, got ''")
        require_floor(self.floor, "distil: floor")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStep:
    """Structured pruning to a target; exactly one target is given.

    Attributes:
        share: target as a share of the multiply-adds in front of this step, between 0 and 1.
        madds: target in multiply-adds.
        params: target in parameters.
        params_share: target as a share of the parameters in front of this step.
        latency_ms: target in milliseconds for one image, one thread, on the recipe's runtime.
        latency_share: target as a share of the latency in front of this step.
        stages: share of the channels of each stage that stays, such as `{stages.1: 0.5}`; the
            others stay whole.
        importance: which channels go first.
        scope: within what channels compete; see `nas_face.compress.pruning`.
        round_to: widths become multiples of this where the network permits.
        min_keep: share of each group of channels that stays.
        refit: whether the weights that are left are fitted to what the layers gave before, without
            training; statistics of batch normalisations are measured anew otherwise.
        rounds: in how many cuts the target is reached.
        recover_epochs: of training between two rounds.
        recover: training behind the pruning, before it is judged; its own floor does not count.
        floor: points of accuracy, 0 or below, that pruning and recovery together may lose; none
            asks nothing.
        max_tries: targets that are tried, the one asked for included, to keep the floor.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    share: float | None = None
    madds: int | None = None
    params: int | None = None
    params_share: float | None = None
    latency_ms: float | None = None
    latency_share: float | None = None
    stages: Mapping[str, float] | None = None
    importance: Importance = "fisher"
    scope: Scope = "global"
    round_to: int = 8
    min_keep: float = 0.25
    refit: bool = True
    rounds: int = 1
    recover_epochs: int = 0
    recover: DistilStep | None = None
    floor: float | None = None
    max_tries: int = 4
    kind: Literal["prune"] = "prune"

    def __post_init__(self) -> None:
        given = [name for name in _TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"prune: give one target, of {', '.join(_TARGETS)}; got "
                + (" and ".join(given) or "none")
            )
        if self.stages is not None:
            self._require_stages(self.stages)
        value = getattr(self, given[0])
        if given[0] in _SHARES and not 0 < value < 1:
            raise ConfigError(f"prune: {given[0]} must be between 0 and 1, got {value}")
        if given[0] == "latency_ms" and not 0 < value < math.inf:
            raise ConfigError(f"prune: latency_ms must be above 0, got {value}")
        if given[0] in ("madds", "params") and value < 1:
            raise ConfigError(f"prune: {given[0]} must be at least 1, got {value}")
        for name, least in (("round_to", 1), ("rounds", 1), ("recover_epochs", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"prune: {name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 <= self.min_keep <= 1:
            raise ConfigError(f"prune: min_keep must be from 0 to 1, got {self.min_keep}")
        if self.recover_epochs and self.rounds == 1:
            raise ConfigError(
                "prune: recover_epochs lie between rounds, and there is one round; give rounds, "
                "or recover: {epochs: ...} for a training behind it"
            )
        if not 1 <= self.max_tries <= 8:
            raise ConfigError(f"prune: max_tries must be from 1 to 8, got {self.max_tries}")
        require_floor(self.floor, "prune: floor")

    def _require_stages(self, stages: Mapping[str, float]) -> None:
        for stage, share in stages.items():
            if not 0 < share <= 1:
                raise ConfigError(
                    f"prune: stages: {stage} must be above 0 and at most 1, got {share}"
                )
        if all(share == 1 for share in stages.values()):
            raise ConfigError("prune: stages: one at least must be below 1")
        if self.rounds > 1:
            raise ConfigError(f"prune: stages goes with rounds 1, got {self.rounds}")

    @property
    def target(self) -> tuple[str, float]:
        """Name and value of the target that is given, where it is one number."""
        return next(
            (name, value)
            for name in _TARGETS
            if name != "stages" and (value := getattr(self, name)) is not None
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AwareTraining:
    """Training under quantisation, with the float network as teacher and without labels.

    Attributes:
        epochs: passes over the training images.
        learning_rate: peak; far lower than in a training from scratch.
        batch_size: images an optimiser step; the study's by default.

    Source:
        Boutros et al., QuantFace, arXiv 2206.10526, section 3.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 3
    learning_rate: float = 0.005
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"aware: epochs must be at least 1, got {self.epochs}")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"aware: learning_rate must be above 0, got {self.learning_rate}")
        if self.batch_size is not None and self.batch_size < 2:
            raise ConfigError(f"aware: batch_size must be at least 2, got {self.batch_size}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiseStep:
    """Static int8 by calibration.

    Attributes:
        bits: of weights and activations.
        n_images: images to calibrate on.
        calibration: `study` for the training images, `synthetic` for made-up ones, or faces in
            any format that a study takes.
        method: how ranges follow from the values seen, in ONNX Runtime.
        preset: in OpenVINO: activations symmetric about zero (`performance`), or asymmetric where
            they take both signs (`mixed`).
        reduce_range: 7-bit weights; by default where the processor has no VNNI.
        equalise: even out the ranges of channels between layers first.
        rounding: weights to the nearest level, or to that of the two neighbours which keeps the
            layer's output.
        bias_correction: shift biases by what quantisation shifts the output.
        keep_float: layers that stay in float32: `first`, `last`, `gates`, `depthwise`, or paths of
            layers or of stages, such as `stages.1`. In ONNX Runtime `first` and `depthwise` do so
            anyway.
        keep_sensitive: as many layers more stay in float32, those that lose most by int8.
        floor: points of accuracy, 0 or below, that the int8 file may lose to the float one.
        max_latency_ms: ceiling; as many layers as it permits stay in float32.
        max_latency_share: the same as a share of the float file's latency.
        aware: training under quantisation, where calibration alone breaks the floor.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    bits: Literal[8] = 8
    n_images: int = 128
    calibration: str = STUDY_IMAGES
    method: Literal["minmax", "percentile", "entropy"] = "percentile"
    preset: Literal["performance", "mixed"] = "mixed"
    reduce_range: bool | None = None
    equalise: bool = False
    rounding: Literal["nearest", "adaptive"] = "nearest"
    bias_correction: bool = False
    keep_float: tuple[str, ...] = ()
    keep_sensitive: int = 0
    floor: float | None = None
    max_latency_ms: float | None = None
    max_latency_share: float | None = None
    aware: AwareTraining | None = None
    kind: Literal["quantise"] = "quantise"

    def __post_init__(self) -> None:
        if self.n_images < MIN_IMAGES:
            raise ConfigError(
                f"quantise: n_images must be at least {MIN_IMAGES}, got {self.n_images}"
            )
        if not self.calibration.strip():
            raise ConfigError("quantise: calibration must be study, synthetic, or faces, got ''")
        if self.keep_sensitive < 0:
            raise ConfigError(
                f"quantise: keep_sensitive must be at least 0, got {self.keep_sensitive}"
            )
        if self.max_latency_ms is not None and self.max_latency_share is not None:
            raise ConfigError("quantise: give max_latency_ms or max_latency_share, and not both")
        for name in ("max_latency_ms", "max_latency_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"quantise: {name} must be above 0, got {value}")
        if self.aware is not None and self.floor is None:
            raise ConfigError(
                "quantise: aware trains only where calibration breaks the floor; give a floor"
            )
        require_floor(self.floor, "quantise: floor")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LowBitsStep:
    """Weights in few bits, for size; the network computes in float32 and is not faster.

    Attributes:
        bits: of weights, with a scale for each output channel.
        rounding: weights to the nearest level, or to that of the two neighbours which keeps the
            layer's output.
        n_images: training images for adaptive rounding.
        keep_float: layers that stay in float32: `first`, `last`, `gates`, `depthwise`, or paths of
            layers or of stages.
        floor: points of accuracy, 0 or below, that the file may lose to the float one; where it
            is broken, more bits are tried.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    bits: Bits = 6
    rounding: Literal["nearest", "adaptive"] = "nearest"
    n_images: int = 128
    keep_float: tuple[str, ...] = ()
    floor: float | None = None
    kind: Literal["low_bits"] = "low_bits"

    def __post_init__(self) -> None:
        if self.n_images < MIN_IMAGES:
            raise ConfigError(
                f"low_bits: n_images must be at least {MIN_IMAGES}, got {self.n_images}"
            )
        require_floor(self.floor, "low_bits: floor")


Step = Annotated[PruneStep | DistilStep | QuantiseStep | LowBitsStep, Field(discriminator="kind")]
STEPS: Final[Mapping[str, type]] = {
    "prune": PruneStep,
    "distil": DistilStep,
    "quantise": QuantiseStep,
    "low_bits": LowBitsStep,
}
"""Every step by its kind."""


def require_floor(floor: float | None, where: str) -> None:
    """Raise if a floor is none.

    Raises:
        ConfigError: it is above 0, below -100, or not a number.
    """
    if floor is not None and not -100 <= floor <= 0:
        raise ConfigError(
            f"{where} is points of accuracy that may be lost, 0 or below, such as -0.3; "
            f"got {floor}"
        )
