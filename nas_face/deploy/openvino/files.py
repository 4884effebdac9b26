"""OpenVINO's pair of files: the graph as `.xml`, its weights as `.bin` beside it."""

import hashlib
import re
from pathlib import Path
from typing import Any, Final

from nas_face.deploy.layer_paths import computed_layers
from nas_face.deploy.model_files import OPENVINO_SUFFIX, is_openvino, openvino_weights
from nas_face.deploy.onnx_graph import INPUT, OUTPUT
from nas_face.deploy.openvino.library import core, openvino
from nas_face.errors import DeployError

# OpenVINO keeps what an ONNX file says of itself under this heading.
PROPERTIES: Final = "framework"
PRECISION: Final = "nas_face.precision"
# Tells which weights a graph belongs to. Two files cannot be replaced in one step, and OpenVINO
# would take any weights of sufficient length.
_DIGEST: Final = "nas_face.weights_sha256"
_NOTED: Final = re.compile(rb'<nas_face\.weights_sha256 value="([0-9a-f]{64})"')
# What a reader finds out by itself is two fifths of a graph: line breaks and indents, shapes of
# all values but the input's, and types of what layers take.
_BETWEEN: Final = re.compile(rb">\s+<")
_LAYER: Final = re.compile(rb"<layer (?:(?!<layer ).)*", re.DOTALL)
_SHAPE: Final = re.compile(rb"(?:<dim>[^<]*</dim>)+")
_TAKEN: Final = re.compile(rb"<input>.*?</input>", re.DOTALL)
_TYPE: Final = re.compile(rb' precision="\w+"')
_COUNTED: Final = re.compile(r"[A-Z]\w*_\d+")

# Inputs of a quantisation: ends of the range that it writes, and of the one that it reads.
_QUANTISATION: Final = "FakeQuantize"
_RANGES: Final = ((3, 1), (4, 2))

# What OpenVINO raises is nothing more special.
FAILURES: Final = (OSError, RuntimeError)


def write_ir(model: Any, path: Path, *, half: bool = False) -> None:
    """Write a model so that a reader never meets half of it.

    Both files are written beside their places and then moved there, the weights first. A crash
    between the two moves is seen by `read_ir`, which then takes the graph from where it waits.

    Args:
        model: an `openvino.Model`; gets a note of its weights' digest.
        path: of the graph; its name ends in `.xml`. Missing parent folders are made.
        half: keep weights in float16.

    Raises:
        DeployError: the name ends in something else, or the files cannot be written; then nothing
            is left beside those that were there.
    """
    if not is_openvino(path):
        raise DeployError(f"{path}: the name of an OpenVINO file must end in {OPENVINO_SUFFIX}")
    partial = _waiting(path)
    save = openvino().save_model
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _share_constants_(model)
        _name_by_place_(model)
        save(model, partial, compress_to_fp16=half)
        digest = hashlib.sha256(openvino_weights(partial).read_bytes()).hexdigest()
        model.set_rt_info(digest, [PROPERTIES, _DIGEST])
        save(model, partial, compress_to_fp16=half)
        partial.write_bytes(_terse(partial.read_bytes()))
        openvino_weights(partial).replace(openvino_weights(path))
        partial.replace(path)
    except FAILURES as failure:
        for each in (partial, openvino_weights(partial)):
            if each.is_file():
                each.unlink()
        reason = failure.strerror if isinstance(failure, OSError) else one_line(failure)
        raise DeployError(f"{path}: cannot be written ({reason})") from failure


def read_ir(path: Path) -> Any:
    """A pair of files as an `openvino.Model`.

    Raises:
        ConfigError: OpenVINO is not installed.
        DeployError: a file is missing or broken, or they do not belong together.
    """
    reader = core()
    for file in (path, openvino_weights(path)):
        if not file.is_file():
            raise DeployError(f"{file}: there is no such file; export a model to it first")
    try:
        graph, weights = path.read_bytes(), openvino_weights(path).read_bytes()
        digest = hashlib.sha256(weights).hexdigest().encode()
        if _noted(graph) not in (None, digest):
            graph = _waiting(path).read_bytes() if _waiting(path).is_file() else graph
            if _noted(graph) != digest:
                raise DeployError(
                    f"{openvino_weights(path)}: not the weights of {path.name}, or broken; export "
                    "the "
                    "model again"
                )
        return reader.read_model(graph, weights)
    except FAILURES as failure:
        raise DeployError(
            f"{path}: not an OpenVINO file that can run here ({one_line(failure)})"
        ) from failure


