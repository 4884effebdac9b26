"""How a network is trained."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.errors import ConfigError
from nas_face.nn.margins import MarginName


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Recipe of one training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, 2 or more.
        learning_rate: peak of the schedule.
        warmup: share of all steps in which the rate rises linearly from zero, 0 to below 1.
        schedule: how the rate falls afterwards: half a cosine to zero, a line to zero, or a tenth
            at 50 %, 75 % and 90 % of the steps.
        momentum: of SGD, Nesterov's form.
        weight_decay: on convolutions, linear layers and class centres; none on norms, slopes and
            biases.
        loss: margin loss.
        margin: of the loss.
        scale: of the loss.
        flip: mirror every image with probability one half.
        shift: move every image by up to this many pixels; for crops that are not aligned to
            landmarks, such as the built-in faces. Published ablations find
            that such augmentations hurt small networks on aligned faces.
        clip_norm: longest gradient allowed; longer ones are shortened to it.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup: float = 0.1
    schedule: Literal["cosine", "linear", "step"] = "cosine"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    loss: MarginName = "cosface"
    margin: float = 0.35
    scale: float = 32.0
    flip: bool = True
    shift: int = 0
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        rules = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 2, "at least 2"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("warmup", 0 <= self.warmup < 1, "from 0 to below 1"),
            ("momentum", 0 < self.momentum < 1, "between 0 and 1"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("margin", 0 <= self.margin < 1.5, "from 0 to below 1.5"),
            ("scale", self.scale > 0, "above 0"),
            ("shift", self.shift >= 0, "at least 0"),
            ("clip_norm", self.clip_norm > 0, "above 0"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ConfigError(f"training.{name} must be {rule}, got {getattr(self, name)}")
