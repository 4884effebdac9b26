"""Where a network spends: shapes and costs by block and by stage."""

from dataclasses import dataclass
from typing import final

from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Cost, Shape


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part of a network.

    Attributes:
        name: path in the tree, such as `stages.0.1`.
        input: shape in front of it.
        output: shape behind it.
        cost: its own cost.
    """

    name: str
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


def summarise(network: Sequence, x: Shape) -> Summary:
    """Cost of a network by stage and by block.

    Args:
        network: tree with the children `stem`, `stages` and `head`, as `ArchSpec.lower` gives it.
        x: shape of the image.
    """
    stages, blocks = [], []
    shape = x
    for name, part in network.named_layers():
        named = [(name, part)]
        if name == "stages" and isinstance(part, Sequence):
            named = [(f"stages.{at}", stage) for at, stage in part.named_layers()]
        for path, stage in named:
            blocks += _blocks(path, stage, shape)
            stages.append(_row(path, stage, shape))
            shape = stages[-1].output
    return Summary(stages=tuple(stages), blocks=tuple(blocks), total=_row("total", network, x))


def _blocks(path: str, stage: Layer, x: Shape) -> list[Row]:
    if not isinstance(stage, Sequence):
        return [_row(path, stage, x)]
    rows = []
    for name, block in stage.named_layers():
        rows.append(_row(f"{path}.{name}", block, x))
        x = rows[-1].output
    return rows


def _row(name: str, layer: Layer, x: Shape) -> Row:
    output, cost = layer.measure(x)
    return Row(name=name, input=x, output=output, cost=cost)
