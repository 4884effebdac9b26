"""Layer tree to ONNX operators: one rule for each primitive, one for each combinator."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
    PReLU,
)
from nas_face.deploy.onnx_graph import GraphWriter
from nas_face.errors import DeployError

PReluStyle = Literal["native", "rewrite"]
Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph.

    Attributes:
        name: in the graph.
        shape: without the batch.
        flat: `(N, C)` rather than `(N, C, H, W)`; a shape alone cannot tell them apart.
    """

    name: str
    shape: Shape
    flat: bool = False

    def per_channel(self, values: Array) -> Array:
        """`(C,)` in the shape that broadcasts over this value."""
        return values if self.flat else values.reshape(-1, 1, 1)


@final
class Lowering:
    """Writes layers into a graph.

    Args:
        graph: receives nodes and arrays.
        weights: state dict of the model, its keys being paths in the tree.
        prelu: `native` for one PRelu node, `rewrite` for a * x + (1 - a) * relu(x), which is the
            same function for every a.
    """

    def __init__(
        self, graph: GraphWriter, weights: Mapping[str, Array], prelu: PReluStyle
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._prelu_style = prelu

    def lower(self, layer: Layer, path: str, x: Value) -> Value:
        """Write one node of the tree with everything below it.

        Args:
            layer: the node.
            path: its path in the tree, the prefix of its weights; empty for the root.
            x: its input.

        Returns:
            Its output.

        Raises:
            DeployError: a layer meets a value that it cannot take.
        """
        node = self._graph.node
        match layer:
            case Sequence():
                return self._sequence(layer, path, x)
            case Sum():
                first, *others = self._branches(layer.branches, path, [x] * len(layer.branches))
                for at, other in enumerate(others, start=1):
                    name = node("Add", f"{path}.sum{at}", (first.name, other.name))
                    first = replace(first, name=name)
                return first
            case Concat():
                parts = self._branches(layer.branches, path, [x] * len(layer.branches))
                return self._concat(path, parts, layer.output_shape(x.shape))
            case Split():
                parts = self._branches(layer.branches, path, self._cut(layer.sizes, path, x))
                return self._concat(path, parts, layer.output_shape(x.shape))
            case Gate():
                factors = self.lower(layer.body, _join(path, "body"), x)
                return replace(x, name=node("Mul", f"{path}.gate", (x.name, factors.name)))
            case Conv() | Linear():
                return self._affine(layer, path, x, None)
            case BatchNorm():
                return self._batch_norm(layer, path, x)
            case PReLU():
                return self._prelu(path, x)
            case Activation():
                return self._activation(layer, path, x)
            case ChannelShuffle():
                return self._shuffle(layer, path, x)
            case GlobalAveragePool():
                pooled = node("GlobalAveragePool", f"{path}.mean", (x.name,))
                return Value(pooled, layer.output_shape(x.shape))
            case NormAwarePool():
                return self._norm_aware_pool(layer, path, x)
            case Flatten():
                flat = node("Flatten", f"{path}.flat", (x.name,), {"axis": 1})
                return Value(flat, layer.output_shape(x.shape), flat=True)
            case _:
                assert_never(layer)

    def _sequence(self, layer: Sequence, path: str, x: Value) -> Value:
        """Steps in order; batch normalisation right behind a convolution or a linear layer is
        folded into it."""
        steps = list(_steps(layer, path))
        while steps:
            path, step = steps.pop(0)
            if isinstance(step, Conv | Linear):
                norm = None
                next_path, next_step = steps[0] if steps else ("", None)
                if isinstance(next_step, BatchNorm):
                    norm = self._scale_and_shift(next_step, next_path)
                    steps.pop(0)
                x = self._affine(step, path, x, norm)
            else:
                x = self.lower(step, path, x)
        return x

    def _branches(self, layers: tuple[Layer, ...], path: str, inputs: list[Value]) -> list[Value]:
        return [
            self.lower(branch, _join(path, f"branches.{at}"), x)
            for at, (branch, x) in enumerate(zip(layers, inputs, strict=True))
        ]

    def _cut(self, sizes: tuple[int, ...], path: str, x: Value) -> list[Value]:
        lengths = self._graph.integers(f"{path}.sizes", sizes)
        names = tuple(f"{path}.part{at}" for at in range(len(sizes)))
        outputs = self._graph.node_with_outputs(
            "Split", f"{path}.split", (x.name, lengths), names, {"axis": 1}
        )
        return [
            replace(x, name=name, shape=x.shape._replace(channels=size))
            for name, size in zip(outputs, sizes, strict=True)
        ]

    def _concat(self, path: str, parts: list[Value], shape: Shape) -> Value:
        names = tuple(part.name for part in parts)
        joined = self._graph.node("Concat", f"{path}.concat", names, {"axis": 1})
        return Value(joined, shape, flat=parts[0].flat)

    def _scale_and_shift(self, layer: BatchNorm, path: str) -> tuple[Array, Array]:
        """Batch normalisation with frozen statistics as y = scale * x + shift, both `(C,)`."""
        variance = self._weights[f"{path}.running_var"]
        scale = self._weights[f"{path}.weight"] / np.sqrt(variance + layer.eps)
        mean = self._weights[f"{path}.running_mean"]
        return scale, self._weights[f"{path}.bias"] - mean * scale

    def _affine(
        self, layer: Conv | Linear, path: str, x: Value, norm: tuple[Array, Array] | None
    ) -> Value:
        weight = self._weights[f"{path}.weight"]  # (out, in / groups, ...)
        bias = self._weights[f"{path}.bias"] if layer.bias else None
        if norm is not None:
            scale, shift = norm
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = shift if bias is None else shift + bias * scale
        inputs = [x.name, self._graph.floats(f"{path}.weight", weight)]
        if bias is not None:
            inputs.append(self._graph.floats(f"{path}.bias", bias))
        shape = layer.output_shape(x.shape)
        if isinstance(layer, Linear):
            if not x.flat:
                raise DeployError(f"{path}: a linear layer needs a flatten layer before it")
            out = self._graph.node("Gemm", f"{path}.gemm", tuple(inputs), {"transB": 1})
            return Value(out, shape, flat=True)
        out = self._graph.node(
            "Conv",
            f"{path}.conv",
            tuple(inputs),
            {
                "kernel_shape": layer.kernel,
                "strides": (layer.stride, layer.stride),
                "pads": layer.padding * 2,
                "group": layer.groups,
            },
        )
        return Value(out, shape)

    def _batch_norm(self, layer: BatchNorm, path: str, x: Value) -> Value:
        scale, shift = self._scale_and_shift(layer, path)
        factor = self._graph.floats(f"{path}.scale", x.per_channel(scale))
        term = self._graph.floats(f"{path}.shift", x.per_channel(shift))
        scaled = self._graph.node("Mul", f"{path}.scaled", (x.name, factor))
        return replace(x, name=self._graph.node("Add", f"{path}.shifted", (scaled, term)))

    def _prelu(self, path: str, x: Value) -> Value:
        node = self._graph.node
        slopes = x.per_channel(self._weights[f"{path}.weight"])
        slope = self._graph.floats(f"{path}.slope", slopes)
        if self._prelu_style == "native":
            return replace(x, name=node("PRelu", f"{path}.prelu", (x.name, slope)))
        rest = self._graph.floats(f"{path}.rest", 1.0 - slopes)
        both = node("Mul", f"{path}.both", (x.name, slope))
        positive = node("Relu", f"{path}.relu", (x.name,))
        extra = node("Mul", f"{path}.extra", (positive, rest))
        return replace(x, name=node("Add", f"{path}.prelu", (both, extra)))

    def _activation(self, layer: Activation, path: str, x: Value) -> Value:
        node, name = self._graph.node, f"{path}.{layer.function}"
        hard = {"alpha": 1 / 6, "beta": 0.5}  # torch: min(max(x + 3, 0), 6) / 6
        match layer.function:
            case "relu":
                out = node("Relu", name, (x.name,))
            case "relu6":
                low = self._graph.floats(f"{path}.low", np.array(0.0))
                high = self._graph.floats(f"{path}.high", np.array(6.0))
                out = node("Clip", name, (x.name, low, high))
            case "sigmoid":
                out = node("Sigmoid", name, (x.name,))
            case "hard_sigmoid":
                out = node("HardSigmoid", name, (x.name,), hard)
            case "silu":
                factor = node("Sigmoid", f"{path}.factor", (x.name,))
                out = node("Mul", name, (x.name, factor))
            case "hard_swish":
                factor = node("HardSigmoid", f"{path}.factor", (x.name,), hard)
                out = node("Mul", name, (x.name, factor))
            case _:
                assert_never(layer.function)
        return replace(x, name=out)

    def _shuffle(self, layer: ChannelShuffle, path: str, x: Value) -> Value:
        node, shape = self._graph.node, x.shape
        each = shape.channels // layer.groups
        # A zero keeps the dimension that is there: the batch stays free.
        split = self._graph.integers(
            f"{path}.split", (0, layer.groups, each, shape.height, shape.width)
        )
        joined = self._graph.integers(f"{path}.joined", (0, *shape))
        grouped = node("Reshape", f"{path}.grouped", (x.name, split))
        dealt = node("Transpose", f"{path}.dealt", (grouped,), {"perm": (0, 2, 1, 3, 4)})
        return replace(x, name=node("Reshape", f"{path}.shuffled", (dealt, joined)))

    def _norm_aware_pool(self, layer: NormAwarePool, path: str, x: Value) -> Value:
        node = self._graph.node
        channels = self._graph.integers(f"{path}.axis", (1,))
        eps = self._graph.floats(f"{path}.eps", np.array(layer.eps))
        squares = node("Mul", f"{path}.squares", (x.name, x.name))
        total = node("ReduceSum", f"{path}.total", (squares, channels), {"keepdims": 1})
        norms = node("Sqrt", f"{path}.norms", (node("Add", f"{path}.safe", (total, eps)),))
        mean = node("GlobalAveragePool", f"{path}.mean_norm", (norms,))  # (N, 1, 1, 1)
        factors = node("Div", f"{path}.factors", (mean, norms))  # (N, 1, H, W)
        levelled = node("Mul", f"{path}.levelled", (x.name, factors))
        pooled = node("GlobalAveragePool", f"{path}.mean", (levelled,))
        return Value(pooled, layer.output_shape(x.shape))


def _steps(layer: Sequence, path: str) -> Iterator[tuple[str, Layer]]:
    """Sequences within sequences as one list, so that a layer meets its true successor."""
    for name, child in layer.named_layers():
        below = _join(path, name)
        if isinstance(child, Sequence):
            yield from _steps(child, below)
        else:
            yield below, child


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
