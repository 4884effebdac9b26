"""MixFaceNets: what their paper says beside the counts."""

from dataclasses import replace

import pytest

from nas_face.arch.zoo import network

SIZES = ("xs", "s", "m")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", ["", "shuffle"])
def test_parameters_are_the_published_ones(size, prefix):
    entry = network(f"{prefix}mixfacenet_{size}")
    assert f"{entry.spec.cost().params / 1e6:.2f} M" == entry.published_params


@pytest.mark.parametrize("size", SIZES)
def test_shuffles_are_free_and_all_that_differs(size):
    plain, shuffled = (network(f"{prefix}mixfacenet_{size}").spec for prefix in ("", "shuffle"))
    assert plain.arch_id != shuffled.arch_id
    costs = [
        (cost.madds, cost.params, cost.folded_params) for cost in (plain.cost(), shuffled.cost())
    ]
    assert costs[0] == costs[1]
    unshuffled = tuple(
        tuple(replace(unit, out_mixing="none") for unit in stage) for stage in shuffled.stages
    )
    assert replace(shuffled, stages=unshuffled) == plain


def test_the_tail_of_the_shipped_configuration_is_not_the_published_one():
    """With 512 channels in front of the embedding, S would have 2.68 M parameters, not 3.07 M."""
    spec = network("mixfacenet_s").spec
    narrow = replace(spec, head=replace(spec.head, tail_channels=512))
    assert f"{narrow.cost().params / 1e6:.2f}" == "2.68"


@pytest.mark.parametrize(
    ("size", "repeats"), [("xs", (2, 4, 3, 3, 3)), ("s", (2, 4, 3, 3, 3)), ("m", (2, 4, 4, 4, 4))]
)
def test_maps_shrink_as_in_the_table(size, repeats):
    """The last of the paper's four stages halves the map at its middle and is two stages here."""
    spec = network(f"mixfacenet_{size}").spec
    assert tuple(map(len, spec.stages)) == repeats
    stem, stages, _ = spec.lower().layers
    shape, sides = stem.output_shape(spec.input), []
    for stage in stages.layers:
        shape = stage.output_shape(shape)
        sides.append((shape.height, shape.width))
    assert sides == [(56, 56), (28, 28), (14, 14), (14, 14), (7, 7)]


def test_widths_of_xs_are_half_of_those_of_s():
    """Rounded to multiples of 8, and up where a tenth would be lost."""
    half, whole = (
        [stage[-1].out_channels for stage in network(f"mixfacenet_{size}").spec.stages]
        for size in ("xs", "s")
    )
    assert whole == [24, 40, 80, 120, 200]
    assert half == [16, 24, 40, 64, 104]
