"""Short-hands for the layer patterns that several blocks and heads share."""

import abc
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from nas_face.arch.combinators import Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    LayerNorm,
    Pool,
    PReLU,
)
from nas_face.arch.sizes import floor_share, largest
from nas_face.errors import ShapeError

ActivationName = Literal["prelu", "prelu_shared", "relu", "relu6", "silu", "hard_swish", "gelu"]
NormName = Literal["batch", "layer"]
Mixing = Literal["none", "shuffle", "unshuffle"]
"""Two-group channel shuffle, or the permutation that undoes it."""

ShortcutName = Literal["none", "identity", "conv", "max_pool", "average_pool", "separable"]
Stride = Literal[1, 2]
KernelSize = Literal[1, 3, 5, 7, 9, 11]
Kernels = KernelSize | Annotated[tuple[KernelSize, ...], Field(min_length=2)]
"""One odd kernel size, or a set of them, each for an equal part of the channels."""

Partition = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
"""Relative sizes of the independent parts of a 1x1 convolution: `(1,)` is dense, `(1, 1)` two
equal groups, `(1, 3)` seesaw's."""


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
        ATTENTION_ON: which width the block's attention acts on, where it has one; its ratio in a
            search space refers to it.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    RATIOS: ClassVar[dict[str, Ratio]] = {}
    ATTENTION_ON: ClassVar[Literal["out_channels", "hidden_channels"]] = "out_channels"

    @abc.abstractmethod
    def lower(self, x: Shape) -> Layer:
        """Layers of this block for an input of shape `x`.

        Raises:
            ShapeError: the block cannot take `x`.
        """


