"""Random layer trees of every primitive and combinator: pruned equals masked."""

import dataclasses

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pruning_checks import (
    assert_equals_masked,
    counted_madds,
    counted_params,
    random_choice,
    tree_model,
    without,
)

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
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
from nas_face.compress.pruning.channels import couple

INPUT = Shape(3, 6, 5)
WIDTHS = st.sampled_from([2, 4, 6, 8, 12])
LOUD = Activation(function="sigmoid")


def dense(width: int, *, kernel: int = 1) -> Conv:
    return Conv(
        out_channels=width, kernel=(kernel, kernel), padding=(kernel // 2, kernel // 2), bias=True
    )


def seq(*layers: Layer) -> Sequence:
    return Sequence(layers=layers)


def keeping_shape(x: Shape) -> st.SearchStrategy[Layer]:
    """Single layers that give what they read; those that protect channels are rare."""
    groups = st.sampled_from([each for each in range(1, x.channels + 1) if x.channels % each == 0])
    same = {"kernel": st.just((3, 3)), "padding": st.just((1, 1))}
    return st.one_of(
        st.builds(
            Conv,
            out_channels=st.just(x.channels),
            groups=groups,
            bias=st.booleans(),
            **same,
        ),
        st.just(TranslationVariantConv()),
        st.builds(BatchNorm, fixed_scale=st.booleans()),
        st.just(ChannelScale()),
        st.builds(PReLU, shared=st.booleans()),
        st.builds(
            Activation, function=st.sampled_from(["relu", "gelu", "hard_swish", "silu", "sigmoid"])
        ),
        st.builds(ChannelShuffle, groups=groups, inverse=st.booleans()),
        st.builds(Pool, function=st.sampled_from(["max", "average"]), stride=st.just(1), **same),
        st.sampled_from([LayerNorm(), GatedChannelTransform(), Sequence()]),
    )


def bodies(x: Shape) -> st.SearchStrategy[Layer]:
    """Bodies of gates."""
    width = x.channels
    return st.sampled_from(
        [
            seq(GlobalAveragePool(), dense(4), PReLU(), dense(width), LOUD),
            seq(GlobalAverageMaxPool(), dense(4), dense(width), GlobalAveragePool(), LOUD),
            seq(GlobalAveragePool(), ChannelConv(kernel=1), LOUD),
            seq(GlobalAveragePool(), ChannelConv(kernel=3), LOUD),
            seq(ChannelPool(), dense(1, kernel=3), LOUD),
            seq(dense(5), dense(1)),
            seq(GlobalAveragePool(), dense(1)),
            seq(dense(width, kernel=3), LOUD),
            Sequence(),
        ]
    )


@st.composite
def branches(draw: st.DrawFn, x: Shape, width: int) -> Layer:
    """A few layers that keep the map and give `width` channels."""
    layers = [draw(keeping_shape(x)) for _ in range(draw(st.integers(0, 1)))]
    if width != x.channels or draw(st.booleans()):
        layers.append(dense(width))
    y = x._replace(channels=width)
    return seq(*layers, *(draw(keeping_shape(y)) for _ in range(draw(st.integers(0, 1)))))


@st.composite
def graphs(draw: st.DrawFn, x: Shape) -> Layer:
    """Steps that read any earlier values; the last reads all that nothing has read."""
    shapes = [x]
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        joined, step = draw(reading(shapes, set()))
        layer = draw(branches(joined, draw(st.sampled_from([joined.channels, x.channels]))))
        steps.append(dataclasses.replace(step, layer=layer))
        shapes.append(layer.output_shape(joined))
    read = {source for step in steps for source in step.sources}
    joined, step = draw(reading(shapes, set(range(1, len(shapes))) - read))
    return Graph(steps=(*steps, dataclasses.replace(step, layer=dense(draw(WIDTHS)))))


@st.composite
def reading(draw: st.DrawFn, shapes: list[Shape], at_least: set[int]) -> tuple[Shape, Step]:
    """A step without a layer that reads some of the values, and what its layer will see."""
    some = st.sets(st.integers(0, len(shapes) - 1), min_size=1, max_size=2)
    sources = tuple(sorted(draw(some) | at_least))
    widths = [shapes[source].channels for source in sources]
    if len(set(widths)) == 1 and draw(st.booleans()):
        return shapes[sources[0]], Step(layer=Sequence(), sources=sources)
    joined = shapes[0]._replace(channels=sum(widths))
    return joined, Step(layer=Sequence(), sources=sources, join="concat")


@st.composite
def pieces(draw: st.DrawFn, x: Shape) -> Layer:
    """Anything that takes `x`."""
    kind = draw(
        st.sampled_from(
            "layer sum product concat split gate graph attention slice maximum map fourier".split()
        )
    )
    width = draw(st.one_of(st.just(x.channels), WIDTHS))
    count = draw(st.integers(1, 3))
    first = draw(st.integers(1, x.channels))
    match kind:
        case "sum":
            return Sum(branches=tuple(draw(branches(x, width)) for _ in range(count)))
        case "product":
            return Product(branches=tuple(draw(branches(x, width)) for _ in range(count)))
        case "concat":
            return Concat(branches=tuple(draw(branches(x, draw(WIDTHS))) for _ in range(count)))
        case "split":
            sizes = tuple(size for size in (first, x.channels - first) if size)
            parts = [x._replace(channels=size) for size in sizes]
            return Split(
                sizes=sizes, branches=tuple(draw(branches(part, draw(WIDTHS))) for part in parts)
            )
        case "gate":
            return Gate(body=draw(bodies(x)))
        case "graph":
            return draw(graphs(x))
        case "attention":
            heads = draw(st.sampled_from([1, 2, 4]))
            return seq(dense(12 * heads), CrossCovarianceAttention(heads=heads))
        case "slice":
            return ChannelSlice(start=draw(st.integers(0, first - 1)), stop=first)
        case "maximum":
            return seq(dense(2 * width), MaxFeatureMap())
        case "map":
            return draw(
                st.sampled_from(
                    [
                        Crop(top=min(1, x.height - 1), left=0),
                        Resize(height=4, width=7),
                        Pool(function="max", kernel=(2, 2), stride=2, ceil=True),
                        Pool(function="average", kernel=(3, 3), stride=2, padding=(1, 1)),
                        TranslationVariantConv(stride=2),
                    ]
                )
            )
        case "fourier":
            features = FourierFeatures(width=2)
            added = Sum(branches=(Sequence(), seq(features, dense(x.channels))))
            return draw(st.sampled_from([added, Concat(branches=(Sequence(), features))]))
        case _:
            return draw(keeping_shape(x))


@st.composite
def networks(draw: st.DrawFn) -> Sequence:
    """A dense layer, up to five pieces, and something that ends in an embedding of four."""
    layers: list[Layer] = [dense(draw(WIDTHS), kernel=3)]
    for _ in range(draw(st.integers(1, 5))):
        x = seq(*layers).output_shape(INPUT)
        layers.append(draw(pieces(x)))
    end = draw(st.sampled_from([NormAwarePool(), GlobalAveragePool(), Sequence()]))
    return seq(*layers, end, Flatten(), Linear(out_features=4, bias=True))


@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(network=networks(), seed=st.integers(0, 2**16))
def test_any_tree_without_any_choice_of_classes(network: Sequence, seed: int) -> None:
    coupling = couple(network, INPUT)
    removed = random_choice(coupling, seed=seed)
    assume(removed)
    model = tree_model(network, INPUT, seed=seed)

    pruned = without(model, removed)

    after = pruned.description
    assert after.embedding_size == 4
    assert after.cost.madds == counted_madds(pruned)
    assert after.cost.params == counted_params(pruned)
    assert_equals_masked(model, pruned, removed, n_images=2)
