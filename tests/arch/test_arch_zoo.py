"""Published networks against published numbers, torch's counters and thop."""

import collections
import contextlib
import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ArchError
from nas_face.nn.build import AnyRankBatchNorm, build

# Rebuilt from the authors' own code and counted there: parameters, parameters with batch
# normalisation folded, multiply-adds at 112x112.
MEASURED = {
    "mobilefacenet_128": (1_003_136, 993_344, 220_965_376),
    "mobilefacenet_512": (1_200_512, 1_190_336, 221_161_984),
    "mobilefacenet_m": (937_344, 927_680, 220_899_840),
    "mobilefacenet_relu": (995_584, 985_792, 220_965_376),
    "mobilefacenet_112x96": (999_552, 989_760, 189_408_256),
    "insightface_y2": (1_996_032, 1_976_832, 468_825_088),
    "insightface_mbf": (2_059_520, 2_047_616, 437_520_896),
    "seesaw_share": (1_370_176, 1_360_000, 145_762_816),
    "seesaw_shuffle": (1_370_176, 1_360_000, 145_762_816),
    "vargfacenet": (5_198_292, 5_177_420, 512_593_440),
    "shufflefacenet_0_5x": (525_510, 520_382, 33_537_312),
    "shufflefacenet_1x": (1_437_322, 1_428_080, 137_968_856),
    "shufflefacenet_1_5x": (2_662_342, 2_649_470, 288_820_256),
    "mixfacenet_xs": (1_040_866, 1_031_546, 76_561_120),
    "shufflemixfacenet_xs": (1_040_866, 1_031_546, 76_561_120),
    "mixfacenet_s": (3_073_110, 3_055_990, 218_141_424),
    "shufflemixfacenet_s": (3_073_110, 3_055_990, 218_141_424),
    "pocketnet_s_128": (925_632, 918_016, 283_541_120),
    "pocketnet_s_256": (991_424, 983_680, 283_606_656),
    "pocketnet_m_128": (1_686_656, 1_678_624, 538_215_680),
    "ghostfacenet_v1_1": (4_059_748, 4_045_472, 211_909_644),
    "ghostfacenet_v1_2": (4_037_836, 4_023_560, 59_316_222),
    "ghostfacenet_v2_1": (6_795_720, 6_753_436, 267_145_664),
    "edgeface_xxs": (1_244_744, 1_244_744, 47_297_978),
    "edgeface_xs_06": (1_770_492, 1_770_492, 76_893_212),
    "edgeface_xs": (2_242_620, 2_242_620, 98_348_444),
    "edgeface_s_05": (3_652_520, 3_652_520, 152_897_808),
    "lightcnn_9": (5_480_864, 5_480_864, 976_748_544),
    "lightcnn_29": (12_573_280, 12_573_280, 3_619_160_064),
}
DW_SEESAW_MADDS = 526_478_592

# Rebuilt and counted as above, where only two of the three were recorded.
MEASURED_PARAMS = {
    "iresnet_18": 24_025_600,
    "iresnet_50": 43_590_848,
    "iresnet_100": 65_156_160,
    "mobilenetv2_0_1": 324_672,
    "mobilenetv2_0_2": 404_352,
    "mobilenetv2_0_5": 827_968,
    "mobilenetv2_1_0": 2_241_280,
}
MEASURED_MADDS_M = {  # millions, to the digits recorded
    "iresnet_18": "2610",
    "iresnet_50": "6309",
    "iresnet_100": "12090",
    "mobilenetv2_0_1": "18.02",
    "mobilenetv2_0_2": "23.19",
    "mobilenetv2_0_5": "66.26",
    "mobilenetv2_1_0": "211.45",
}
every_network = pytest.mark.parametrize("name", NETWORKS)
FOLDABLE = [
    "mobilefacenet_128",
    "seesaw_share",
    "dw_seesaw_v2",
    "vargfacenet",
    "shufflefacenet_1x",
]
every_measured = pytest.mark.parametrize("name", MEASURED)


@every_measured
def test_cost_is_that_of_the_authors_code(name):
    cost = network(name).spec.cost()
    assert (cost.params, cost.folded_params, cost.madds) == MEASURED[name]
    assert cost.flops == 2 * cost.madds
    assert [cost.size_bytes(each) for each in ("fp32", "fp16", "int8")] == [
        cost.folded_params * width for width in (4, 2, 1)
    ]


@pytest.mark.parametrize("name", MEASURED_PARAMS)
def test_rounded_records_agree(name):
    cost = network(name).spec.cost()
    assert cost.params == MEASURED_PARAMS[name]
    digits = len(MEASURED_MADDS_M[name].partition(".")[2])
    assert f"{cost.madds / 1e6:.{digits}f}" == MEASURED_MADDS_M[name]


def test_dw_seesaw_computes_what_its_table_says():
    for name in ("dw_seesaw_v1", "dw_seesaw_v2"):
        assert network(name).spec.cost().madds == DW_SEESAW_MADDS


