"""MobileFaceNet's bottleneck: expand, depthwise, project."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Ratio,
    Stride,
    conv_norm,
    residual,
    squeeze_excite,
)
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Shape


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedResidual(AbstractBlock):
    """1x1 expansion, depthwise convolution, linear 1x1 projection, identity shortcut where shapes
    agree.

    Attributes:
        out_channels: width of the output.
        hidden_channels: width between expansion and projection, a number of its own.
        stride: of the depthwise convolution.
        kernel: of the depthwise convolution.
        act: after expansion and depthwise convolution; the projection is linear.
        squeeze_channels: inner width of a squeeze-and-excitation on the hidden width, or none.

    Source: Chen et al., MobileFaceNets, arXiv 1804.07573, table 1; the block is Sandler et al.'s,
        arXiv 1801.04381, figure 3b, with PReLU.
    Differs: `kernel` and `squeeze_channels` are not in the source; their defaults give its block.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {
        "expansion": Ratio("hidden_channels", "in_channels", 4),
        "squeeze_ratio": Ratio("squeeze_channels", "hidden_channels"),
    }

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "prelu"
    squeeze_channels: int | None = None
    kind: Literal["inverted_residual"] = "inverted_residual"

    def lower(self, x: Shape) -> Layer:
        hidden = self.hidden_channels
        steps: list[tuple[str, Layer]] = [
            ("expand", conv_norm(hidden, act=self.act)),
            (
                "depthwise",
                conv_norm(
                    hidden, kernel=self.kernel, stride=self.stride, groups=hidden, act=self.act
                ),
            ),
        ]
        if self.squeeze_channels is not None:
            steps.append(("attention", squeeze_excite(hidden, self.squeeze_channels)))
        steps.append(("project", conv_norm(self.out_channels)))
        body = Sequence(
            layers=tuple(layer for _, layer in steps), names=tuple(name for name, _ in steps)
        )
        if self.stride == 1 and x.channels == self.out_channels:
            return residual(body)
        return body
