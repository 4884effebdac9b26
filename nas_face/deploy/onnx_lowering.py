"""Layer tree to ONNX operators: one rule for each combinator, and the way to each primitive's."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, assert_never, final

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Primitive, Product, Split, Sum
from nas_face.arch.combinators import Sequence as LayerSequence
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)
from nas_face.deploy.onnx_graph import GraphWriter
from nas_face.deploy.onnx_layers.activation import PReluStyle, activation, max_feature_map, prelu
from nas_face.deploy.onnx_layers.affine import affine, channel_conv, fold, scale_and_shift
from nas_face.deploy.onnx_layers.attention import (
    cross_covariance_attention,
    gated_channel_transform,
)
from nas_face.deploy.onnx_layers.channels import channel_shuffle, channel_slice
from nas_face.deploy.onnx_layers.maps import crop, flatten, fourier_features, resize
from nas_face.deploy.onnx_layers.norm import layer_norm
from nas_face.deploy.onnx_layers.pool import (
    channel_pool,
    global_average_max_pool,
    global_average_pool,
    norm_aware_pool,
    pool,
)
from nas_face.deploy.onnx_layers.site import Array, Site, Value

# Primitives that take a flat vector; all others need a map.
_ON_FLAT = (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelScale,
    ChannelSlice,
    Flatten,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    PReLU,
)


@final
class Lowering:
    """Writes layers into a graph.

    Args:
        graph: receives nodes and arrays.
        weights: state dict of the model, its keys being paths in the tree.
        prelu: `native` for one PRelu node, `rewrite` for a * x + (1 - a) * relu(x), which is the
            same function for every a.
    """

    def __init__(
        self, graph: GraphWriter, weights: Mapping[str, Array], prelu: PReluStyle
    ) -> None:
        self._root = Site(graph, weights)
        self._prelu = prelu

    def lower(self, layer: Layer, x: Value) -> Value:
        """Write a whole tree.

        Args:
            layer: its root.
            x: its input.

        Returns:
            Its output.

        Raises:
            DeployError: a layer meets a value that it cannot take.
        """
        return self._lower(layer, self._root, x)

    def _lower(self, layer: Layer, site: Site, x: Value) -> Value:
        match layer:
            case LayerSequence():
                return self._sequence(layer, site, x)
            case Sum():
                inputs = [x] * len(layer.branches)
                return _chained("Add", site, self._branches(layer.branches, site, inputs))
            case Product():
                inputs = [x] * len(layer.branches)
                return _chained("Mul", site, self._branches(layer.branches, site, inputs))
            case Concat():
                inputs = [x] * len(layer.branches)
                return _concatenated(site, self._branches(layer.branches, site, inputs))
            case Split():
                inputs = site.split(layer.sizes, site.spread(x))
                return _concatenated(site, self._branches(layer.branches, site, inputs))
            case Gate():
                x = site.spread(x)
                factors = self._lower(layer.body, site.below("body"), x)  # broadcast over x
                return replace(x, name=site.node("Mul", "gate", (x.name, factors.name)))
            case Graph():
                return self._graph(layer, site, x)
            case _:
                return self._primitive(layer, site, x)

    def _primitive(self, layer: Primitive, site: Site, x: Value) -> Value:
        if not isinstance(layer, _ON_FLAT):
            site.require_map(x, layer.kind)
        match layer:  # layers that do not care whether their input is a constant
            case Conv():
                return affine(layer, site, x)
            case FourierFeatures():
                return fourier_features(layer, site, x)
            case _:
                x = site.spread(x)
        match layer:
            case TranslationVariantConv() | Linear():
                return affine(layer, site, x)
            case ChannelConv():
                return channel_conv(layer, site, x)
            case BatchNorm() | ChannelScale():
                return fold(layer, site, x)
            case LayerNorm():
                return layer_norm(layer, site, x)
            case PReLU():
                return prelu(site, x, self._prelu)
            case Activation():
                return activation(layer, site, x)
            case MaxFeatureMap():
                return max_feature_map(layer, site, x)
            case ChannelShuffle():
                return channel_shuffle(layer, site, x)
            case ChannelSlice():
                return channel_slice(layer, site, x)
            case Pool():
                return pool(layer, site, x)
            case GlobalAveragePool():
                return global_average_pool(layer, site, x)
            case GlobalAverageMaxPool():
                return global_average_max_pool(layer, site, x)
            case NormAwarePool():
                return norm_aware_pool(layer, site, x)
            case ChannelPool():
                return channel_pool(layer, site, x)
            case CrossCovarianceAttention():
                return cross_covariance_attention(layer, site, x)
            case GatedChannelTransform():
                return gated_channel_transform(layer, site, x)
            case Flatten():
                return flatten(layer, site, x)
            case Crop():
                return crop(layer, site, x)
            case Resize():
                return resize(layer, site, x)
            case _:
                assert_never(layer)

    def _sequence(self, layer: LayerSequence, site: Site, x: Value) -> Value:
        """Steps in order; norms and scales right behind a layer of weights are folded into it."""
        steps = deque(_steps(layer, site))
        while steps:
            at, step = steps.popleft()
            if isinstance(step, Conv | TranslationVariantConv | Linear):
                behind = []
                while steps and isinstance(following := steps[0][1], BatchNorm | ChannelScale):
                    behind.append(scale_and_shift(following, steps.popleft()[0]))
                x = affine(step, at, x, behind)
            else:
                x = self._lower(step, at, x)
        return x

    def _branches(
        self, layers: tuple[Layer, ...], site: Site, inputs: Sequence[Value]
    ) -> list[Value]:
        return [
            self._lower(branch, site.below(f"branches.{at}"), x)
            for at, (branch, x) in enumerate(zip(layers, inputs, strict=True))
        ]

    def _graph(self, layer: Graph, site: Site, x: Value) -> Value:
        values = [x]
        for name, step in layer.named_steps():
            sources = [values[source] for source in step.sources]
            if len(sources) == 1:
                joined = sources[0]
            elif step.join == "sum":
                joined = _chained("Add", site.below(f"join.{name}"), sources)
            else:
                joined = _concatenated(site.below(f"join.{name}"), sources)
            values.append(self._lower(step.layer, site.below(f"steps.{name}"), joined))
        return values[-1]


def _chained(operator: Literal["Add", "Mul"], site: Site, values: Sequence[Value]) -> Value:
    """Sum or product of values of one shape; constants broadcast over the batch of the others."""
    first, *others = values
    if all(value.constant is not None for value in values):
        first = site.spread(first)
    word = "sum" if operator == "Add" else "product"
    for at, other in enumerate(others, start=1):
        name = site.node(operator, f"{word}{at}", (first.name, other.name))
        first = replace(first, name=name, constant=None)
    return first


def _concatenated(site: Site, values: Sequence[Value]) -> Value:
    parts = [site.below(f"in{at}").spread(value) for at, value in enumerate(values)]
    joined = site.node("Concat", "concat", tuple(part.name for part in parts), {"axis": 1})
    channels = sum(part.shape.channels for part in parts)
    return Value(joined, parts[0].shape._replace(channels=channels), flat=parts[0].flat)


def _steps(layer: LayerSequence, site: Site) -> Iterator[tuple[Site, Layer]]:
    """Sequences within sequences as one list, so that a layer meets its true successor."""
    for name, child in layer.named_layers():
        below = site.below(name)
        if isinstance(child, LayerSequence):
            yield from _steps(child, below)
        else:
            yield below, child
