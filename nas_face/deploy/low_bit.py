"""Float32 ONNX file to one that holds its weights in 8, 6 or 4 bits: for size, not for speed."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas_face.deploy.files import write_atomically
from nas_face.deploy.layer_paths import computed_layers, layer_path, require_layers
from nas_face.deploy.onnx_graph import WEIGHT_BITS, preprocessing_first
from nas_face.deploy.runtime import OnnxSession
from nas_face.deploy.weight_packing import GriddedWeights, pack_
from nas_face.errors import CompressionError

NARROW: Final = 64
"""Rows of fewer weights, such as depthwise filters, have 8 bits whatever is asked for: they are
few, and nothing averages their errors out. Measured on MobileFaceNet-512, where they are 5 % of
the weights: mean cosine 0.78 instead of 0.56 with 4 bits (symmetric)."""

_FULL_BITS: Final = 8
# Of the way from the least weight of a row to its largest that its grid reaches over.
_REACHES: Final = tuple(np.linspace(1.0, 0.6, 21).tolist())

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LowBitReport:
    """What keeping weights in few bits did to a file.

    Attributes:
        size_bytes_before: of the float32 file.
        size_bytes_after: of the file written.
        bits: of a weight.
        layers: paths of the convolutions and linear layers whose weights have them.
        narrow_layers: those whose weights have 8 bits for their rows are short (`NARROW`).
        float_layers: those left in float32.
    """

    size_bytes_before: int
    size_bytes_after: int
    bits: int
    layers: tuple[str, ...]
    narrow_layers: tuple[str, ...]
    float_layers: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In one line, for the file itself."""
        return (
            f"weights in {self.bits} bits: {len(self.layers)} layers, {len(self.narrow_layers)} "
            f"of short rows in {_FULL_BITS} bits, {len(self.float_layers)} in float32; values in "
            "float32"
        )


def quantise_weights(
    source: Path,
    target: Path,
    *,
    bits: Literal[4, 6, 8],
    keep_float: frozenset[str] = frozenset(),
) -> LowBitReport:
    """Keep the weights of convolutions and linear layers in few bits; everything is computed in
    float32, as before.

    A weight is scale * (level - zero), with one scale and one zero for each output channel: those
    of a symmetric grid (`weight_scale` of `nas_face.compress.quantisation.grid`) or of one that
    reaches from below the least weight to the largest, whichever has the smaller squared error. So
    weights that are on a symmetric grid already, as adaptive rounding leaves them, stay what they
    are. Levels are packed without gaps, two in a byte with 4 bits, four in three bytes with 6, and
    unpacked by ordinary operators of the file's own opset. ONNX Runtime and OpenVINO do that once,
    when they load the file, and are then as fast as with float32 weights. Shapes of inner values
    are not in the file.

    Differs: ONNX has 4-bit tensors and DequantizeLinear from opset 21 on. Both runtimes read them,
    but ONNX Runtime then unpacks at every call: measured 12.5 ms instead of 7.1
    (MobileFaceNet-512, one thread); 8-bit weights behind DequantizeLinear 11.3 ms.

    Args:
        source: a file of `export_onnx`.
        target: file to write; an old one is replaced in one step.
        bits: of a weight.
        keep_float: paths of convolutions and linear layers that stay in float32.

    Raises:
        CompressionError: there are no such bits, `source` has no float weights (left), or
            `keep_float` names a layer that is not there.
        DeployError: `source` is not an exported face model, or `target` cannot be written.
    """
    if bits not in (4, 6, 8):
        raise CompressionError(f"bits: weights can have 4, 6 or 8, got {bits}")
    properties = OnnxSession(source).properties
    model = onnx.load(source)
    weighted = _weighted(model, source)
    computed = computed_layers(each.name for each in model.graph.initializer)
    require_layers(keep_float, {*weighted, *computed}, source)
    chosen = {path: name for path, name in weighted.items() if path not in keep_float}
    if not chosen:
        raise CompressionError(f"{source}: keep_float leaves no layer to keep in {bits} bits")
    arrays = {each.name: each for each in model.graph.initializer}
    grids = {path: _on_grid(arrays[name], bits) for path, name in chosen.items()}
    pack_(model, list(grids.values()))
    report = LowBitReport(
        size_bytes_before=source.stat().st_size,
        size_bytes_after=0,
        bits=bits,
        layers=tuple(path for path, each in grids.items() if each.bits == bits),
        narrow_layers=tuple(path for path, each in grids.items() if each.bits != bits),
        float_layers=tuple(path for path in weighted if path in keep_float),
    )
    properties["nas_face.precision"] = report.summary
    properties[WEIGHT_BITS] = str(bits)
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(properties.items())))
    preprocessing_first(model.graph)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    write_atomically(target, content)
    _log.debug("%s: %s", target, report.summary)
    return replace(report, size_bytes_after=len(content))


def _weighted(model: ModelProto, source: Path) -> dict[str, str]:
    """Name of the weight of each convolution and linear layer, by the layer's path."""
    ranks = {array.name: len(array.dims) for array in model.graph.initializer}
    nodes: list[NodeProto] = [
        node
        for node in model.graph.node
        if node.op_type == "Gemm" or (node.op_type == "Conv" and ranks.get(node.input[1], 4) == 4)
    ]
    if not nodes:
        raise CompressionError(f"{source}: has no convolution or linear layer")
    for node in nodes:
        if node.input[1] not in ranks:
            raise CompressionError(
                f"{source}: {layer_path(node.name)}: its weights are in few bits already; start "
                "from the float32 file"
            )
    return {layer_path(node.name): node.input[1] for node in nodes}


def _on_grid(array: TensorProto, bits: int) -> GriddedWeights:
    weights = numpy_helper.to_array(array)
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    bits = bits if rows.shape[1] >= NARROW else _FULL_BITS
    least = np.full((len(rows), 1), np.inf)
    scale, zero = np.ones((len(rows), 1)), np.zeros((len(rows), 1))
    levels = np.zeros_like(rows)
    for tried_scale, tried_zero in _grids(rows, bits):
        tried = np.clip(np.rint(rows / tried_scale) + tried_zero, 0, 2**bits - 1)
        error = ((tried_scale * (tried - tried_zero) - rows) ** 2).sum(axis=1, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        scale = np.where(better, tried_scale, scale)
        zero = np.where(better, tried_zero, zero)
        levels = np.where(better, tried, levels)
    per_row = (len(weights), *[1] * (weights.ndim - 1))
    return GriddedWeights(
        name=array.name,
        bits=bits,
        levels=levels.reshape(weights.shape).astype(np.uint8),
        scale=scale.reshape(per_row).astype(np.float32),
        zero=zero.reshape(per_row).astype(np.uint8),
    )


def _grids(
    rows: NDArray[np.float64], bits: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Scales and zeros to try, each `(out, 1)`: the symmetric ones, then those that reach from the
    least weight to the largest or nearly so."""
    symmetric = np.abs(rows).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    yield _stored(symmetric), np.full_like(symmetric, 2 ** (bits - 1))
    low = np.minimum(rows.min(axis=1, keepdims=True), 0.0)
    high = np.maximum(rows.max(axis=1, keepdims=True), 0.0)
    for reach in _REACHES:
        scale = _stored(reach * (high - low) / (2**bits - 1))
        yield scale, np.rint(-reach * low / scale)


def _stored(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales as float32 holds them; 1 in place of zero."""
    kept = scale.astype(np.float32).astype(np.float64)
    return np.where(kept > 0, kept, 1.0)
