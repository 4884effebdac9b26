"""NASWOT against a Hamming distance counted bit by bit."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from proxy_cases import net, subject
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.nn.modules import MaxFeatureMapModule
from nas_face.proxies.naswot import agreement_kernel, naswot


def codes_of(made):
    """Whether each unit is on, `(N, units)`, by running the network once more."""
    found = []

    def note(module, inputs):
        x = inputs[0]
        if isinstance(module, MaxFeatureMapModule):
            half = x.shape[1] // 2
            found.append((x[:, :half] > x[:, half:]).flatten(1))
        else:
            found.append((x > 0).flatten(1))

    kinds = (nn.ReLU, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.ReLU6, MaxFeatureMapModule)
    module = made.model.module.train()
    hooks = [
        each.register_forward_pre_hook(note)
        for each in module.modules()
        if isinstance(each, kinds)
    ]
    with torch.no_grad():
        module(made.x)
    for hook in hooks:
        hook.remove()
    return torch.cat(found, dim=1).numpy()


@pytest.mark.parametrize(
    "block",
    [
        *(
            ConvUnit(out_channels=6, act=act)
            for act in ("relu", "relu6", "prelu", "prelu_shared", "silu", "hard_swish", "gelu")
        ),
        MaxFeature(out_channels=6),
    ],
    ids=lambda block: f"{block.kind}-{getattr(block, 'act', '')}",
)
def test_kernel_counts_the_units_that_agree(block):
    made = subject(net(block))
    kernel = agreement_kernel(made)
    codes = codes_of(made)
    n, units = codes.shape
    expected = [
        [units - sum(map(int.__ne__, codes[i].tolist(), codes[j].tolist())) for j in range(n)]
        for i in range(n)
    ]
    assert (kernel == np.array(expected)).all()
    assert naswot(made)[0] == pytest.approx(math.log(abs(np.linalg.det(kernel))), rel=1e-9)


def test_gates_rectify_nothing():
    made = subject(net())
    before = agreement_kernel(made)[0, 0]
    made.model.module.stem.add_module("gate", nn.Sigmoid())
    assert agreement_kernel(made)[0, 0] == before
    made.model.module.stem.add_module("rectifier", nn.ReLU())
    assert agreement_kernel(made)[0, 0] > before


def test_the_same_image_twice_is_not_defined():
    made = subject(net())
    twice = dataclasses.replace(made, images=made.images[[0, 0, 1, 2, 3, 4]])
    assert math.isnan(naswot(twice)[0])


def test_a_network_without_activations_is_not_defined():
    made = subject(net())
    vars(made)["model"] = dataclasses.replace(
        made.model, module=nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8))
    )
    assert math.isnan(naswot(made)[0])