@every_network
def test_cost_is_torchs(name, torch_cost):
    spec = network(name).spec
    tree = spec.lower()
    cost = spec.cost()
    shape, torch_says = torch_cost(tree, spec.input)
    assert shape == (spec.embedding_size, 1, 1)
    assert (cost.madds, cost.params) == (torch_says.madds, torch_says.params)
    assert tree.cost(spec.input) == cost


@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_parameters_are_what_folding_leaves(name):
    """Torch folds each normalisation into the layer in front of it. Where that layer has a bias of
    its own (only an embedding's), torch merges two biases that the policy counts as two."""
    spec = network(name).spec
    module = build(spec.lower(), spec.input).eval()
    bias = module.get_submodule("head.embedding").bias
    merged = 0 if bias is None else bias.numel()
    fold_(module)
    assert not any(isinstance(each, AnyRankBatchNorm) for each in module.modules())
    left = sum(each.numel() for each in module.parameters())
    assert left == spec.cost().folded_params - merged


def fold_(module: nn.Module) -> None:
    previous = None
    for name, child in list(module.named_children()):
        fold_(child)
        if isinstance(child, AnyRankBatchNorm):
            fuse = fuse_linear_bn_eval if isinstance(previous[1], nn.Linear) else fuse_conv_bn_eval
            setattr(module, previous[0], fuse(previous[1], child))
            setattr(module, name, nn.Identity())
        previous = (name, child)


@pytest.mark.parametrize("name", ["mobilefacenet_128", "mobilefacenet_512"])
def test_thop_differs_by_a_closed_formula(name):
    """thop adds four operations for each normalised value and one for each PReLU value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from thop import profile
        from thop.vision.basic_hooks import count_normalization

    spec = network(name).spec
    module = build(spec.lower(), spec.input).eval()
    elements = collections.Counter()
    for each in module.modules():
        each.register_forward_hook(
            lambda layer, inputs, output: elements.update({type(layer): output.numel()})
        )
    image = torch.zeros(1, *spec.input)
    with torch.inference_mode():
        module(image)
    counted = copy.deepcopy(build(spec.lower(), spec.input).eval())
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        macs, _ = profile(
            counted,
            (image,),
            custom_ops={AnyRankBatchNorm: count_normalization},
            verbose=False,
        )
    assert macs == spec.cost().madds + 4 * elements[AnyRankBatchNorm] + elements[nn.PReLU]


@pytest.mark.parametrize(
    ("name", "folded_params"), [("mobilefacenet_s", 0.84e6), ("mobilefacenet_m", 0.92e6)]
)
def test_published_parameters_are_folded_ones_cut_to_two_decimals(name, folded_params):
    assert 0 <= network(name).spec.cost().folded_params - folded_params < 0.01e6


def test_dw_seesaw_has_no_dead_layers():
    """The posted code builds a projection (1x1 convolution, norm) in each of the 8 + 12 + 4
    residual blocks and never uses it; with these it has 4,918,176 parameters, 4,889,760 folded."""
    dead = sum(n * (w * w + 2 * w) for n, w in ((8, 96), (12, 192), (4, 192)))
    dead_folded = sum(n * (w * w + w) for n, w in ((8, 96), (12, 192), (4, 192)))
    for name in ("dw_seesaw_v1", "dw_seesaw_v2"):
        cost = network(name).spec.cost()
        assert cost.params + dead == 4_918_176
        assert cost.folded_params + dead_folded == 4_889_760


def test_widest_shufflefacenet_is_the_published_one():
    """4.5 M and 1.05 G (2 x MAdds); with ShuffleNetV2's 2048 channels at the end, 5.7 M."""
    cost = network("shufflefacenet_2x").spec.cost()
    assert round(cost.params / 1e6, 1) == 4.5
    assert round(cost.flops / 1e9, 2) == 1.05


@pytest.mark.parametrize("name", NETWORKS)
def test_other_images_and_embeddings(name):
    entry = network(name)
    _, height, width = entry.input_shape
    taller = entry.variant(input_size=(height + 32, width + 16))
    assert taller.input_shape == (entry.input_shape.channels, height + 32, width + 16)
    assert taller.cost().madds > entry.spec.cost().madds
    if entry.embedding_sizes:
        wider = entry.variant(embedding_size=entry.embedding_size * 2)
        assert wider.embedding_size == 2 * entry.embedding_size
        assert wider.lower().output_shape(wider.input).channels == 2 * entry.embedding_size
    else:
        with pytest.raises(ArchError, match=f"{name}: its embedding is as long"):
            entry.variant(embedding_size=entry.embedding_size * 2)


def test_an_image_that_is_too_small_is_said_so():
    with pytest.raises(ArchError, match="mobilenetv2_1_0 for 3x0x0 images"):
        network("mobilenetv2_1_0").variant(input_size=(0, 0))


@every_network
def test_entries_say_where_they_come_from(name):
    entry = network(name)
    assert entry.name == name
    assert all((entry.source, entry.published_params, entry.published_compute))
    assert entry.published_accuracy


def test_unknown_network_lists_near_names():
    with pytest.raises(ArchError, match=r"no network 'mobilefacenet_12' in the zoo; did you mean"):
        network("mobilefacenet_12")
