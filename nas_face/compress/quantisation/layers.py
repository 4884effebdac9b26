"""The layers that a quantiser can put on 8 bits: convolutions and linear layers, with their
costs."""

import re
from dataclasses import dataclass
from typing import Final, Literal, final

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Sum,
    join_shapes,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv, Linear
from nas_face.nn.model import Description

Kind = Literal["conv", "pointwise", "depthwise", "grouped", "linear"]

# `ArchSpec.lower` has these three children; any other tree has a block for each child.
_BLOCK: Final = re.compile(r"stem\.[^.]+|stages\.[^.]+\.[^.]+|[^.]+")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLayer:
    """A convolution or a linear layer at its place in a network.

    Attributes:
        path: of the layer, as the keys of its weights have it.
        kind: `depthwise` has one filter for each channel that it reads, `grouped` other groups,
            `pointwise` is a 1x1 convolution without groups, `conv` any other.
        madds: multiply-adds an image.
        weights: number of them, without the bias.
        gates: whether it lies in a gate, as squeeze-and-excitation is, so that its output is a
            factor of others.
    """

    path: str
    kind: Kind
    madds: int
    weights: int
    gates: bool

    @property
    def block(self) -> str:
        """Path of the block that it lies in, such as `stages.0.1`."""
        found = _BLOCK.match(self.path)
        assert found is not None
        return found.group()


def weighted_layers(description: Description) -> tuple[WeightedLayer, ...]:
    """Convolutions and linear layers of a network in running order.

    Convolutions whose filter differs by position, and those along channels, are not among them: no
    runtime has 8-bit kernels for these.
    """
    found: list[WeightedLayer] = []
    _visit(description.network, description.input, "", found, gates=False)
    return tuple(found)


def _visit(layer: Layer, x: Shape, path: str, found: list[WeightedLayer], *, gates: bool) -> None:
    match layer:
        case Sequence():
            for name, child in layer.named_layers():
                _visit(child, x, _below(path, name), found, gates=gates)
                x = child.output_shape(x)
        case Sum() | Product() | Concat() | Split():
            parts = [x] * len(layer.branches)
            if isinstance(layer, Split):
                parts = [x._replace(channels=size) for size in layer.sizes]
            for position, (branch, part) in enumerate(zip(layer.branches, parts, strict=True)):
                _visit(branch, part, _below(path, f"branches.{position}"), found, gates=gates)
        case Gate():
            _visit(layer.body, x, _below(path, "body"), found, gates=True)
        case Graph():
            shapes = [x]
            for name, step in layer.named_steps():
                joined = join_shapes([shapes[source] for source in step.sources], step.join)
                _visit(step.layer, joined, _below(path, f"steps.{name}"), found, gates=gates)
                shapes.append(step.layer.output_shape(joined))
        case Conv() | Linear():
            cost = layer.cost(x)
            n_biases = layer.output_shape(x).channels if layer.bias else 0
            found.append(
                WeightedLayer(
                    path=path,
                    kind=_kind(layer, x),
                    madds=cost.madds,
                    weights=cost.params - n_biases,
                    gates=gates,
                )
            )


def _kind(layer: Conv | Linear, x: Shape) -> Kind:
    match layer:
        case Linear():
            return "linear"
        case Conv(groups=groups) if groups > 1:
            return "depthwise" if groups == x.channels else "grouped"
        case Conv(kernel=(1, 1)):
            return "pointwise"
        case _:
            return "conv"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
