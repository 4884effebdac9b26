"""VarGFaceNet's blocks: group convolutions of constant width per group."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.blocks.attention import Attention
from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Stride,
    activation,
    conv_norm,
    residual,
)
from nas_face.arch.combinators import Layer, Sequence, Sum
from nas_face.arch.cost import Shape
from nas_face.errors import ShapeError

EPS = 2e-5  # of every batch normalisation in the authors' code


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariableGroupNormal(AbstractBlock):
    """Two separable units, squeeze-and-excitation on the block's output, shortcut, activation.

    A separable unit is a group convolution of `group_width` channels a group, which multiplies the
    width by `factor`, and a 1x1 convolution. The shortcut is the identity where shapes agree and a
    linear separable unit elsewhere.

    Attributes:
        out_channels: width of the output, a multiple of `group_width`.
        stride: of the first unit and of the shortcut.
        factor: widening inside each separable unit.
        group_width: channels in each group.
        kernel: of the group convolutions.
        act: activation throughout.
        attention: on the block's output before the sum, or none.

    Source: Yan et al., VarGFaceNet, arXiv 1910.04985, figure 1a; settings from the authors' code.
    """

    out_channels: int
    stride: Stride = 1
    factor: Literal[1, 2] = 2
    group_width: Literal[4, 8, 16] = 8
    kernel: KernelSize = 3
    act: ActivationName = "prelu"
    attention: Attention | None = None
    kind: Literal["variable_group_normal"] = "variable_group_normal"

    def lower(self, x: Shape) -> Layer:
        first = _separable(self, x.channels, stride=self.stride, act=self.act)
        second = _separable(self, self.out_channels)
        attention: tuple[Layer, ...] = ()
        if self.attention is not None:
            attention = (self.attention.lower(x._replace(channels=self.out_channels)),)
        same = self.stride == 1 and x.channels == self.out_channels
        shortcut = None if same else _separable(self, x.channels, stride=self.stride)
        body = Sequence(layers=(first, second, *attention))
        return Sequence(layers=(residual(body, shortcut), activation(self.act)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariableGroupDown(AbstractBlock):
    """Two parallel separable units summed, one more unit, separable shortcut, activation.

    Attributes: as of `VariableGroupNormal`; there is no squeeze-and-excitation.

    Source: Yan et al., VarGFaceNet, arXiv 1910.04985, figure 1b; settings from the authors' code.
    """

    out_channels: int
    stride: Stride = 2
    factor: Literal[1, 2] = 2
    group_width: Literal[4, 8, 16] = 8
    kernel: KernelSize = 3
    act: ActivationName = "prelu"
    kind: Literal["variable_group_down"] = "variable_group_down"

    def lower(self, x: Shape) -> Layer:
        parallel = Sum(
            branches=(
                _separable(self, x.channels, stride=self.stride),
                _separable(self, x.channels, stride=self.stride),
            )
        )
        body = Sequence(
            layers=(parallel, activation(self.act), _separable(self, self.out_channels))
        )
        shortcut = _separable(self, x.channels, stride=self.stride)
        return Sequence(layers=(residual(body, shortcut), activation(self.act)))


def _separable(
    block: VariableGroupNormal | VariableGroupDown,
    in_channels: int,
    *,
    stride: int = 1,
    act: ActivationName | None = None,
) -> Sequence:
    if in_channels % block.group_width:
        raise ShapeError(
            f"{block.kind}: widths must be multiples of group_width={block.group_width}, got "
            f"{in_channels}"
        )
    grouped = conv_norm(
        in_channels * block.factor,
        kernel=block.kernel,
        stride=stride,
        groups=in_channels // block.group_width,
        act=block.act,
        eps=EPS,
    )
    pointwise = conv_norm(block.out_channels, act=act, eps=EPS)
    return Sequence(layers=(grouped, pointwise), names=("grouped", "pointwise"))
