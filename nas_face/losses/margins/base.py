"""What every margin loss is to the classifier that holds the class centres."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class AbstractMargin(nn.Module, ABC):
    """Makes the true class harder, and in some losses hard negatives too.

    Works on cosines, in float32 or float64, and knows neither centres nor labels. Derivatives are
    finite everywhere, on a centre and opposite to it too. Under several processes each one passes
    the cosines and lengths of the whole batch, so that running state is the same in all of them.

    Args:
        scale: s, by which the classifier multiplies what `forward` returns.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    @abstractmethod
    def forward(self, target: Tensor, others: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        """Logits before the scale.

        Args:
            target: `(N,)` cosine of each embedding with its own class, in [-1, 1].
            others: `(N, C)` cosines with classes, in [-1, 1]. The own class may be among them;
                what comes out in its place means nothing.
            norms: `(N,)` lengths of the embeddings, 0 or more.

        Returns:
            New `target` and new `others`, of the same shapes.
        """

    def penalty(self, norms: Tensor) -> Tensor:
        """Scalar to add to the mean cross-entropy: 0 unless the loss has such a term.

        Args:
            norms: as for `forward`.
        """
        return norms.new_zeros(())
