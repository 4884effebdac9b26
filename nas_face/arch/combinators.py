"""Combinators: how primitive layers become a tree. They add no arithmetic of their own to
`madds`."""

from dataclasses import dataclass
from typing import Annotated, Literal, final

from pydantic import Field

from nas_face.arch.cost import Cost, Shape, in_parallel, in_parts, in_sequence
from nas_face.arch.layers import (
    AbstractLayer,
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
        if self.names and len(set(self.names)) != len(self.layers):
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
        shapes = {shape for shape, _ in results}
        if len(shapes) != 1:
            raise ShapeError(
                "sum: all branches must give one shape, got "
                f"{', '.join(map(str, sorted(shapes))) or 'no branch'}"
            )
        y = results[0][0]
        # The sum is written over the first result, so only the branches' own peaks count beside
        # it.
        return y, in_parallel(results, x, Shape(0, 0, 0))


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
class Gate(AbstractLayer):
    """The input is multiplied by what `body` makes of it: one factor for each channel, as in
    squeeze-and-excitation."""

    body: "Layer"
    kind: Literal["gate"] = "gate"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        y, cost = self.body.measure(x)
        if y != Shape(x.channels, 1, 1):
            raise ShapeError(f"gate: the body must give {Shape(x.channels, 1, 1)}, got {y}")
        return x, Cost(
            madds=cost.madds,
            params=cost.params,
            folded_params=cost.folded_params,
            peak_activations=max(cost.peak_keeping_input, x.elements + x.channels),
            peak_keeping_input=max(cost.peak_keeping_input, 2 * x.elements + x.channels),
        )


def _joined(shapes: list[Shape], kind: str) -> Shape:
    maps = {(shape.height, shape.width) for shape in shapes}
    if len(maps) != 1:
        raise ShapeError(
            f"{kind}: all branches must give maps of one size, got "
            f"{', '.join(map(str, shapes)) or 'no branch'}"
        )
    height, width = maps.pop()
    return Shape(sum(shape.channels for shape in shapes), height, width)


Layer = Annotated[
    Conv
    | BatchNorm
    | PReLU
    | Activation
    | ChannelShuffle
    | GlobalAveragePool
    | NormAwarePool
    | Flatten
    | Linear
    | Sequence
    | Sum
    | Concat
    | Split
    | Gate,
    Field(discriminator="kind"),
]
"""Any node of a layer tree."""
