"""Margin losses: classifiers on the angle between an embedding and a class centre."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

MarginName = Literal["arcface", "cosface"]


class MarginClassifier(nn.Module):
    """Cosines between unit embeddings and unit class centres, made harder for the true class.

    - ``cosface``: cos(theta_y) - m.
      Source: Wang et al., CosFace, arXiv 1801.09414, equation 4.
    - ``arcface``: cos(theta_y + m), with the true derivative. Where theta_y + m passes pi the
        target
      falls back to cos(theta_y) - m sin(m), so that it stays monotone in theta.
      Source: Deng et al., ArcFace, arXiv 1801.07698, equation 3; the fall-back as in the code of
      several published networks.

    Args:
        embedding_size: length of the embeddings.
        n_classes: number of training identities, 2 or more.
        kind: which of the two.
        margin: m; radians for ``arcface``.
        scale: s, by which all cosines are multiplied.
    """

    def __init__(
        self,
        embedding_size: int,
        n_classes: int,
        *,
        kind: MarginName,
        margin: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.margin = margin
        self.scale = scale
        self.centres = nn.Parameter(torch.empty(n_classes, embedding_size))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the logits.

        Args:
            embeddings: `(N, embedding_size)`, any length.
            labels: `(N,)` int64.

        Returns:
            Scalar.
        """
        return functional.cross_entropy(self.logits(embeddings, labels), labels)

    def logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Scaled cosines, `(N, n_classes)`, the true class with its margin."""
        unit = functional.normalize(embeddings.float())
        cosines = functional.linear(unit, functional.normalize(self.centres))  # (N, n_classes)
        cosines = cosines.clamp(-1.0, 1.0)
        target = cosines.gather(1, labels[:, None])  # (N, 1)
        harder = target - self.margin if self.kind == "cosface" else self._add_angle(target)
        return self.scale * cosines.scatter(1, labels[:, None], harder)

    def _add_angle(self, cosine: Tensor) -> Tensor:
        m = self.margin
        # A tiny floor under the root keeps its derivative finite for an embedding on its centre.
        sine = (1.0 - cosine.square()).clamp_min(1e-12).sqrt()
        added = cosine * math.cos(m) - sine * math.sin(m)
        fallen_back = cosine - m * math.sin(m)
        return torch.where(cosine > math.cos(math.pi - m), added, fallen_back)
