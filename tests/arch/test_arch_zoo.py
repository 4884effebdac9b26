"""Published networks against published numbers, torch's counters and thop."""

import collections
import contextlib
import copy
import io
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from nas_face.arch.zoo import NETWORKS, network
from nas_face.arch.zoo.mobilefacenet import mobilefacenet
from nas_face.errors import ArchError
from nas_face.nn.build import AnyRankBatchNorm, build

# Rebuilt from the authors' own code and counted there: parameters, parameters with batch
# normalisation folded, multiply-adds at 112x112.
MEASURED = {
    "mobilefacenet_128": (1_003_136, 993_344, 220_965_376),
    "mobilefacenet_512": (1_200_512, 1_190_336, 221_161_984),
    "seesaw_share": (1_370_176, 1_360_000, 145_762_816),
    "seesaw_shuffle": (1_370_176, 1_360_000, 145_762_816),
    "vargfacenet": (5_198_292, 5_177_420, 512_593_440),
    "shufflefacenet_1x": (1_437_322, 1_428_080, 137_968_856),
    "shufflefacenet_1_5x": (2_662_342, 2_649_470, 288_820_256),
}
every_network = pytest.mark.parametrize("name", MEASURED)


def test_every_network_has_measured_numbers():
    assert set(NETWORKS) == set(MEASURED)


@every_network
def test_cost_is_that_of_the_authors_code(name):
    cost = network(name).spec.cost()
    assert (cost.params, cost.folded_params, cost.madds) == MEASURED[name]
    assert cost.flops == 2 * cost.madds
    assert [cost.size_bytes(each) for each in ("fp32", "fp16", "int8")] == [
        cost.folded_params * width for width in (4, 2, 1)
    ]


@every_network
def test_cost_is_torchs(name, torch_cost):
    spec = network(name).spec
    tree = spec.lower()
    cost = spec.cost()
    shape, torch_says = torch_cost(tree, spec.input)
    assert shape == (spec.embedding_size, 1, 1)
    assert (cost.madds, cost.params) == (torch_says.madds, torch_says.params)
    assert tree.cost(spec.input) == cost


@every_network
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


def test_resolution_variant_of_the_paper():
    """MobileFaceNet at 112x96, as counted from the authors' table: 0.99 M and 189.4 M."""
    cost = replace(mobilefacenet(), input_shape=(3, 112, 96)).cost()
    assert (cost.params, cost.folded_params, cost.madds) == (999_552, 989_760, 189_408_256)


def test_relu_variant_of_the_paper():
    spec = mobilefacenet()
    relu = replace(
        spec,
        stem=tuple(replace(block, act="relu") for block in spec.stem),
        stages=tuple(
            tuple(replace(block, act="relu") for block in stage) for stage in spec.stages
        ),
        head=replace(spec.head, act="relu"),
    )
    cost = relu.cost()
    assert (cost.params, cost.folded_params, cost.madds) == (995_584, 985_792, 220_965_376)


@every_network
def test_entries_say_where_they_come_from(name):
    entry = network(name)
    assert entry.name == name
    assert all((entry.source, entry.published_params, entry.published_compute))
    assert entry.published_accuracy


def test_unknown_network_lists_near_names():
    with pytest.raises(ArchError, match=r"no network 'mobilefacenet_12' in the zoo; did you mean"):
        network("mobilefacenet_12")
