"""Short-hands for the layer patterns that several blocks and heads share."""

import abc
from typing import ClassVar, Literal, NamedTuple

from nas_face.arch.combinators import Gate, Layer, Sequence, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Activation, BatchNorm, Conv, GlobalAveragePool, PReLU

ActivationName = Literal["prelu", "prelu_shared", "relu", "relu6", "silu", "hard_swish"]
Stride = Literal[1, 2]
KernelSize = Literal[1, 3, 5, 7]


class Ratio(NamedTuple):
    """How a space's ratio becomes a block's number: `field` = ratio x the width called `base`.

    The product is rounded to a multiple of `multiple`, at least one.
    """

    field: str
    base: Literal["in_channels", "out_channels", "hidden_channels"]
    multiple: int = 1


class AbstractBlock(abc.ABC):
    """What people search over: numbers that lower to layers once the input shape is known.

    Attributes:
        RATIOS: ratios that a search space may state instead of the number itself, resolved in
        order.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    RATIOS: ClassVar[dict[str, Ratio]] = {}

    @abc.abstractmethod
    def lower(self, x: Shape) -> Layer:
        """Layers of this block for an input of shape `x`.

        Raises:
            ShapeError: the block cannot take `x`.
        """


def same_padding(kernel: int) -> tuple[int, int]:
    """Zeros that keep a map's size at stride 1, for an odd kernel."""
    return (kernel // 2, kernel // 2)


def activation(name: ActivationName) -> Layer:
    """The activation layer of that name."""
    if name == "prelu":
        return PReLU()
    if name == "prelu_shared":
        return PReLU(shared=True)
    return Activation(function=name)


def conv_norm(
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: ActivationName | None = None,
    eps: float = 1e-5,
) -> Sequence:
    """Convolution without bias, batch normalisation and, if named, an activation."""
    conv = Conv(
        out_channels=out_channels,
        kernel=(kernel, kernel),
        stride=stride,
        padding=same_padding(kernel),
        groups=groups,
    )
    if act is None:
        return Sequence(layers=(conv, BatchNorm(eps=eps)), names=("conv", "norm"))
    return Sequence(
        layers=(conv, BatchNorm(eps=eps), activation(act)), names=("conv", "norm", "act")
    )


def squeeze_excite(channels: int, squeeze_channels: int) -> Gate:
    """Squeeze-and-excitation with biased 1x1 convolutions, PReLU inside and a sigmoid gate.

    Source: Hu et al., arXiv 1709.01507, figure 2; PReLU inside as SeesawFaceNets and VarGFaceNet
    have it.
    """
    return Gate(
        body=Sequence(
            layers=(
                GlobalAveragePool(),
                Conv(out_channels=squeeze_channels, bias=True),
                PReLU(),
                Conv(out_channels=channels, bias=True),
                Activation(function="sigmoid"),
            ),
            names=("pool", "squeeze", "act", "excite", "gate"),
        )
    )


def residual(body: Layer, shortcut: Layer | None = None) -> Sum:
    """`body` plus a shortcut, the identity unless one is given."""
    return Sum(branches=(body, shortcut if shortcut is not None else Sequence()))
