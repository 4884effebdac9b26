"""The classifier that margin losses train against: one centre, or several, for each identity."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from nas_face.errors import DataError
from nas_face.losses.margins import MarginSettings, build_margin
from nas_face.losses.partial_fc import draw_classes, only_rows_
from nas_face.nn.ranks import ALONE, Ranks


@final
class MarginClassifier(nn.Module):
    """Softmax over the cosines between embeddings and class centres, with a margin.

    Each rank holds the centres of its share of the classes, and the softmax runs over all of
    them: no rank ever has all centres or all logits. Starting centres are N(0, 0.01), drawn for
    all classes from torch's global generator on every rank, so that they do not depend on the
    number of ranks. Cosines and loss are in the precision of the centres (fp32), whatever autocast
    says.

    Source: sharding and sampling of centres: An et al., Partial FC, arXiv 2203.15565; sub-centres:
    Deng et al., Sub-center ArcFace, ECCV 2020, which takes the largest of K cosines; the filter:
    arcface_torch, which takes the cosine with a doubtful wrong class for 0.

    Args:
        embedding_size: length of the embeddings.
        n_classes: training identities, 2 or more, and at least one a rank.
        loss: which margin.
        sub_centres: K, centres of each class.
        sample_rate: share of the classes that a step uses, above 0 to 1; below 1 each step goes
            inside `drawn`. Of use from some hundred thousand classes on.
        filter_above: cosine above which a wrong class is taken for a wrong label; None for never.
            arcface_torch has 0.4 for noisy data.
        ranks: processes that train together.

    Attributes:
        centres: `(n_own_classes x sub_centres, embedding_size)`; those of one class lie together.

    Raises:
        DataError: fewer classes than ranks.
    """

    def __init__(
        self,
        embedding_size: int,
        n_classes: int,
        loss: MarginSettings,
        *,
        sub_centres: int = 1,
        sample_rate: float = 1.0,
        filter_above: float | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        if n_classes < ranks.n:
            raise DataError(
                f"{ranks.n} processes share the identities, and there are only {n_classes}; "
                "start fewer processes"
            )
        self.margin = build_margin(loss)
        self.n_classes = n_classes
        self.sub_centres = sub_centres
        self.sample_rate = sample_rate
        self.filter_above = filter_above
        self.ranks = ranks
        self.own = ranks.share(n_classes)
        everything = torch.empty(n_classes * sub_centres, embedding_size)
        nn.init.normal_(everything, std=0.01)
        rows = slice(self.own.start * sub_centres, self.own.stop * sub_centres)
        self.centres = nn.Parameter(everything[rows].clone())
        self._drawn: Tensor | None = None  # own classes, counted from 0
        self._empty = False  # whether none of them counts

    @contextmanager
    def drawn(self, labels: Tensor, optimizer: Optimizer) -> Iterator[None]:
        """One step of the optimiser on a draw of the classes; nothing with a `sample_rate` of 1.

        Inside, `centres` and their optimiser state are those of the drawn classes: forward and
        backward passes and the step belong there, checkpoints do not. Other centres stay as they
        are.

        Args:
            labels: of all images of the step on all ranks, parts of an accumulated batch included,
                `(N_global,)` int64.
            optimizer: has `centres`.
        """
        if self.sample_rate == 1:
            yield
            return
        classes = draw_classes(labels, self.n_classes, self.sample_rate)
        own = classes[(classes >= self.own.start) & (classes < self.own.stop)] - self.own.start
        self._empty = not len(own)
        if self._empty:  # a softmax over nothing has no maximum: one class, which does not count
            own = torch.zeros_like(classes[:1])
        numbers = torch.arange(self.sub_centres, device=own.device)
        rows = (own[:, None] * self.sub_centres + numbers).flatten()
        self._drawn = own
        try:
            with only_rows_(self.centres, rows, optimizer, keep=not self._empty):
                yield
        finally:
            self._drawn = None
            self._empty = False

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the batch of all ranks, and the penalty of the margin.

        Args:
            embeddings: of all ranks, `(N_global, embedding_size)`, any length.
            labels: `(N_global,)` int64.

        Returns:
            Scalar, the same on every rank. Its gradient by the embeddings is the whole one.

        Raises:
            ValueError: a label is none of those given to `drawn`.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.centres.dtype)
            logits, columns, mine = self._logits(embeddings, labels)
            if self.ranks.n == 1:
                loss = functional.cross_entropy(logits, columns)
            else:
                loss = self._shared_cross_entropy(logits, columns, mine)
            penalty: Tensor = self.margin.penalty(torch.linalg.vector_norm(embeddings, dim=1))
            return loss + penalty

    def _logits(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of this rank's classes, `(N, C)`; the column of each label; whether it is here,
        else the column means nothing."""
        entered = self.ranks.enter(embeddings)
        cosines = self._cosines(entered)
        columns, mine = self._columns(labels)
        at = columns[:, None]
        target = cosines.gather(1, at)[:, 0]
        if self.ranks.n > 1:
            target = self.ranks.enter(self.ranks.sum(target.masked_fill(~mine, 0.0)))
        if self.filter_above is not None:
            cosines = cosines.masked_fill(cosines > self.filter_above, 0.0)
        norms = torch.linalg.vector_norm(entered, dim=1)
        harder, others = self.margin(target, cosines, norms)
        if self.ranks.n > 1:
            harder = torch.where(mine, harder, others.gather(1, at)[:, 0])
        logits = self.margin.scale * others.scatter(1, at, harder[:, None])
        if self._empty:
            logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool), -math.inf)
        return logits, columns, mine

    def _cosines(self, embeddings: Tensor) -> Tensor:
        """With the nearest centre of each class, `(N, C)`."""
        centres = functional.normalize(self._leaf())
        cosines = functional.linear(functional.normalize(embeddings), centres).clamp(-1.0, 1.0)
        if self.sub_centres == 1:
            return cosines
        return cosines.view(len(cosines), -1, self.sub_centres).amax(2)

    def _columns(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Column of each label, and whether this rank has its class."""
        own = labels - self.own.start
        if self._drawn is None:
            if self.ranks.n == 1:
                return labels, torch.ones_like(labels, dtype=torch.bool)
            n_own = self.own.stop - self.own.start
            return own.clamp(0, n_own - 1), (own >= 0) & (own < n_own)
        columns = torch.searchsorted(self._drawn, own).clamp(max=len(self._drawn) - 1)
        mine = self._drawn[columns] == own
        lost = (own >= 0) & (own < self.own.stop - self.own.start) & ~mine
        if lost.any():
            raise ValueError("drawn() must be given all labels of the step")
        return columns, mine

    def _shared_cross_entropy(self, logits: Tensor, columns: Tensor, mine: Tensor) -> Tensor:
        """Mean cross-entropy of a softmax whose columns lie on several ranks."""
        top = self.ranks.max(logits.detach().amax(1))
        shifted = logits - top[:, None]
        target = shifted.gather(1, columns[:, None])[:, 0].masked_fill(~mine, 0.0)
        sums, targets = self.ranks.sum(torch.stack([shifted.exp().sum(1), target]))
        loss: Tensor = (sums.log() - targets).mean()
        return loss

    def _leaf(self) -> Tensor:
        """The centres as a leaf of the graph."""
        if self._drawn is None:
            return self.centres
        # While an earlier loss is held, the graph expects gradients of its number of centres.
        leaf = self.centres.detach().requires_grad_()
        leaf.register_post_accumulate_grad_hook(self._keep_gradient)
        return leaf

    def _keep_gradient(self, leaf: Tensor) -> None:
        before, new = self.centres.grad, leaf.grad
        self.centres.grad = new if before is None or new is None else before + new
        leaf.grad = None
