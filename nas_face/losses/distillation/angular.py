"""Distances between the directions of two embeddings of one image."""

from typing import final

from torch import Tensor
from torch.nn import functional

from nas_face.losses.distillation.base import AbstractDistillation


@final
class AngularDistillation(AbstractDistillation):
    """Mean over the batch of the squared distance of unit embeddings, which is 2 - 2 cos.

    Source: Yan et al., VarGFaceNet, arXiv 1910.04985, equation 2, weight 7.
    """

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        return (functional.normalize(student) - teacher).square().sum(dim=1).mean()


@final
class ShrinkDistillation(AbstractDistillation):
    """Mean over the batch of (1 - cos) squared.

    Its gradient fades with the square of the angle, so images that are nearly right count less
    than in `AngularDistillation`.

    Source: Duong et al., ShrinkTeaNet, arXiv 1905.10620, the angular distillation loss.
    Differs: on the final embedding only; the paper adds it at inner layers as well.
    """

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        # (1 - cos) as half of the squared distance, which loses no digits near 0.
        squared = (functional.normalize(student) - teacher).square().sum(dim=1)
        return (squared / 2).square().mean()


@final
class TemplateDistillation(AbstractDistillation):
    """Mean squared error over batch and elements of unit embeddings.

    With D elements it is `AngularDistillation` divided by D, so weight 100 at 512 elements weighs
    as much as 0.2 there.

    Source: Boutros et al., PocketNet, arXiv 2108.10710, the template knowledge distillation,
    weight 100.
    """

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        return functional.mse_loss(functional.normalize(student), teacher)
