"""Where a network spends: shapes and costs by stage, by block, and as a nested listing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

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
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.describe import describe_block, describe_layer
from nas_face.arch.plain import PlainBlock, PlainHead
from nas_face.arch.spec import ArchSpec


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part of a network.

    Attributes:
        name: path in the tree, such as `stages.0.1`.
        layer: the part itself.
        input: shape in front of it.
        output: shape behind it.
        cost: its own cost.
    """

    name: str
    layer: Layer
    input: Shape
    output: Shape
    cost: Cost


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Costs of a network and of its parts.

    Attributes:
        stages: `stem`, each `stages.N`, and `head`.
        blocks: the same, one level finer.
        total: image to embedding.
    """

    stages: tuple[Row, ...]
    blocks: tuple[Row, ...]
    total: Row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One line of a listing, with the lines below it.

    Attributes:
        row: the part; of several equal ones in a row, the first, its name such as `1-4`.
        words: what it is.
        repeats: how many equal parts in a row this line stands for.
        parts: what it consists of.
    """

    row: Row
    words: str
    repeats: int = 1
    parts: "tuple[Part, ...]" = ()


def summarise(network: Sequence, x: Shape) -> Summary:
    """Cost of a network by stage and by block.

    Args:
        network: tree with the children `stem`, `stages` and `head`, as `ArchSpec.lower` gives it.
        x: shape of the image.
    """
    stages = tuple(_row(*each) for each in _stages(network, x))
    blocks: list[Row] = []
    for stage in stages:
        if isinstance(stage.layer, Sequence):
            parts = _parts(stage.layer, stage.input)
            blocks += (_row(f"{stage.name}.{name}", block, at) for name, block, at in parts)
        else:
            blocks.append(stage)
    return Summary(stages=stages, blocks=tuple(blocks), total=_row("total", network, x))


def outline(
    network: Sequence, x: Shape, *, spec: ArchSpec | None = None, depth: int = 2
) -> tuple[Part, ...]:
    """A network as a nested listing: stages, their blocks, the layers of those.

    Equal parts one after another, with equal shapes, become one line.

    Args:
        network: tree with the children `stem`, `stages` and `head`.
        x: shape of the image.
        spec: what the tree was lowered from, if known: blocks are then named by their kind and
            settings instead of by their layers.
        depth: levels to list; 1 is stages, 2 blocks, and beyond that layers.
    """
    words = (
        {}
        if spec is None
        else {
            path: describe_block(block)
            for path, block in spec.named_blocks()
            if not isinstance(block, PlainBlock | PlainHead)
        }
    )
    parts = []
    for name, layer, shape in _stages(network, x):
        inner = _nested(layer, shape, name, words, depth - 1)
        said = words.get(name) or _stage_words(name, layer, shape)
        parts.append(Part(row=_row(name, layer, shape), words=said, parts=inner))
    return tuple(parts)


def _nested(
    layer: Layer, x: Shape, path: str, words: dict[str, str], depth: int
) -> tuple[Part, ...]:
    """The lines below a line; `words` are those known by path."""
    if depth < 1:
        return ()
    parts: list[Part] = []
    names: list[str] = []
    for name, child, shape in _parts(layer, x):
        below = f"{path}.{name}"
        said = words.get(below) or describe_layer(child, shape)
        last = parts[-1] if parts else None
        if last and (last.row.layer, last.row.input, last.words) == (child, shape, said):
            first = names[-last.repeats]
            row = replace(last.row, name=f"{first}-{name.rpartition('.')[2]}")
            parts[-1] = replace(last, row=row, repeats=last.repeats + 1)
        else:
            inner = _nested(child, shape, below, words, depth - 1)
            parts.append(Part(row=_row(name, child, shape), words=said, parts=inner))
        names.append(name)
    return tuple(parts)


def _stage_words(name: str, stage: Layer, x: Shape) -> str:
    if name == "head" or not isinstance(stage, Sequence):
        return describe_layer(stage, x)
    return f"{len(stage.layers)} block{'' if len(stage.layers) == 1 else 's'}"


def _stages(network: Sequence, x: Shape) -> Iterator[tuple[str, Layer, Shape]]:
    """`stem`, each `stages.N` and `head`, with the shape in front of each."""
    for name, part, shape in _parts(network, x):
        if name == "stages":
            for position, stage, within in _parts(part, shape):
                yield f"stages.{position}", stage, within
        else:
            yield name, part, shape


def _parts(layer: Layer, x: Shape) -> Iterator[tuple[str, Layer, Shape]]:
    """What a layer consists of: path below it, the part, and the shape in front of that.

    Branches that only pass the input on are left out, and a part that is the only one gives way to
    its own parts.
    """
    found = [each for each in _direct_parts(layer, x) if each[1] != Sequence()]
    if len(found) == 1 and not isinstance(layer, Sequence):
        name, inner, shape = found[0]
        deeper = list(_parts(inner, shape))
        found = [(f"{name}.{below}", part, at) for below, part, at in deeper] or found
    yield from found


def _direct_parts(layer: Layer, x: Shape) -> Iterator[tuple[str, Layer, Shape]]:
    match layer:
        case Sequence():
            for name, child in layer.named_layers():
                yield name, child, x
                x = child.output_shape(x)
        case Sum() | Product() | Concat():
            for position, branch in enumerate(layer.branches):
                yield f"branches.{position}", branch, x
        case Split():
            parts = zip(layer.branches, layer.sizes, strict=True)
            for position, (branch, size) in enumerate(parts):
                yield f"branches.{position}", branch, x._replace(channels=size)
        case Gate():
            yield "body", layer.body, x
        case Graph():
            shapes = [x]
            for name, step in layer.named_steps():
                joined = join_shapes([shapes[source] for source in step.sources], step.join)
                yield f"steps.{name}", step.layer, joined
                shapes.append(step.layer.output_shape(joined))


def _row(name: str, layer: Layer, x: Shape) -> Row:
    output, cost = layer.measure(x)
    return Row(name=name, layer=layer, input=x, output=output, cost=cost)
