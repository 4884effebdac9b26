"""Normalisation and learned scales."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers.base import AbstractLayer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(AbstractLayer):
    """Batch normalisation over channels, of a feature map or of a flat vector.

    Attributes:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics (torch's sense).
        fixed_scale: whether the scale stays at one and is not trained, as several authors have it
            behind the embedding; it counts as a parameter all the same.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    fixed_scale: bool = False
    kind: Literal["batch_norm"] = "batch_norm"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = x.elements
        return x, Cost(
            params=2 * x.channels,
            folded_params=x.channels,
            peak_activations=alive,
            peak_keeping_input=2 * alive,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(AbstractLayer):
    """Normalisation over the channels of each position by itself, with a scale and a shift a
    channel.

    It depends on the image, so it does not fold away.

    Attributes:
        eps: added to the variance.

    Source: Ba et al., arXiv 1607.06450, per position as ConvNeXt (arXiv 2201.03545) has it.
    """

    eps: float = 1e-6
    kind: Literal["layer_norm"] = "layer_norm"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return x, Cost(
            params=2 * x.channels,
            folded_params=2 * x.channels,
            peak_activations=x.elements,
            peak_keeping_input=2 * x.elements,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelScale(AbstractLayer):
    """Every channel times a learned factor of its own ("layer scale").

    Attributes:
        start: of every factor.

    Source: Touvron et al., CaiT, arXiv 2103.17239, section 2.1.
    """

    start: float = 1e-6
    kind: Literal["channel_scale"] = "channel_scale"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return x, Cost(
            params=x.channels,
            folded_params=x.channels,
            peak_activations=x.elements,
            peak_keeping_input=2 * x.elements,
        )
