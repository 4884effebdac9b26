"""What tells one search for a recipe from another."""

import json
from dataclasses import dataclass
from typing import Any, final

from nas_face.arch.codec import to_data
from nas_face.nn import FaceModel
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.record import CompressionFaces, digest_of_faces
from nas_face.study.compression.results import Runtime
from nas_face.train import TrainSettings


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchClaim:
    """What a folder is of; how many trials there are to be is not part of it.

    Attributes:
        model: what is compressed.
        space: what may be chosen.
        runtime: that decides.
        faces: that serve it.
        training: recipe of distillations.
        seed: of everything.
    """

    model: FaceModel
    space: RecipeSpace
    runtime: Runtime
    faces: CompressionFaces
    training: TrainSettings
    seed: int

    def to_data(self) -> dict[str, Any]:
        """For JSON; every key of the space by itself, so that a message can name the one that
        changed."""
        of_space = {
            f"space.{name}": to_data(getattr(self.space, name))
            for name in RecipeSpace.__slots__
            if name != "trials"
        }
        record: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "model": self.model.digest,
                    **of_space,
                    "runtime": self.runtime,
                    "training": to_data(self.training),
                    "faces": digest_of_faces(self.faces),
                    "seed": self.seed,
                }
            )
        )
        return record
