"""Relations between the images of a batch: how far apart, at which angles."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from nas_face.losses.distillation.base import AbstractDistillation
from nas_face.losses.distillation.settings import Relational


@final
class RelationalDistillation(AbstractDistillation):
    """Distances and angles between the images of a batch, alike for student and teacher.

    - Distances: of all pairs, each divided by their mean, so that scale does not matter.
    - Angles: cosine of the angle at j between i and k, for all triplets of different images.
      Where a batch has more than `angle_images`, that many of it, evenly spread, are compared.

    Both are compared by the Huber loss with threshold 1 and averaged.

    Source: Park et al., Relational Knowledge Distillation, arXiv 1904.05068, the
    distance-wise and the angle-wise loss, weights 25 and 50 beside a classification loss.
    Differs: embeddings are of unit length, as faces are compared by cosine. Averages are over
    pairs and triplets of different images; the posted code counts an image against itself as well,
    which only adds zeros. Angles of a part of a large batch, as they number N^3. A triplet in
    which two embeddings coincide counts with cosine 0, and has no gradient.
    """

    pairwise: ClassVar[bool] = True

    def __init__(self, settings: Relational) -> None:
        super().__init__(settings.weight)
        self.settings = settings

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        settings = self.settings
        student = functional.normalize(student)
        total = 0 * student.sum()  # for a batch too small for any pair or triplet
        n = len(student)
        if settings.distance > 0 and n >= 2:
            distances = functional.smooth_l1_loss(
                _relative_distances(student), _relative_distances(teacher)
            )
            total = total + settings.distance * distances
        if settings.angle > 0 and n >= 3:
            taken = min(n, settings.angle_images)
            rows = torch.arange(taken, device=student.device) * n // taken
            angles = functional.smooth_l1_loss(_angles(student[rows]), _angles(teacher[rows]))
            total = total + settings.angle * angles
        return total


def _relative_distances(x: Tensor) -> Tensor:
    """Distances of all pairs of rows, `(N (N - 1) / 2,)`, divided by their mean."""
    distances = functional.pdist(x)
    return distances / distances.mean().clamp_min(1e-6)


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angles at every row between every two others, `(N (N - 1)(N - 2) / 2,)`."""
    n = len(x)
    difference = x[None] - x[:, None]  # (vertex, other, D)
    squared = difference.square().sum(dim=2, keepdim=True)
    apart = squared > 1e-12
    # The inner choice keeps the derivative finite, the outer one makes it zero.
    length = torch.where(apart, squared, 1.0).sqrt()
    unit = torch.where(apart, difference / length, 0.0)
    cosines = unit @ unit.transpose(1, 2)  # (vertex, other, other)
    index = torch.arange(n, device=x.device)
    vertex, first, second = index[:, None, None], index[None, :, None], index[None, None, :]
    return cosines[(first < second) & (first != vertex) & (second != vertex)]
