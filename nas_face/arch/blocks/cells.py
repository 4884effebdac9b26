"""Cells of small graphs, as differentiable architecture search finds them; PocketNet's."""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    activation,
    named,
    same_padding,
)
from nas_face.arch.combinators import Concat, Graph, Layer, Sequence, Step
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm, Conv, Crop, Pool
from nas_face.errors import ArchError, ShapeError

Operation = Literal[
    "max_pool_3x3",
    "average_pool_3x3",
    "skip",
    "depthwise_1x1",
    "depthwise_3x3",
    "depthwise_5x5",
    "depthwise_7x7",
]

KERNELS: dict[Operation, int] = {
    "depthwise_1x1": 1,
    "depthwise_3x3": 3,
    "depthwise_5x5": 5,
    "depthwise_7x7": 7,
}
FUNCTIONS: dict[Operation, Literal["max", "average"]] = {
    "max_pool_3x3": "max",
    "average_pool_3x3": "average",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An operation on one of the values in front of a node.

    Attributes:
        operation: convolutions are depthwise and 1x1, behind an activation and in front of a
            normalisation; `skip` passes on, or halves the map where a reduction asks for it.
        source: 0 and 1 are what the last cell but one and the last cell gave, 2 is the first node.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    operation: Operation
    source: int


Genotype = Annotated[tuple[tuple[Edge, Edge], ...], Field(min_length=1)]
"""Both edges of each node of a cell."""


def genotype(*nodes: tuple[tuple[Operation, int], tuple[Operation, int]]) -> Genotype:
    """A genotype of operations and sources."""
    return tuple(
        (Edge(operation=first[0], source=first[1]), Edge(operation=last[0], source=last[1]))
        for first, last in nodes
    )


POCKET_NORMAL = genotype(
    (("depthwise_3x3", 0), ("depthwise_1x1", 1)),
    (("depthwise_5x5", 0), ("depthwise_3x3", 2)),
    (("depthwise_3x3", 0), ("depthwise_3x3", 3)),
    (("skip", 0), ("depthwise_3x3", 4)),
)
POCKET_REDUCTION = genotype(
    (("depthwise_7x7", 0), ("depthwise_3x3", 1)),
    (("depthwise_5x5", 1), ("skip", 2)),
    (("max_pool_3x3", 0), ("skip", 2)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cells(AbstractBlock):
    """A run of cells, each of which reads the two cells in front of it.

    A cell brings what it reads to its width, computes its nodes in order, each the sum of two
    edges, and concatenates them. The first cell reads the block's input twice.

    Attributes:
        out_channels: width behind the last cell: nodes times the width of a node.
        repeats: number of cells.
        stride: of the whole run.
        reductions: positions of the cells that halve the map and double the width, counted from 0;
            none for the first one where the stride is 2.
        normal: the nodes of all other cells.
        reduction: the nodes of those.
        act: in front of every convolution.

    Source: Boutros et al., PocketNet, arXiv 2108.10710, on Liu et al., DARTS, arXiv
        1806.09055, section 2.1. The defaults are the cells that PocketNet found on faces.
    Differs: of a map with an odd side, both halves of a halving shortcut see the same rows (or
        columns), where the source needs an even side.
    """

    out_channels: int
    repeats: int = 1
    stride: Literal[1, 2, 4, 8] = 1
    reductions: tuple[int, ...] | None = None
    normal: Genotype = POCKET_NORMAL
    reduction: Genotype = POCKET_REDUCTION
    act: ActivationName = "prelu"
    kind: Literal["cells"] = "cells"

    def __post_init__(self) -> None:
        for name, nodes in (("normal", self.normal), ("reduction", self.reduction)):
            sources = [edge.source for node in nodes for edge in node]
            for position, source in enumerate(sources):
                if not 0 <= source < position // 2 + 2:
                    raise ArchError(
                        f"cells: node {position // 2} of {name} can read 0 to "
                        f"{position // 2 + 1}, got {source}"
                    )
            if not {0, 1} <= set(sources):
                raise ArchError(f"cells: some node of {name} must read 0, and some node 1")
        if len(self.normal) != len(self.reduction):
            raise ArchError(
                "cells: normal and reduction must have equally many nodes, got "
                f"{len(self.normal)} and {len(self.reduction)}"
            )
        positions = self.positions
        if sorted(set(positions)) != list(positions) or 2 ** len(positions) != self.stride:
            raise ArchError(
                f"cells: stride {self.stride} needs {int(math.log2(self.stride))} reductions in "
                f"rising order, got {positions}"
            )
        if self.repeats < 1 or not all(0 <= each < self.repeats for each in positions):
            raise ArchError(
                f"cells: reductions {positions} must be positions of {self.repeats} cells"
            )

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the reductions."""
        if self.reductions is not None:
            return self.reductions
        return (0,) if self.stride == 2 else ()

    def lower(self, x: Shape) -> Layer:
        parts = len(self.normal) * self.stride
        if self.out_channels % parts:
            raise ShapeError(
                f"cells: out_channels must be a multiple of nodes x stride = {parts}, got "
                f"{self.out_channels}"
            )
        drawing = _Drawing(self, x)
        width = self.out_channels // parts
        for position in range(self.repeats):
            halving = position in self.positions
            width *= 2 if halving else 1
            drawing.add_cell(f"cell{position}", width, halving=halving)
        return Graph(steps=tuple(drawing.steps), names=tuple(drawing.names))


class _Drawing:
    """The graph of a run of cells while it is drawn.

    Attributes:
        steps: so far.
        names: of these steps.
    """

    def __init__(self, block: Cells, x: Shape) -> None:
        self.steps: list[Step] = []
        self.names: list[str] = []
        self._block = block
        # What the last cell but one and the last cell gave: number of the value, and its shape.
        self._recent = ((0, x), (0, x))

    def add_cell(self, name: str, width: int, *, halving: bool) -> None:
        """Draw one cell with nodes that are `width` wide."""
        act = self._block.act
        map_shape = self._recent[1][1]
        values = []
        for slot, (value, shape) in enumerate(self._recent):
            if shape[1:] == map_shape[1:]:
                layer = _convolution(shape.channels, width, act=act)
            else:
                layer = _halved(shape, width, act=act)
            values.append(self._add(f"{name}_input{slot}", layer, (value,)))
        y = map_shape._replace(channels=width)
        for position, edges in enumerate(self._block.reduction if halving else self._block.normal):
            ends = []
            for slot, edge in enumerate(edges):
                end = values[edge.source]
                halves = halving and edge.source < 2
                work = _operation(edge.operation, y, act=act, halves=halves)
                if work is not None:
                    end = self._add(f"{name}_node{position}_edge{slot}", work, (end,))
                ends.append(end)
            values.append(self._add(f"{name}_node{position}", Sequence(), tuple(ends)))
        nodes = tuple(values[2:])
        joined = self._add(name, Sequence(), nodes, join="concat")
        sides = (-(-side // 2) if halving else side for side in y[1:])
        self._recent = (self._recent[1], (joined, Shape(width * len(nodes), *sides)))

    def _add(
        self,
        name: str,
        layer: Layer,
        sources: tuple[int, ...],
        join: Literal["sum", "concat"] = "sum",
    ) -> int:
        """Number of the value that a new step gives."""
        self.names.append(name)
        self.steps.append(Step(layer=layer, sources=sources, join=join))
        return len(self.steps)


@functools.lru_cache(maxsize=4096)
def _operation(
    operation: Operation, x: Shape, *, act: ActivationName, halves: bool
) -> Sequence | None:
    """Layer of an edge; none where it passes its source on."""
    width, stride = x.channels, 2 if halves else 1
    match operation:
        case "skip":
            return _halved(x, width, act=act) if halves else None
        case "max_pool_3x3" | "average_pool_3x3":
            function = FUNCTIONS[operation]
            pool = Pool(function=function, kernel=(3, 3), stride=stride, padding=(1, 1))
            return named(("pool", pool), ("norm", BatchNorm()))
        case _:
            return _convolution(width, width, KERNELS[operation], stride, act=act)


@functools.lru_cache(maxsize=4096)
def _convolution(
    channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, act: ActivationName
) -> Sequence:
    """Activation, depthwise and 1x1 convolution, normalisation."""
    separable = _separable(channels, out_channels, kernel, stride)
    return named(("act", activation(act)), *separable, ("norm", BatchNorm()))


@functools.lru_cache(maxsize=4096)
def _halved(x: Shape, out_channels: int, *, act: ActivationName) -> Sequence:
    """Every second row and column for one half of the channels, and those between them for the
    other."""
    top, left = (1 - side % 2 for side in x[1:])
    first = out_channels - out_channels // 2
    between = named(
        ("crop", Crop(top=top, left=left) if top or left else None),
        *_separable(x.channels, out_channels // 2, 1, 2),
    )
    halves = Concat(branches=(named(*_separable(x.channels, first, 1, 2)), between))
    return named(("act", activation(act)), ("halves", halves), ("norm", BatchNorm()))


def _separable(
    channels: int, out_channels: int, kernel: int, stride: int
) -> tuple[tuple[str, Layer], tuple[str, Layer]]:
    depthwise = Conv(
        out_channels=channels,
        kernel=(kernel, kernel),
        stride=stride,
        padding=same_padding(kernel),
        groups=channels,
    )
    return ("depthwise", depthwise), ("pointwise", Conv(out_channels=out_channels))
