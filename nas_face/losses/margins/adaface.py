"""AdaFace."""

import math

import torch
from torch import Tensor

from nas_face.losses.margins.angles import angle
from nas_face.losses.margins.base import AbstractMargin
from nas_face.losses.margins.settings import AdaFace

SHORTEST, LONGEST = 0.001, 100.0  # lengths are clamped to this range
EPSILON = 1e-3
START_MEAN, START_DEVIATION = 20.0, 100.0


class AdaFaceMargin(AbstractMargin):
    """cos(theta - m k) - m (1 + k) for the true class, where k in [-1, 1] tells the quality of
    the image.

    k = clip(h (a - mean) / (deviation + 0.001), -1, 1), where a is the length of the embedding,
    without derivative, clamped to [0.001, 100], and mean and deviation are running ones over
    batches, started at 20 and 100. In training they take in each batch before the batch is judged
    by them; a batch of one image has no deviation and is left out. At k = -1 (poor) this is
    ArcFace, at 0 CosFace, and at 1 (good) a margin of the opposite angle with 2 m.

    The cosine is clamped to +-0.999 and theta - m k to [0.001, pi - 0.001]; beyond there is no
    derivative. The networks that were published with it expect BGR input.

    Attributes:
        mean: scalar buffer.
        deviation: scalar buffer.

    Source: Kim et al., AdaFace, arXiv 2204.00964, with its m = 0.4, h = 0.333 and
    momentum 0.99 (the share of the old value; the setting here is that of the new batch). The
    published code's own default is 1 in the meaning used here, its training commands give 0.01.

    Differs: the published code clamps cosines with the other classes to +-0.999 too.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: AdaFace) -> None:
        super().__init__(settings.scale)
        self.margin = settings.margin
        self.concentration = settings.concentration
        self.momentum = settings.momentum
        self.register_buffer("mean", torch.tensor(START_MEAN))
        self.register_buffer("deviation", torch.tensor(START_DEVIATION))

    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        k = self._quality(norms.detach().clamp(SHORTEST, LONGEST))
        theta = angle(target.clamp(EPSILON - 1.0, 1.0 - EPSILON))
        turned = (theta - self.margin * k).clamp(EPSILON, math.pi - EPSILON)
        return turned.cos() - self.margin * (1.0 + k), others

    def _quality(self, lengths: Tensor) -> Tensor:
        if self.training and len(lengths) > 1:
            self.mean.lerp_(lengths.mean().to(self.mean), self.momentum)
            self.deviation.lerp_(lengths.std().to(self.deviation), self.momentum)
        standard = (lengths - self.mean) / (self.deviation + EPSILON)
        return (self.concentration * standard).clamp(-1.0, 1.0)