def same_padding(kernel: int) -> tuple[int, int]:
    """Zeros that keep a map's size at stride 1, for an odd kernel."""
    return (kernel // 2, kernel // 2)


def named(*steps: tuple[str, Layer | None]) -> Sequence:
    """Named layers one after another, those that are none left out."""
    there = [(name, layer) for name, layer in steps if layer is not None]
    return Sequence(
        layers=tuple(layer for _, layer in there), names=tuple(name for name, _ in there)
    )


def activation(name: ActivationName) -> Layer:
    """The activation layer of that name."""
    if name == "prelu":
        return PReLU()
    if name == "prelu_shared":
        return PReLU(shared=True)
    return Activation(function=name)


def maybe_activation(name: ActivationName | None) -> Layer | None:
    """The activation layer of that name, if there is a name."""
    return None if name is None else activation(name)


def normalisation(norm: NormName, eps: float = 1e-5) -> Layer:
    """Batch normalisation, or normalisation over channels."""
    return BatchNorm(eps=eps) if norm == "batch" else LayerNorm()


def normed(
    conv: Layer,
    *,
    act: ActivationName | None = None,
    norm: NormName = "batch",
    eps: float = 1e-5,
    pre_activation: bool = False,
) -> Sequence:
    """A convolution with its normalisation and, if named, its activation, behind it or in front of
    it."""
    around = (("norm", normalisation(norm, eps)), ("act", maybe_activation(act)))
    if pre_activation:
        return named(*around, ("conv", conv))
    return named(("conv", conv), *around)


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
    return normed(conv, act=act, eps=eps)


def pointwise(
    channels: int,
    out_channels: int,
    *,
    partition: Partition = (1,),
    rank_ratio: float | None = None,
    bias: bool = False,
) -> Layer:
    """1x1 convolution, dense or in independent parts, or a dense one as two of lower rank.

    Args:
        channels: width of the input.
        out_channels: width of the output.
        partition: relative sizes of the parts, in order, of input and output alike.
        rank_ratio: rank over the smaller of both widths, at least 2 in all.
        bias: whether the last convolution has one.

    Raises:
        ShapeError: a width cannot be cut as the partition says.

    Source: of the low-rank form, George et al., EdgeFace, arXiv 2307.01838, section 3.
    """
    if rank_ratio is not None:
        if len(partition) > 1:
            raise ShapeError(f"a convolution in parts {partition} cannot be of low rank as well")
        rank = largest(2, floor_share(rank_ratio, min(channels, out_channels)))
        return named(
            ("reduce", Conv(out_channels=rank)),
            ("restore", Conv(out_channels=out_channels, bias=bias)),
        )
    if len(set(partition)) == 1:
        return Conv(out_channels=out_channels, groups=len(partition), bias=bias)
    sizes, out_sizes = cut(channels, partition), cut(out_channels, partition)
    return Split(
        sizes=sizes, branches=tuple(Conv(out_channels=size, bias=bias) for size in out_sizes)
    )


def cut(channels: int, partition: Partition) -> tuple[int, ...]:
    """Sizes of parts in the proportions of `partition`.

    Raises:
        ShapeError: the width is no multiple of the sum of the proportions.
    """
    whole = sum(partition)
    if channels % whole:
        raise ShapeError(
            f"a width in the proportions {partition} must be a multiple of {whole}, got {channels}"
        )
    return tuple(channels // whole * part for part in partition)


def depthwise(
    channels: int, kernel: Kernels, *, stride: int = 1, group_width: int = 1, factor: int = 1
) -> Layer:
    """Depthwise convolution, or one of few channels a group; a set of kernels shares the channels
    out evenly, and the first part takes what remains.

    Args:
        channels: width of the input.
        kernel: window size, or the sizes of the parts.
        stride: step in both directions.
        group_width: input channels in each group.
        factor: output channels for each input channel.

    Raises:
        ShapeError: a part is no multiple of the group width.

    Source: of kernel sets, Tan and Le, MixConv, arXiv 1907.09595, section 3.
    """
    kernels = kernel if isinstance(kernel, tuple) else (kernel,)
    each = channels // len(kernels)
    sizes = (channels - each * (len(kernels) - 1), *[each] * (len(kernels) - 1))
    for size in sizes:
        if size < 1 or size % group_width:
            raise ShapeError(
                f"{channels} channels in {len(kernels)} parts of groups of {group_width}: a part "
                f"of {size} does not work; use a multiple of {len(kernels) * group_width}"
            )
    convs = tuple(
        Conv(
            out_channels=size * factor,
            kernel=(window, window),
            stride=stride,
            padding=same_padding(window),
            groups=size // group_width,
        )
        for size, window in zip(sizes, kernels, strict=True)
    )
    return convs[0] if len(convs) == 1 else Split(sizes=sizes, branches=convs)


def mixed(mixing: Mixing) -> Layer | None:
    """The channel permutation of that name, if it is one."""
    return None if mixing == "none" else ChannelShuffle(groups=2, inverse=mixing == "unshuffle")


def residual(body: Layer, shortcut: Layer | None = None) -> Sum:
    """`body` plus a shortcut, the identity unless one is given."""
    return Sum(branches=(body, shortcut if shortcut is not None else Sequence()))


def with_shortcut(
    body: Layer,
    x: Shape,
    out_channels: int,
    *,
    name: ShortcutName,
    stride: int = 1,
    kernel: int = 3,
    act: ActivationName | None = None,
) -> Layer:
    """`body` plus what the shortcut makes of the input: the identity where shapes agree, and
    elsewhere the projection of that name, or nothing.

    Args:
        body: the working branch.
        x: shape of the block's input.
        out_channels: of the block's output.
        name: `conv` is a 1x1 convolution with the stride, `max_pool` and `average_pool` a pool of
            the stride and a 1x1 convolution, `separable` a depthwise convolution with the stride
            and a 1x1 convolution, all with batch normalisation; `identity` projects nothing, and
            `none` adds nothing anywhere.
        stride: of the block.
        kernel: of the depthwise convolution of a separable shortcut.
        act: behind the projection.
    """
    if name == "none":
        return body
    if stride == 1 and x.channels == out_channels:
        return residual(body)
    match name:
        case "identity":
            return body
        case "conv":
            return residual(body, conv_norm(out_channels, stride=stride, act=act))
        case "max_pool" | "average_pool":
            function: Literal["max", "average"] = "max" if name == "max_pool" else "average"
            pool = Pool(function=function, kernel=(stride, stride), stride=stride, ceil=True)
            projection = conv_norm(out_channels, act=act)
            return residual(
                body, named(("pool", pool if stride > 1 else None), ("project", projection))
            )
        case "separable":
            first = conv_norm(x.channels, kernel=kernel, stride=stride, groups=x.channels)
            last = conv_norm(out_channels, act=act)
            return residual(body, named(("depthwise", first), ("project", last)))
