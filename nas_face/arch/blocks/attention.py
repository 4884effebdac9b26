"""Attention that a block may put on its hidden or its output width."""

import abc
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from nas_face.arch.blocks.parts import ActivationName, activation, named, same_padding
from nas_face.arch.combinators import Gate, Layer, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    ChannelConv,
    ChannelPool,
    Conv,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
)


class AbstractAttention(abc.ABC):
    """Something that weighs a map by what it finds in the whole of it; the shape stays."""

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @abc.abstractmethod
    def lower(self, x: Shape) -> Layer:
        """Layers of this attention for a map of shape `x`."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcite(AbstractAttention):
    """Squeeze-and-excitation: a factor for each channel from the means of all.

    Attributes:
        channels: inner width.
        act: between both 1x1 convolutions.
        gate: behind them.
        bias: whether they have biases.

    Source: Hu et al., arXiv 1709.01507, figure 2; PReLU inside as SeesawFaceNets and VarGFaceNet
        have it.
    """

    channels: int
    act: ActivationName = "prelu"
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"
    bias: bool = True
    kind: Literal["squeeze_excite"] = "squeeze_excite"

    def lower(self, x: Shape) -> Layer:
        return Gate(
            body=named(
                ("pool", GlobalAveragePool()),
                ("squeeze", Conv(out_channels=self.channels, bias=self.bias)),
                ("act", activation(self.act)),
                ("excite", Conv(out_channels=x.channels, bias=self.bias)),
                ("gate", Activation(function=self.gate)),
            )
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientChannelAttention(AbstractAttention):
    """ECA: a factor for each channel from the means of its neighbours in order.

    Attributes:
        kernel: odd number of neighbours.

    Source: Wang et al., ECA-Net, arXiv 1910.03151, section 3.2.
    """

    kernel: Literal[3, 5, 7] = 3
    kind: Literal["efficient_channel"] = "efficient_channel"

    def lower(self, x: Shape) -> Layer:
        return Gate(
            body=named(
                ("pool", GlobalAveragePool()),
                ("conv", ChannelConv(kernel=self.kernel)),
                ("gate", Activation(function="sigmoid")),
            )
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAttention(AbstractAttention):
    """CBAM: a factor for each channel, then one for each position, both from means and maxima.

    Attributes:
        channels: inner width of the channel attention.
        kernel: window of the position attention.

    Source: Woo et al., CBAM, arXiv 1807.06521, equations 2 and 3.
    Differs: the two outputs of the shared layers are averaged and not added; their last layer
        takes up the factor of two.
    """

    channels: int
    kernel: Literal[3, 5, 7] = 7
    kind: Literal["block_attention"] = "block_attention"

    def lower(self, x: Shape) -> Layer:
        window = (self.kernel, self.kernel)
        by_channel = named(
            ("pool", GlobalAverageMaxPool()),
            ("squeeze", Conv(out_channels=self.channels)),
            ("act", Activation(function="relu")),
            ("excite", Conv(out_channels=x.channels)),
            ("mean", GlobalAveragePool()),
            ("gate", Activation(function="sigmoid")),
        )
        by_position = named(
            ("pool", ChannelPool()),
            ("conv", Conv(out_channels=1, kernel=window, padding=same_padding(self.kernel))),
            ("gate", Activation(function="sigmoid")),
        )
        return Sequence(
            layers=(Gate(body=by_channel), Gate(body=by_position)), names=("channel", "position")
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GatedChannelAttention(AbstractAttention):
    """GCT: channels compete or help one another by their lengths, with three numbers a channel.

    Source: Yang et al., Gated Channel Transformation, arXiv 1909.11519.
    """

    kind: Literal["gated_channel"] = "gated_channel"

    def lower(self, x: Shape) -> Layer:
        return GatedChannelTransform()


_Attentions = SqueezeExcite | EfficientChannelAttention | BlockAttention | GatedChannelAttention

Attention = Annotated[_Attentions, Field(discriminator="kind")]
"""Any attention of a block."""

ATTENTIONS: dict[str, type[AbstractAttention]] = {
    "squeeze_excite": SqueezeExcite,
    "efficient_channel": EfficientChannelAttention,
    "block_attention": BlockAttention,
    "gated_channel": GatedChannelAttention,
}
