"""Quantisation-aware training: the weights learn to stand the grids that they will be put on."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from nas_face.compress.quantisation.fake import fake_quantised, grids_of, observed_ranges
from nas_face.compress.quantisation.fold import has_norms_to_fold
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.compress.quantisation.rounded_layers import layer_bits, own_copy, weighted
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def quantisation_aware(
    model: FaceModel,
    crops: NDArray[np.uint8],
    *,
    weight_bits: int = 8,
    activation_bits: int | None = 8,
    outputs: bool = False,
    narrow_bits: int | None = None,
    keep_float: frozenset[str] = frozenset(),
    percentile: float = 100.0,
    batch_size: int = 32,
) -> Iterator[FaceModel]:
    """In this block, a model computes on the grids of a quantised network, in training as well.

    Weights have a scale for each output channel, that of their present values in every pass.
    Ranges of activations are those of the crops in float, seen before the block begins and kept
    throughout, so that a training has no state beside its weights: it is resumed from a checkpoint
    under the same model, crops and settings, and one under others does not take it up.

    The model that the block gives has the very weights of `model`, and a line more in its lineage.
    After the block both are plain models in float, to be quantised like any other; `on_grids`
    rounds their weights as the block did.

    Args:
        model: with folded norms; its weights are those that a training changes.
        crops: `(N, H, W, 3)` RGB of the model's size; some hundreds as it will meet.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8, of what convolutions and linear layers read; None leaves it in
            float, for files whose weights alone have few bits.
        outputs: whether what they write is rounded as well, as by ONNX Runtime.
        narrow_bits: of layers whose rows have few weights (`rounded_layers.NARROW`); None for 8
            where `weight_bits` is 6 or less, as files of few bits have it, and for `weight_bits`
            otherwise.
        keep_float: paths of layers that stay in float.
        percentile: per cent of the values of each input that its range holds.
        batch_size: crops in one pass.

    Raises:
        CompressionError: a batch normalisation could be folded; there are no crops, or of another
            size; bits are out of range; a path of `keep_float` is none of a layer.

    Source: Boutros et al., QuantFace, arXiv 2206.10526, with `AngularDistillation` from the
        network in float (512 times its mean squared error at embeddings of 512).
    Differs: norms are folded, and grids are those of int8 kernels: symmetric weights, and
        activations only where a convolution or linear layer is, at the image too. Ranges are
        frozen from the start, not after 300 steps.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> from nas_face.compress.quantisation.fold import fold_norms
        >>> model = fold_norms(FaceModel.fresh(network("mobilefacenet_128").spec, seed=0))
        >>> crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
        >>> with quantisation_aware(model, crops, weight_bits=4) as student:
        ...     coarse = student.embed(crops)  # here nas_face.train.train(student, ...)
        >>> bool((coarse != model.embed(crops)).any())
        True
    """
    if has_norms_to_fold(model):
        raise CompressionError(
            "quantisation-aware training needs a model whose batch normalisations are folded, as "
            "they are in the file that is deployed; fold them first"
        )
    bits = layer_bits(
        model, weight_bits=weight_bits, keep_float=keep_float, narrow_bits=narrow_bits
    )
    ranges = observed_ranges(model, crops, percentile=percentile, batch_size=batch_size)
    grids = grids_of(ranges, bits, activation_bits=activation_bits, outputs=outputs)
    digest = hashlib.sha256(repr(sorted(grids.items())).encode()).hexdigest()[:12]
    activations = "float" if activation_bits is None else f"{activation_bits}-bit"
    step = (
        f"trained on grids: {weight_bits}-bit weights, {activations} activations, "
        f"{len(grids)} layers, {len(ranges) - len(grids)} in float (grids {digest})"
    )
    logger.info("%s", step)
    with fake_quantised(model.module, grids):
        yield model.noting(step)


def on_grids(
    model: FaceModel,
    *,
    weight_bits: int,
    narrow_bits: int | None = None,
    keep_float: frozenset[str] = frozenset(),
) -> FaceModel:
    """A model of its own whose weights are those that `quantisation_aware` computed with: each the
    nearest on its grid.

    Files of few bits are to be made of this one, since their quantiser finds the same grids in it
    and changes nothing more. In trained weights that were not rounded it would find other grids,
    which undoes the training: measured with 4 bits on a small network and unseen people, 1 -
    cosine is 0.0082, and 0.0025 rounded; 0.0037 without any training, 0.0026 with adaptive
    rounding instead.

    Args:
        model: that was trained on grids.
        weight_bits: 2 to 8, as in the training, like all that follows.
        narrow_bits: of layers whose rows have few weights.
        keep_float: paths of layers that stay as they are.

    Raises:
        CompressionError: bits are out of range; a path of `keep_float` is none of a layer.
    """
    bits = layer_bits(
        model, weight_bits=weight_bits, keep_float=keep_float, narrow_bits=narrow_bits
    )
    result = own_copy(model)
    with torch.no_grad():
        for path, each in bits.items():
            weight = weighted(result, path).weight
            weight.copy_(rounded(weight, weight_scale(weight, each), each))
    return result.noting(f"rounded {len(bits)} layers to {weight_bits}-bit weights")
