"""Settings to margin loss."""

from typing import assert_never

from nas_face.losses.margins.adaface import AdaFaceMargin
from nas_face.losses.margins.arcface import ArcFaceMargin
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.combined import CombinedMargin
from nas_face.losses.margins.cosface import CosFaceMargin
from nas_face.losses.margins.curricularface import CurricularFaceMargin
from nas_face.losses.margins.elasticface import ElasticFaceMargin
from nas_face.losses.margins.li_arcface import LiArcFaceMargin
from nas_face.losses.margins.magface import MagFaceMargin
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


def build_margin(settings: MarginSettings) -> AbstractMargin:
    """The margin loss that `settings` describe, in training mode."""
    match settings:
        case CosFace():
            return CosFaceMargin(settings)
        case ArcFace():
            return ArcFaceMargin(settings)
        case Combined():
            return CombinedMargin(settings)
        case LiArcFace():
            return LiArcFaceMargin(settings)
        case ElasticFace():
            return ElasticFaceMargin(settings)
        case CurricularFace():
            return CurricularFaceMargin(settings)
        case MagFace():
            return MagFaceMargin(settings)
        case AdaFace():
            return AdaFaceMargin(settings)
        case _:
            assert_never(settings)
