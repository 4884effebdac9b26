"""The residual block of ArcFace's networks: large teachers of the small ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.attention import Attention
from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Ratio,
    ShortcutName,
    Stride,
    activation,
    conv_norm,
    named,
    with_shortcut,
)
from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImprovedResidual(AbstractBlock):
    """Normalisation, convolution, normalisation, activation, convolution, normalisation, shortcut.

    Attributes:
        out_channels: width of the output.
        hidden_channels: width between both convolutions.
        stride: of the second convolution.
        kernel: of both convolutions.
        act: between them.
        attention: on the output of the working branch (SE-ResNets), or none.
        shortcut: where shapes disagree; where they agree it is the identity, unless `none`.

    Source: Deng et al., ArcFace, arXiv 1801.07698, section 3.2.1 ("improved" residual unit), after
        Han et al., arXiv 1610.02915, with PReLU.
    Differs: `hidden_channels` is a number of its own (`out_channels` in the source).
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "out_channels", 4)}

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "prelu"
    attention: Attention | None = None
    shortcut: ShortcutName = "conv"
    kind: Literal["improved_residual"] = "improved_residual"

    def lower(self, x: Shape) -> Layer:
        out = x._replace(channels=self.out_channels)
        body = named(
            ("norm", BatchNorm()),
            ("first", conv_norm(self.hidden_channels, kernel=self.kernel)),
            ("act", activation(self.act)),
            ("second", conv_norm(out.channels, kernel=self.kernel, stride=self.stride)),
            ("attention", self.attention and self.attention.lower(out)),
        )
        return with_shortcut(body, x, out.channels, name=self.shortcut, stride=self.stride)
