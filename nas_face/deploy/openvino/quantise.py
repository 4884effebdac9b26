"""Float32 files to int8 files of OpenVINO, calibrated on faces by NNCF."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy.batches import as_input
from nas_face.deploy.calibration import require_images
from nas_face.deploy.cpu import has_vnni
from nas_face.deploy.layer_paths import computed_layers, layer_path, require_layers
from nas_face.deploy.model_files import is_openvino, size_bytes_of
from nas_face.deploy.openvino.files import (
    FAILURES,
    PRECISION,
    PROPERTIES,
    is_int8,
    one_line,
    read_ir,
    read_onnx,
    signature_of,
    write_ir,
)
from nas_face.deploy.openvino.library import nncf
from nas_face.deploy.openvino.session import compiled
from nas_face.deploy.parity import embedding_parity
from nas_face.deploy.quantisation_report import QuantisationReport
from nas_face.deploy.quiet import quiet
from nas_face.deploy.runtime import OnnxSession
from nas_face.errors import CompressionError

_log = logging.getLogger(__name__)

Preset = Literal["mixed", "performance"]
Ranges = Literal["histogram", "minmax"]
BiasCorrection = Literal["fast", "accurate", "none"]
# Cosine of int8 to float32 embeddings (mean and first percentile of 200 crops of unseen people)
# and time beside float32, MobileFaceNet-512, trained, 200 calibration images, a processor with
# VNNI; the first line is NNCF's default but for the preset:
#   mixed, mean of extremes, fast        0.9931 0.972   0.53
#   performance                          0.9919 0.969   0.49
#   overflow fix                         0.9918 0.963   0.53
#   performance, overflow fix            0.9903 0.962   0.48
#   no bias correction                   0.9926 0.972   0.53
#   accurate bias correction             0.9942 0.976   0.56
#   minmax                               0.9929 0.978   0.55
#   mean of quantiles                    0.9332 0.853   0.56
#   histogram                            0.9945 0.982   0.54
#   first convolution in float           0.9931 0.974   0.52
#   depthwise convolutions in float      0.9950 0.978   0.65
#   sums in float                        0.9944 0.979   0.55
# SmoothQuant and channel alignment changed nothing.
_WEIGHTED: Final = ("Convolution", "GroupConvolution", "MatMul")


def quantise_openvino(
    source: Path,
    target: Path,
    calibration: NDArray[np.uint8],
    *,
    preset: Preset = "mixed",
    overflow_fix: bool | None = None,
    keep_float: frozenset[str] = frozenset(),
    method: Ranges = "histogram",
    bias_correction: BiasCorrection = "fast",
) -> QuantisationReport:
    """Quantise what OpenVINO has 8-bit kernels for: convolutions and linear layers with a scale
    for each output channel, and the sums, products and activations between them.

    Prints and log lines of the whole process are held back meanwhile, and nothing is told to
    anybody's server.

    Args:
        source: a file of `export_openvino`, or one of `export_onnx` with native PReLU; rewritten,
            PReLU is several operators to OpenVINO, each rounded for itself.
        target: `.xml` file to write, its weights beside it as `.bin`; an old pair is replaced.
        calibration: `(N, H, W, 3)` uint8 RGB face crops of the file's input size, at least 8, of
            the kind that the network will meet; some hundreds of different people serve well.
        preset: `mixed` gives values with negative ones among them a zero point; `performance`
            centres their range on zero.
        overflow_fix: give weights 7 bits, so that sums of products cannot saturate on x86
            processors without VNNI. None never does so on a processor with VNNI; on any other it
            tries both, and keeps what comes closer to the float32 embeddings of the calibration
            images. Which one that is depends on the network: one without the fix saturates here
            and there, one with it is coarser everywhere.
        keep_float: paths of the convolutions and linear layers that stay in float32.
        method: `histogram` looks for the range that rounds what was seen with the least error,
            `minmax` keeps all of it.
        bias_correction: `accurate` corrects the mean of what each layer gives by running the
            network as it is quantised so far; `fast` looks at one layer at a time.

    Raises:
        ConfigError: OpenVINO or NNCF is not installed.
        CompressionError: the images are too few or of another size, nothing could be quantised, or
            `keep_float` names a layer that is not there.
        DeployError: `source` is not an exported face model, or `target` cannot be written.
    """
    model = _read(source)
    height, width, _ = signature_of(model, source)
    require_images(calibration, height, width, source)
    if is_int8(model):
        raise CompressionError(f"{source}: is int8 already; quantise the float32 file")
    nodes = {layer_path(name): name for name, _ in _weighted(model)}
    computed = computed_layers(each.get_friendly_name() for each in model.get_ops())
    require_layers(keep_float, {*nodes, *computed}, source)
    ignored = [nodes[path] for path in sorted(keep_float & nodes.keys())]
    if overflow_fix is None:
        fixes = (False,) if has_vnni() else (False, True)
    else:
        fixes = (overflow_fix,)
    candidates = [
        _quantised(
            _read(source), calibration, source, preset, fix, ignored, method, bias_correction
        )
        for fix in fixes
    ]
    best = _closest(model, candidates, calibration) if len(candidates) > 1 else 0
    quantised, reduced = candidates[best], fixes[best]
    rounded = tuple(
        layer_path(name) for name, weights in _weighted(quantised) if _is_rounded(weights)
    )
    if not rounded:
        raise CompressionError(f"{source}: no layer could be quantised; the file stays as it is")
    report = QuantisationReport(
        size_bytes_before=size_bytes_of(source),
        size_bytes_after=0,
        reduce_range=reduced,
        quantised_layers=rounded,
        float_layers=tuple(path for path in nodes if path not in rounded),
        n_images=len(calibration),
        method=f"{preset} {method}",
    )
    quantised.set_rt_info(report.summary, [PROPERTIES, PRECISION])
    write_ir(quantised, target)
    _log.debug("%s: %s", target, report.summary)
    return replace(report, size_bytes_after=size_bytes_of(target))


def _read(source: Path) -> Any:
    if is_openvino(source):
        return read_ir(source)
    OnnxSession(source)  # refuses what is missing or is not a face model
    return read_onnx(source.read_bytes(), source)


def _quantised(
    model: Any,
    images: NDArray[np.uint8],
    source: Path,
    preset: Preset,
    overflow_fix: bool,
    ignored: list[str],
    method: Ranges,
    bias_correction: BiasCorrection,
) -> Any:
    """The `openvino.Model` in 8 bits; `model` itself is used up."""
    library = nncf()
    fix = library.OverflowFix.ENABLE if overflow_fix else library.OverflowFix.DISABLE
    try:
        with quiet():
            return library.quantize(
                model,
                library.Dataset(images, lambda image: as_input(image[np.newaxis])),
                preset=library.QuantizationPreset(preset),
                target_device=library.TargetDevice.CPU,
                subset_size=len(images),
                fast_bias_correction=bias_correction == "fast",
                ignored_scope=library.IgnoredScope(names=ignored),
                advanced_parameters=library.AdvancedQuantizationParameters(
                    overflow_fix=fix,
                    disable_bias_correction=bias_correction == "none",
                    activations_range_estimator_params=_ranges(library, method),
                ),
            )
    except (*FAILURES, library.ValidationError) as failure:
        raise CompressionError(f"{source}: NNCF refuses ({one_line(failure)})") from failure


def _ranges(library: Any, method: Ranges) -> Any:
    known = library.quantization.range_estimator.RangeEstimatorParametersSet
    return known.HISTOGRAM if method == "histogram" else known.MINMAX


def _closest(model: Any, candidates: list[Any], images: NDArray[np.uint8]) -> int:
    """Which of several versions of a model is closest to it in the mean cosine of embeddings."""
    expected = _embeddings(model, images)
    cosines = [
        embedding_parity(expected, _embeddings(each, images)).mean_cosine for each in candidates
    ]
    _log.debug("mean cosines: %s", cosines)
    return int(np.argmax(cosines))


def _embeddings(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = compiled(model, threads=1)
    return np.concatenate([network(as_input(image[np.newaxis]))[0] for image in images])


def _weighted(model: Any) -> Iterator[tuple[str, Any]]:
    """Convolutions and linear layers in running order: name of the node, and what gives its
    weights."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in _WEIGHTED:
            weights = node.input_value(1).get_node()
            if _is_constant(weights):
                yield node.get_friendly_name(), weights


def _is_constant(node: Any) -> bool:
    if node.get_type_name() == "Parameter":
        return False
    return all(_is_constant(each.get_node()) for each in node.input_values())


def _is_rounded(weights: Any) -> bool:
    """Whether weights come from 8-bit integers."""
    if weights.get_output_element_type(0).get_type_name() in ("i8", "u8"):
        return True
    return any(_is_rounded(each.get_node()) for each in weights.input_values())
