"""Layer tree to torch modules: one builder for each primitive, one module for each combinator.

Keys of the state dict are the paths in the tree, such as
`stages.0.1.branches.0.expand.conv.weight`.
"""

import contextlib
from collections.abc import Iterator
from typing import assert_never

from torch import nn

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
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    Function,
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
from nas_face.errors import BuildError
from nas_face.nn.combinators import (
    ConcatModule,
    GateModule,
    GraphModule,
    ProductModule,
    SplitModule,
    SumModule,
)
from nas_face.nn.modules import (
    FIRST_SLOPE,
    AnyRankBatchNorm,
    ChannelConvModule,
    ChannelPoolModule,
    ChannelScaleModule,
    ChannelSliceModule,
    CropModule,
    CrossCovarianceAttentionModule,
    FixedScaleBatchNorm,
    FourierFeaturesModule,
    GatedChannelTransformModule,
    GlobalAverageMaxPoolModule,
    GlobalAveragePoolModule,
    LayerNormModule,
    MaxFeatureMapModule,
    NormAwarePoolModule,
    ResizeModule,
    TranslationVariantConvModule,
)

FUNCTIONS: dict[Function, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
}


def build(layer: Layer, x: Shape) -> nn.Module:
    """Torch module of a layer tree, with fresh weights from torch's current generator.

    Args:
        layer: root of the tree.
        x: shape of its input.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
        BuildError: torch cannot take a name as the key of a layer.
    """
    layer.measure(x)  # before torch refuses, in words of its own
    module, _ = _build(layer, x)
    return module


def _build(layer: Layer, x: Shape) -> tuple[nn.Module, Shape]:
    """Module and output shape."""
    module: nn.Module
    match layer:
        case Sequence():
            module = nn.Sequential()
            shape = x
            for name, child in layer.named_layers():
                built, shape = _build(child, shape)
                with _usable_names(layer.names):
                    module.add_module(name, built)
            return module, shape
        case Graph():
            return _graph(layer, x)
        case Sum():
            module = SumModule([build(branch, x) for branch in layer.branches])
        case Product():
            module = ProductModule([build(branch, x) for branch in layer.branches])
        case Concat():
            module = ConcatModule([build(branch, x) for branch in layer.branches])
        case Split():
            parts = [Shape(size, x.height, x.width) for size in layer.sizes]
            branches = [build(*pair) for pair in zip(layer.branches, parts, strict=True)]
            module = SplitModule(layer.sizes, branches)
        case Gate():
            module = GateModule(build(layer.body, x))
        case _:
            module = _primitive(layer, x)
    return module, layer.output_shape(x)


def _graph(layer: Graph, x: Shape) -> tuple[nn.Module, Shape]:
    shapes = [x]
    steps: dict[str, nn.Module] = {}
    for name, step in layer.named_steps():
        joined = join_shapes([shapes[source] for source in step.sources], step.join)
        steps[name], shape = _build(step.layer, joined)
        shapes.append(shape)
    with _usable_names(layer.names):
        graph = GraphModule(steps, [(step.sources, step.join) for step in layer.steps])
    return graph, shapes[-1]


@contextlib.contextmanager
def _usable_names(names: tuple[str, ...]) -> Iterator[None]:
    """Torch's own refusal of a key, in words of ours."""
    try:
        yield
    except KeyError as failure:
        raise BuildError(
            "names of layers must be words without dots that mean nothing to torch, got "
            f"{', '.join(map(repr, names))} ({failure.args[0]})"
        ) from failure


def _primitive(layer: Primitive, x: Shape) -> nn.Module:
    match layer:
        case Conv() | TranslationVariantConv() | ChannelConv() | Linear():
            return _affine(layer, x)
        case BatchNorm() | LayerNorm() | ChannelScale() | PReLU() | GatedChannelTransform():
            return _channelwise(layer, x)
        case Activation():
            return FUNCTIONS[layer.function]()
        case MaxFeatureMap():
            return MaxFeatureMapModule()
        case ChannelShuffle():
            # Dealing (g, n) out as (n, g) is undone by dealing n groups out.
            return nn.ChannelShuffle(x.channels // layer.groups if layer.inverse else layer.groups)
        case ChannelSlice():
            return ChannelSliceModule(layer.start, layer.stop)
        case CrossCovarianceAttention():
            return CrossCovarianceAttentionModule(layer.heads)
        case Flatten():
            return nn.Flatten()
        case Crop():
            return CropModule(layer.top, layer.left)
        case Resize():
            return ResizeModule(layer.height, layer.width)
        case FourierFeatures():
            return FourierFeaturesModule(layer.width)
        case _:
            return _pool(layer)


def _affine(layer: Conv | TranslationVariantConv | ChannelConv | Linear, x: Shape) -> nn.Module:
    match layer:
        case Conv():
            return nn.Conv2d(
                x.channels,
                layer.out_channels,
                layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case TranslationVariantConv():
            y = layer.output_shape(x)
            return TranslationVariantConvModule(y, layer.kernel, layer.stride, layer.padding)
        case ChannelConv():
            return ChannelConvModule(layer.kernel)
        case Linear():
            return nn.Linear(x.channels, layer.out_features, bias=layer.bias)


def _channelwise(
    layer: BatchNorm | LayerNorm | ChannelScale | PReLU | GatedChannelTransform, x: Shape
) -> nn.Module:
    match layer:
        case BatchNorm():
            norm = FixedScaleBatchNorm if layer.fixed_scale else AnyRankBatchNorm
            return norm(x.channels, eps=layer.eps, momentum=layer.momentum)
        case LayerNorm():
            return LayerNormModule(x.channels, layer.eps)
        case ChannelScale():
            return ChannelScaleModule(x.channels, layer.start)
        case PReLU():
            return nn.PReLU(1 if layer.shared else x.channels)
        case GatedChannelTransform():
            return GatedChannelTransformModule(x.channels, layer.eps)


def _pool(
    layer: Pool | GlobalAveragePool | GlobalAverageMaxPool | NormAwarePool | ChannelPool,
) -> nn.Module:
    match layer:
        case Pool(function="max"):
            return nn.MaxPool2d(
                layer.kernel, layer.stride, padding=layer.padding, ceil_mode=layer.ceil
            )
        case Pool():
            return nn.AvgPool2d(
                layer.kernel,
                layer.stride,
                padding=layer.padding,
                ceil_mode=layer.ceil,
                count_include_pad=False,
            )
        case GlobalAveragePool():
            return GlobalAveragePoolModule()
        case GlobalAverageMaxPool():
            return GlobalAverageMaxPoolModule()
        case NormAwarePool():
            return NormAwarePoolModule(layer.eps)
        case ChannelPool():
            return ChannelPoolModule()
        case _:
            assert_never(layer)


def initialise_(module: nn.Module) -> None:
    """Draw fresh weights in place, from torch's current generator.

    He-normal by fan-in: a depthwise filter has nine inputs whatever the width, whereas fan-out
    would start it near zero and make the first steps of a scale-free layer far too large. A
    depthwise convolution whose filters differ by position starts with the same one everywhere.
    What only scales or shifts a channel keeps the start that its layer states.

    Source: He et al., arXiv 1502.01852, equation 10, with the starting slope 0.25 of PReLU.
    """
    for each in module.modules():
        if isinstance(each, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(each.weight, a=FIRST_SLOPE, mode="fan_in")
            if each.bias is not None:
                nn.init.zeros_(each.bias)
        elif isinstance(each, TranslationVariantConvModule | ChannelConvModule):
            each.reset_parameters()
