"""GhostFaceNets: what their authors print beside the counts."""

import pytest
import torch
from torch import nn

from nas_face.arch.zoo import network
from nas_face.nn import build


def statistics(spec) -> int:
    """Running means and variances, which the authors count as parameters."""
    with torch.device("meta"):
        module = build(spec.lower(), spec.input)
    norms = [
        each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]
    return sum(2 * each.num_features for each in norms)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("ghostfacenet_v1_1", 4_088_300),
        ("ghostfacenet_v1_2", 4_066_388),
        ("ghostfacenet_v2_1", 6_880_288),
    ],
)
def test_totals_of_the_authors_include_the_statistics(name, total):
    spec = network(name).spec
    assert spec.cost().params + statistics(spec) == total


def test_the_last_one_agrees_with_its_printed_size():
    entry = network("ghostfacenet_v2_2")
    total = entry.spec.cost().params + statistics(entry.spec)
    assert f"{total / 1e6:.2f} M" == entry.published_params.partition(" (")[0]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ghostfacenet_v1_1", 215.7),
        ("ghostfacenet_v1_2", 60.3),
        ("ghostfacenet_v2_1", 272.105108),
        ("ghostfacenet_v2_2", 76.5),
    ],
)
def test_published_flops_are_multiply_adds_and_two_hundredths_more(name, millions):
    assert 1.015 < millions * 1e6 / network(name).spec.cost().madds < 1.02


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 7), (2, 4)])
@pytest.mark.parametrize("version", [1, 2])
def test_the_stride_of_the_stem_names_the_network(version, stem_stride, side):
    spec = network(f"ghostfacenet_v{version}_{stem_stride}").spec
    stem, stages, _ = spec.lower().layers
    last = stages.output_shape(stem.output_shape(spec.input))
    assert last == (208, side, side)  # 160 x 1.3


def test_decoupled_attention_is_in_all_but_the_first_two_blocks_of_version_2():
    first, second = (network(f"ghostfacenet_v{version}_1").spec for version in (1, 2))
    has = [block.decoupled_attention for stage in second.stages for block in stage]
    assert has == [False] * 2 + [True] * 14
    assert not any(block.decoupled_attention for stage in first.stages for block in stage)
