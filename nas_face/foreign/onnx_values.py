"""An ONNX graph as plain data: nodes in running order, and every array that no image decides."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, helper, numpy_helper

from nas_face.errors import BuildError

Constant = NDArray[Any]

# Operators that only hand on or rearrange what they read.
_REARRANGING = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node.

    Attributes:
        name: its own, or that of its first result.
        operator: such as `Conv`.
        inputs: names; empty where an optional one is left out.
        outputs: names.
        attributes: by name.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """A graph whose constants are known.

    Attributes:
        image: name of the input.
        input_shape: of the image as the file has it; none for a size that is free.
        nodes: those that an image decides, in running order.
        constants: by name.
        readers: how many nodes, or results of the graph, read a value.
        outputs: names of the results.
    """

    image: str
    input_shape: tuple[int | None, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    readers: Counter[str]
    outputs: tuple[str, ...]


def load_graph(path: Path) -> Graph:
    """Read an ONNX file; nothing in it is run.

    Raises:
        BuildError: the file cannot be read, or its graph has no single order of plain nodes.
    """
    try:
        model = onnx.load(path)
    except OSError as failure:
        raise BuildError(f"{path}: cannot be read ({failure.strerror or failure})") from failure
    except (DecodeError, ValueError, onnx.checker.ValidationError) as failure:
        reason = " ".join(str(failure).split())[:160]
        raise BuildError(f"{path}: not an ONNX file ({reason})") from failure
    if not model.graph.node:
        raise BuildError(f"{path}: not an ONNX file, or an empty one")
    if model.functions:
        raise BuildError(f"{path}: it defines functions of its own; export it without them")
    try:
        return _graph(model.graph, path)
    except (ValueError, TypeError, KeyError, IndexError) as failure:
        raise BuildError(f"{path}: a broken ONNX file ({failure})") from failure


def _graph(graph: GraphProto, path: Path) -> Graph:
    constants: dict[str, Constant] = {
        each.name: numpy_helper.to_array(each) for each in graph.initializer
    }
    images = [each for each in graph.input if each.name not in constants]
    if len(images) != 1:
        names = ", ".join(each.name for each in images) or "none"
        raise BuildError(f"{path}: a face network reads one image, the file's inputs are {names}")
    known = {images[0].name, ""}
    nodes = []
    for node in _plain(graph, path):
        if node.operator == "Constant" or (
            node.operator in _REARRANGING
            and all(name in constants or not name for name in node.inputs)
        ):
            constants[node.outputs[0]] = _constant(node, constants, path)
            continue
        missing = [name for name in node.inputs if name not in known and name not in constants]
        if missing:
            raise BuildError(f"{path}: {node.name} reads {missing[0]}, which nothing has made yet")
        known.update(node.outputs)
        nodes.append(node)
    readers = Counter(name for node in nodes for name in set(node.inputs))
    outputs = tuple(each.name for each in graph.output)
    readers.update(outputs)
    shape = tuple(
        each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None
        for each in images[0].type.tensor_type.shape.dim
    )
    return Graph(
        image=images[0].name,
        input_shape=shape,
        nodes=tuple(nodes),
        constants=constants,
        readers=readers,
        outputs=outputs,
    )


def _plain(graph: GraphProto, path: Path) -> Iterator[Node]:
    for each in graph.node:
        name = each.name or (each.output[0] if each.output else each.op_type)
        if each.domain not in ("", "ai.onnx"):
            raise BuildError(f"{path}: {name} is {each.domain}.{each.op_type}, no standard ONNX")
        if any(
            attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
            for attribute in each.attribute
        ):
            raise BuildError(f"{path}: {name} ({each.op_type}) branches or loops; export it plain")
        yield Node(
            name=name,
            operator=each.op_type,
            inputs=tuple(each.input),
            outputs=tuple(each.output),
            attributes=_attributes(each),
        )


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _constant(node: Node, constants: dict[str, Constant], path: Path) -> Constant:
    if node.operator == "Constant":
        for key, value in node.attributes.items():
            if key == "value":
                return numpy_helper.to_array(value)
            if key in ("value_float", "value_floats"):
                return np.asarray(value, np.float32)
            if key in ("value_int", "value_ints"):
                return np.asarray(value, np.int64)
        raise BuildError(f"{path}: {node.name} is a constant of an unknown kind")
    x = constants[node.inputs[0]]
    second = constants[node.inputs[1]] if len(node.inputs) > 1 and node.inputs[1] else None
    match node.operator:
        case "Transpose":
            return x.transpose(node.attributes.get("perm"))
        case "Reshape":
            assert second is not None
            sizes = [
                x.shape[at] if size == 0 and not node.attributes.get("allowzero") else int(size)
                for at, size in enumerate(second)
            ]
            return x.reshape(sizes)
        case "Flatten":
            axis = node.attributes.get("axis", 1)
            return x.reshape(int(np.prod(x.shape[:axis])), -1)
        case "Squeeze":
            axes = node.attributes.get("axes") if second is None else second
            return x.squeeze(None if axes is None else tuple(int(axis) for axis in axes))
        case "Unsqueeze":
            axes = node.attributes["axes"] if second is None else second
            return np.expand_dims(x, tuple(int(axis) for axis in axes))
        case "Cast":
            return x.astype(helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    return x
