"""CurricularFace."""

import torch
from torch import Tensor

from nas_face.losses.margins.angles import add_angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import CurricularFace


class CurricularFaceMargin(AbstractMargin):
    """ArcFace, and cos(theta_j) (t + cos(theta_j)) for a negative with cos(theta_j) above
    cos(theta_y + m).

    t is the running mean of the target cosine, from 0: near the start of a training hard
    negatives count less, later more. In training it takes in each batch before the batch is
    judged by it. The target falls back past pi as in ArcFace; a negative is compared with
    cos(theta_y + m) also there.

    Attributes:
        t: scalar buffer.

    Source: Huang et al., CurricularFace, arXiv 2004.00288, with its m = 0.5, s = 64
    and momentum 0.99 (the share of the old mean; the setting here is that of the new batch).
    """

    t: Tensor

    def __init__(self, settings: CurricularFace) -> None:
        super().__init__(settings.scale)
        self.margin = settings.margin
        self.momentum = settings.momentum
        self.register_buffer("t", torch.zeros(()))

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self.t.lerp_(target.detach().mean().to(self.t), self.momentum)
        turned = add_angle(target.detach(), self.margin, fall_back=False)
        modulated = others * (self.t + others)
        return (
            add_angle(target, self.margin, fall_back=True),
            torch.where(others > turned[:, None], modulated, others),
        )
