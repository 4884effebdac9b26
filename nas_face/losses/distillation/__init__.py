"""Distillation: a student learns to put faces where its teacher puts them."""

from nas_face.losses.distillation.base import AbstractDistillation
from nas_face.losses.distillation.bridge import Bridge, BridgeKind
from nas_face.losses.distillation.build import build_distillation
from nas_face.losses.distillation.settings import (
    AdaptiveCentres,
    Angular,
    DistillationSettings,
    PairRanks,
    Relational,
    Shrink,
    Template,
)

__all__ = [
    "AbstractDistillation",
    "AdaptiveCentres",
    "Angular",
    "Bridge",
    "BridgeKind",
    "DistillationSettings",
    "PairRanks",
    "Relational",
    "Shrink",
    "Template",
    "build_distillation",
]
