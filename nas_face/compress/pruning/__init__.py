"""Structured pruning on the layer tree: which channels belong together, which go, surgery."""

from nas_face.compress.pruning.gradients import (
    Gradients,
    angular_gradients,
    per_sample_gradients,
)
from nas_face.compress.pruning.importance import BY_GRADIENT, Importance
from nas_face.compress.pruning.norms import lacks_statistics, recalibrate_norms, restore_norms
from nas_face.compress.pruning.prune import FamilyWidth, PruneResult, prune
from nas_face.compress.pruning.refit import refit
from nas_face.compress.pruning.rounds import prune_in_rounds
from nas_face.compress.pruning.scope import Scope
from nas_face.compress.pruning.stages import prune_stages, stage_of
from nas_face.compress.pruning.surgery import mask_
from nas_face.compress.pruning.target import Target

__all__ = [
    "BY_GRADIENT",
    "FamilyWidth",
    "Gradients",
    "Importance",
    "PruneResult",
    "Scope",
    "Target",
    "angular_gradients",
    "lacks_statistics",
    "mask_",
    "per_sample_gradients",
    "prune",
    "prune_in_rounds",
    "prune_stages",
    "recalibrate_norms",
    "refit",
    "restore_norms",
    "stage_of",
]
