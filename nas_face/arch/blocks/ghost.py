"""Ghost bottlenecks: half of each width is made cheaply from the other half."""

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
    conv_norm,
    named,
    normed,
    with_shortcut,
)
from nas_face.arch.combinators import Concat, Layer, Product, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Activation, Conv, Pool, Resize
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ghost(AbstractBlock):
    """Ghost module to the hidden width, depthwise convolution at stride 2, ghost module to the
    output width, shortcut.

    A ghost module makes half of its output by a 1x1 convolution and the other half from that by a
    depthwise one.

    Attributes:
        out_channels: width of the output, even.
        hidden_channels: width between both ghost modules, even.
        stride: of the block.
        kernel: of the depthwise convolution at stride 2 and of the separable shortcut.
        ghost_kernel: of the depthwise convolutions inside the ghost modules.
        act: in the first ghost module; the second is linear.
        attention: on the hidden width, or none.
        decoupled_attention: whether the first ghost module is weighed, value by value, by rows and
            columns of its input at half resolution ("DFC attention", version 2).
        shortcut: where shapes disagree; where they agree it is the identity, unless `none`.

    Source: Han et al., GhostNet, arXiv 1911.11907, figure 3; Tang et al., GhostNetV2, arXiv
        2211.12905, figure 4; with PReLU as GhostFaceNets (Alansari et al., IEEE Access 2023).
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "in_channels", 4)}
    ATTENTION_ON = "hidden_channels"

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    ghost_kernel: KernelSize = 3
    act: ActivationName = "prelu"
    attention: Attention | None = None
    decoupled_attention: bool = False
    shortcut: ShortcutName = "separable"
    kind: Literal["ghost"] = "ghost"

    def lower(self, x: Shape) -> Layer:
        hidden, out = self.hidden_channels, self.out_channels
        for name, width in (("hidden", hidden), ("output", out)):
            if width % 2:
                raise ShapeError(f"ghost: the {name} width must be even, got {width}")
        first: Layer = self._module(hidden, self.act)
        if self.decoupled_attention:
            first = Product(branches=(first, _decoupled_attention(hidden, x)))
        down = conv_norm(hidden, kernel=self.kernel, stride=2, groups=hidden)
        body = named(
            ("expand", first),
            ("depthwise", down if self.stride == 2 else None),
            ("attention", self.attention and self.attention.lower(x._replace(channels=hidden))),
            ("project", self._module(out, None)),
        )
        return with_shortcut(
            body, x, out, name=self.shortcut, stride=self.stride, kernel=self.kernel
        )

    def _module(self, out_channels: int, act: ActivationName | None) -> Sequence:
        half = out_channels // 2
        cheap = conv_norm(half, kernel=self.ghost_kernel, groups=half, act=act)
        return named(
            ("primary", conv_norm(half, act=act)), ("ghost", Concat(branches=(Sequence(), cheap)))
        )


def _decoupled_attention(out_channels: int, x: Shape) -> Sequence:
    """A factor for each value, from the pooled input seen along rows and then along columns."""

    def line(kernel: tuple[int, int]) -> Sequence:
        padding = (kernel[0] // 2, kernel[1] // 2)
        return normed(
            Conv(out_channels=out_channels, kernel=kernel, padding=padding, groups=out_channels)
        )

    tiny = min(x.height, x.width) < 2  # of which a whole window would leave nothing
    return named(
        ("pool", Pool(function="average", kernel=(2, 2), stride=2, ceil=tiny)),
        ("pointwise", conv_norm(out_channels)),
        ("rows", line((1, 5))),
        ("columns", line((5, 1))),
        ("gate", Activation(function="sigmoid")),
        ("resize", Resize(height=x.height, width=x.width)),
    )
