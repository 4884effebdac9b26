"""A margin loss against class centres that follow the teacher as the student learns."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from nas_face.losses.distillation.base import AbstractDistillation
from nas_face.losses.distillation.settings import AdaptiveCentres
from nas_face.losses.margins import build_margin


@final
class AdaptiveCentreDistillation(AbstractDistillation):
    """A margin loss of the student against running means of its teacher's embeddings.

    Each image moves the centre of its class, in training only:
    ``centre <- a centre + (1 - a) teacher``, with
    ``a = clip(cos(student, teacher) clip(cos(centre, teacher)))``, both clipped to [1e-6, 1].
    While the student is far from its teacher, a centre is about the last teacher embedding; the
    nearer it comes, the longer a centre remembers, and an image that is unlike its class counts
    more. Only the student gets a gradient.

    Args:
        settings: which margin loss, and its weight.
        embedding_size: length of both embeddings.
        n_classes: number of training identities, 2 or more.

    Source: Boutros et al., AdaDistill, ECCV 2024, arXiv 2407.01332, the importance-weighted form;
    ArcFace with margin 0.45 or CosFace with 0.35.
    Differs: several images of one class in a batch move its centre by the mean of their moves;
    the posted code lets one of them win, undefined which. Centres start at zero, so that a class
    not seen yet is orthogonal to everything and nothing is random; there they start at random.
    The unweighted form is left out: its posted code reads an attribute that nobody sets.
    """

    needs_labels: ClassVar[bool] = True

    centres: Tensor

    def __init__(self, settings: AdaptiveCentres, *, embedding_size: int, n_classes: int) -> None:
        super().__init__(settings.weight)
        self.margin = build_margin(settings.loss)
        self.register_buffer("centres", torch.zeros(n_classes, embedding_size))

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None  # forward saw to it
        unit = functional.normalize(student)
        if self.training:
            self._move_centres(unit.detach(), teacher, labels)
        centres = functional.normalize(self.centres).to(unit.dtype)
        cosines = (unit @ centres.T).clamp(-1.0, 1.0)  # (N, n_classes)
        norms = torch.linalg.vector_norm(student, dim=1)
        target, others = self.margin(cosines.gather(1, labels[:, None])[:, 0], cosines, norms)
        logits = self.margin.scale * others.scatter(1, labels[:, None], target[:, None])
        cross_entropy = functional.cross_entropy(logits, labels)
        penalty: Tensor = self.margin.penalty(norms)
        return cross_entropy + penalty

    @torch.no_grad()
    def _move_centres(self, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Let unit embeddings move the centres of their classes."""
        own = self.centres[labels].to(teacher.dtype)  # (N, D)
        likeness = (student * teacher).sum(dim=1)
        typical = functional.cosine_similarity(own, teacher).clamp(1e-6, 1.0)
        kept = (likeness * typical).clamp(1e-6, 1.0)[:, None]
        moved = kept * own + (1 - kept) * teacher
        seen, of_row = labels.unique(return_inverse=True)
        # A matrix product, as adding by index is in no fixed order on a GPU.
        members = functional.one_hot(of_row, len(seen)).T.to(moved.dtype)  # (seen, N)
        means = members @ moved / members.sum(dim=1, keepdim=True)
        self.centres[seen] = means.to(self.centres.dtype)