def read_onnx(content: bytes, where: Path) -> Any:
    """A file of `export_onnx` as an `openvino.Model`, its constants computed.

    OpenVINO spells the shape of every bias and of every filter of a depthwise convolution out as
    a chain of operators. Among those, NNCF finds no bias to correct, and takes the axes of filters
    for others (measured, version 3.4).

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        ConfigError: OpenVINO is not installed.
        DeployError: OpenVINO refuses it.
    """
    reader = core()
    passes = openvino().passes
    try:
        model = reader.read_model(content)
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())
        manager.run_passes(model)
    except FAILURES as failure:
        raise DeployError(
            f"{where}: not an ONNX file that OpenVINO can run ({one_line(failure)})"
        ) from failure
    return model


def properties_of(model: Any) -> dict[str, str]:
    """What the exporter noted in a file."""
    if not model.has_rt_info([PROPERTIES]):
        return {}
    return {
        name: str(value)
        for name, value in model.get_rt_info([PROPERTIES]).value.items()
        if name.startswith("nas_face.") and name != _DIGEST
    }


def precision_of_ir(path: Path) -> str:
    """Precision of the weights: `int8`, `fp16` or `fp32`, whichever is the coarsest.

    A file that cannot be read is fp32.
    """
    try:
        model = read_ir(path)
    except DeployError:
        return "fp32"
    if is_int8(model):
        return "int8"
    kinds = {
        each.get_output_element_type(0).get_type_name()
        for each in model.get_ops()
        if each.get_type_name() == "Constant"
    }
    return "fp16" if "f16" in kinds else "fp32"


def is_int8(model: Any) -> bool:
    """Whether values of an `openvino.Model` are rounded to a grid."""
    return any(each.get_type_name() == "FakeQuantize" for each in model.get_ops())


def signature_of(model: Any, path: Path) -> tuple[int, int, int]:
    """Height, width and embedding size, read from the graph.

    Raises:
        DeployError: it does not take an `image` `(N, 3, H, W)` to an `embedding` `(N, D)`.
    """
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) == len(outputs) == 1:
        image, embedding = inputs[0].partial_shape, outputs[0].partial_shape
        named = INPUT in inputs[0].names and OUTPUT in outputs[0].names
        real = {each.element_type.get_type_name() for each in (inputs[0], outputs[0])} == {"f32"}
        if named and real and image.rank == 4 and embedding.rank == 2:
            sizes = (image[1], image[2], image[3], embedding[1])
            if all(size.is_static for size in sizes) and sizes[0] == 3:
                height, width, embedding_size = (size.get_length() for size in sizes[1:])
                return height, width, embedding_size
    raise DeployError(
        f"{path}: not a face model; the file must take '{INPUT}' float32 (N, 3, H, W) to "
        f"'{OUTPUT}' float32 (N, D), got {_listing(inputs)} to {_listing(outputs)}"
    )


def one_line(failure: Exception) -> str:
    """What OpenVINO complains of, for messages; where in its sources is left out."""
    lines = [line.strip() for line in str(failure).splitlines()]
    told = [
        line for line in lines if line and not re.match(r"(Exception from|Check .* failed)", line)
    ]
    return " ".join(told or lines)[:300]


def _share_constants_(model: Any) -> None:
    """Let ranges that are equal be one constant: of every quantisation, what it reads and writes,
    which halves the constants of an int8 graph."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != _QUANTISATION:
            continue
        for written, read in _RANGES:
            ends = [node.input_value(at) for at in (written, read)]
            values = [getattr(end.get_node(), "data", None) for end in ends]  # of constants
            if all(each is not None for each in values) and _equal(values[0], values[1]):
                node.input(written).replace_source_output(ends[1])


def _equal(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def _name_by_place_(model: Any) -> None:
    """Give new names to nodes that OpenVINO named, by a count of all nodes of the process, and to
    constants, whose long names are a tenth of an int8 graph; those that tell of a layer stay."""
    for at, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() == "Constant":
            if computed_layers([node.get_friendly_name()]):
                continue
            node.set_friendly_name(f"c{at}")
            node.output(0).get_tensor().set_names(set())
        elif _COUNTED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}.{at}")


def _terse(graph: bytes) -> bytes:
    """A graph without what its reader finds out by itself."""
    return _LAYER.sub(lambda layer: _terse_layer(layer[0]), _BETWEEN.sub(b"><", graph))


def _terse_layer(layer: bytes) -> bytes:
    if b'type="Parameter"' in layer:
        return layer
    shapeless = _SHAPE.sub(b"", layer).replace(b"></port>", b" />")
    return _TAKEN.sub(lambda taken: _TYPE.sub(b"", taken[0]), shapeless)


def _waiting(path: Path) -> Path:
    """Where a graph is written, until it is moved into place."""
    return path.with_suffix(f".partial{OPENVINO_SUFFIX}")


def _noted(graph: bytes) -> bytes | None:
    found = _NOTED.search(graph)
    return found[1] if found else None


def _listing(values: list[Any]) -> str:
    return ", ".join(
        f"'{next(iter(sorted(each.names)), '')}' {each.element_type.get_type_name()} "
        f"{each.partial_shape}"
        for each in values
    )
