"""Margin losses: how the logit of the true class, and in some of hard negatives, is changed."""

from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.build import build_margin
from nas_face.losses.margins.settings import (
    AdaFace,
    ArcFace,
    Combined,
    CosFace,
    CurricularFace,
    ElasticFace,
    LiArcFace,
    MagFace,
    MarginSettings,
)

__all__ = [
    "AbstractMargin",
    "AdaFace",
    "ArcFace",
    "Combined",
    "CosFace",
    "CurricularFace",
    "ElasticFace",
    "LiArcFace",
    "MagFace",
    "MarginSettings",
    "build_margin",
]
