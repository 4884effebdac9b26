"""An ONNX graph while it is being written: named nodes and the arrays that they read."""

from collections.abc import Mapping
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

INPUT: Final = "image"
OUTPUT: Final = "embedding"
NEXT_TO_NOTHING: Final = 1e-20
# A note in files that keep weights in few bits: how many.
WEIGHT_BITS: Final = "nas_face.weight_bits"
# In the names of all nodes that turn pixels into the network's input.
PREPROCESSING: Final = "preprocessing."

Attribute = int | float | str | tuple[int, ...]


@final
class GraphWriter:
    """Collects nodes in running order; a node and its first output bear the same name."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._arrays: dict[str, TensorProto] = {}
        self._names: set[str] = {INPUT, OUTPUT}

    def node(
        self,
        operator: str,
        name: str,
        inputs: tuple[str, ...],
        attributes: Mapping[str, Attribute] | None = None,
    ) -> str:
        """Add a node with one output.

        Args:
            operator: ONNX operator, such as `Conv`.
            name: of the node, not used before.
            inputs: names of values and arrays.
            attributes: of the operator.

        Returns:
            Name of the output.
        """
        return self.node_with_outputs(operator, name, inputs, (name,), attributes)[0]

    def node_with_outputs(
        self,
        operator: str,
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: Mapping[str, Attribute] | None = None,
    ) -> tuple[str, ...]:
        """Add a node with several named outputs; see `node`."""
        node = helper.make_node(operator, inputs, outputs, name=name)
        for key, value in sorted((attributes or {}).items()):
            node.attribute.append(helper.make_attribute(key, value))
        for output in outputs:
            self._claim(output)
        self._nodes.append(node)
        return outputs

    def floats(self, name: str, values: NDArray[np.float64]) -> str:
        """Add an array, stored as float32; what is next to nothing is stored as zero.

        Weight decay leaves such weights in trained networks. They change no output that float32
        can show, but their products are subnormal numbers, on which processors are slow.
        """
        stored = np.ascontiguousarray(values, dtype=np.float32)
        return self._array(name, np.where(np.abs(stored) < NEXT_TO_NOTHING, np.float32(0), stored))

    def integers(self, name: str, values: tuple[int, ...]) -> str:
        """Add an array of shape or index numbers, stored as int64."""
        return self._array(name, np.array(values, dtype=np.int64))

    def finish(self, name: str, last: str, height: int, width: int, size: int) -> GraphProto:
        """The graph from `image` `(N, 3, height, width)` to `embedding` `(N, size)`.

        Args:
            name: of the graph.
            last: value that becomes the output.
            height: of the image.
            width: of the image.
            size: of the embedding.
        """
        read = {name for node in self._nodes for name in node.input}
        for node in self._nodes:
            node.output[:] = [OUTPUT if each == last else each for each in node.output]
        image = (INPUT, TensorProto.FLOAT, ("N", 3, height, width))
        embedding = (OUTPUT, TensorProto.FLOAT, ("N", size))
        return helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(*image)],
            [helper.make_tensor_value_info(*embedding)],
            # A constant that was folded away has no reader.
            [array for name, array in self._arrays.items() if name in read],
        )

    def _array(self, name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self._claim(name)
        self._arrays[name] = numpy_helper.from_array(values, name)
        return name

    def _claim(self, name: str) -> None:
        assert name not in self._names, f"two values are called {name}"
        self._names.add(name)


def preprocessing_first(graph: GraphProto) -> None:
    """Move the nodes of preprocessing, which read nothing but the image and arrays, to the front.

    Quantisers put nodes that restore weights there, behind which the package insightface would not
    find out that the file normalises (see `onnx_export`).
    """
    ordered = sorted(graph.node, key=lambda node: PREPROCESSING not in node.name)
    del graph.node[:]
    graph.node.extend(ordered)
