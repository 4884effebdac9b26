"""Combinators: how primitive layers become a tree. They add no arithmetic of their own to
`madds`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from nas_face.arch.cost import Cost, Shape, in_gate, in_graph, in_parallel, in_parts, in_sequence
from nas_face.arch.layers import (
    AbstractLayer,
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)
from nas_face.errors import ArchError, ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence(AbstractLayer):
    """Layers one after another; empty, it is the identity.

    Attributes:
        layers: in running order.
        names: one for each layer, or none; they become the keys of the weights and the rows of
            cost tables.
    """

    layers: "tuple[Layer, ...]" = ()
    names: tuple[str, ...] = ()
    kind: Literal["sequence"] = "sequence"

    def __post_init__(self) -> None:
        if self.names and not len(set(self.names)) == len(self.names) == len(self.layers):
            raise ArchError(
                f"sequence: names must be distinct and one for each of {len(self.layers)} layers, "
                f"got {self.names}"
            )

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        steps = []
        shape = x
        for layer in self.layers:
            shape, cost = layer.measure(shape)
            steps.append((shape, cost))
        return shape, in_sequence(steps, x)

    def named_layers(self) -> "tuple[tuple[str, Layer], ...]":
        """Each layer with its name, or with its position where no names were given."""
        names = self.names or tuple(str(position) for position in range(len(self.layers)))
        return tuple(zip(names, self.layers, strict=True))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sum(AbstractLayer):
    """Every branch reads the whole input; their results, all of one shape, are added."""

    branches: "tuple[Layer, ...]"
    kind: Literal["sum"] = "sum"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        results = [branch.measure(x) for branch in self.branches]
        _check_one_shape([shape for shape, _ in results], "sum: all branches must give one shape")
        return results[0][0], in_parallel(results, x)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(AbstractLayer):
    """Every branch reads the whole input; their results are concatenated along channels."""

    branches: "tuple[Layer, ...]"
    kind: Literal["concat"] = "concat"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        results = [branch.measure(x) for branch in self.branches]
        y = _joined([shape for shape, _ in results], "concat")
        return y, in_parallel(results, x, y)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Split(AbstractLayer):
    """The input is cut along channels, part i goes through branch i, the results are concatenated
    in order.

    Attributes:
        sizes: channels of each part, in order; they add up to the input width.
        branches: one for each part.
    """

    sizes: tuple[int, ...]
    branches: "tuple[Layer, ...]"
    kind: Literal["split"] = "split"

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.branches):
            raise ArchError(f"split: {len(self.sizes)} sizes for {len(self.branches)} branches")

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if sum(self.sizes) != x.channels or min(self.sizes, default=0) < 1:
            raise ShapeError(
                f"split: sizes {self.sizes} must be positive and add up to the input width "
                f"{x.channels}"
            )
        parts = [Shape(size, x.height, x.width) for size in self.sizes]
        results = [branch.measure(part) for part, branch in zip(parts, self.branches, strict=True)]
        y = _joined([shape for shape, _ in results], "split")
        return y, in_parts(results, parts, y)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Product(AbstractLayer):
    """Every branch reads the whole input; their results, all of one shape, are multiplied."""

    branches: "tuple[Layer, ...]"
    kind: Literal["product"] = "product"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        results = [branch.measure(x) for branch in self.branches]
        _check_one_shape(
            [shape for shape, _ in results], "product: all branches must give one shape"
        )
        return results[0][0], in_parallel(results, x)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(AbstractLayer):
    """The input is multiplied by what `body` makes of it: a factor for each channel, as in
    squeeze-and-excitation, for each position, or for each value.

    Attributes:
        body: gives a map of the input's shape, or one with 1 instead of any of its sizes, which
            is repeated along that side.
    """

    body: "Layer"
    kind: Literal["gate"] = "gate"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        y, cost = self.body.measure(x)
        if any(size not in (1, whole) for size, whole in zip(y, x, strict=True)):
            raise ShapeError(
                f"gate: the body must give {x}, or 1 instead of any of its sizes, got {y}"
            )
        return x, in_gate((y, cost), x)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a graph.

    Attributes:
        layer: what the step does with what it reads; an empty sequence, where it only joins.
        sources: values that it reads: 0 is the input of the graph, n the result of step n,
            counted from one.
        join: how several sources become one.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    layer: "Layer"
    sources: tuple[int, ...]
    join: Literal["sum", "concat"] = "sum"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Graph(AbstractLayer):
    """Steps in running order, each of which may read several earlier values; the last one's result
    is the graph's.

    Attributes:
        steps: in running order.
        names: one for each step, or none; they become the keys of the weights.
    """

    steps: tuple[Step, ...]
    names: tuple[str, ...] = ()
    kind: Literal["graph"] = "graph"

    def __post_init__(self) -> None:
        if not self.steps:
            raise ArchError("graph: at least one step is needed")
        if self.names and not len(set(self.names)) == len(self.names) == len(self.steps):
            raise ArchError(
                f"graph: names must be distinct and one for each of {len(self.steps)} steps, got "
                f"{self.names}"
            )
        for number, step in enumerate(self.steps, start=1):
            if not step.sources or not all(0 <= source < number for source in step.sources):
                raise ArchError(
                    f"graph: step {number} can read values 0 to {number - 1}, got {step.sources}"
                )
        read = {source for step in self.steps for source in step.sources}
        for number in range(1, len(self.steps)):
            if number not in read:
                raise ArchError(f"graph: nothing reads the result of step {number}")

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        shapes = [x]
        results = []
        met: dict[tuple[int, Shape], tuple[Shape, Cost]] = {}  # one layer may be many steps'
        for step in self.steps:
            joined = join_shapes([shapes[source] for source in step.sources], step.join)
            key = (id(step.layer), joined)
            if key not in met:
                met[key] = step.layer.measure(joined)
            shape, cost = met[key]
            shapes.append(shape)
            results.append((joined, shape, cost))
        reads = [(step.sources, step.join) for step in self.steps]
        return shapes[-1], in_graph(results, reads, x)

    def named_steps(self) -> "tuple[tuple[str, Step], ...]":
        """Each step with its name, or with its position where no names were given."""
        names = self.names or tuple(str(position) for position in range(len(self.steps)))
        return tuple(zip(names, self.steps, strict=True))


def join_shapes(shapes: list[Shape], join: Literal["sum", "concat"]) -> Shape:
    """Shape of several values joined.

    Raises:
        ShapeError: they do not go together.
    """
    if join == "concat":
        return _joined(shapes, "graph")
    _check_one_shape(shapes, "graph: a sum needs values of one shape")
    return shapes[0]


def _check_one_shape(shapes: list[Shape], rule: str) -> None:
    if not shapes or any(shape != shapes[0] for shape in shapes[1:]):
        found = ", ".join(map(str, sorted(set(shapes)))) or "no branch"
        raise ShapeError(f"{rule}, got {found}")


def _joined(shapes: list[Shape], kind: str) -> Shape:
    if not shapes or any(shape[1:] != shapes[0][1:] for shape in shapes[1:]):
        raise ShapeError(
            f"{kind}: all branches must give maps of one size, got "
            f"{', '.join(map(str, shapes)) or 'no branch'}"
        )
    return Shape(sum(shape.channels for shape in shapes), *shapes[0][1:])


Primitive = (
    Conv
    | TranslationVariantConv
    | ChannelConv
    | Linear
    | BatchNorm
    | LayerNorm
    | ChannelScale
    | PReLU
    | Activation
    | MaxFeatureMap
    | ChannelShuffle
    | ChannelSlice
    | Pool
    | GlobalAveragePool
    | GlobalAverageMaxPool
    | NormAwarePool
    | ChannelPool
    | CrossCovarianceAttention
    | GatedChannelTransform
    | Flatten
    | Crop
    | Resize
    | FourierFeatures
)
"""Any leaf of a layer tree."""

Combinator = Sequence | Sum | Product | Concat | Split | Gate | Graph
"""Any inner node of a layer tree."""

Layer = Annotated[Primitive | Combinator, Field(discriminator="kind")]
"""Any node of a layer tree."""
