"""Attention that is not a gate of ordinary layers."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers.base import AbstractLayer
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CrossCovarianceAttention(AbstractLayer):
    """Self-attention between channels: query, key and value side by side in, value mixed out.

    The input holds three maps of equal width after one another. In each head, rows of query and
    key (one a channel, all positions) are brought to unit length; the softmax over key channels of
    their products times the head's temperature mixes the channels of the value.

    Attributes:
        heads: equal runs of channels that attend among themselves.

    Source: El-Nouby et al., XCiT, arXiv 2106.09681, equations 2 and 3.
    """

    heads: int
    kind: Literal["cross_covariance_attention"] = "cross_covariance_attention"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if self.heads < 1 or x.channels % (3 * self.heads):
            raise ShapeError(
                f"cross_covariance_attention: input width {x.channels} must be a multiple of "
                f"3 x heads = {3 * self.heads}"
            )
        y = x._replace(channels=x.channels // 3)
        products = y.channels * (y.channels // self.heads)
        alive = x.elements + products + y.elements
        return y, Cost(
            madds=2 * products * x.height * x.width,
            params=self.heads,
            folded_params=self.heads,
            peak_activations=alive,
            peak_keeping_input=alive,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GatedChannelTransform(AbstractLayer):
    """Every channel times 1 + tanh(gamma * e / rms(e) + beta), where e is alpha times the
    channel's length over all positions and rms runs over channels.

    Attributes:
        eps: added under both roots.

    Source: Yang et al., Gated Channel Transformation, arXiv 1909.11519, equations 1 to 3, with
        alpha starting at one, gamma and beta at zero.
    """

    eps: float = 1e-5
    kind: Literal["gated_channel_transform"] = "gated_channel_transform"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return x, Cost(
            params=3 * x.channels,
            folded_params=3 * x.channels,
            peak_activations=x.elements + x.channels,
            peak_keeping_input=2 * x.elements + x.channels,
        )
