"""Li-ArcFace."""

import math

from torch import Tensor

from nas_face.losses.margins.angles import angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import LiArcFace


class LiArcFaceMargin(AbstractMargin):
    """(pi - 2 (theta + m)) / pi for the true class and (pi - 2 theta) / pi for the others.

    Linear in the angle, so it falls with the same slope everywhere and needs no rule for
    theta + m beyond pi. Made for embeddings of 128 numbers, on which ArcFace may not converge from
    scratch.

    Source: Li et al., AirFace, arXiv 1907.12256, with its m = 0.45 and s = 64.
    """

    def __init__(self, settings: LiArcFace) -> None:
        super().__init__(settings.scale)
        self.margin = settings.margin

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        return _linear(angle(target) + self.margin), _linear(angle(others))


def _linear(theta: Tensor) -> Tensor:
    """1 at 0, 0 at pi/2, -1 at pi."""
    return 1.0 - theta * (2.0 / math.pi)
