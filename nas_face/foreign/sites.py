"""The places of a layer tree that hold weights, in running order."""

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch

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
from nas_face.arch.layers import (
    BatchNorm,
    ChannelScale,
    Conv,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    Linear,
    TranslationVariantConv,
)
from nas_face.nn.build import build

COUNTER = "num_batches_tracked"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A layer with weights; a gated channel transform is two: its alpha, and gamma with beta.

    Attributes:
        path: in the tree.
        layer: the layer.
        shapes: of each weight by its key, counters left out.
        input: shape of what it reads.
        flattened: shape of the map that a linear layer's input was flattened from.
        before: positions of the sites whose results this one reads, with nothing but layers
            without weights in between.
        behind: position of the convolution or linear layer whose result alone this normalisation
            or scale reads, and which nothing else reads.
        norm: position of the normalisation behind this convolution or linear layer.
        features: of a convolution that reads nothing but features of the position, these features
            and the shape of the map that they are made for.
        shortcut: whether it lies in a branch of a sum behind the first.
    """

    path: str
    layer: Layer
    shapes: dict[str, tuple[int, ...]]
    input: Shape
    flattened: Shape | None
    before: frozenset[int]
    behind: int | None
    norm: int | None = None
    features: tuple[FourierFeatures, Shape] | None = None
    shortcut: bool


class _Flow(NamedTuple):
    """A value on its way: its shape, the sites that it comes from, the site that it comes from
    directly, the map that it was, the features of position that it is."""

    shape: Shape
    before: frozenset[int]
    last: int | None
    flattened: Shape | None
    features: tuple[FourierFeatures, Shape] | None = None


@final
class _Walk:
    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.sites: list[Site] = []
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, shape in shapes.items():
            path, _, name = key.rpartition(".")
            if name != COUNTER:
                self._shapes.setdefault(path, {})[name] = shape

    def visit(self, layer: Layer, path: str, x: _Flow, *, shortcut: bool = False) -> _Flow:
        match layer:
            case Sequence():
                for name, child in layer.named_layers():
                    x = self.visit(child, _join(path, name), x, shortcut=shortcut)
                return x
            case Graph():
                values = [x]
                for name, step in layer.named_steps():
                    read = [values[source] for source in step.sources]
                    flow = read[0] if len(read) == 1 else _joined(read)
                    shape = join_shapes([each.shape for each in read], step.join)
                    flow = flow._replace(shape=shape)
                    # A step's result may have several readers.
                    y = self.visit(step.layer, _join(path, f"steps.{name}"), flow)
                    values.append(y._replace(last=None))
                return values[-1]
            case Sum() | Product() | Concat() | Split():
                inputs = [x._replace(last=None)] * len(layer.branches)
                if isinstance(layer, Split):
                    inputs = [
                        each._replace(shape=each.shape._replace(channels=size))
                        for each, size in zip(inputs, layer.sizes, strict=True)
                    ]
                results = [
                    self.visit(
                        branch,
                        _join(path, f"branches.{at}"),
                        start,
                        shortcut=shortcut or (isinstance(layer, Sum) and at > 0),
                    )
                    for at, (branch, start) in enumerate(zip(layer.branches, inputs, strict=True))
                ]
                return _joined(results)._replace(shape=layer.output_shape(x.shape))
            case Gate():
                body = self.visit(layer.body, _join(path, "body"), x._replace(last=None))
                return _joined([x, body])._replace(shape=x.shape)
            case _:
                return self._primitive(layer, path, x, shortcut)

    def _primitive(self, layer: Layer, path: str, x: _Flow, shortcut: bool) -> _Flow:
        y = layer.output_shape(x.shape)
        if isinstance(layer, FourierFeatures):
            return _Flow(y, frozenset(), None, None, (layer, x.shape))
        if isinstance(layer, Flatten):
            return _Flow(y, x.before, x.last, x.flattened or x.shape)
        shapes = self._shapes.get(path)
        if not shapes:
            return _Flow(y, x.before, None, x.flattened)
        affine = isinstance(layer, Conv | Linear | TranslationVariantConv)
        site = Site(
            path=path,
            layer=layer,
            shapes=shapes,
            input=x.shape,
            flattened=x.flattened,
            before=x.before,
            behind=x.last if isinstance(layer, BatchNorm | ChannelScale) else None,
            features=x.features,
            shortcut=shortcut,
        )
        if isinstance(layer, GatedChannelTransform):
            alpha = {"alpha": shapes["alpha"]}
            rest = {key: shapes[key] for key in ("gamma", "beta")}
            parts = [replace(site, shapes=alpha), replace(site, shapes=rest)]
        else:
            parts = [site]
        before = x.before
        for part in parts:
            here = len(self.sites)
            self.sites.append(replace(part, before=before))
            before = frozenset({here})
        if isinstance(layer, BatchNorm) and x.last is not None:
            self.sites[x.last] = replace(self.sites[x.last], norm=here)
        if isinstance(layer, GatedChannelTransform | CrossCovarianceAttention):
            before |= x.before  # what they weigh goes past their weights
        last = here if affine else (x.last if site.behind is not None else None)
        if isinstance(layer, ChannelScale):
            last = None
        return _Flow(y, before, last, None if y != x.shape else x.flattened)


def sites_of(tree: Sequence, x: Shape) -> tuple[Site, ...]:
    """Sites of a layer tree in running order.

    Args:
        tree: the network.
        x: shape of the image.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
    """
    with torch.device("meta"):
        module = build(tree, x)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    walk = _Walk(shapes)
    walk.visit(tree, "", _Flow(x, frozenset(), None, None))
    return tuple(walk.sites)


def _joined(values: list[_Flow]) -> _Flow:
    before = frozenset().union(*(each.before for each in values))
    return _Flow(values[0].shape, before, None, None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
