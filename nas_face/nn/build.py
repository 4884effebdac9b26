"""Layer tree to torch modules: one builder for each primitive, one module for each combinator.

Keys of the state dict are the paths in the tree, such as
`stages.0.1.branches.0.expand.conv.weight`.
"""

from typing import assert_never

import torch
from torch import Tensor, nn

from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
    PReLU,
)

FUNCTIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
}


class AnyRankBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of `(N, C)` and `(N, C, H, W)` alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any rank of two or more is right: the channel is always the second dimension."""


class NormAwarePoolModule(nn.Module):
    """See `nas_face.arch.layers.NormAwarePool`."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        norms = (x.square().sum(dim=1, keepdim=True) + self.eps).sqrt()  # (N, 1, H, W)
        weights = norms.mean(dim=(2, 3), keepdim=True) / norms  # (N, 1, H, W)
        return (x * weights).mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)


class GlobalAveragePoolModule(nn.Module):
    """Mean over positions, the map kept as 1x1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class SumModule(nn.Module):
    """Adds the results of all branches."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


class ConcatModule(nn.Module):
    """Concatenates the results of all branches along channels."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class SplitModule(nn.Module):
    """Cuts along channels, sends each part through its branch, concatenates."""

    def __init__(self, sizes: tuple[int, ...], branches: list[nn.Module]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.sizes, dim=1)
        return torch.cat(
            [branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1
        )


class GateModule(nn.Module):
    """Multiplies by what the body makes of the input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.body(x)  # (N, C, 1, 1)
        return x * factors


def build(layer: Layer, x: Shape) -> nn.Module:
    """Torch module of a layer tree, with fresh weights from torch's current generator.

    Args:
        layer: root of the tree.
        x: shape of its input.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
    """
    layer.measure(x)  # before torch refuses, in words of its own
    module, _ = _build(layer, x)
    return module


def _build(layer: Layer, x: Shape) -> tuple[nn.Module, Shape]:
    """Module and output shape."""
    module: nn.Module
    match layer:
        case Sequence():
            module = nn.Sequential()
            shape = x
            for name, child in layer.named_layers():
                built, shape = _build(child, shape)
                module.add_module(name, built)
            return module, shape
        case Sum():
            module = SumModule([build(branch, x) for branch in layer.branches])
        case Concat():
            module = ConcatModule([build(branch, x) for branch in layer.branches])
        case Split():
            parts = [Shape(size, x.height, x.width) for size in layer.sizes]
            branches = [build(*pair) for pair in zip(layer.branches, parts, strict=True)]
            module = SplitModule(layer.sizes, branches)
        case Gate():
            module = GateModule(build(layer.body, x))
        case _:
            module = _primitive(layer, x)
    return module, layer.output_shape(x)


def _primitive(
    layer: Conv
    | BatchNorm
    | PReLU
    | Activation
    | ChannelShuffle
    | GlobalAveragePool
    | NormAwarePool
    | Flatten
    | Linear,
    x: Shape,
) -> nn.Module:
    match layer:
        case Conv():
            return nn.Conv2d(
                x.channels,
                layer.out_channels,
                layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case BatchNorm():
            return AnyRankBatchNorm(x.channels, eps=layer.eps, momentum=layer.momentum)
        case PReLU():
            return nn.PReLU(1 if layer.shared else x.channels)
        case Activation():
            return FUNCTIONS[layer.function]()
        case ChannelShuffle():
            return nn.ChannelShuffle(layer.groups)
        case GlobalAveragePool():
            return GlobalAveragePoolModule()
        case NormAwarePool():
            return NormAwarePoolModule(layer.eps)
        case Flatten():
            return nn.Flatten()
        case Linear():
            return nn.Linear(x.channels, layer.out_features, bias=layer.bias)
        case _:
            assert_never(layer)


def initialise_(module: nn.Module) -> None:
    """Draw fresh weights in place, from torch's current generator.

    He-normal by fan-in: a depthwise filter has nine inputs whatever the width, whereas fan-out
    would start it near zero and make the first steps of a scale-free layer far too large.

    Source: He et al., arXiv 1502.01852, equation 10, with the starting slope 0.25 of PReLU.
    """
    for each in module.modules():
        if isinstance(each, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(each.weight, a=0.25, mode="fan_in")
            if each.bias is not None:
                nn.init.zeros_(each.bias)
