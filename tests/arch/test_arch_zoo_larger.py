"""Residual networks, LightCNN and SqueezeNet: the layers that give them their names."""

import pytest
import torch
from torch import nn

from nas_face.arch.zoo import network
from nas_face.nn import build


def modules_of(name: str, kind: type[nn.Module]) -> list[nn.Module]:
    spec = network(name).spec
    with torch.device("meta"):
        module = build(spec.lower(), spec.input)
    return [each for each in module.modules() if isinstance(each, kind)]


def sides(name: str) -> list[int]:
    """Of the square maps behind stem and stages."""
    spec = network(name).spec
    stem, stages, _ = spec.lower().layers
    shapes = [stem.output_shape(spec.input)]
    for stage in stages.layers:
        shapes.append(stage.output_shape(shapes[-1]))
    assert all(shape.height == shape.width for shape in shapes)
    return [shape.height for shape in shapes]


@pytest.mark.parametrize("layers", [18, 50, 100])
def test_iresnets_are_as_deep_as_they_are_called(layers):
    """3x3 convolutions and the linear layer; shortcuts do not count."""
    convs = modules_of(f"iresnet_{layers}", nn.Conv2d)
    assert len([each for each in convs if each.kernel_size == (3, 3)]) + 1 == layers
    assert sides(f"iresnet_{layers}") == [112, 56, 28, 14, 7]


@pytest.mark.parametrize(("name", "layers"), [("9", 9), ("29", 29), ("29v2", 29)])
def test_lightcnns_are_as_deep_as_they_are_called(name, layers):
    assert len(modules_of(f"lightcnn_{name}", nn.Conv2d)) == layers
    assert sides(f"lightcnn_{name}") == [64, 32, 16, 8]


def test_lightcnn_29v2_has_half_of_the_embedding_layer():
    whole, half = (network(f"lightcnn_{name}").spec.cost().params for name in ("29", "29v2"))
    assert whole - half == 256 * (8 * 8 * 128 + 1)


def test_squeezefacenet_folded_is_squeezenet_with_its_biases():
    """1,235,496 parameters has SqueezeNet 1.1, as its authors' code and torchvision's build it."""
    cost = network("squeezefacenet").spec.cost()
    assert cost.folded_params == 1_235_496
    assert f"{cost.params / 1e6:.2f} M" == network("squeezefacenet").published_params
    assert sides("squeezefacenet") == [111, 56, 28, 14]
