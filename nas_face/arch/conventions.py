"""Ways of counting compute, ours and other people's, so that published figures can be matched.

"FLOPs" of the field's tables mean at least four different things. Each convention here is one rule
for every primitive layer; nothing else counts, so additions of shortcuts and concatenations are
free in all of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Primitive,
    Product,
    Sequence,
    Split,
    Sum,
    join_shapes,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    Conv,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Pool,
    PReLU,
    Resize,
)
from nas_face.errors import ArchError, near_names

Rule = Callable[[Primitive, Shape, Shape], int]
"""Operations of one primitive layer with an input and an output of these shapes."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """One way of counting.

    Attributes:
        name: as `--convention` takes it.
        counts: what is counted, in a few words.
        used_by: whose tables follow it.
        rule: operations of one primitive layer.
    """

    name: str
    counts: str
    used_by: str
    rule: Rule


def operations(layer: Layer, x: Shape, convention: Convention) -> int:
    """Operations of a layer tree on one image.

    Args:
        layer: root of the tree.
        x: shape of its input.
        convention: what counts.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
    """
    return sum(convention.rule(*each) for each in _primitives(layer, x))


def convention(name: str) -> Convention:
    """The convention of that name, in capitals or not.

    Raises:
        ArchError: there is none.
    """
    known = {each.casefold(): convention for each, convention in CONVENTIONS.items()}
    if name.casefold() not in known:
        raise ArchError(f"no convention {name!r}; {near_names(name, CONVENTIONS)}")
    return known[name.casefold()]


def _primitives(layer: Layer, x: Shape) -> Iterator[tuple[Primitive, Shape, Shape]]:
    """Every primitive layer with the shapes of its input and output, in running order."""
    match layer:
        case Sequence():
            for child in layer.layers:
                yield from _primitives(child, x)
                x = child.output_shape(x)
        case Sum() | Product() | Concat():
            for branch in layer.branches:
                yield from _primitives(branch, x)
        case Split():
            for size, branch in zip(layer.sizes, layer.branches, strict=True):
                yield from _primitives(branch, x._replace(channels=size))
        case Gate():
            yield from _primitives(layer.body, x)
        case Graph():
            shapes = [x]
            for step in layer.steps:
                joined = join_shapes([shapes[source] for source in step.sources], step.join)
                yield from _primitives(step.layer, joined)
                shapes.append(step.layer.output_shape(joined))
        case _:
            yield layer, x, layer.output_shape(x)


def _madds(layer: Primitive, x: Shape, y: Shape) -> int:
    return layer.cost(x).madds


def _two_each(layer: Primitive, x: Shape, y: Shape) -> int:
    return 2 * layer.cost(x).madds


def _challenge(layer: Primitive, x: Shape, y: Shape) -> int:
    """A sum of n products is n multiplications and n - 1 additions, one more with a bias.

    The counter takes n of a group convolution from the whole input width and divides afterwards,
    so a depthwise output has 1/groups of an addition less, not one.
    """
    match layer:
        case Conv():
            products = x.channels * layer.kernel[0] * layer.kernel[1]
            # `out_channels` is a multiple of `groups`, so this division is exact.
            return y.elements // layer.groups * (2 * products - (0 if layer.bias else 1))
        case Linear():
            return y.channels * (2 * x.channels - (0 if layer.bias else 1))
        case _:
            return _two_each(layer, x, y)


def _element_wise_too(layer: Primitive, x: Shape, y: Shape) -> int:
    """A pool counts every value of its window for each value that it gives."""
    match layer:
        case Conv() | Linear():
            return _two_each(layer, x, y) + (y.elements if layer.bias else 0)
        case BatchNorm() | LayerNorm():
            return 2 * x.elements
        case PReLU() | Activation():
            return x.elements
        case Pool():
            return y.elements * layer.kernel[0] * layer.kernel[1]
        case GlobalAveragePool():
            return x.elements
        case GlobalAverageMaxPool():
            return 2 * x.elements
        case _:
            return _two_each(layer, x, y)


def _thop(layer: Primitive, x: Shape, y: Shape) -> int:
    """What thop's hooks add up, where a module of torch's own stands for each layer.

    thop has no hook for SiLU, sigmoid and their like, for products of attention, nor for anything
    that is not a module of torch's own; they count as nothing.
    """
    match layer:
        case Conv() | Linear() | ChannelConv():
            return layer.cost(x).madds
        case BatchNorm() | LayerNorm():
            return 4 * x.elements
        case PReLU():
            return x.elements
        case GlobalAveragePool() | GlobalAverageMaxPool():
            return x.elements + x.channels
        case Pool(function="average"):
            return y.elements
        case Resize():
            return 11 * y.elements
        case _:
            return 0


CONVENTIONS = {
    each.name: each
    for each in (
        Convention(
            name="A",
            counts="multiply-adds of convolutions, linear layers and attention products",
            used_by="nas-face; MobileFaceNet, SeesawFaceNets, InsightFace, GhostFaceNets",
            rule=_madds,
        ),
        Convention(
            name="B",
            counts="two operations a multiply-add, less one addition an output without bias",
            used_by="the LFR challenge of 2019: VarGFaceNet, InsightFace's y2",
            rule=_challenge,
        ),
        Convention(
            name="C",
            counts="two operations a multiply-add, biases, normalisation (2), activations, pools",
            used_by="MixFaceNets, PocketNet",
            rule=_element_wise_too,
        ),
        Convention(
            name="D",
            counts="two operations a multiply-add",
            used_by="EdgeFace, ShuffleFaceNet; what nas-face calls FLOPs",
            rule=_two_each,
        ),
        Convention(
            name="thop",
            counts="multiply-adds, normalisation (4), PReLU, average pools",
            used_by="thop 0.1.1",
            rule=_thop,
        ),
    )
}
"""By name, ours first."""
