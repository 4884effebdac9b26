"""Where two networks differ: stage by stage and block by block, settings by name."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

from nas_face.arch.catalog import Block, Head
from nas_face.arch.combinators import Graph, Layer, Sequence
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.plain import PlainBlock, PlainHead
from nas_face.arch.spec import ArchSpec

T = TypeVar("T")
Node = Block | Head | Layer

ALONE = 1.0
"""What it costs an alignment to leave one item without a partner."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that differs.

    Attributes:
        setting: its name; inside a block, a path such as `expand.conv.out_channels`.
        a: value in the first network, none where it has no such setting.
        b: value in the second.
    """

    setting: str
    a: Any
    b: Any


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two blocks that stand for each other, or one that stands alone.

    Attributes:
        a: path in the first network, such as `stages.0.1`, or none.
        b: path in the second, or none.
        kind_a: kind of the block in the first, or none.
        kind_b: in the second.
        changes: settings that differ; empty for equal blocks and for one that stands alone.
    """

    a: str | None
    b: str | None
    kind_a: str | None
    kind_b: str | None
    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both are there and equal."""
        return None not in (self.a, self.b) and not self.changes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two networks differ.

    Attributes:
        input_a: image of the first.
        input_b: image of the second.
        cost_a: of the first.
        cost_b: of the second.
        pairs: all blocks of both, in running order, equal ones too.
    """

    input_a: Shape
    input_b: Shape
    cost_a: Cost
    cost_b: Cost
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> bool:
        """Whether both are one network."""
        return self.input_a == self.input_b and all(pair.same for pair in self.pairs)


def compare_specs(a: ArchSpec, b: ArchSpec) -> Difference:
    """Where two specs differ: in the settings of their blocks, or, where one of them holds plain
    layers, in those of their layers."""
    if _holds_layers(a) or _holds_layers(b):
        return compare_networks(a.lower(), a.input, b.lower(), b.input)
    return Difference(
        input_a=a.input,
        input_b=b.input,
        cost_a=a.cost(),
        cost_b=b.cost(),
        pairs=_pairs(_stages_of_spec(a), _stages_of_spec(b)),
    )


def compare_networks(a: Sequence, x_a: Shape, b: Sequence, x_b: Shape) -> Difference:
    """Where two layer trees differ, in the settings of their layers.

    Args:
        a: the first, with the children `stem`, `stages` and `head`.
        x_a: shape of its input.
        b: the second.
        x_b: shape of its input.
    """
    return Difference(
        input_a=x_a,
        input_b=x_b,
        cost_a=a.cost(x_a),
        cost_b=b.cost(x_b),
        pairs=_pairs(_stages_of_tree(a), _stages_of_tree(b)),
    )


