"""Where a layer is written, and the values that it reads and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.cost import Shape
from nas_face.deploy.onnx_graph import INPUT, Attribute, GraphWriter
from nas_face.errors import DeployError

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of the graph.

    Attributes:
        name: in the graph.
        shape: without the batch.
        flat: `(N, C)` rather than `(N, C, H, W)`; a shape alone cannot tell them apart.
        constant: the numbers `(C, H, W)`, where they are the same for every image; such a value
            has a batch of one, until `Site.spread`.
    """

    name: str
    shape: Shape
    flat: bool = False
    constant: Array | None = None

    def per_channel(self, values: Array) -> Array:
        """`(C,)` in the shape that broadcasts over this value."""
        return values if self.flat else values.reshape(-1, 1, 1)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A place in the tree.

    Attributes:
        graph: receives nodes and arrays.
        weights: state dict of the whole model, its keys being paths in the tree.
        path: of the layer; empty for the root. What is written here bears it as a prefix.
    """

    graph: GraphWriter
    weights: Mapping[str, Array]
    path: str = ""

    def below(self, name: str) -> "Site":
        """Site of a child."""
        return replace(self, path=f"{self.path}.{name}" if self.path else name)

    def weight(self, name: str) -> Array:
        """A parameter or buffer of the layer."""
        return self.weights[f"{self.path}.{name}"]

    def node(
        self,
        operator: str,
        name: str,
        inputs: tuple[str, ...],
        attributes: Mapping[str, Attribute] | None = None,
    ) -> str:
        """Add a node; see `GraphWriter.node`."""
        return self.graph.node(operator, f"{self.path}.{name}", inputs, attributes)

    def floats(self, name: str, values: Array | float) -> str:
        """Add an array, stored as float32."""
        return self.graph.floats(f"{self.path}.{name}", np.asarray(values, np.float64))

    def integers(self, name: str, values: tuple[int, ...]) -> str:
        """Add an array of shape or index numbers."""
        return self.graph.integers(f"{self.path}.{name}", values)

    def split(self, sizes: tuple[int, ...], x: Value) -> list[Value]:
        """Cut along channels."""
        names = tuple(f"{self.path}.part{at}" for at in range(len(sizes)))
        lengths = self.integers("sizes", sizes)
        outputs = self.graph.node_with_outputs(
            "Split", f"{self.path}.split", (x.name, lengths), names, {"axis": 1}
        )
        return [
            replace(x, name=name, shape=x.shape._replace(channels=size))
            for name, size in zip(outputs, sizes, strict=True)
        ]

    def constant(self, values: Array) -> Value:
        """A value `(C, H, W)` that is the same for every image."""
        name = self.floats("constant", values[np.newaxis])
        return Value(name, Shape(*values.shape), constant=values)

    def spread(self, x: Value) -> Value:
        """A constant repeated for every image of the batch; any other value as it is."""
        if x.constant is None:
            return x
        batch = self.node("Shape", "batch", (INPUT,), {"start": 0, "end": 1})
        ones = self.integers("ones", (1, 1, 1))
        sizes = self.node("Concat", "batch_sizes", (batch, ones), {"axis": 0})
        return Value(self.node("Expand", "spread", (x.name, sizes)), x.shape)

    def require_map(self, x: Value, kind: str) -> None:
        """Refuse a flat vector.

        Raises:
            DeployError: `x` is one.
        """
        if x.flat:
            raise DeployError(f"{self.path}: {kind} needs a feature map; put it before flatten")
