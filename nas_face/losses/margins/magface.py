"""MagFace."""

import torch
from torch import Tensor

from nas_face.losses.margins.angles import add_angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import MagFace


class MagFaceMargin(AbstractMargin):
    """cos(theta + m(a)) for the true class, where a is the length of the embedding, and a term
    that rewards long embeddings.

    m(a) grows linearly from `lower_margin` at `lower_norm` to `upper_margin` at `upper_norm`; a
    is clamped to that range, and embeddings outside it get no derivative by their length. The
    term is `norm_weight` times the mean of a / upper_norm^2 + 1 / a. Easy images then end with
    long embeddings and hard ones with short, so that the length tells the quality of an image.

    With `easy_margin` the target is cos(theta) where theta is pi/2 or more, and so jumps up
    there.

    Source: Meng et al., MagFace, arXiv 2103.06627; numbers and easy margin of the published code.
    """

    def __init__(self, settings: MagFace) -> None:
        super().__init__(settings.scale)
        self.lower_norm = settings.lower_norm
        self.upper_norm = settings.upper_norm
        self.lower_margin = settings.lower_margin
        self.margin_slope = (settings.upper_margin - settings.lower_margin) / (
            settings.upper_norm - settings.lower_norm
        )
        self.norm_weight = settings.norm_weight
        self.easy_margin = settings.easy_margin

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        above = norms.clamp(self.lower_norm, self.upper_norm) - self.lower_norm
        margins = self.lower_margin + self.margin_slope * above
        harder = add_angle(target, margins, fall_back=not self.easy_margin)
        if self.easy_margin:
            harder = torch.where(target > 0, harder, target)
        return harder, others

    def penalty(self, norms: Tensor) -> Tensor:
        a = norms.clamp(self.lower_norm, self.upper_norm)
        return self.norm_weight * (a / self.upper_norm**2 + 1.0 / a).mean()
