"""Which channels of a layer tree can be scaled without changing what the network computes, and
which of them together."""

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Product, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    Flatten,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)

Ids = NDArray[np.int64]

FIXED: Final = 0
"""The class of all channels whose scale must stay as it is."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaledLayer:
    """A layer that can take factors into its weights.

    Attributes:
        path: where it is, as the keys of the weights name it, without the last part.
        layer: the node.
        in_classes: `(in_channels,)`, class of each channel that it reads.
        out_classes: `(out_channels,)`, class of each channel that it writes.
    """

    path: str
    layer: Layer
    in_classes: Ids
    out_classes: Ids


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaleClasses:
    """Classes of channels that have one scale.

    Finer than the classes of pruning (`nas_face.compress.pruning.channels`): a depthwise
    convolution has a class on either side of each filter, and a shuffle or the groups of a
    convolution tie nothing. What ties channels are sums and max feature maps.

    Attributes:
        n_classes: classes are numbered from 0, which is `FIXED`.
        layers: that write or read them, in running order.
    """

    n_classes: int
    layers: tuple[ScaledLayer, ...]


def scale_classes(network: Layer, x: Shape) -> ScaleClasses:
    """Classes of a layer tree.

    Between what writes a class and what reads it there are only layers with f(s x) = s f(x) for
    every s > 0: ReLU, PReLU, pools, gates whose factor stays, sums, and whatever moves positions
    or channels about. Fixed are the channels of the input and of the embedding, and all that
    enters or leaves another layer: other activations, attention, and normalisations that are not
    a scale and a shift of each channel. Layer normalisations are read from freely.

    Args:
        network: root of the tree.
        x: shape of its input.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
    """
    network.measure(x)
    walk = _Walk()
    walk.fix(walk.visit(network, _Signal(np.full(x.channels, FIXED), x), "").ids)
    class_of = walk.classes()
    return ScaleClasses(
        n_classes=int(class_of.max()) + 1,
        layers=tuple(
            ScaledLayer(
                path=path, layer=layer, in_classes=class_of[read], out_classes=class_of[written]
            )
            for path, layer, read, written in walk.layers
        ),
    )


class _Signal(NamedTuple):
    """A tensor on its way through the tree: `(channels,)` ids, and its shape."""

    ids: Ids
    shape: Shape


@final
class _Walk:
    """Hands out an id for each channel that is written, and ties what must stay alike."""

    def __init__(self) -> None:
        self.n_ids = 1  # the first is of what is fixed
        self.ties: list[tuple[Ids, Ids]] = []
        self.layers: list[tuple[str, Layer, Ids, Ids]] = []

    def visit(self, layer: Layer, x: _Signal, path: str) -> _Signal:
        """Walk through a node; returns what it gives."""
        match layer:
            case Sequence():
                for name, child in layer.named_layers():
                    x = self.visit(child, x, _below(path, name))
                return x
            case Sum():
                return self._sum(self._branches(layer.branches, [x] * len(layer.branches), path))
            case Product():  # the scale of one factor is that of the product
                first, *others = self._branches(layer.branches, [x] * len(layer.branches), path)
                for other in others:
                    self.fix(other.ids)
                return first
            case Concat():
                return _concat(self._branches(layer.branches, [x] * len(layer.branches), path))
            case Split():
                parts = [
                    _Signal(ids, x.shape._replace(channels=len(ids)))
                    for ids in np.split(x.ids, np.cumsum(layer.sizes)[:-1])
                ]
                return _concat(self._branches(layer.branches, parts, path))
            case Gate():
                self.fix(self.visit(layer.body, x, _below(path, "body")).ids)
                return x
            case Graph():
                values = [x]
                for name, step in layer.named_steps():
                    sources = [values[source] for source in step.sources]
                    joined = _concat(sources) if step.join == "concat" else self._sum(sources)
                    values.append(self.visit(step.layer, joined, _below(path, f"steps.{name}")))
                return values[-1]
            case _:
                shape = layer.output_shape(x.shape)
                return _Signal(self._through(layer, x, shape.channels, path), shape)

    def fix(self, ids: Ids) -> None:
        """Let the scale of channels stay as it is."""
        self.ties.append((np.full_like(ids, FIXED), ids))

    def classes(self) -> Ids:
        """`(n_ids,)`, class of each id: connected components of the ties."""
        left, right = (np.concatenate(side) for side in zip(*self.ties, strict=True))
        graph = coo_array((np.ones(len(left)), (left, right)), shape=(self.n_ids, self.n_ids))
        _, component = connected_components(graph, directed=False)
        # In order of first appearance, so that the id of what is fixed has class 0.
        _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
        return np.asarray(np.argsort(np.argsort(first))[inverse], np.int64)

    def _branches(
        self, branches: tuple[Layer, ...], inputs: list[_Signal], path: str
    ) -> list[_Signal]:
        return [
            self.visit(branch, x, _below(path, f"branches.{position}"))
            for position, (branch, x) in enumerate(zip(branches, inputs, strict=True))
        ]

    def _sum(self, results: list[_Signal]) -> _Signal:
        for result in results[1:]:
            self.ties.append((results[0].ids, result.ids))
        return results[0]

    def _through(self, layer: Layer, x: _Signal, n_written: int, path: str) -> Ids:
        """Ids behind a primitive layer."""
        match layer:
            case (
                Conv()
                | Linear()
                | TranslationVariantConv()
                | ChannelScale()
                | BatchNorm(fixed_scale=False)
            ):
                return self._written(layer, x, n_written, path)
            case LayerNorm():
                self.fix(x.ids)
                return self._written(layer, x, n_written, path)
            case (
                PReLU()
                | Activation(function="relu")
                | Pool()
                | GlobalAveragePool()
                | GlobalAverageMaxPool()
                | Crop()
                | Resize()
            ):
                return x.ids
            case MaxFeatureMap():
                first, second = x.ids.reshape(2, -1)
                self.ties.append((first, second))
                return first
            case ChannelShuffle(groups=groups, inverse=inverse):
                return x.ids.reshape((-1, groups) if inverse else (groups, -1)).T.reshape(-1)
            case ChannelSlice(start=start, stop=stop):
                return x.ids[start:stop]
            case Flatten():
                return np.repeat(x.ids, x.shape.height * x.shape.width)
            case _:
                self.fix(x.ids)
                return np.full(n_written, FIXED)

    def _written(self, layer: Layer, x: _Signal, n_written: int, path: str) -> Ids:
        self.n_ids += n_written
        written = np.arange(self.n_ids - n_written, self.n_ids, dtype=np.int64)
        self.layers.append((path, layer, x.ids, written))
        return written


def _concat(results: list[_Signal]) -> _Signal:
    ids = np.concatenate([result.ids for result in results])
    return _Signal(ids, results[0].shape._replace(channels=len(ids)))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
