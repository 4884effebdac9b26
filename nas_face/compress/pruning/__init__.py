"""Structured pruning on the layer tree: which channels belong together, which go, surgery."""

from nas_face.compress.pruning.importance import Importance
from nas_face.compress.pruning.prune import FamilyWidth, PruneResult, prune
from nas_face.compress.pruning.surgery import mask_

__all__ = ["FamilyWidth", "Importance", "PruneResult", "mask_", "prune"]
