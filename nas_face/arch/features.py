"""What a network is made of, by name, so that a deployment target can say what it lacks.

A feature is read off the layer tree, never off the name of a block, so that a new block is covered
from its first day.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from nas_face.arch.catalog import Block, Head
from nas_face.arch.combinators import (
    Combinator,
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Activation, Conv
from nas_face.arch.spec import ArchSpec

Test = Callable[[Layer, Shape], bool]
"""Whether one node of a tree, with the shape in front of it, has a feature."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something that a deployment target may run badly or not at all.

    Attributes:
        meaning: one line for people.
        test: looks at one node.
    """

    meaning: str
    test: Test


def features_of(layer: Layer, x: Shape) -> frozenset[str]:
    """Names of all features of a layer tree.

    Args:
        layer: the tree.
        x: shape of its input.

    Raises:
        ShapeError: the tree cannot take `x`.
    """
    return frozenset(
        name
        for node, shape in _nodes(layer, x)
        for name, feature in FEATURES.items()
        if feature.test(node, shape)
    )


def features_by_block(spec: ArchSpec) -> tuple[tuple[str, frozenset[str]], ...]:
    """Features of each block of an architecture: `stem.0`, `stages.1.3` and so on, and `head`.

    Raises:
        ShapeError: some block cannot take the shape in front of it.
    """
    shape = spec.input
    found = []
    for name, block in spec.named_blocks():
        shape, features = _of_block(block, shape)
        found.append((name, features))
    return tuple(found)


@functools.lru_cache(maxsize=65536)
def _of_block(block: "Block | Head", x: Shape) -> tuple[Shape, frozenset[str]]:
    """Shape behind a block and its features; cached, because a search meets the same ones over
    and over."""
    layer = block.lower(x)
    return layer.output_shape(x), features_of(layer, x)


def _nodes(layer: Layer, x: Shape) -> Iterator[tuple[Layer, Shape]]:
    """Every node of a tree with the shape in front of it."""
    yield layer, x
    match layer:
        case Sequence():
            for inner in layer.layers:
                yield from _nodes(inner, x)
                x = inner.output_shape(x)
        case Sum() | Product() | Concat():
            for branch in layer.branches:
                yield from _nodes(branch, x)
        case Split():
            for size, branch in zip(layer.sizes, layer.branches, strict=True):
                yield from _nodes(branch, x._replace(channels=size))
        case Gate():
            yield from _nodes(layer.body, x)
        case Graph():
            shapes = [x]
            for step in layer.steps:
                sources = [shapes[source] for source in step.sources]
                joined = sources[0]
                if step.join == "concat":
                    joined = joined._replace(channels=sum(each.channels for each in sources))
                yield from _nodes(step.layer, joined)
                shapes.append(step.layer.output_shape(joined))


def _kind(kind: str) -> Test:
    return lambda node, x: node.kind == kind


def _function(name: str) -> Test:
    return lambda node, x: isinstance(node, Activation) and node.function == name


def _depthwise(node: Layer, x: Shape) -> bool:
    return isinstance(node, Conv) and node.groups == x.channels > 1


def _global_depthwise(node: Layer, x: Shape) -> bool:
    return isinstance(node, Conv) and _depthwise(node, x) and node.kernel == (x.height, x.width)


def _large_depthwise(node: Layer, x: Shape) -> bool:
    return (
        isinstance(node, Conv)
        and _depthwise(node, x)
        and max(node.kernel) > 3
        and not _global_depthwise(node, x)
    )


def _gate_of(per_channel: bool) -> Test:
    def test(node: Layer, x: Shape) -> bool:
        if not isinstance(node, Gate):
            return False
        y = node.body.output_shape(x)
        return (y.height == y.width == 1) == per_channel

    return test


def _has_conv(layer: Layer) -> bool:
    return bool(_kernels(layer))


def _kernels(layer: Layer) -> set[tuple[int, int]]:
    """Kernels of the convolutions in a tree."""
    if isinstance(layer, Conv):
        return {layer.kernel}
    if not isinstance(layer, Combinator):
        return set()
    inner: tuple[Layer, ...]
    match layer:
        case Sequence():
            inner = layer.layers
        case Gate():
            inner = (layer.body,)
        case Graph():
            inner = tuple(step.layer for step in layer.steps)
        case _:
            inner = layer.branches
    return {kernel for each in inner for kernel in _kernels(each)}


def _uneven_split(node: Layer, x: Shape) -> bool:
    return (
        isinstance(node, Split)
        and len(set(node.sizes)) > 1
        and any(_has_conv(branch) for branch in node.branches)
    )


def _mixed_kernels(node: Layer, x: Shape) -> bool:
    """Parts of one map that meet depthwise filters of different sizes."""
    return (
        isinstance(node, Split)
        and len({kernel for branch in node.branches for kernel in _kernels(branch)})
        >= len(node.branches)
        > 1
    )


def _concat(node: Layer, x: Shape) -> bool:
    if isinstance(node, Graph):
        return any(step.join == "concat" and len(step.sources) > 1 for step in node.steps)
    return isinstance(node, Concat | Split) and len(node.branches) > 1


def _grouped(node: Layer, x: Shape) -> bool:
    return isinstance(node, Conv) and node.groups > 1 and not _depthwise(node, x)


def _whole_average(node: Layer, x: Shape) -> bool:
    return node.kind in ("global_average_pool", "global_average_max_pool")


FEATURES: dict[str, Feature] = {
    name: Feature(meaning=meaning, test=test)
    for name, meaning, test in (
        ("prelu", "negative values times a learned slope", _kind("prelu")),
        ("relu6", "ReLU cut at 6", _function("relu6")),
        ("silu", "x * sigmoid(x), also called swish", _function("silu")),
        ("hard_swish", "the piecewise form of silu", _function("hard_swish")),
        ("gelu", "x * Phi(x)", _function("gelu")),
        ("sigmoid", "sigmoid by itself, as at the end of gates", _function("sigmoid")),
        ("hard_sigmoid", "its piecewise form", _function("hard_sigmoid")),
        ("max_feature_map", "larger of two halves of the channels", _kind("max_feature_map")),
        ("squeeze_excite", "a map times factors, one a channel, made of it", _gate_of(True)),
        ("spatial_gate", "a map times factors that differ by position", _gate_of(False)),
        ("product", "branches that are multiplied", _kind("product")),
        (
            "gated_channel_transform",
            "channels times a function of their lengths",
            _kind("gated_channel_transform"),
        ),
        ("attention", "products of activations, softmax", _kind("cross_covariance_attention")),
        ("channel_conv", "convolution along the channels", _kind("channel_conv")),
        ("channel_shuffle", "a fixed permutation of the channels", _kind("channel_shuffle")),
        ("channel_slice", "a run of channels taken out", _kind("channel_slice")),
        ("split", "channels cut into parts with layers of their own", _kind("split")),
        ("uneven_split", "the same with unequal parts and convolutions", _uneven_split),
        ("concat", "maps joined along channels", _concat),
        ("grouped_conv", "convolution in groups, depthwise ones excluded", _grouped),
        ("depthwise_conv", "one filter a channel", _depthwise),
        ("depthwise_kernel_over_3", "the same, larger than 3x3, but not global", _large_depthwise),
        ("global_depthwise", "one filter a channel over the whole map", _global_depthwise),
        ("mixed_kernels", "channels share out several kernel sizes", _mixed_kernels),
        (
            "translation_variant_conv",
            "filters that differ by position",
            _kind("translation_variant_conv"),
        ),
        ("layer_norm", "normalisation by values of the image itself", _kind("layer_norm")),
        ("channel_scale", "a learned factor for each channel", _kind("channel_scale")),
        ("global_average_pool", "mean over all positions", _whole_average),
        ("norm_aware_pool", "mean of vectors brought to one length", _kind("norm_aware_pool")),
        ("channel_pool", "mean and maximum over the channels", _kind("channel_pool")),
        ("pool", "maximum or mean of a moving window", _kind("pool")),
        ("resize", "bilinear interpolation", _kind("resize")),
        ("crop", "rows and columns cut off", _kind("crop")),
        ("fourier_features", "sines and cosines of the position", _kind("fourier_features")),
    )
}
"""Every feature by name."""

UNIVERSAL = frozenset({"conv", "linear", "batch_norm", "flatten", "activation"})
"""Kinds of primitives that every target runs, or that are told apart by a setting above."""
