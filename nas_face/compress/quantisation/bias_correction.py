"""Biases that take up what rounding the weights shifts the outputs of layers by."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.compress.quantisation.fake import crop_batches
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.compress.quantisation.rounded_layers import (
    affordable,
    layer_bits,
    own_copy,
    weighted,
)
from nas_face.errors import CompressionError
from nas_face.nn.fast.memory import freed_memory_kept
from nas_face.nn.model import FaceModel

_BATCH_SIZE: Final = 32

_log = logging.getLogger(__name__)


def correct_biases(
    model: FaceModel,
    crops: NDArray[np.uint8],
    *,
    weight_bits: int,
    keep_float: frozenset[str] = frozenset(),
    narrow_bits: int | None = None,
    reference: FaceModel | None = None,
) -> FaceModel:
    """A model of its own with weights rounded to the grid of `weight_scale`, and biases with which
    each layer gives on average over the crops what it gives in the float network.

    Layers are corrected in running order, each reading what those before it give once corrected.
    Layers without a bias are rounded only; `fold_norms` gives one to most. Weights that are on the
    grid already stay what they are.

    Args:
        model: with folded norms (`fold_norms`); it is not changed.
        crops: `(N, H, W, 3)` uint8 RGB crops of the model's size; some hundred. They are in memory
            at once, so large networks look at fewer than are given.
        weight_bits: 2 to 8.
        keep_float: paths of convolutions and linear layers whose weights stay as they are; their
            biases are corrected all the same.
        narrow_bits: as of `adaptive_rounding`.
        reference: the float network, where the weights of `model` have been rounded before; by
            default `model` as it is given.

    Raises:
        CompressionError: bits are out of range, `keep_float` names no layer, `reference` is
            another network, there are no crops, or crops of another size.

    Source: Nagel et al., arXiv 1906.04721, section 4.2 and appendix D: measured on data.
    """
    bits = layer_bits(
        model, weight_bits=weight_bits, keep_float=keep_float, narrow_bits=narrow_bits
    )
    reference = model if reference is None else reference
    if reference.description.network != model.description.network:
        raise CompressionError("reference: must have the layers of the model, and has others")
    crops = affordable(crops, model.description)
    corrected = own_copy(model)
    paths = [
        path
        for path in layer_bits(model, weight_bits=8, keep_float=frozenset(), narrow_bits=8)
        if weighted(model, path).bias is not None
    ]
    with freed_memory_kept(), torch.no_grad():
        wanted = _mean_outputs(own_copy(reference), paths, crops)
        for path, each in bits.items():
            weight = weighted(corrected, path).weight
            weight.copy_(rounded(weight, weight_scale(weight, each), each))
        (x,) = crop_batches(corrected, crops, batch_size=len(crops))
        with contextlib.ExitStack() as hooks:
            for path in paths:
                layer = weighted(corrected, path)
                hooks.callback(layer.register_forward_hook(_Correcting(path, wanted[path])).remove)
            corrected.module(x)
    corrected.module.train(model.module.training)
    return corrected.noting(
        f"corrected the biases of {len(paths)} layers for weights of {weight_bits} bits on "
        f"{len(crops)} crops"
    )


def _mean_outputs(
    model: FaceModel, paths: list[str], crops: NDArray[np.uint8]
) -> dict[str, Tensor]:
    """`(out,)` of each layer, float64: mean output over crops and positions."""
    sums: dict[str, list[Tensor]] = {path: [] for path in paths}
    with contextlib.ExitStack() as hooks:
        for path in paths:
            watching = _Watching(sums[path])
            hooks.callback(weighted(model, path).register_forward_hook(watching).remove)
        for x in crop_batches(model, crops, batch_size=_BATCH_SIZE):
            model.module(x)
    return {path: torch.stack(parts).sum(0) / len(crops) for path, parts in sums.items()}


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Watching:
    """Keeps the mean output of each batch, times its crops."""

    sums: list[Tensor]

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        self.sums.append(_mean(y) * len(y))


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Correcting:
    """Moves a bias, and the output at hand with it."""

    path: str
    wanted: Tensor

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
        shift = (self.wanted - _mean(y)).to(y)
        layer.bias += shift
        _log.debug("%s: bias moved by up to %.3g", self.path, float(shift.abs().max()))
        return y + shift.view(-1, *[1] * (y.ndim - 2))


def _mean(y: Tensor) -> Tensor:
    """`(out,)`, float64."""
    return y.mean(dim=(0, *range(2, y.ndim)), dtype=torch.float64)
