"""CosFace."""

from torch import Tensor

from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import CosFace


class CosFaceMargin(AbstractMargin):
    """cos(theta) - m for the true class.

    Source: Wang et al., CosFace, arXiv 1801.09414, equation 4; the same as Wang et al., Additive
    margin softmax, arXiv 1801.05599. m = 0.40 and s = 64 as in InsightFace's code.
    """

    def __init__(self, settings: CosFace) -> None:
        super().__init__(settings.scale)
        self.margin = settings.margin

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        return target - self.margin, others
