"""Distillation: a student learns to put faces where its teacher puts them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas_face.errors import TrainingDiverged
from nas_face.nn.model import FaceModel


def angular_distillation(teacher: FaceModel, *, weight: float) -> Callable[[Any, Tensor], Tensor]:
    """Extra loss for `train`: squared distance of the unit embeddings of teacher and student.

    The squared distance of unit vectors is 2 - 2 cos, so only directions count.

    Args:
        teacher: embeddings of the student's length; its weights do not change.
        weight: factor of the mean over the batch; VarGFaceNet uses 7.

    Source: Yan et al., VarGFaceNet, arXiv 1910.04985, equation 2 (angular distillation).
    """
    teacher.module.eval()

    def loss(batch: Any, embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            x = teacher.description.preprocessing.apply(batch).to(embeddings.device)
            target = functional.normalize(teacher.module(x))  # (B, D)
        if not torch.isfinite(target).all():
            raise TrainingDiverged("the teacher's embeddings are not finite")
        student = functional.normalize(embeddings)  # (B, D)
        return weight * (student - target).square().sum(dim=1).mean()

    return loss
