"""What is trained, and how: all that stays as it is during a training."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import final

from nas_face.arch.codec import canonical_json
from nas_face.data import FaceImages
from nas_face.nn.model import FaceModel
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.train.settings import TrainSettings
from nas_face.train.teachers import TeacherTargets


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One training.

    Attributes:
        model: whose weights are trained.
        images: to train on.
        settings: the recipe.
        seed: of class centres, order and augmentation.
        teacher: of the distillation in the settings.
        ranks: processes that train together.
        start: digest of the model before its training.
    """

    model: FaceModel
    images: FaceImages
    settings: TrainSettings
    seed: int
    teacher: TeacherTargets | None = None
    ranks: Ranks = ALONE
    start: str

    @cached_property
    def identity(self) -> str:
        """Digest of what must be equal for a checkpoint to be resumed."""
        faces = hashlib.sha256("\n".join(self.images.names).encode("utf-8", "surrogatepass"))
        faces.update(self.images.labels.tobytes())
        teacher = None if self.teacher is None else self.teacher.identity
        parts = (
            self.start,
            faces.hexdigest(),
            self.seed,
            canonical_json(self.settings),
            teacher,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()
