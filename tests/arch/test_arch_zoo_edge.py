"""EdgeFace against its paper: printed figures, sizes of maps, where attention and low rank are."""

from decimal import ROUND_HALF_UP, Decimal

import pytest

from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.zoo import network

# As printed in the paper, and twice the multiply-adds as torch counts them in the authors' code.
# The paper's own compute is a little higher, 94.72 for the smallest.
PRINTED = {
    "edgeface_xxs": ("1.24", "94.6"),
    "edgeface_xs_06": ("1.77", "153.8"),
    "edgeface_s_05": ("3.65", "305.8"),
    "edgeface_base": ("18.23", "1398.3"),
}
DEPTHS = {
    "edgeface_xxs": (2, 2, 6, 2),
    "edgeface_xs_06": (3, 3, 9, 3),
    "edgeface_s_05": (3, 3, 9, 3),
    "edgeface_base": (3, 3, 9, 3),
}


def millions(number: int, printed: str) -> str:
    return str((Decimal(number) / 10**6).quantize(Decimal(printed), ROUND_HALF_UP))


@pytest.mark.parametrize("name", PRINTED)
def test_printed_figures(name):
    params, flops = PRINTED[name]
    cost = network(name).spec.cost()
    assert millions(cost.params, params) == params
    assert millions(cost.flops, flops) == flops


@pytest.mark.parametrize("name", DEPTHS)
def test_maps_and_blocks_of_the_four_stages(name):
    """28, 14, 7 and 3 pixels a side: the last halving drops a row and a column."""
    spec = network(name).spec
    x = spec.stem[0].lower(spec.input).output_shape(spec.input)
    blocks: dict[int, list[object]] = {}
    for block in (block for stage in spec.stages for block in stage):
        x = block.lower(x).output_shape(x)
        assert x.height == x.width
        blocks.setdefault(x.height, []).append(block)
    assert list(blocks) == [28, 14, 7, 3]
    assert tuple(map(len, blocks.values())) == DEPTHS[name]
    kinds = [[type(block) for block in each] for each in blocks.values()]
    assert kinds[0] == [ConvEncoder] * len(kinds[0])
    for stage in kinds[1:]:
        assert stage == [ConvEncoder] * (len(stage) - 1) + [SplitAttention]


def test_low_rank_reaches_every_linear_layer_and_nothing_else():
    """The authors' rule replaces the embedding as well; rank = 0.6 x the smaller width."""
    full, low = (network(name).spec for name in ("edgeface_xs", "edgeface_xs_06"))

    def saved(channels: int, out_channels: int) -> int:
        rank = max(2, int(0.6 * min(channels, out_channels)))
        return channels * out_channels - rank * (channels + out_channels)

    expected = saved(192, 512)
    for width, depth in zip((32, 64, 100, 192), (3, 3, 9, 3), strict=True):
        expected += depth * 2 * saved(width, 4 * width)
        if width != 32:
            expected += saved(width, 3 * width) + saved(width, width)
    assert full.cost().params - low.cost().params == expected
