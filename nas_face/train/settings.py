"""How a network is trained."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

from nas_face.data.augment import AugmentSettings
from nas_face.data.sampling import RandomSampling, SamplingSettings
from nas_face.errors import ConfigError
from nas_face.losses.distillation.settings import AdaptiveCentres, DistillationSettings, PairRanks
from nas_face.losses.margins.settings import CosFace, MarginSettings
from nas_face.train.teachers.settings import TeacherChoice

BridgeKind = Literal["isometry", "linear"]
Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["cosine", "linear", "step", "polynomial"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Recipe of one training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images an optimiser step, 2 or more.
        accumulate: parts of a batch that pass the network one after another, for batches that
            memory does not hold; batch normalisation then sees one part at a time.
        optimizer: SGD with Nesterov's momentum, or AdamW.
        learning_rate: peak of the schedule.
        warmup: share of all steps in which the rate rises linearly from zero, 0 to below 1.
        schedule: how the rate falls afterwards: half a cosine to zero, a line to zero, its square
            (polynomial), or a tenth at 50 %, 75 % and 90 % of the steps.
        momentum: of SGD.
        weight_decay: on convolutions, linear layers and class centres; none on norms, slopes and
            biases.
        clip_norm: longest gradient allowed; longer ones are shortened to it. None: any length.
        loss: margin loss; None trains without labels, by distillation alone.
        sub_centres: centres of each class, of which the nearest counts; Deng et al., Sub-center
            ArcFace, ECCV 2020.
        sample_rate: share of the class centres that a step uses (Partial FC), above 0 to 1.
        filter_above: cosine above which a wrong class is left out of a step, as a doubtful label;
            None leaves none out.
        teacher: whose embeddings the student is to learn.
        distil: how it learns them; added up, and to the margin loss.
        bridge: what lies between embeddings of different lengths.
        generations: trainings in a row, each from the weights of the one before, with the same
            teacher; Yan et al., VarGFaceNet, arXiv 1910.04985, section 3.4 (recursive
            distillation).
        ema: share of the running mean of the weights that a step keeps, between 0 and 1; the mean
            is what is verified and saved. None: the weights themselves.
        precision: of activations and gradients; weights and losses are always fp32.
        compile: whether torch compiles the network first: minutes, which long trainings on a GPU
            win back.
        sampling: which images make a batch.
        augment: how images are varied.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 20
    batch_size: int = 64
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = 5.0
    loss: MarginSettings | None = field(default_factory=lambda: CosFace(margin=0.35, scale=32.0))
    sub_centres: int = 1
    sample_rate: float = 1.0
    filter_above: float | None = None
    teacher: TeacherChoice | None = None
    distil: tuple[DistillationSettings, ...] = ()
    bridge: BridgeKind = "isometry"
    generations: int = 1
    ema: float | None = None
    precision: Precision = "fp32"
    compile: bool = False
    sampling: SamplingSettings = field(default_factory=RandomSampling)
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        rules = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 2, "at least 2"),
            ("accumulate", self.accumulate >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("warmup", 0 <= self.warmup < 1, "from 0 to below 1"),
            ("momentum", 0 < self.momentum < 1, "between 0 and 1"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0, or null"),
            ("sub_centres", self.sub_centres >= 1, "at least 1"),
            ("sample_rate", 0 < self.sample_rate <= 1, "above 0 and at most 1"),
            (
                "filter_above",
                self.filter_above is None or -1 < self.filter_above < 1,
                "between -1 and 1, or null",
            ),
            ("generations", self.generations >= 1, "at least 1"),
            ("ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1, or null"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ConfigError(f"training.{name} must be {rule}, got {getattr(self, name)}")
        if self.batch_size < 2 * self.accumulate:
            raise ConfigError(
                "training.accumulate: each part of a batch needs 2 images, and batch_size is "
                f"{self.batch_size} for {self.accumulate} parts"
            )
        if self.distil and self.teacher is None:
            raise ConfigError("training.distil needs training.teacher, such as sface or a model")
        if self.teacher is not None and not self.distil:
            raise ConfigError("training.teacher: say how it teaches, such as distil: [angular]")
        if self.loss is None and not self.distil:
            raise ConfigError(
                "training.loss may be null only where training.distil says what to learn instead"
            )
        if self.generations > 1 and not self.distil:
            raise ConfigError("training.generations: more than one is for distillation")

    @property
    def needs_labels(self) -> bool:
        """Whether the loss asks who is on an image."""
        labelled = (AdaptiveCentres, PairRanks)
        return self.loss is not None or any(isinstance(each, labelled) for each in self.distil)

    @property
    def n_epochs(self) -> int:
        """Passes over the images in all generations."""
        return self.epochs * self.generations
