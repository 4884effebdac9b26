"""All proxies together: every block, every family, nothing touched, nothing random."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract_cases import BLOCK_CASES
from proxy_cases import LOSS, at_size, faces, net, net_of, subject

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.catalog import BLOCKS
from nas_face.arch.zoo import NETWORKS
from nas_face.errors import ConfigError, DataError
from nas_face.losses.margins.settings import CosFace
from nas_face.proxies import PROXIES, measure_proxies, proxy, proxy_scores

SMALLEST = {
    family: min(
        (each for each in NETWORKS.values() if type(each.spec.stages[0][0]) is family),
        key=lambda each: each.spec.cost().madds,
    ).name
    for family in {type(each.spec.stages[0][0]) for each in NETWORKS.values()}
}
# The others take many seconds each, and are made of the same blocks.
SMALL = {name for name, each in NETWORKS.items() if each.spec.cost().params < 3_100_000}
NET = net(InvertedResidual(out_channels=8, hidden_channels=16, act="silu"))


def scores(spec, **changes):
    images, labels = faces(4, *spec.input_shape[1:])
    return proxy_scores(spec, images, labels, **{"loss": LOSS, "seed": 0, **changes})


def require_finite(found):
    assert set(found) == {one for each in PROXIES.values() for one in each.figures}
    assert [name for name, value in found.items() if not math.isfinite(value)] == []


@pytest.mark.parametrize(
    ("block", "x"),
    BLOCK_CASES,
    ids=[f"{i}-{each.kind}" for i, (each, _) in enumerate(BLOCK_CASES)],
)
def test_every_block_has_all_figures(block, x):
    require_finite(scores(net_of(block, x)))


def test_every_kind_of_block_is_among_the_cases():
    assert {block.kind for block, _ in BLOCK_CASES} == set(BLOCKS)


@pytest.mark.parametrize("name", sorted(SMALLEST.values()))
def test_smallest_network_of_each_family_has_all_figures(name):
    require_finite(scores(at_size(NETWORKS[name].spec, 32)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL - set(SMALLEST.values())))
def test_zoo_network_has_all_figures(name):
    require_finite(scores(at_size(NETWORKS[name].spec, 32)))


def test_a_grey_network_has_all_figures():
    require_finite(scores(replace(NET, input_shape=(1, 16, 16))))


def test_figures_are_repeatable_and_leave_the_random_generator_alone():
    torch.manual_seed(1)
    first = scores(NET)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    assert scores(NET) == first
    torch.manual_seed(1)
    assert torch.rand(1) == drawn


def test_another_seed_gives_other_figures_but_no_other_size():
    first, second = scores(NET), scores(NET, seed=1)
    assert {name for name in first if first[name] == second[name]} == {"madds", "params"}


@pytest.mark.parametrize("name", sorted(PROXIES))
@pytest.mark.parametrize("training", [True, False])
def test_network_is_left_as_it_was(name, training):
    made = subject(NET)
    module = made.model.module.train(training)
    before = copy.deepcopy(module.state_dict())
    modes = [each.training for each in module.modules()]
    proxy(name).measure(made)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [each.training for each in module.modules()] == modes
    assert all(each.grad is None for each in module.parameters())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())
    assert all(
        each.track_running_stats
        for each in module.modules()
        if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)
    )


def test_only_what_is_asked_for_is_measured():
    found = scores(NET, names=["params", "naswot"])
    assert set(found) == {"params", "naswot"}
    assert found["params"] == NET.cost().params


def test_analytic_proxies_cost_no_network(monkeypatch):
    monkeypatch.setattr("nas_face.nn.FaceModel.fresh", None)
    assert scores(NET, names=["madds"]) == {"madds": NET.cost().madds}


def test_seconds_are_those_of_each_proxy():
    images, labels = faces(4, 16, 16)
    found = measure_proxies(NET, images, labels, loss=LOSS, seed=0, names=["madds", "zico"])
    assert set(found.seconds) == {"madds", "zico"}
    assert found.seconds["zico"] > found.seconds["madds"] > 0


def test_deeper_network_passes_more_on():
    deeper = net(*[ConvUnit(out_channels=8)] * 3)
    assert scores(deeper)["synflow"] > scores(net(ConvUnit(out_channels=8)))["synflow"]


def test_unknown_name():
    with pytest.raises(ConfigError, match="unknown proxy 'synflo'; did you mean 'synflow'"):
        scores(NET, names=["synflo"])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), r"\(N, 16, 16, 3\), got \(4, 8, 8, 3\)"),
        (np.zeros((3, 16, 16, 3), np.uint8), np.arange(3), "at least 4 images"),
        (np.zeros((4, 16, 16, 3), np.uint8), np.arange(5), "4 images and 5 labels"),
        (np.zeros((4, 16, 16, 3), np.uint8), np.ones(4, int), "at least 2 identities"),
    ],
)
def test_images_that_do_not_do(images, labels, message):
    with pytest.raises(DataError, match=message):
        proxy_scores(NET, images, labels, loss=CosFace(), seed=0)
