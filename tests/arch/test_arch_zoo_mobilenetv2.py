"""MobileNetV2 of TVConv: what position-dependent filters change, and that they are everywhere."""

import pytest

from nas_face.arch.cost import Shape
from nas_face.arch.zoo import network

WIDTHS = ("0_1", "0_2", "0_5", "1_0")


def depthwise_maps(width: str) -> list[Shape]:
    """Shape behind the depthwise convolution of every block."""
    spec = network(f"mobilenetv2_tvconv_{width}").spec
    x = spec.stem[0].lower(spec.input).output_shape(spec.input)
    maps = []
    for block in (block for stage in spec.stages for block in stage):
        y = block.lower(x).output_shape(x)
        maps.append(y._replace(channels=block.hidden_channels))
        x = y
    return maps


@pytest.mark.parametrize("width", WIDTHS)
def test_compute_stays_and_storage_grows_with_the_map(width):
    plain = network(f"mobilenetv2_{width}").spec.cost()
    variant = network(f"mobilenetv2_tvconv_{width}").spec.cost()
    more = sum(9 * each.elements - 9 * each.channels for each in depthwise_maps(width))
    assert variant.madds == plain.madds
    assert variant.params - plain.params == more
    assert variant.folded_params - plain.folded_params == more


def test_every_depthwise_convolution_is_translation_variant():
    """While it trains, the authors' network of width 0.1 has 2.88 M parameters and 650 M
    multiply-adds: each map's filters come from three 3x3 convolutions, 4 to 16 to 16 to 9 times
    the width, on a learned map of 4 channels, with layer normalisation of whole maps."""
    cost = network("mobilenetv2_0_1").spec.cost()
    params, madds = cost.params, cost.madds
    for channels, height, width in depthwise_maps("0_1"):
        area = height * width
        filters = 9 * (4 * 16 + 16 * 16 + 16 * 9 * channels)
        params += 4 * area + 2 * (2 * 16 * area) + filters - 9 * channels
        madds += (filters - 9 * channels) * area
    assert f"{params / 1e6:.2f} M, {madds / 1e6:.0f} M" == "2.88 M, 650 M"
