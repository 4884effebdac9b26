"""What the methods share that round one layer after another and look at crops meanwhile."""

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nas_face.compress.quantisation.grid import largest_level
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.errors import CompressionError, near_names
from nas_face.nn.model import Description, FaceModel

NARROW: Final = 64
"""Rows of fewer weights count as narrow: depthwise filters, and most convolutions that read the
image. Files of few bits keep them in 8 (`nas_face.deploy.low_bit`)."""

_MEMORY_BYTES: Final = 3 * 2**30
_BYTES_AN_ACTIVATION: Final = 8  # of float32, and as much again for what is about to be freed

_log = logging.getLogger(__name__)


def layer_bits(
    model: FaceModel, *, weight_bits: int, keep_float: frozenset[str], narrow_bits: int | None
) -> dict[str, int]:
    """Bits of each convolution and linear layer that is rounded, in running order, by its path.

    Args:
        model: the network.
        weight_bits: 2 to 8.
        keep_float: paths of the layers that are not rounded.
        narrow_bits: of layers whose rows are `NARROW`; None for 8 where `weight_bits` is 6 or
            less, as files of few bits have it, and for `weight_bits` otherwise.

    Raises:
        CompressionError: there are no such bits, or no such layer.
    """
    if narrow_bits is None:
        narrow_bits = 8 if weight_bits <= 6 else weight_bits
    largest_level(weight_bits)
    largest_level(narrow_bits)
    paths = [each.path for each in weighted_layers(model.description)]
    if unknown := sorted(keep_float.difference(paths)):
        raise CompressionError(
            f"keep_float: no convolution or linear layer is called {unknown[0]!r}; "
            f"{near_names(unknown[0], paths)}"
        )
    rows = {path: weighted(model, path).weight[0].numel() for path in paths}
    return {
        path: weight_bits if rows[path] >= NARROW else narrow_bits
        for path in paths
        if path not in keep_float
    }


def weighted(model: FaceModel, path: str) -> nn.Conv2d | nn.Linear:
    """The module of a convolution or linear layer."""
    layer = model.module.get_submodule(path)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer


def own_copy(model: FaceModel) -> FaceModel:
    """The model with weights of its own, on the same device, in evaluation."""
    copied = FaceModel.of(model.description, model.module.state_dict())
    copied.module.to(next(model.module.parameters()).device)
    copied.module.eval()
    return copied


def affordable(crops: NDArray[np.uint8], description: Description) -> NDArray[np.uint8]:
    """As many crops as can go through a network at once, which is how layers are rounded in one
    pass: those of about 3 GiB, chosen evenly."""
    bytes_a_crop = _BYTES_AN_ACTIVATION * description.cost.peak_keeping_input
    n_crops = max(1, _MEMORY_BYTES // bytes_a_crop)
    if n_crops >= len(crops):
        return crops
    _log.info("looking at %d of %d crops: more would take too much memory", n_crops, len(crops))
    return crops[np.linspace(0, len(crops) - 1, n_crops).astype(np.int64)]
