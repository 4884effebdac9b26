"""What built modules compute, against plain tensor code written out here."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_face.arch.combinators import Concat, Gate, Graph, Sequence, Split, Step, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
    PReLU,
)
from nas_face.arch.zoo import network
from nas_face.errors import BuildError, ShapeError
from nas_face.nn.build import build, initialise_

MAP = Shape(6, 4, 5)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, *MAP, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("silu", lambda x: x / (1 + (-x).exp())),
        ("hard_swish", lambda x: x * (x + 3).clamp(0, 6) / 6),
        ("gelu", lambda x: x * torch.distributions.Normal(0, 1).cdf(x)),
        ("sigmoid", lambda x: 1 / (1 + (-x).exp())),
        ("hard_sigmoid", lambda x: (x + 3).clamp(0, 6) / 6),
    ],
)
def test_activations(function, expected, image):
    x = 4 * image
    torch.testing.assert_close(build(Activation(function=function), MAP)(x), expected(x))


@pytest.mark.parametrize("shared", [False, True])
def test_prelu_has_a_slope_for_each_channel_or_one(shared, image):
    module = build(PReLU(shared=shared), MAP)
    slopes = torch.arange(1.0, 1 + module.weight.numel()) / 10
    module.weight.data.copy_(slopes)
    slope = slopes.expand(MAP.channels).view(1, -1, 1, 1)
    expected = torch.where(image > 0, image, image * slope)
    torch.testing.assert_close(module(image), expected)


def test_conv_has_the_stated_window_stride_groups_and_bias(image):
    layer = Conv(out_channels=4, kernel=(3, 2), stride=2, padding=(1, 0), groups=2, bias=True)
    module = build(layer, MAP)
    expected = functional.conv2d(
        image, module.weight, module.bias, stride=2, padding=(1, 0), groups=2
    )
    assert torch.equal(module(image), expected)
    assert tuple(module.weight.shape) == (4, 3, 3, 2)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3, 2)])
def test_batch_norm_takes_vectors_and_maps(shape):
    module = build(BatchNorm(eps=1e-3, momentum=0.25), Shape(6, 1, 1))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 3 + 1
    axes = [axis for axis in range(x.ndim) if axis != 1]
    view = [1, -1] + [1] * (x.ndim - 2)
    mean, variance = x.mean(axes), x.var(axes, unbiased=False)
    expected = (x - mean.view(view)) / (variance.view(view) + 1e-3).sqrt()
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module.running_mean, 0.25 * mean)


def test_channel_shuffle_deals_the_groups_out_in_turn():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    module = build(ChannelShuffle(groups=2), Shape(6, 1, 1))
    assert module(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    three = build(ChannelShuffle(groups=3), Shape(6, 1, 1))
    assert three(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_global_average_pool(image):
    module = build(GlobalAveragePool(), MAP)
    torch.testing.assert_close(module(image), image.mean((2, 3), keepdim=True))


def test_norm_aware_pool_counts_positions_by_direction(image):
    vectors = image.flatten(2)  # (N, C, P)
    lengths = vectors.norm(dim=1)  # (N, P)
    expected = torch.stack(
        [
            torch.stack([v[:, p] * n.mean() / n[p] for p in range(len(n))]).mean(0)
            for v, n in zip(vectors, lengths, strict=True)
        ]
    )
    module = build(NormAwarePool(), MAP)
    torch.testing.assert_close(module(image)[..., 0, 0], expected)


def test_norm_aware_pool_of_an_empty_map_is_zero():
    module = build(NormAwarePool(), MAP)
    x = torch.zeros(1, *MAP, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(1, 6, 1, 1))
    assert torch.isfinite(x.grad).all()


def test_flatten_then_linear(image):
    module = build(Sequence(layers=(Flatten(), Linear(out_features=3, bias=True))), MAP)
    linear = module[1]
    expected = image.reshape(3, -1) @ linear.weight.T + linear.bias
    torch.testing.assert_close(module(image), expected)


def test_combinators(image):
    relu, sigmoid = Activation(function="relu"), Activation(function="sigmoid")
    parts = {
        "sum": Sum(branches=(relu, Sequence(), sigmoid)),
        "concat": Concat(branches=(relu, Sequence(), sigmoid)),
        "split": Split(sizes=(1, 3, 2), branches=(relu, Sequence(), sigmoid)),
        "gate": Gate(body=Sequence(layers=(GlobalAveragePool(), sigmoid))),
    }
    outputs = {name: build(layer, MAP)(image) for name, layer in parts.items()}
    r, s = image.relu(), image.sigmoid()
    expected = {
        "sum": r + image + s,
        "concat": torch.cat([r, image, s], 1),
        "split": torch.cat([r[:, :1], image[:, 1:4], s[:, 4:]], 1),
        "gate": image * image.mean((2, 3), keepdim=True).sigmoid(),
    }
    torch.testing.assert_close(outputs, expected)


def test_the_input_is_left_alone(image):
    before = image.clone()
    build(Sum(branches=(Activation(function="relu6"), Sequence())), MAP)(image)
    assert torch.equal(image, before)


def test_keys_are_paths_in_the_tree():
    spec = network("mobilefacenet_128").spec
    with torch.device("meta"):
        keys = set(build(spec.lower(), spec.input).state_dict())
    assert {
        "stem.0.conv.weight",
        "stages.0.0.expand.conv.weight",
        "stages.0.1.branches.0.expand.conv.weight",
        "head.global.weight",
        "head.embedding.weight",
        "head.embedding_norm.running_var",
    } <= keys


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Sequence(layers=(Conv(out_channels=8, groups=4),)), "groups=4"),
        (Linear(out_features=2), "flat vector"),
        (Split(sizes=(0, 6), branches=(Conv(out_channels=1), Sequence())), "must be positive"),
        (Sum(branches=(Sequence(), Conv(out_channels=2, groups=0))), "groups=0"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_tree_that_does_not_fit_is_refused(layer, message):
    with pytest.raises(ShapeError, match=message):
        build(layer, MAP)


@pytest.mark.parametrize("name", ["a.b", "", "forward", "pop"])
def test_a_name_that_torch_cannot_take_is_refused(name):
    with pytest.raises(BuildError, match=f"must be words without dots .* got '{name}'"):
        build(Sequence(layers=(Sequence(),), names=(name,)), MAP)
    with pytest.raises(BuildError, match=f"must be words without dots .* got '{name}'"):
        build(Graph(steps=(Step(layer=Sequence(), sources=(0,)),), names=(name,)), MAP)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Conv2d(64, 256, 3), 576),
        (nn.Conv2d(4096, 4096, 3, groups=4096), 9),
        (nn.Linear(200, 500), 200),
    ],
)
def test_initial_weights_are_he_normal_by_fan_in(layer, fan_in):
    torch.manual_seed(0)
    initialise_(layer)
    expected = (2 / (1 + 0.25**2) / fan_in) ** 0.5
    assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=expected * 0.02)
    assert not layer.bias.any()
