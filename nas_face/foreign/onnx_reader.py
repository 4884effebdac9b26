"""ONNX graphs to operators: what has weights, what reads what, and constants put together."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import BuildError
from nas_face.foreign.onnx_image import InGraph, preprocessing_of
from nas_face.foreign.onnx_prelu import find_slopes
from nas_face.foreign.onnx_taps import find_taps
from nas_face.foreign.onnx_values import Graph, Node, load_graph
from nas_face.foreign.operators import Array, Kind, Operator, Source, Window

# These read sizes, not weights.
_SIZES = ("Resize", "Upsample", "Clip", "Pad")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxNetwork:
    """What an ONNX file holds.

    Attributes:
        source: its operators in running order.
        preprocessing: what the graph does to the image by itself.
        input_size: height and width of the image, where the file fixes them.
    """

    source: Source
    preprocessing: InGraph
    input_size: tuple[int, int] | None


@final
@dataclass(slots=True, kw_only=True, eq=False)
class _Draft:
    """An operator that may still take up a scale or a shift behind it."""

    name: str
    kind: Kind
    arrays: dict[str, NDArray[np.float64]]
    before: frozenset[int]
    use: str | None = None
    window: Window | None = None
    eps: float | None = None


def read_onnx(path: Path) -> OnnxNetwork:
    """Read an ONNX file as operators; nothing in it is run.

    A constant factor or term a channel behind a convolution or a linear layer becomes part of it.

    Raises:
        BuildError: the file cannot be read, or does more with its weights than networks of layers
            do.
    """
    graph = load_graph(path)
    preprocessing, images = preprocessing_of(graph, str(path))
    reader = _Reader(graph, path, images)
    operators = reader.read()
    if not operators:
        raise BuildError(f"{path}: there are no layers with weights in it")
    sizes = graph.input_shape[1:3] if preprocessing.channels_last else graph.input_shape[2:]
    fixed = (sizes[0], sizes[1]) if len(sizes) == 2 else (None, None)
    return OnnxNetwork(
        source=Source(part="", operators=operators, ordered=True),
        preprocessing=preprocessing,
        input_size=(fixed[0], fixed[1]) if fixed[0] and fixed[1] else None,
    )


@final
class _Reader:
    def __init__(self, graph: Graph, path: Path, images: frozenset[str]) -> None:
        self._graph = graph
        self._path = path
        self._drafts: list[_Draft] = []
        self._before: dict[str, frozenset[int]] = {name: frozenset() for name in images}
        self._images = images
        self._direct: dict[str, int] = {}  # values that are an operator's own result
        self._slopes, in_slopes = find_slopes(graph)
        self._taps, in_taps = find_taps(graph)
        self._inner = in_slopes | in_taps

    def read(self) -> tuple[Operator, ...]:
        """All operators."""
        for node in self._graph.nodes:
            if set(node.outputs) <= self._images:
                continue
            if node.outputs[0] in self._slopes:
                x, slope = self._slopes[node.outputs[0]]
                self._add(node, x, "vector", {"value": slope}, use="slope")
            elif node.outputs[0] in self._taps:
                x, weight = self._taps[node.outputs[0]]
                self._add(node, x, "affine", {"weight": weight})
            elif node.name in self._inner:
                self._pass(node)
            else:
                self._visit(node)
        return tuple(
            Operator(
                name=draft.name,
                kind=draft.kind,
                arrays={key: _float32(value) for key, value in draft.arrays.items()},
                use=draft.use,  # type: ignore[arg-type]
                window=draft.window,
                eps=draft.eps,
                before=draft.before,
            )
            for draft in self._drafts
        )

    def _visit(self, node: Node) -> None:
        match node.operator:
            case "Conv":
                self._conv(node)
            case "Gemm":
                self._gemm(node)
            case "MatMul" if node.inputs[1] in self._graph.constants:
                weight = self._constant(node, 1).T
                self._add(node, node.inputs[0], "affine", {"weight": weight})
            case "PRelu":
                slope = {"value": self._constant(node, 1)}
                self._add(node, node.inputs[0], "vector", slope, use="slope")
            case "BatchNormalization":
                names = ("weight", "bias", "running_mean", "running_var")
                arrays = {key: self._constant(node, at) for at, key in enumerate(names, start=1)}
                eps = node.attributes.get("epsilon", 1e-5)
                self._add(node, node.inputs[0], "batch_norm", arrays, eps=_decimal(eps))
            case "LayerNormalization":
                arrays = {"weight": self._constant(node, 1), "bias": self._constant(node, 2)}
                self._add(node, node.inputs[0], "pair", arrays)
            case "Mul" | "Div" | "Add" | "Sub":
                self._arithmetic(node)
            case _:
                self._pass(node)

    def _conv(self, node: Node) -> None:
        arrays = {"weight": self._constant(node, 1)}
        if len(node.inputs) > 2 and node.inputs[2]:
            arrays["bias"] = self._constant(node, 2)
        rank = arrays["weight"].ndim - 2
        given = node.attributes
        if set(given.get("dilations", [1])) != {1}:
            raise BuildError(f"{self._where(node)} is dilated; no network here is")
        padding = given.get("auto_pad", b"NOTSET")
        if padding not in (b"NOTSET", b"VALID"):
            raise BuildError(f"{self._where(node)} has auto_pad; export it with pads in numbers")
        window = Window(
            strides=tuple(given.get("strides", [1] * rank)),
            pads=tuple(given.get("pads", [0] * 2 * rank)),
            groups=given.get("group", 1),
        )
        self._add(node, node.inputs[0], "affine", arrays, window=window)

    def _gemm(self, node: Node) -> None:
        given = node.attributes
        if given.get("transA"):
            raise BuildError(f"{self._where(node)} transposes its input; no layer does")
        weight = self._constant(node, 1)
        weight = weight if given.get("transB") else weight.T
        arrays = {"weight": weight * given.get("alpha", 1.0)}
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = self._constant(node, 2).reshape(-1) * given.get("beta", 1.0)
            arrays["bias"] = np.broadcast_to(bias, (len(weight),))
        self._add(node, node.inputs[0], "affine", arrays)

    def _arithmetic(self, node: Node) -> None:
        """A constant a channel: part of the layer before, or an operator of its own."""
        constants = [name in self._graph.constants for name in node.inputs]
        if sum(constants) != 1:
            self._pass(node)
            return
        value, x = self._constant(node, constants.index(True)), node.inputs[constants.index(False)]
        first = constants[0]
        if node.operator == "Div" and not first:
            value = 1.0 / value
        elif node.operator == "Sub" and not first:
            value = -value
        elif node.operator in ("Div", "Sub"):
            if value.size > 1:
                raise BuildError(f"{self._where(node)} is no layer of the networks here")
            self._pass(node)
            return
        factor = node.operator in ("Mul", "Div")
        if self._taken_up(node, x, value, factor):
            return
        if value.size == 1:
            self._pass(node)
        elif value.size == max(value.shape):
            use = "scale" if factor else "shift"
            self._add(node, x, "vector", {"value": value}, use=use)
        else:
            self._add(node, "", "other", {"value": value})
            before = self._before[node.outputs[0]] | self._before.get(x, frozenset())
            self._before[node.outputs[0]] = before
            del self._direct[node.outputs[0]]

    def _taken_up(self, node: Node, x: str, value: NDArray[np.float64], factor: bool) -> bool:
        """Whether the operator before became one with this constant."""
        at = self._direct.get(x)
        if at is None or self._graph.readers[x] != 1:
            return False
        draft = self._drafts[at]
        if draft.kind == "affine":
            weight = draft.arrays["weight"]
            if value.size != len(weight) or not _runs_over_channels(value, weight.ndim):
                return False
            flat = value.reshape(-1)
            if factor:
                draft.arrays["weight"] = weight * flat.reshape(-1, *[1] * (weight.ndim - 1))
                if "bias" in draft.arrays:
                    draft.arrays["bias"] = draft.arrays["bias"] * flat
            else:
                draft.arrays["bias"] = draft.arrays.get("bias", 0.0) + flat
        elif draft.use == "scale" and not factor and value.size == draft.arrays["value"].size:
            scale = draft.arrays.pop("value")
            draft.arrays |= {"weight": scale.reshape(-1), "bias": value.reshape(-1)}
            draft.kind = "pair"
        else:
            return False
        self._direct[node.outputs[0]] = at
        self._before[node.outputs[0]] = frozenset({at})
        return True

    def _pass(self, node: Node) -> None:
        """An operator without weights; one with an array that is none we know stands for
        itself."""
        for name in node.inputs:
            constant = self._graph.constants.get(name)
            if constant is None or node.operator in _SIZES or node.name in self._inner:
                continue
            if constant.dtype.kind == "f" and constant.size > 1:
                self._add(node, "", "other", {"value": constant.astype(np.float64)})
        before: frozenset[int] = frozenset()
        if node.operator not in ("Shape", "Size", "ConstantOfShape"):
            before = before.union(*(self._before.get(name, ()) for name in node.inputs))
        for name in node.outputs:
            self._before[name] = before
        if node.operator in ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze"):
            at = self._direct.get(node.inputs[0])
            # Behind a flattened vector a constant still runs over the same channels.
            if at is not None and self._graph.readers[node.inputs[0]] == 1:
                if node.operator in ("Identity", "Dropout", "Cast"):
                    self._direct[node.outputs[0]] = at

    def _add(
        self,
        node: Node,
        x: str,
        kind: Kind,
        arrays: dict[str, NDArray[np.float64]],
        *,
        use: str | None = None,
        window: Window | None = None,
        eps: float | None = None,
    ) -> None:
        at = len(self._drafts)
        self._drafts.append(
            _Draft(
                name=node.name,
                kind=kind,
                arrays=arrays,
                before=self._before.get(x, frozenset()),
                use=use,
                window=window,
                eps=eps,
            )
        )
        for name in node.outputs:
            self._before[name] = frozenset({at})
        self._direct[node.outputs[0]] = at

    def _constant(self, node: Node, at: int) -> NDArray[np.float64]:
        value = self._graph.constants.get(node.inputs[at]) if at < len(node.inputs) else None
        if value is None or value.dtype.kind != "f":
            raise BuildError(
                f"{self._where(node)}: its weights are not plain floating-point numbers; import "
                "the float32 file that it was made from"
            )
        if not np.isfinite(value).all():
            raise BuildError(f"{self._where(node)} holds values that are not finite")
        return value.astype(np.float64)

    def _where(self, node: Node) -> str:
        return f"{self._path}: {node.name} ({node.operator})"


def _runs_over_channels(value: NDArray[np.float64], rank: int) -> bool:
    """Whether a constant broadcasts along the channels of a layer's result and nothing else."""
    maps = rank == 4
    shape = value.shape
    return (
        shape in ((len(shape) and value.size, 1, 1), (1, value.size, 1, 1))
        if maps
        else (shape[-1:] == (value.size,) or (value.size == 1))
    )


def _decimal(value: float) -> float:
    """A float32 attribute as the number that was meant: 1e-5, not 9.99999974738e-06."""
    return float(f"{np.float32(value):.6g}")


def _float32(value: NDArray[np.float64]) -> Array:
    return np.ascontiguousarray(value, dtype=np.float32).reshape(value.shape)
