"""ArcFace."""

from torch import Tensor

from nas_face.losses.margins.angles import add_angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import ArcFace


class ArcFaceMargin(AbstractMargin):
    """cos(theta + m) for the true class.

    Where theta + m passes pi, cos(theta + m) rises again. ``past_pi: fall_back`` goes on with
    cos(theta) - m sin(m), as the first published code and many after it; ``past_pi: none`` leaves
    it, as arcface_torch does.

    ``gradient: straight_through`` is what arcface_torch trains with, which adds the margin where
    no derivative is taken: the logit is cos(theta + m), its derivative by cos(theta) is 1 instead
    of sin(theta + m) / sin(theta). Together with ``past_pi: none`` it is that code.

    Source: Deng et al., ArcFace, arXiv 1801.07698, equation 3, with its m = 0.5 and s = 64.
    """

    def __init__(self, settings: ArcFace) -> None:
        super().__init__(settings.scale)
        self.margin = settings.margin
        self.fall_back = settings.past_pi == "fall_back"
        self.straight_through = settings.gradient == "straight_through"

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        if self.straight_through:
            plain = target.detach()
            harder = add_angle(plain, self.margin, fall_back=self.fall_back)
            return target + (harder - plain), others
        return add_angle(target, self.margin, fall_back=self.fall_back), others
