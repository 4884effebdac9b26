"""From settings to losses."""

from nas_face.losses.distillation.adaptive_centres import AdaptiveCentreDistillation
from nas_face.losses.distillation.angular import (
    AngularDistillation,
    ShrinkDistillation,
    TemplateDistillation,
)
from nas_face.losses.distillation.base import AbstractDistillation
from nas_face.losses.distillation.ranks import PairRankDistillation
from nas_face.losses.distillation.relational import RelationalDistillation
from nas_face.losses.distillation.settings import (
    AdaptiveCentres,
    Angular,
    DistillationSettings,
    PairRanks,
    Relational,
    Shrink,
    Template,
)


def build_distillation(
    settings: DistillationSettings, *, embedding_size: int, n_classes: int
) -> AbstractDistillation:
    """The loss that settings describe.

    Args:
        settings: any of the union.
        embedding_size: length of both embeddings behind the `Bridge`.
        n_classes: number of training identities.
    """
    match settings:
        case Angular():
            return AngularDistillation(settings.weight)
        case Shrink():
            return ShrinkDistillation(settings.weight)
        case Template():
            return TemplateDistillation(settings.weight)
        case Relational():
            return RelationalDistillation(settings)
        case PairRanks():
            return PairRankDistillation(settings)
        case AdaptiveCentres():
            return AdaptiveCentreDistillation(
                settings, embedding_size=embedding_size, n_classes=n_classes
            )
