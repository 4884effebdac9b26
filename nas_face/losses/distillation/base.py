"""What every distillation loss is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class AbstractDistillation(nn.Module, ABC):
    """A loss between the embeddings of a student and those of its teacher on the same images.

    Attributes:
        needs_labels: whether identities have to be known.
        pairwise: whether only embeddings of one network are compared with each other, so that
            student and teacher may have different lengths; otherwise a `Bridge` evens them out.
        weight: factor of the loss.
    """

    needs_labels: ClassVar[bool] = False
    pairwise: ClassVar[bool] = False

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Weighted loss of a batch, in float32 or wider whatever autocast says.

        Args:
            student: `(N, D)`, any length; the global batch where several ranks train together.
            teacher: `(N, D)`, any length; gets no gradient.
            labels: `(N,)` int64, where the method needs them.

        Returns:
            Scalar, 0 or above.

        Raises:
            ValueError: labels are needed and missing.
        """
        if self.needs_labels and labels is None:
            raise ValueError(f"{type(self).__name__} needs the labels of the images")
        with torch.autocast(student.device.type, enabled=False):
            wide = torch.promote_types(student.dtype, torch.float32)
            student = student.to(wide)
            teacher = functional.normalize(teacher.detach().to(wide))
            return self.weight * self.loss(student, teacher, labels)

    @abstractmethod
    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Loss without its weight.

        Args:
            student: `(N, D)` float32 or float64, any length.
            teacher: `(N, D)` of the same type, unit length, without gradient.
            labels: `(N,)`; present where `needs_labels`.
        """
