"""ElasticFace."""

import torch
from torch import Tensor

from nas_face.losses.margins.angles import add_angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import ElasticFace


class ElasticFaceMargin(AbstractMargin):
    """ArcFace or CosFace with a margin for each image, drawn anew in every step.

    Margins come from N(`margin`, `sigma`) and torch's global generator, so processes that are
    seeded alike draw alike. Outside training (`eval()`) every margin is the mean and nothing is
    drawn. ``form: arcface`` leaves theta + m beyond pi as it is, as the published code does.

    With `sort` (ElasticFace-Arc+, ElasticFace-Cos+) the n-th largest margin goes to the image
    with the n-th smallest target cosine; among equal cosines, the larger margin to the later
    image.

    Source: Boutros et al., ElasticFace, arXiv 2109.09416, with its m = 0.5 or 0.35, s = 64 and
    sigmas.

    Differs: the code posted with the paper indexes the sorted margins with the permutation that
    sorts the cosines. That permutation's inverse, the rank of each image, is what the paper
    describes and what is used here; the two agree in general only for batches of two.
    """

    def __init__(self, settings: ElasticFace) -> None:
        super().__init__(settings.scale)
        self.form = settings.form
        self.mean = settings.mean_margin
        self.sigma = settings.margin_deviation
        self.sort = settings.sort

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        margins = self._margins(target.detach())
        if self.form == "cosface":
            return target - margins, others
        return add_angle(target, margins, fall_back=False), others

    def _margins(self, target: Tensor) -> Tensor:
        """One for each image, `(N,)`."""
        if not self.training:
            return torch.full_like(target, self.mean)
        drawn = self.mean + self.sigma * torch.randn_like(target)
        if not self.sort:
            return drawn
        easiest_first = target.argsort(descending=True, stable=True)
        margins = torch.empty_like(drawn)
        margins[easiest_first] = drawn.sort().values
        return margins
