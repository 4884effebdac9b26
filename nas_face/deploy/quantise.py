"""Float32 ONNX file to int8 ONNX file, calibrated on faces."""

import logging
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas_face.deploy.batches import as_input
from nas_face.deploy.calibration import require_images
from nas_face.deploy.cpu import has_vnni
from nas_face.deploy.files import write_atomically
from nas_face.deploy.layer_paths import computed_layers, layer_path, require_layers
from nas_face.deploy.onnx_export import PREPROCESSED
from nas_face.deploy.onnx_graph import INPUT, preprocessing_first
from nas_face.deploy.quantisation_report import QuantisationReport
from nas_face.deploy.quiet import quiet
from nas_face.deploy.runtime import OnnxSession
from nas_face.errors import CompressionError

_log = logging.getLogger(__name__)

_METHODS: Final = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
# Cosine of int8 to float32 embeddings on faces of unseen people, measured on two networks trained
# briefly on ORL faces at 56x56 (mean and worst image; mobilefacenet_128, seesaw_shuffle):
#   percentile 99.999         0.9990 0.998   0.985 0.966
#   percentile 99.99          0.9990 0.997   0.984 0.858
#   percentile 99.9           0.9934 0.969   0.944 0.431
#   minmax                    0.9988 0.996   0.982 0.971
#   99.99, all convolutions   0.9986 0.996   0.980 0.865
#   99.99, linear in float32  0.9991 0.997   0.985 0.858, files a tenth to a third larger
# The more is cut off, the worse the odd image fares; untrained networks with calibrated batch
# normalisation prefer percentiles to minmax by more (0.960 to 0.939 on average).
_PERCENTILE: Final = 99.999
_BATCH_SIZE: Final = 4
_WEIGHTED: Final = ("Conv", "Gemm")


def quantise_onnx(
    source: Path,
    target: Path,
    calibration: NDArray[np.uint8],
    *,
    reduce_range: bool | None = None,
    method: Literal["minmax", "percentile", "entropy"] = "percentile",
    keep_float: frozenset[str] = frozenset(),
) -> QuantisationReport:
    """Quantise convolutions and linear layers: unsigned 8-bit activations, signed 8-bit weights
    with a scale for each output channel.

    Preprocessing, the first convolution, depthwise convolutions, convolutions along channels and
    all other layers stay in float32. Memory is bounded by the values of four images at a time,
    however many images there are. Prints and log lines of the whole process are held back
    meanwhile. Whether int8 is faster depends on processor and network: measure it.

    Args:
        source: a file of `export_onnx`.
        target: file to write; an old one is replaced in one step.
        calibration: `(N, H, W, 3)` uint8 RGB face crops of the file's input size, at least 8, of
            the kind that the network will meet; some dozens of different people serve well.
        reduce_range: give weights 7 bits, so that sums of products cannot saturate on x86
            processors without VNNI. None decides by the processor that this runs on; say True for
            a file that is to run anywhere.
        method: `percentile` cuts the largest 0.001 % of values off, `minmax` keeps all, `entropy`
            is ONNX Runtime's own criterion.
        keep_float: paths of further convolutions and linear layers that stay in float32.

    Raises:
        CompressionError: the images are too few or of another size, nothing could be quantised, or
            `keep_float` names a layer that is not there.
        DeployError: `source` is not an exported face model, or `target` cannot be written.
    """
    session = OnnxSession(source)
    require_images(calibration, session.height, session.width, source)
    properties = session.properties
    del session
    before = onnx.load(source)
    quantised_before, layers = _weighted(before)
    if quantised_before:
        raise CompressionError(f"{source}: is int8 already; quantise the float32 file")
    computed = computed_layers(each.name for each in before.graph.initializer)
    require_layers(keep_float, {*layers, *computed}, source)
    reduced = not has_vnni() if reduce_range is None else reduce_range
    with tempfile.TemporaryDirectory(prefix="nas-face-int8-") as folder, quiet():
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_WEIGHTED),
            nodes_to_exclude=list(_kept_in_float(onnx.load(prepared), keep_float)),
            per_channel=True,
            reduce_range=reduced,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[method],
            # One call of the reader at a time is digested before the next: bounds the memory.
            extra_options={"CalibStridedMinMax": 1, "CalibPercentile": _PERCENTILE},
        )
        quantised = onnx.load(written)
    preprocessing_first(quantised.graph)
    quantised_layers, float_layers = _weighted(quantised)
    if not quantised_layers:
        raise CompressionError(f"{source}: no layer could be quantised; the file stays as it is")
    report = QuantisationReport(
        size_bytes_before=source.stat().st_size,
        size_bytes_after=0,
        reduce_range=reduced,
        quantised_layers=quantised_layers,
        float_layers=float_layers,
        n_images=len(calibration),
        method=method,
    )
    properties["nas_face.precision"] = report.summary
    del quantised.metadata_props[:]
    helper.set_model_props(quantised, dict(sorted(properties.items())))
    write_atomically(target, quantised.SerializeToString(deterministic=True))
    _log.debug("%s: %s", target, report.summary)
    return replace(report, size_bytes_after=target.stat().st_size)


@final
class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands calibration images out, a small batch at each index.

    Shuffled, because the first batch sets the width of the histograms' bins: a batch of unlike
    images keeps later ones from stretching them far.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images
        self._order = np.random.default_rng(0).permutation(len(images))
        self._next, self._stop = 0, len(self)

    def __len__(self) -> int:
        return -(-len(self._images) // _BATCH_SIZE)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next, self._stop = start_index, end_index

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        if self._next >= self._stop:
            return None
        start = self._next * _BATCH_SIZE
        self._next += 1
        return {INPUT: as_input(self._images[self._order[start : start + _BATCH_SIZE]])}


def _kept_in_float(model: ModelProto, chosen: Collection[str]) -> Iterator[str]:
    """Names of the nodes that lose more by int8 than they gain, and of those chosen.

    The first are the convolutions that read the image and the depthwise ones (those along channels
    look alike: their filters read one channel, too). The latter hold few weights and compute
    little, while each needs values quantised before and restored behind it, since the activation
    between two convolutions runs in float32. Measured on a processor with VNNI, against int8 for
    all convolutions: cosine 0.960 instead of 0.920 and 1.02 instead of 1.24 times the float32 time
    (mobilefacenet_128, 112x112, untrained), for 2 % of the file's size; 0.988 instead of 0.975 and
    0.84 instead of 0.92 times (MobileFaceNet-512, trained, 7-bit weights).

    With sums, products and rectifiers in 8 bits as well, of which PReLU consists here, the latter
    takes 0.82 times, with cosine 0.962.
    """
    widths = {array.name: tuple(array.dims) for array in model.graph.initializer}
    for node in model.graph.node:
        depthwise_or_first = node.op_type == "Conv" and (
            node.input[0] == PREPROCESSED or widths.get(node.input[1], (0, 0))[1] == 1
        )
        named = node.op_type in _WEIGHTED and layer_path(node.name) in chosen
        if depthwise_or_first or named:
            yield node.name


def _weighted(model: ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the convolutions and linear layers that read 8-bit weights, and of the others."""
    restored = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weighted: list[NodeProto] = [node for node in model.graph.node if node.op_type in _WEIGHTED]
    quantised = tuple(layer_path(each.name) for each in weighted if each.input[1] in restored)
    kept = tuple(layer_path(each.name) for each in weighted if each.input[1] not in restored)
    return quantised, kept
