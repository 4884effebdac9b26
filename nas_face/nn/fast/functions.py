"""Autograd functions of layers between convolutions, for training on a CPU.

Each does the arithmetic of torch's own layers, with sums in another order: results agree to
rounding. They keep no more for the backward pass than torch does.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas_face.nn.fast.compiled import Kernels

NONE, RELU, PRELU, SILU = range(4)
"""Kinds of activation, as `kernels.c` counts them."""


def rows_and_channels(x: Tensor) -> tuple[int, int]:
    """Of `(N, C)` or `(N, C, H, W)`: N or N H W, and C."""
    return x.numel() // x.shape[1], x.shape[1]


def channels_together(x: Tensor) -> Tensor:
    """The tensor itself, or a copy, whose channels are neighbours in memory."""
    if x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous()


def as_rows(x: Tensor) -> Tensor:
    """`(N, C)` or `(N, C, H, W)` with channels together as `(rows, C)`, without a copy."""
    return x.movedim(1, -1).view(-1, x.shape[1])


class NormAct(torch.autograd.Function):
    """`activation(weight * (x - mean) / sqrt(variance + eps) + bias)` over the batch, channels
    shuffled.

    Inputs: the kind of activation, the groups of the shuffle (1: none), x `(N, C)` or
    `(N, C, H, W)`, weight, bias and slope `(C,)`, eps; float32 on the CPU. The slope counts for
    PReLU alone.

    Outputs: like x; mean `(C,)`; variance `(C,)`, divided by the number of rows. The last two
    carry no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        library: Kernels,
        kind: int,
        groups: int,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, slope = channels_together(x), slope.contiguous()
        size = rows_and_channels(x)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        library.run("mean_and_variance", x, library.parts(*size, 2), mean, variance, *size)
        inverse = (variance + eps).rsqrt_()
        scale = weight * inverse
        shift = torch.addcmul(bias, scale, mean, value=-1)
        y = torch.empty_like(x)
        library.run("norm_act", kind, x, scale, shift, slope, y, groups, *size)
        ctx.library, ctx.kind, ctx.groups = library, kind, groups
        ctx.save_for_backward(x, scale, shift, slope, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *vectors = ctx.saved_tensors
        size = rows_and_channels(x)
        sums, out = torch.empty(3, size[1]), torch.empty_like(x)
        gradient, parts = channels_together(gradients[0]), ctx.library.parts(*size, 3)
        ctx.library.run(
            "norm_act_backward",
            ctx.kind,
            x,
            gradient,
            *vectors,
            parts,
            sums,
            out,
            ctx.groups,
            *size,
        )
        weight, bias, slope = sums.unbind()
        slopes = slope if ctx.kind == PRELU else None
        return None, None, None, out, weight, bias, slopes, None


class Prelu(torch.autograd.Function):
    """PReLU with a vectorised backward pass, which torch's is not.

    Inputs: x `(N, C)` or `(N, C, H, W)`, slope `(C,)`. The forward pass is torch's own. Without
    kernels the gradients come from torch's operators, in blocks that stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, library: Kernels | None, x: Tensor, slope: Tensor) -> Tensor:
        x, slope = channels_together(x), slope.contiguous()
        ctx.library = library
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        gradient, out = channels_together(gradient), torch.empty_like(x)
        rows, channels = rows_and_channels(x)
        if ctx.library is not None:
            sums = torch.empty_like(slope)
            parts = ctx.library.parts(rows, channels, 1)
            ctx.library.run("prelu_backward", x, gradient, slope, parts, sums, out, rows, channels)
            return None, out, sums
        sums = torch.zeros_like(slope)
        at_once = max(1, 65536 // channels)
        blocks = (as_rows(each).split(at_once) for each in (x, gradient, out))
        for value, g, result in zip(*blocks, strict=True):
            positive = torch.ops.aten.threshold_backward(g, value, 0)  # 0 where x <= 0
            torch.addcmul(positive, g - positive, slope, out=result)
            sums += (value.clamp_max(0) * g).sum(dim=0)
        return None, out, sums


class Gate(torch.autograd.Function):
    """`x * factors`: x `(N, C, H, W)`, factors `(N, C, 1, 1)`."""

    @staticmethod
    def forward(ctx: Any, library: Kernels, x: Tensor, factors: Tensor) -> Tensor:
        x, factors = channels_together(x), factors.contiguous()
        n, channels, height, width = x.shape
        y = torch.empty_like(x)
        library.run("gate", x, factors, y, n, height * width, channels)
        ctx.library = library
        ctx.save_for_backward(x, factors)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        x, factors = ctx.saved_tensors
        n, channels, height, width = x.shape
        gradient = channels_together(gradient)
        sums, out = torch.empty_like(factors), torch.empty_like(x)
        ctx.library.run(
            "gate_backward", x, gradient, factors, sums, out, n, height * width, channels
        )
        return None, out, sums


class AveragePool(torch.autograd.Function):
    """Mean over all positions, `(N, C, H, W)` to `(N, C, 1, 1)`; its gradient is a view, which
    saves a pass over the map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean(dim=(2, 3), keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        each: Tensor = gradient / (ctx.shape[2] * ctx.shape[3])
        return each.expand(ctx.shape)


class Shuffle(torch.autograd.Function):
    """Deals channels out: `torch.nn.functional.channel_shuffle(x, groups)`."""

    @staticmethod
    def forward(ctx: Any, library: Kernels, x: Tensor, groups: int) -> Tensor:
        ctx.library, ctx.groups = library, groups
        return _shuffled(library, x, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        groups = gradient.shape[1] // ctx.groups
        return None, _shuffled(ctx.library, gradient, groups), None


def _shuffled(library: Kernels, x: Tensor, groups: int) -> Tensor:
    x = channels_together(x)
    y = torch.empty_like(x)
    library.run("shuffle", x, y, groups, *rows_and_channels(x))
    return y
