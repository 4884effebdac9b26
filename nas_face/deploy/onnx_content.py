"""What an ONNX file of others is opened as: its weights inside it, and as they are multiplied."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

from nas_face.deploy.runtime import FAILURES, quiet_options

_UNREADABLE = (OSError, DecodeError, ValueError, onnx.checker.ValidationError)


def weight_files(path: Path) -> tuple[Path, ...]:
    """Files beside an ONNX file that hold weights of it, sorted; none of one that cannot be
    read."""
    try:
        model = onnx.load(path, load_external_data=False)
    except _UNREADABLE:
        return ()
    outside = [each for each in model.graph.initializer if uses_external_data(each)]
    return tuple(sorted({path.parent / ExternalDataInfo(each).location for each in outside}))


def content_to_open(path: Path) -> bytes | None:
    """A file with its weights inside it, off the list of inputs, and as floats; None as it is.

    ONNX Runtime asks for a value of every input of the old format, weights included. And weights
    in 8 bits of a network whose other numbers are floats, it would make floats of again for every
    call: SFace, of which a call takes one image, is 1.7 times as fast without that (measured, one
    thread).
    """
    try:
        model = onnx.load(path, load_external_data=False)
        external = any(uses_external_data(each) for each in model.graph.initializer)
        weights = {each.name for each in model.graph.initializer}
        read = {name for node in model.graph.node for name in node.input}
        listed = [
            each for each in model.graph.input if each.name in weights or each.name not in read
        ]
        packed = _packed_weights(model)
        if not external and not listed and not packed:
            return None
        if external:
            load_external_data_for_model(model, str(path.parent))
        for each in listed:
            model.graph.input.remove(each)
        if packed:
            _unpack_(model, packed)
        return bytes(model.SerializeToString())
    except (*_UNREADABLE, *FAILURES):
        return None  # ONNX Runtime says what is wrong with it


def _packed_weights(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that make floats of weights alone, in a network of floats; none in one that rounds
    its other numbers as well, which ONNX Runtime then multiplies as integers."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return []
    weights = {each.name for each in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and weights.issuperset(filter(None, node.input))
    ]


def _unpack_(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Put the results of the nodes in place of the nodes."""
    graph = model.graph
    read = {name for node in nodes for name in node.input}
    part = helper.make_graph(
        nodes,
        "weights",
        [],
        [onnx.ValueInfoProto(name=node.output[0]) for node in nodes],
        [each for each in graph.initializer if each.name in read],
    )
    alone = helper.make_model(part, opset_imports=model.opset_import)
    alone.ir_version = model.ir_version
    session = onnxruntime.InferenceSession(
        alone.SerializeToString(), quiet_options(1), providers=["CPUExecutionProvider"]
    )
    results: list[NDArray[np.generic]] = session.run(None, {})
    for node, values in zip(nodes, results, strict=True):
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    still = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name in read - still]:
        graph.initializer.remove(each)
