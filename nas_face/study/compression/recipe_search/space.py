"""What a search for a recipe may choose, and within which walls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, final

from nas_face.compress.pruning import Importance, Scope
from nas_face.errors import ConfigError
from nas_face.search import DEFAULT_SAMPLER, Budget
from nas_face.search.samplers import require_sampler
from nas_face.study.compression.recipe import RUNTIMES
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
        recover_epochs: of training behind the pruning; 0 fits what is left, without training.
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
    importance: tuple[Importance, ...] = ("fisher", "l2", "fpgm")
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
                    f"{where}: shares of the channels that stay are needed, each above 0 and at "
                    f"most 1 (all), got {', '.join(f'{each:g}' for each in shares) or 'none'}"
                )
        for name in CHOICES:
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"{name}: one or more different choices are needed, got {given}")
        if self.does_nothing:
            raise ConfigError(
                "every choice leaves the network as it is; give shares below 1, or a precision of "
                "few bits (int8, w6, w4) with stage_precision few"
            )
        if min(self.round_to) < 1:
            raise ConfigError(f"round_to must be at least 1, got {min(self.round_to)}")
        if min(self.recover_epochs) < 0:
            raise ConfigError(f"recover_epochs must be at least 0, got {min(self.recover_epochs)}")
        if not 0 <= self.min_keep <= 1:
            raise ConfigError(f"min_keep must be from 0 to 1, got {self.min_keep}")
        for each in self.deliver:
            runtime, slash, precision = each.partition("/")
            if runtime not in RUNTIMES or (slash and precision != "fp32"):
                raise ConfigError(
                    f"deliver: the search chooses the precision, so give {', '.join(RUNTIMES)} or "
                    f"RUNTIME/fp32, got {each!r}"
                )
        for wall in self.budget.walls:
            if wall.quantity not in MEASURED_WALLS:
                raise ConfigError(
                    f"budget.{wall.name} is no wall of a search for a recipe; there are "
                    f"{', '.join(f'max_{each}' for each in MEASURED_WALLS)}, and min_ of each"
                )
        for step in (self.quantise, self.low_bits):
            if step.floor is not None:
                raise ConfigError(f"{step.kind}: floor goes in the space itself")
            if step.keep_float:
                raise ConfigError(f"{step.kind}: keep_float goes in the space itself")
        require_floor(self.floor, "floor")

    @property
    def limits(self) -> str:
        """All walls in words."""
        if self.floor is None:
            return str(self.budget)
        points = "1 point" if self.floor == -1 else f"{-self.floor:g} points"
        floor = f"at most {points} lost"
        return f"{self.budget}, {floor}" if self.budget.walls else floor

    @property
    def does_nothing(self) -> bool:
        """Whether no recipe of the space changes anything, whatever the network."""
        few_bits = set(self.precision) - {"fp32"} and "few" in self.stage_precision
        every = (self.shares, *self.stages.values())
        return not few_bits and all(share == 1 for shares in every for share in shares)

    def shares_of(self, stage: str) -> tuple[float, ...]:
        """Shares that a stage may keep."""
        return tuple(dict.fromkeys(self.stages.get(stage, self.shares)))


CHOICES: Final = (
    "importance",
    "scope",
    "round_to",
    "recover_epochs",
    "precision",
    "stage_precision",
)
"""Keys of a space that are lists of which one entry is chosen, beside the shares."""