def _holds_layers(spec: ArchSpec) -> bool:
    return any(isinstance(block, PlainBlock | PlainHead) for _, block in spec.named_blocks())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A block with its settings by name.

    Attributes:
        path: such as `stages.0.1`.
        kind: of the block.
        settings: all of them, defaults too.
        told: those that are not at their default, and the kind.
    """

    path: str
    kind: str
    settings: dict[str, Any]
    told: dict[str, Any]


_Stage = list[_Block]


def _stages_of_spec(spec: ArchSpec) -> list[_Stage]:
    blocks = {path: _block(path, block) for path, block in spec.named_blocks()}
    sizes = [len(spec.stem), *map(len, spec.stages), 1]
    rest = iter(blocks.values())
    return [[next(rest) for _ in range(size)] for size in sizes]


def _stages_of_tree(network: Sequence) -> list[_Stage]:
    stages: list[_Stage] = []
    for name, part in network.named_layers():
        if name == "stages" and isinstance(part, Sequence):
            stages += (_blocks(f"stages.{at}", stage) for at, stage in part.named_layers())
        else:
            stages.append([_block(name, part)] if name == "head" else _blocks(name, part))
    return stages


def _blocks(path: str, stage: Layer) -> _Stage:
    if not isinstance(stage, Sequence):
        return [_block(path, stage)]
    return [_block(f"{path}.{name}", block) for name, block in stage.named_layers()]


def _block(path: str, node: Node) -> _Block:
    return _Block(
        path=path,
        kind=node.kind,
        settings=dict(_settings(node, "", defaults=True)),
        told=dict(_settings(node, "", defaults=False)),
    )


def _settings(value: Any, path: str, *, defaults: bool) -> Iterator[tuple[str, Any]]:
    """Every scalar, or tuple of scalars, in a tree of dataclasses, by its path.

    Layers in a sequence and steps in a graph go by their names, as their weights do.
    """
    if isinstance(value, Sequence):
        yield path + "kind", value.kind
        for name, child in value.named_layers():
            yield from _settings(child, f"{path}{name}.", defaults=defaults)
    elif isinstance(value, Graph):
        yield path + "kind", value.kind
        for name, step in value.named_steps():
            yield from _settings(step, f"{path}steps.{name}.", defaults=defaults)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if defaults or field.name == "kind" or inner != field.default:
                yield from _settings(inner, f"{path}{field.name}.", defaults=defaults)
    elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        for position, each in enumerate(value):
            yield from _settings(each, f"{path}{position}.", defaults=defaults)
    else:
        yield path.removesuffix("."), value


def _pairs(a: list[_Stage], b: list[_Stage]) -> tuple[Pair, ...]:
    """Stages are aligned first, by how well their blocks can be; stem and head meet their like."""
    inner = _align(a[1:-1], b[1:-1], _stage_distance)
    pairs = []
    for left, right in [(a[0], b[0]), *inner, (a[-1], b[-1])]:
        for one, other in _align(left or [], right or [], _block_distance):
            pairs.append(_pair(one, other))
    return tuple(pairs)


def _pair(a: _Block | None, b: _Block | None) -> Pair:
    return Pair(
        a=a.path if a else None,
        b=b.path if b else None,
        kind_a=a.kind if a else None,
        kind_b=b.kind if b else None,
        changes=_changes(a, b) if a and b else (),
    )


def _changes(a: _Block, b: _Block) -> tuple[Change, ...]:
    """Settings that differ, the kind first; blocks of two kinds have other settings, so of those
    only what is not at its default."""
    left, right = (a.settings, b.settings) if a.kind == b.kind else (a.told, b.told)
    names = dict.fromkeys(["kind", *left, *right])
    found = ((name, left.get(name), right.get(name)) for name in names)
    return tuple(
        Change(setting=name, a=one, b=other) for name, one, other in found if one != other
    )


def _block_distance(a: _Block, b: _Block) -> float:
    """0 for equal blocks, at most 1 for those of one kind, just under 2 otherwise, so that two
    blocks in one place are one replaced and not one gone and one new."""
    if a.settings == b.settings:
        return 0.0
    names = {*a.settings, *b.settings}
    share = len(_changes(a, b)) / len(names)
    return share if a.kind == b.kind else 1.9 * ALONE


def _stage_distance(a: _Stage, b: _Stage) -> float:
    """Mean distance of their blocks, 0 to 2."""
    total = sum(
        ALONE if left is None or right is None else _block_distance(left, right)
        for left, right in _align(a, b, _block_distance)
    )
    return 2 * total / max(1, len(a) + len(b))


def _align(
    a: list[T], b: list[T], distance: Callable[[T, T], float]
) -> list[tuple[T | None, T | None]]:
    """Pair two lists in order at the least total distance, leaving items alone where that is
    less."""
    apart = [[distance(left, right) for right in b] for left in a]
    least = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a) + 1)):
        for j in reversed(range(len(b) + 1)):
            steps = []
            if i < len(a) and j < len(b):
                steps.append(apart[i][j] + least[i + 1][j + 1])
            if i < len(a):
                steps.append(ALONE + least[i + 1][j])
            if j < len(b):
                steps.append(ALONE + least[i][j + 1])
            least[i][j] = min(steps, default=0.0)
    pairs: list[tuple[T | None, T | None]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        both = i < len(a) and j < len(b)
        if both and least[i][j] == apart[i][j] + least[i + 1][j + 1]:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif i < len(a) and least[i][j] == ALONE + least[i + 1][j]:
            pairs.append((a[i], None))
            i += 1
        else:
            pairs.append((None, b[j]))
            j += 1
    return pairs
