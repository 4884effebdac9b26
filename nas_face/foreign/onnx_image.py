"""What an ONNX graph does to the image before its first layer: order, mean and scale."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import BuildError
from nas_face.foreign.onnx_values import Graph, Node
from nas_face.nn.model import LUMA

_OF_IMAGE = ("Sub", "Add", "Mul", "Div", "Gather", "Identity", "Cast", "Transpose", "ReduceSum")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InGraph:
    """Preprocessing that a graph does itself: (x - mean) / scale.

    Attributes:
        mean: subtracted from every value of the input.
        scale: divided by.
        mirrored: whether the three channels are put in reverse order first.
        channels_last: whether the input is `(N, H, W, 3)`.
        luma: whether the three channels are weighted and added up to their brightness first.
    """

    mean: float = 0.0
    scale: float = 1.0
    mirrored: bool = False
    channels_last: bool = False
    luma: bool = False

    @property
    def normalises(self) -> bool:
        """Whether values change at all."""
        return (self.mean, self.scale) != (0.0, 1.0)


def preprocessing_of(graph: Graph, where: str) -> tuple[InGraph, frozenset[str]]:
    """What happens to the image, and the names of the values that it has on the way.

    Raises:
        BuildError: the channels are treated differently, or the image is read on the way.
    """
    found = InGraph()
    value = graph.image
    values = {value}
    while True:
        readers = [node for node in graph.nodes if value in node.inputs]
        if len(readers) != 1 or readers[0].operator not in _OF_IMAGE:
            return found, frozenset(values)
        after = _step(found, readers[0], value, graph, where)
        if after is None:
            return found, frozenset(values)
        found = after
        value = readers[0].outputs[0]
        values.add(value)


def _step(found: InGraph, node: Node, value: str, graph: Graph, where: str) -> InGraph | None:
    if node.operator in ("Identity", "Cast"):
        return found
    if node.operator == "Transpose":
        if tuple(node.attributes.get("perm", ())) == (0, 3, 1, 2):
            return replace(found, channels_last=True)
        return None
    if len(node.inputs) != 2:
        return None
    other = next((graph.constants[name] for name in node.inputs if name in graph.constants), None)
    if other is None:
        return None
    if node.operator == "Gather":
        if node.attributes.get("axis", 0) != 1 or list(other.reshape(-1)) != [2, 1, 0]:
            return None
        return replace(found, mirrored=not found.mirrored)
    if node.operator == "ReduceSum":
        return found if found.luma and list(other.reshape(-1)) == [1] else None
    if node.operator == "Mul" and not found.normalises and other.shape == (3, 1, 1):
        if np.allclose(other.reshape(-1), LUMA, atol=1e-6):
            return replace(found, luma=True)
    number = _one_number(other, node, where)
    match node.operator:
        case "Sub" if node.inputs[0] == value:
            return replace(found, mean=found.mean + number * found.scale)
        case "Add":
            return replace(found, mean=found.mean - number * found.scale)
        case "Mul":
            return replace(found, scale=found.scale / number)
        case "Div" if node.inputs[0] == value:
            return replace(found, scale=found.scale * number)
    return None


def _one_number(constant: NDArray[np.float32], node: Node, where: str) -> float:
    numbers = np.unique(constant.astype(np.float64))
    if (
        len(numbers) != 1
        or not np.isfinite(numbers).all()
        or (numbers[0] == 0 and node.operator in ("Mul", "Div"))
    ):
        raise BuildError(
            f"{where}: {node.name} treats the channels of the image differently; a model folder "
            "holds one mean and one scale"
        )
    return float(numbers[0])
