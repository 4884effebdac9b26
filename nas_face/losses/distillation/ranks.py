"""Ranks of pairs among the negatives: what verification at a low false match rate looks at."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from nas_face.losses.distillation.base import AbstractDistillation
from nas_face.losses.distillation.settings import PairRanks

ONE_IN = (10, 100, 1000, 10_000, 100_000, 1_000_000)


@final
class PairRankDistillation(AbstractDistillation):
    """A pair ranks with the student as it does with the teacher.

    The similarities of a network's negative pairs give one threshold for each of
    the false match rates 1 / `ONE_IN`; the rank of a pair is the number of thresholds that it
    exceeds, softened by a sigmoid. Compared are all positive pairs and the negative pairs most
    alike to the student, by the squared difference of the two ranks. Student and teacher have
    thresholds of their own, so their similarities may be distributed differently.

    The thresholds are running means over batches; they move in training only. Batches need several
    images of an identity: sample them so.

    Source: Huang et al., Evaluation-oriented Knowledge Distillation for Deep Face Recognition,
    CVPR 2022, arXiv 2206.02325, with the settings of the posted code (Tencent/TFace).
    Differs: the first batch sets the thresholds, where the posted code lets them climb from 0 at
    one hundredth a step, too late for a short training. A batch without
    positive pairs has no part for them (NaN in the posted code), and one without negative pairs
    leaves the thresholds alone (an index error there). Thresholds are of the global batch, equal
    on all ranks.
    """

    needs_labels: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True

    student_thresholds: Tensor
    teacher_thresholds: Tensor
    n_batches: Tensor

    def __init__(self, settings: PairRanks) -> None:
        super().__init__(settings.weight)
        self.settings = settings
        self.register_buffer("student_thresholds", torch.zeros(len(ONE_IN)))
        self.register_buffer("teacher_thresholds", torch.zeros(len(ONE_IN)))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None  # forward saw to it
        student = functional.normalize(student)
        rows, columns = torch.triu_indices(
            len(student), len(student), offset=1, device=student.device
        )
        of_student = (student @ student.T)[rows, columns]  # (pairs,)
        of_teacher = (teacher @ teacher.T)[rows, columns]
        positive = labels[rows] == labels[columns]
        negative_of_student, order = of_student[~positive].sort(descending=True)
        negative_of_teacher = of_teacher[~positive]
        if self.training and len(order) > 0:
            self._move_thresholds(
                negative_of_student.detach(), negative_of_teacher.sort(descending=True).values
            )
        hardest = slice(self.settings.n_negatives)
        positives = self._difference(of_student[positive], of_teacher[positive])
        negatives = self._difference(
            negative_of_student[hardest], negative_of_teacher[order[hardest]]
        )
        return self.settings.positive * positives + self.settings.negative * negatives

    @torch.no_grad()
    def _move_thresholds(self, student: Tensor, teacher: Tensor) -> None:
        """Take in the negatives of a batch, both in falling order."""
        places = [len(student) // each for each in ONE_IN]
        share = 1.0 if int(self.n_batches) == 0 else self.settings.momentum
        self.student_thresholds.lerp_(student[places].to(self.student_thresholds.dtype), share)
        self.teacher_thresholds.lerp_(teacher[places].to(self.teacher_thresholds.dtype), share)
        self.n_batches += 1

    def _difference(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference of the ranks of some pairs, 0 without any."""
        if len(student) == 0:
            return student.sum()
        difference = self._ranks(student, self.student_thresholds) - self._ranks(
            teacher, self.teacher_thresholds
        )
        return difference.square().mean()

    def _ranks(self, similarities: Tensor, thresholds: Tensor) -> Tensor:
        """Softened number of thresholds exceeded, `(pairs,)`, from 0 to 6."""
        beyond = similarities[:, None] - thresholds[None]
        return torch.sigmoid(beyond / self.settings.temperature).sum(dim=1)
