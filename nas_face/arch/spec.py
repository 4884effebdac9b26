"""ArchSpec: one architecture as data, from input shape to embedding."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from nas_face.arch.catalog import Block, Head
from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Cost, Shape, in_sequence
from nas_face.arch.plain import PlainBlock, PlainHead
from nas_face.errors import ArchError, ShapeError

ARCH_ID_LENGTH = 12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArchSpec:
    """An architecture: resolved integers only, hashable, comparable, and independent of weights.

    Attributes:
        input_shape: channels, height and width of the image.
        stem: blocks before the first stage.
        stages: blocks of each stage.
        head: last feature map to embedding.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> spec = network("mobilefacenet_128").spec
        >>> spec.cost().madds
        220965376
        >>> ArchSpec.from_data(spec.to_data(), where="copy") == spec
        True
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    input_shape: tuple[int, int, int]
    stem: tuple[Block, ...]
    stages: tuple[tuple[Block, ...], ...]
    head: Head

    @property
    def arch_id(self) -> str:
        """Twelve hexadecimal digits of SHA-256 over the canonical JSON; equal for equal specs."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:ARCH_ID_LENGTH]

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.head.embedding_size

    @property
    def input(self) -> Shape:
        """Shape of the image."""
        return Shape(*self.input_shape)

    def cost(self) -> Cost:
        """Cost from image to embedding.

        Raises:
            ShapeError: some block cannot take the shape in front of it; the message names it.
        """
        steps = []
        shape = self.input
        for name, block in self.named_blocks():
            try:
                shape, cost = measured(block, shape)
            except ShapeError as failure:
                raise ShapeError(f"{name}: {failure}") from failure
            steps.append((shape, cost))
        return in_sequence(steps, self.input)

    def lower(self) -> Sequence:
        """The layer tree: children `stem`, `stages` and `head`.

        Raises:
            ShapeError: some block cannot take the shape in front of it; the message names it.
        """
        shape = self.input
        lowered = []
        for name, block in self.named_blocks():
            try:
                layer = block.lower(shape)
                shape = layer.output_shape(shape)
            except ShapeError as failure:
                raise ShapeError(f"{name}: {failure}") from failure
            lowered.append(layer)
        rest = iter(lowered)
        stem = Sequence(layers=tuple(next(rest) for _ in self.stem))
        stages = tuple(Sequence(layers=tuple(next(rest) for _ in stage)) for stage in self.stages)
        return Sequence(
            layers=(stem, Sequence(layers=stages), next(rest)), names=("stem", "stages", "head")
        )

    @staticmethod
    def of_tree(network: Sequence, x: Shape) -> "ArchSpec":
        """The spec that lowers to a given tree, its blocks held as plain layers.

        So a network that no blocks describe, such as a pruned one, is data like any other: it can
        be costed, compared, trained and identified. Of a tree that was lowered from other blocks
        it is another spec, with another `arch_id`, though both lower to the same tree.

        Args:
            network: tree with the children `stem`, `stages` and `head`, as `lower` gives it.
            x: shape of the image.

        Raises:
            ArchError: the tree is not of that form.
            ShapeError: it cannot take `x`, or its head gives no flat vector.
        """
        if network.names != ("stem", "stages", "head"):
            names = ", ".join(name for name, _ in network.named_layers())
            raise ArchError(f"a tree must have the children stem, stages, head; got {names}")
        stem, stages, head = network.layers
        spec = ArchSpec(
            input_shape=(x.channels, x.height, x.width),
            stem=_plain_blocks(stem, "stem"),
            stages=tuple(
                _plain_blocks(stage, f"stages.{number}")
                for number, stage in enumerate(_children(stages, "stages"))
            ),
            head=PlainHead(
                embedding_size=network.output_shape(x).channels,
                layer=head,
            ),
        )
        spec.cost()
        return spec

    def to_data(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data: dict[str, Any] = to_data(self)
        return data

    @staticmethod
    def from_data(data: Any, *, where: str) -> "ArchSpec":
        """The inverse of `to_data`; strict, and checked to be buildable.

        Args:
            data: plain data.
            where: file or object that it came from; starts the message.

        Raises:
            ArchError: a key is unknown or missing, a value has the wrong type, or shapes clash.
        """
        spec = from_data(ArchSpec, data, where=where)
        try:
            spec.cost()
        except ShapeError as failure:
            raise ShapeError(f"{where}: {failure}") from failure
        return spec

    @staticmethod
    def load(path: Path) -> "ArchSpec":
        """Read a spec from a JSON file.

        Raises:
            ArchError: the file cannot be read, or does not hold a spec.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as failure:
            raise ArchError(f"{path}: not a readable JSON file ({failure})") from failure
        return ArchSpec.from_data(data, where=str(path))

    def named_blocks(self) -> "list[tuple[str, Block | Head]]":
        """Every block and the head in running order, by their paths in the layer tree, such as
        `stages.0.1`."""
        named: list[tuple[str, Block | Head]] = [
            (f"stem.{position}", block) for position, block in enumerate(self.stem)
        ]
        for stage, blocks in enumerate(self.stages):
            named += [(f"stages.{stage}.{at}", block) for at, block in enumerate(blocks)]
        return [*named, ("head", self.head)]


def _children(layer: Layer, name: str) -> tuple[Layer, ...]:
    if not isinstance(layer, Sequence) or layer.names:
        raise ArchError(f"{name} of a tree must be a sequence without names, got {layer.kind}")
    return layer.layers


def _plain_blocks(layer: Layer, name: str) -> tuple[Block, ...]:
    return tuple(PlainBlock(layer=each) for each in _children(layer, name))


@functools.lru_cache(maxsize=65536)
def measured(block: "Block | Head", x: Shape) -> tuple[Shape, Cost]:
    """Shape and cost behind a block or head; remembered, because repeated blocks of one network
    and of a whole search are met again and again."""
    return block.lower(x).measure(x)
