"""A block and a head that hold their layers as they are, where no other block lowers to them.

A pruned network is made of these: its widths are what is left of some family's, and no longer
follow from few numbers. They are not for search spaces, which have nothing to choose in them.
"""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.arch.heads import AbstractHead
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlainBlock(AbstractBlock):
    """Layers as a block.

    Attributes:
        layer: what the block lowers to, for every input.
    """

    layer: Layer
    kind: Literal["layers"] = "layers"

    def lower(self, x: Shape) -> Layer:
        self.layer.measure(x)
        return self.layer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHead(AbstractHead):
    """Layers as a head.

    Attributes:
        embedding_size: length of the embedding.
        layer: what the head lowers to; it gives a flat vector of that length.
    """

    embedding_size: int
    layer: Layer
    kind: Literal["embedding_layers"] = "embedding_layers"

    def lower(self, x: Shape) -> Layer:
        y = self.layer.output_shape(x)
        if y != Shape(self.embedding_size, 1, 1):
            raise ShapeError(
                f"embedding_layers head: the layers must give {self.embedding_size}x1x1, got {y}"
            )
        return self.layer
