"""Autograd functions of convolutions that train faster on a CPU than torch's own."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nas_face.nn.fast.functions import as_rows, channels_together


class SplitPointwise(torch.autograd.Function):
    """1x1 convolutions of parts of the channels, results put together, without a copy.

    Inputs: x `(N, C, H, W)`, a weight `(out, in, 1, 1)` for each part, in turn. The matrix product
    reads and writes its part of each row where it lies.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        x = channels_together(x)
        ctx.save_for_backward(x, *weights)
        n, _, height, width = x.shape
        channels = sum(weight.shape[0] for weight in weights)
        y = x.new_empty(n, height, width, channels).permute(0, 3, 1, 2)
        for weight, part, result in _parts(weights, x, y):
            torch.mm(part, weight.t(), out=result)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, *weights = ctx.saved_tensors
        gradient = channels_together(gradient)
        out = torch.empty_like(x)
        found = [
            torch.mm(g.t(), part)[:, :, None, None] for _, part, g in _parts(weights, x, gradient)
        ]
        for weight, result, g in _parts(weights, out, gradient):
            torch.mm(g, weight, out=result)
        return out, *found


def _parts(
    weights: list[Tensor] | tuple[Tensor, ...], x: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each weight: itself `(out, in)`, and its columns of the rows of x and y."""
    inputs = as_rows(x).split([weight.shape[1] for weight in weights], dim=1)
    outputs = as_rows(y).split([weight.shape[0] for weight in weights], dim=1)
    flat = [weight.flatten(1) for weight in weights]
    return zip(flat, inputs, outputs, strict=True)


class GlobalDepthwise(torch.autograd.Function):
    """A depthwise convolution as large as its input: x `(N, C, H, W)`, weight `(C, 1, H, W)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient * weight[:, 0], (x * gradient).sum(dim=0)[:, None]


class GroupedSame(torch.autograd.Function):
    """A grouped convolution of stride 1 that keeps height and width, odd kernel.

    The gradient of its input is a convolution too, with the kernel turned by 180 degrees; oneDNN
    does the forward one faster.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return functional.conv2d(x, weight, padding=_padding(weight), groups=groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            None,
            (1, 1),
            _padding(weight),
            (1, 1),
            False,
            (0, 0),
            ctx.groups,
            (False, True, False),
        )[1]
        turned = weight.unflatten(0, (ctx.groups, -1)).transpose(1, 2).flip(3, 4).flatten(0, 1)
        turned = turned.contiguous(memory_format=torch.channels_last)
        out = functional.conv2d(gradient, turned, padding=_padding(weight), groups=ctx.groups)
        return out, found, None


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What the layer does, by the fastest of these functions that can do it."""
    kernel, size, channels = layer.kernel_size, (x.shape[2], x.shape[3]), x.shape[1]
    plain = layer.bias is None and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    if plain and x.requires_grad and layer.groups > 1:
        depthwise = layer.groups == channels == layer.out_channels
        if depthwise and kernel == size and layer.padding == (0, 0):
            return GlobalDepthwise.apply(x, layer.weight)  # type: ignore[no-any-return]
        same = layer.padding == (kernel[0] // 2, kernel[1] // 2)
        if same and layer.stride == (1, 1) and kernel[0] % 2 == kernel[1] % 2 == 1:
            return GroupedSame.apply(x, layer.weight, layer.groups)  # type: ignore[no-any-return]
    y: Tensor = layer(x)
    return y
