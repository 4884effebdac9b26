"""All three margins at once."""

import torch
from torch import Tensor

from nas_face.losses.margins.angles import add_angle, angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import Combined


class CombinedMargin(AbstractMargin):
    """cos(m1 theta + m2) - m3 for the true class.

    Where m1 theta + m2 passes pi the logit rises again: there is no fall-back, as in the
    published code.

    Source: Deng et al., ArcFace, arXiv 1801.07698, equation 4; (m1, m2, m3) = (1, 0.3, 0.2) is
    the paper's CM1, and (0.9, 0.4, 0.15) its CM2. With (m1, 0, 0) it is SphereFace's margin
    (Liu et al., arXiv 1704.08063) without the extension that makes that one fall beyond pi / m1.
    """

    def __init__(self, settings: Combined) -> None:
        super().__init__(settings.scale)
        self.m1 = settings.m1
        self.m2 = settings.m2
        self.m3 = settings.m3

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        if self.m1 == 1:
            turned = add_angle(target, self.m2, fall_back=False)
        else:
            turned = torch.cos(self.m1 * angle(target) + self.m2)
        return turned - self.m3, others
