"""Sequences that compute several of their layers at once while they train on a CPU.

`accelerate_` puts them in the place of torch's own, and `restore_` takes them away again.
Parameters, buffers and their names, and all other modules, stay what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast, final

import torch
from torch import Tensor, nn

from nas_face.nn.combinators import GateModule, SplitModule
from nas_face.nn.fast.compiled import Kernels, kernels
from nas_face.nn.fast.convolutions import SplitPointwise, convolve
from nas_face.nn.fast.functions import (
    NONE,
    PRELU,
    RELU,
    SILU,
    AveragePool,
    Gate,
    NormAct,
    Prelu,
    Shuffle,
)
from nas_face.nn.modules import AnyRankBatchNorm, FixedScaleBatchNorm, GlobalAveragePoolModule

_NORMS = (AnyRankBatchNorm, FixedScaleBatchNorm)
_KINDS: dict[type[nn.Module], int] = {nn.ReLU: RELU, nn.PReLU: PRELU, nn.SiLU: SILU}


def accelerate_(module: nn.Module) -> None:
    """Make the sequences of a module fast ones: values and gradients stay the same to rounding.

    Forward hooks of a layer that is computed together with its neighbours are not called.
    """
    _change_class_(module, nn.Sequential, FastSequential)


def restore_(module: nn.Module) -> None:
    """Undo `accelerate_`."""
    _change_class_(module, FastSequential, nn.Sequential)


def _change_class_(
    module: nn.Module, before: type[nn.Sequential], after: type[nn.Sequential]
) -> None:
    for each in module.modules():
        if type(each) is before:
            each.__class__ = after


@final
class FastSequential(nn.Sequential):
    """Does as `nn.Sequential` does; faster while it trains on a CPU in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C)` or `(N, C, H, W)`, as its layers take them."""
        if not (self.training and _is_plain(x)):
            y: Tensor = super().forward(x)
            return y
        library = kernels()
        layers = list(self)
        while layers:
            x, done = _first(layers, x, library)
            del layers[:done]
        return x


def _is_plain(x: Tensor) -> bool:
    """Whether the functions take it."""
    on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return on_cpu and x.dtype == torch.float32 and x.ndim in (2, 4) and x.numel() > 0


@dataclass(frozen=True, slots=True)
class _NormAct:
    """Batch normalisation and the activation behind it, if there is one."""

    norm: AnyRankBatchNorm
    act: nn.Module | None

    @property
    def kind(self) -> int:
        return NONE if self.act is None else _KINDS[type(self.act)]

    @property
    def n_layers(self) -> int:
        return 1 if self.act is None else 2


def _first(layers: list[nn.Module], x: Tensor, library: Kernels | None) -> tuple[Tensor, int]:
    """Output of as many of the first layers as one function does, and how many these are."""
    layer = layers[0]
    if type(layer) is nn.Conv2d:
        return convolve(layer, x), 1
    if type(layer) is nn.PReLU:
        return Prelu.apply(library, x, layer.weight.expand(x.shape[1])), 1
    if type(layer) is GlobalAveragePoolModule:
        return AveragePool.apply(x), 1
    if library is not None:
        several = x.numel() > x.shape[1]  # values a channel; torch has words for a single one
        if several and (part := _norm_act_in_front(layers)) is not None:
            return _norm_act(library, x, [part]), part.n_layers
        if type(layer) is SplitModule and x.ndim == 4 and several:
            if (parts := _pointwise_parts(layer)) is not None:
                x = SplitPointwise.apply(x, *(conv.weight for conv, _ in parts))
                behind = layers[1] if len(layers) > 1 else None
                groups = behind.groups if type(behind) is nn.ChannelShuffle else 1
                x = _norm_act(library, x, [part for _, part in parts], groups)
                return x, 1 if groups == 1 else 2
        if type(layer) is nn.ChannelShuffle and x.ndim == 4:
            return Shuffle.apply(library, x, layer.groups), 1
        if type(layer) is GateModule and x.ndim == 4:
            factors = layer.body(x)
            if factors.shape == (*x.shape[:2], 1, 1):
                return Gate.apply(library, x, factors), 1
            return x * factors, 1
    return layer(x), 1


def _norm_act_in_front(layers: Sequence[nn.Module]) -> _NormAct | None:
    """Normalisation by the batch as first layer, and the activation behind it."""
    norm, *rest = layers
    if not isinstance(norm, AnyRankBatchNorm) or type(norm) not in _NORMS:
        return None
    if not (norm.training and norm.track_running_stats) or norm.momentum is None:
        return None
    return _NormAct(norm, rest[0] if rest and type(rest[0]) in _KINDS else None)


def _pointwise_parts(split: SplitModule) -> list[tuple[nn.Conv2d, _NormAct]] | None:
    """What all branches are made of, where it is a 1x1 convolution, a norm and an activation,
    alike in all."""
    parts = []
    for branch in split.branches:
        if not isinstance(branch, nn.Sequential) or len(branch) < 2:
            return None
        conv, *rest = branch
        part = _norm_act_in_front(rest)
        if not _is_pointwise(conv) or part is None or part.n_layers != len(rest):
            return None
        parts.append((conv, part))
    alike = {(part.kind, part.norm.eps) for _, part in parts}
    return parts if len(alike) == 1 else None


def _is_pointwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.bias is None
    )


def _norm_act(library: Kernels, x: Tensor, parts: Sequence[_NormAct], groups: int = 1) -> Tensor:
    """Norms and activations of neighbouring parts of the channels as one, and a shuffle."""
    sizes = [part.norm.num_features for part in parts]
    weight = _joined([part.norm.weight for part in parts])
    bias = _joined([part.norm.bias for part in parts])
    slope = bias.detach()  # not read, but for PReLU
    if parts[0].kind == PRELU:
        pairs = zip(parts, sizes, strict=True)
        slope = _joined([cast(nn.PReLU, part.act).weight.expand(size) for part, size in pairs])
    kind, eps = parts[0].kind, parts[0].norm.eps
    y, mean, variance = NormAct.apply(library, kind, groups, x, weight, bias, slope, eps)
    rows = x.numel() // x.shape[1]
    unbiased = variance * (rows / (rows - 1))
    for part, means, variances in zip(
        parts, mean.split(sizes), unbiased.split(sizes), strict=True
    ):
        _take_in(part.norm, means, variances)
    return cast(Tensor, y)


@torch.no_grad()
def _take_in(norm: AnyRankBatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)


def _joined(vectors: list[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors)
