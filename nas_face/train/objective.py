"""What a training lowers: a margin loss, distillation, or their sum."""

from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from torch import Tensor, nn

from nas_face.losses.classifier import MarginClassifier
from nas_face.losses.distillation import AbstractDistillation, Bridge, build_distillation
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.train.settings import TrainSettings
from nas_face.train.teachers import TeacherTargets

N_SAMPLED = 2048
"""Embeddings of the teacher that a bridge starts from."""


@final
class Objective(nn.Module):
    """The loss of a batch, with all that is trained beside the network: class centres, a bridge.

    Args:
        settings: which losses.
        embedding_size: of the network.
        n_classes: identities to train on.
        teacher: of the distillation, if there is any.
        ranks: processes that train together.

    Attributes:
        classifier: class centres, if the settings have a margin loss.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        embedding_size: int,
        n_classes: int,
        teacher: TeacherTargets | None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.classifier: MarginClassifier | None = None
        if settings.loss is not None:
            self.classifier = MarginClassifier(
                embedding_size,
                n_classes,
                settings.loss,
                sub_centres=settings.sub_centres,
                sample_rate=settings.sample_rate,
                filter_above=settings.filter_above,
                ranks=ranks,
            )
        self.bridge: Bridge | None = None
        self.distillations = nn.ModuleList()
        if teacher is not None and settings.distil:
            self.bridge = Bridge(
                settings.bridge,
                student_size=embedding_size,
                teacher_size=teacher.embedding_size,
                sample=torch.from_numpy(teacher.sample(N_SAMPLED)),
            )
            for each in settings.distil:
                self.distillations.append(
                    build_distillation(each, embedding_size=self.bridge.size, n_classes=n_classes)
                )

    @property
    def sharded(self) -> tuple[nn.Parameter, ...]:
        """Parameters of which each rank has a part of its own."""
        if self.classifier is None or self.classifier.ranks.n == 1:
            return ()
        return (self.classifier.centres,)

    def drawn(
        self, labels: Tensor, optimizer: torch.optim.Optimizer
    ) -> AbstractContextManager[None]:
        """One step of the optimiser, on a draw of the class centres if the settings have it so.

        Args:
            labels: of all images of the step on all ranks, `(N_global,)` int64.
            optimizer: that has the parameters of this module.
        """
        if self.classifier is None:
            return nullcontext()
        return self.classifier.drawn(labels, optimizer)

    def forward(self, embeddings: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        """The loss, in float32.

        Args:
            embeddings: of the batch of all ranks, `(N, embedding_size)`.
            labels: `(N,)` int64.
            targets: the teacher's embeddings, `(N, its size)`, of unit length; None without one.

        Returns:
            Scalar; the mean over the batch.
        """
        embeddings = embeddings.float()
        parts: list[Tensor] = []
        if self.classifier is not None:
            parts.append(self.classifier(embeddings, labels))
        if self.bridge is not None and targets is not None:
            student, teacher = self.bridge(embeddings, targets)
            for each in self.distillations:
                assert isinstance(each, AbstractDistillation)
                pair = (embeddings, targets) if each.pairwise else (student, teacher)
                parts.append(each(*pair, labels))
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
