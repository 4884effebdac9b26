"""What the modules of this package's own compute, against loops and formulas written out here."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_face.arch.combinators import Gate, Graph, Product, Sequence, Step
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
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    MaxFeatureMap,
    Pool,
    Resize,
    TranslationVariantConv,
)
from nas_face.nn.build import build, initialise_

MAP = Shape(6, 4, 5)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, *MAP, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def settle():
    """A function that gives every parameter of a module a value of its own."""

    def settled(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(5)
        for parameter in module.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        return module

    return settled


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3), 1, (1, 1)), ((3, 3), 2, (1, 1)), ((2, 3), 2, (0, 2)), ((4, 5), 1, (0, 0))],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_translation_variant_conv_position_by_position(
    kernel, stride, padding, layout, image, settle
):
    layer = TranslationVariantConv(kernel=kernel, stride=stride, padding=padding)
    module = settle(build(layer, MAP))
    height, width = layer.output_shape(MAP)[1:]
    assert tuple(module.weight.shape) == (6, kernel[0] * kernel[1], height, width)
    expected = torch.zeros(3, 6, height, width)
    taps = list(itertools.product(range(kernel[0]), range(kernel[1])))
    for y, x, (tap, (i, j)) in itertools.product(range(height), range(width), enumerate(taps)):
        row, column = y * stride + i - padding[0], x * stride + j - padding[1]
        if 0 <= row < MAP.height and 0 <= column < MAP.width:
            expected[:, :, y, x] += image[:, :, row, column] * module.weight[:, tap, y, x]
    torch.testing.assert_close(module(image.contiguous(memory_format=layout)), expected)


def test_translation_variant_conv_with_one_filter_is_a_depthwise_conv(image, settle):
    module = build(TranslationVariantConv(kernel=(5, 3), stride=2, padding=(2, 1)), MAP)
    filters = settle(nn.Conv2d(6, 6, (5, 3), groups=6, bias=False)).weight
    module.weight.data = filters.reshape(6, 15, 1, 1).expand_as(module.weight).contiguous()
    expected = functional.conv2d(image, filters, stride=2, padding=(2, 1), groups=6)
    torch.testing.assert_close(module(image), expected)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_channel_conv_reads_neighbouring_channels(kernel, settle):
    x = torch.randn(2, 5, 1, 1, generator=torch.Generator().manual_seed(3))
    module = settle(build(ChannelConv(kernel=kernel), Shape(5, 1, 1)))
    expected = torch.zeros_like(x)
    for channel, tap in itertools.product(range(5), range(kernel)):
        source = channel + tap - kernel // 2
        if 0 <= source < 5:
            expected[:, channel] += module.weight[tap] * x[:, source]
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 4, 5)])
def test_layer_norm_is_over_the_channels_of_each_position(shape, settle):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 3 + 1
    module = settle(build(LayerNorm(eps=1e-3), Shape(6, 1, 1)))
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    view = (6, *[1] * (x.ndim - 2))
    expected = (x - mean) / (variance + 1e-3).sqrt() * module.weight.view(view)
    torch.testing.assert_close(module(x), expected + module.bias.view(view))


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 4, 5)])
def test_channel_scale_starts_where_it_is_told(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    module = build(ChannelScale(start=0.5), Shape(6, 1, 1))
    assert torch.equal(module(x), x / 2)
    module.weight.data[4] = 3.0
    assert torch.equal(module(x)[:, 4], 3 * x[:, 4])


def test_batch_norm_of_fixed_scale_learns_its_shift_only(image):
    module = build(BatchNorm(fixed_scale=True, eps=1e-3, momentum=0.5), MAP)
    plain = build(BatchNorm(eps=1e-3, momentum=0.5), MAP)
    torch.testing.assert_close(module(image), plain(image))
    torch.testing.assert_close(module.running_mean, 0.5 * image.mean((0, 2, 3)))
    learned = [name for name, each in module.named_parameters() if each.requires_grad]
    assert learned == ["bias"]
    assert set(module.state_dict()) == set(plain.state_dict())
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0, weight_decay=0.1)
    module(image).square().sum().backward()
    optimiser.step()
    assert torch.equal(module.weight, torch.ones(6))
    assert not torch.equal(module.bias, torch.zeros(6))


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 4, 5)])
def test_max_feature_map_keeps_the_larger_half(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([x[:, :3], x[:, 3:]]).amax(0)
    assert torch.equal(build(MaxFeatureMap(), MAP)(x), expected)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_inverse_shuffle_undoes_the_shuffle(groups, image):
    shuffle, inverse = (
        build(ChannelShuffle(groups=groups, inverse=inverse), MAP) for inverse in (False, True)
    )
    assert torch.equal(inverse(shuffle(image)), image)
    assert torch.equal(shuffle(inverse(image)), image)


def test_inverse_shuffle_gathers_what_was_dealt_out():
    module = build(ChannelShuffle(groups=2, inverse=True), Shape(6, 1, 1))
    assert module(torch.arange(6.0).view(1, 6, 1, 1)).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_channel_slice_and_crop(image):
    assert torch.equal(build(ChannelSlice(start=1, stop=4), MAP)(image), image[:, 1:4])
    assert torch.equal(build(Crop(top=1, left=2), MAP)(image), image[:, :, 1:, 2:])


@pytest.mark.parametrize("function", ["max", "average"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"),
    [
        ((2, 2), 2, (0, 0), False),
        ((2, 2), 2, (0, 0), True),
        ((3, 3), 2, (1, 1), True),
        ((3, 2), 3, (1, 1), True),
        ((4, 3), 1, (2, 0), False),
    ],
)
def test_pool_ignores_what_lies_outside(function, kernel, stride, padding, ceil, image):
    layer = Pool(function=function, kernel=kernel, stride=stride, padding=padding, ceil=ceil)
    height, width = layer.output_shape(MAP)[1:]
    expected = torch.empty(3, 6, height, width)
    for y, x in itertools.product(range(height), range(width)):
        top, left = y * stride - padding[0], x * stride - padding[1]
        rows = slice(max(0, top), top + kernel[0])
        window = image[:, :, rows, max(0, left) : left + kernel[1]].flatten(2)
        expected[:, :, y, x] = window.amax(2) if function == "max" else window.mean(2)
    torch.testing.assert_close(build(layer, MAP)(image), expected)


def test_global_average_max_pool_puts_mean_and_maximum_side_by_side(image):
    y = build(GlobalAverageMaxPool(), MAP)(image)
    assert tuple(y.shape) == (3, 6, 1, 2)
    torch.testing.assert_close(y[:, :, 0, 0], image.mean((2, 3)))
    assert torch.equal(y[:, :, 0, 1], image.flatten(2).max(2).values)


def test_channel_pool_is_mean_and_maximum_of_each_position(image):
    y = build(ChannelPool(), MAP)(image)
    torch.testing.assert_close(y, torch.stack([image.mean(1), image.max(1).values], 1))


def test_cross_covariance_attention_head_by_head(settle):
    x = torch.randn(2, 12, 3, 2, generator=torch.Generator().manual_seed(4)) / 10
    module = build(CrossCovarianceAttention(heads=2), Shape(12, 3, 2))
    assert torch.equal(module.temperature, torch.ones(2))
    settle(module)
    expected = torch.empty(2, 4, 3, 2)
    for image, head in itertools.product(range(2), range(2)):
        query, key, value = (
            [x[image, part * 4 + head * 2 + channel] for channel in range(2)] for part in range(3)
        )
        for i in range(2):
            products = [
                module.temperature[head]
                * (query[i] * key[j]).sum()
                / query[i].norm()
                / key[j].norm()
                for j in range(2)
            ]
            exponents = [product.exp() for product in products]
            expected[image, head * 2 + i] = sum(
                exponent / sum(exponents) * row
                for exponent, row in zip(exponents, value, strict=True)
            )
    torch.testing.assert_close(module(x), expected)


def test_attention_of_an_empty_map_is_finite():
    module = build(CrossCovarianceAttention(heads=1), MAP)
    x = torch.zeros(1, *MAP, requires_grad=True)
    module(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gated_channel_transform_by_its_equations(image, settle):
    module = build(GatedChannelTransform(eps=1e-2), MAP)
    torch.testing.assert_close(module(image), image)  # it starts as the identity
    settle(module)
    for x, y in zip(image, module(image), strict=True):
        e = [module.alpha[c] * ((x[c] ** 2).sum() + 1e-2).sqrt() for c in range(6)]
        rms = (sum(each**2 for each in e) / 6 + 1e-2).sqrt()
        for c in range(6):
            factor = 1 + torch.tanh(module.gamma[c] * e[c] / rms + module.beta[c])
            torch.testing.assert_close(y[c], factor * x[c])


@pytest.mark.parametrize("size", [(7, 3), (2, 10), (4, 5)])
def test_resize_interpolates_between_pixel_centres(size, image):
    y = build(Resize(height=size[0], width=size[1]), MAP)(image)
    rows, columns = (_interpolation(*pair) for pair in zip(MAP[1:], size, strict=True))
    torch.testing.assert_close(y, torch.einsum("ncij,yi,xj->ncyx", image, rows, columns))


def _interpolation(before: int, after: int) -> torch.Tensor:
    """Matrix of linear interpolation along one side, `(after, before)`."""
    weights = torch.zeros(after, before)
    for position in range(after):
        source = min(max((position + 0.5) * before / after - 0.5, 0), before - 1)
        low = int(source)
        weights[position, low] += 1 - (source - low)
        weights[position, min(low + 1, before - 1)] += source - low
    return weights


def test_fourier_features_by_their_formula(image):
    y = build(FourierFeatures(width=4), MAP)(image)
    assert tuple(y.shape) == (3, 8, 4, 5)
    for i, row, column in itertools.product(range(2), range(4), range(5)):
        by_row = 2 * math.pi * (row + 1) / (4 + 1e-6) / 10000 ** (2 * i / 4)
        by_column = 2 * math.pi * (column + 1) / (5 + 1e-6) / 10000 ** (2 * i / 4)
        waves = [f(angle) for angle in (by_row, by_column) for f in (math.sin, math.cos)]
        found = y[:, [2 * i, 2 * i + 1, 4 + 2 * i, 5 + 2 * i], row, column]
        torch.testing.assert_close(found, torch.tensor([waves] * 3), atol=1e-6, rtol=1e-5)


def test_fourier_features_are_no_part_of_the_weights():
    assert not build(FourierFeatures(), MAP).state_dict()


def test_product(image):
    relu, sigmoid = Activation(function="relu"), Activation(function="sigmoid")
    y = build(Product(branches=(relu, Sequence(), sigmoid)), MAP)(image)
    torch.testing.assert_close(y, image.relu() * image * image.sigmoid())


@pytest.mark.parametrize(
    ("body", "factors"),
    [
        (GlobalAveragePool(), lambda x: x.mean((2, 3), keepdim=True)),
        (Sequence(layers=(ChannelPool(), ChannelSlice(start=1, stop=2))), lambda x: x.amax(1)),
        (Activation(function="sigmoid"), torch.sigmoid),
    ],
    ids=["channel", "position", "value"],
)
def test_gate_repeats_its_factors(body, factors, image):
    y = build(Gate(body=body), MAP)(image)
    expected = torch.stack([x * factors(x[None])[0] for x in image])
    torch.testing.assert_close(y, expected)


GRAPH = Graph(
    steps=(
        Step(layer=Conv(out_channels=6), sources=(0,)),
        Step(layer=Activation(function="relu"), sources=(0, 1, 1)),
        Step(layer=Conv(out_channels=2), sources=(2, 0), join="concat"),
        Step(layer=Sequence(), sources=(3, 1), join="concat"),
    ),
    names=("first", "second", "third", "last"),
)


def test_graph_joins_earlier_values(image):
    module = build(GRAPH, MAP)
    weights = module.state_dict()
    assert set(weights) == {"steps.first.weight", "steps.third.weight"}
    first = functional.conv2d(image, weights["steps.first.weight"])
    second = (image + 2 * first).relu()
    third = functional.conv2d(torch.cat([second, image], 1), weights["steps.third.weight"])
    torch.testing.assert_close(module(image), torch.cat([third, first], 1))


def test_steps_without_names_are_numbered():
    graph = Graph(steps=GRAPH.steps)
    assert set(build(graph, MAP).state_dict()) == {"steps.0.weight", "steps.2.weight"}


def test_every_position_starts_with_the_same_he_normal_filter():
    torch.manual_seed(0)
    module = build(TranslationVariantConv(kernel=(3, 5), padding=(1, 2)), Shape(4096, 2, 3))
    initialise_(module)
    filters = module.weight[:, :, :1, :1]
    assert torch.equal(module.weight, filters.expand_as(module.weight))
    expected = (2 / (1 + 0.25**2) / 15) ** 0.5
    assert filters.std().item() == pytest.approx(expected, rel=0.02)


def test_channel_conv_starts_he_normal():
    torch.manual_seed(0)
    module = build(ChannelConv(kernel=5001), Shape(2, 1, 1))
    initialise_(module)
    expected = (2 / (1 + 0.25**2) / 5001) ** 0.5
    assert module.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "layer",
    [LayerNorm(), ChannelScale(start=0.1), GatedChannelTransform(), BatchNorm(fixed_scale=True)],
)
def test_scales_and_shifts_start_as_their_layer_states(layer):
    module = build(layer, MAP)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    initialise_(module)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
