"""Making a trained network smaller and cheaper: a model in, a model out."""

from nas_face.compress.importance import Importance
from nas_face.compress.prune import FamilyWidth, PruneResult, prune
from nas_face.compress.surgery import mask_

__all__ = ["FamilyWidth", "Importance", "PruneResult", "mask_", "prune"]
