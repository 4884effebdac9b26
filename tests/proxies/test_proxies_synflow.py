"""SynFlow: by hand on two layers, and by its own conservation law."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from proxy_cases import net, subject
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.nn import FaceModel
from nas_face.proxies.subject import Subject
from nas_face.proxies.synflow import synflow


def subject_of(module: nn.Module, channels: int) -> Subject:
    """A subject whose network is this module."""
    spec = dataclasses.replace(net(), input_shape=(channels, 1, 1))
    made = subject(net())
    made = dataclasses.replace(made, spec=spec)
    vars(made)["model"] = FaceModel(description=None, module=module)
    return made


def test_two_linear_layers_by_hand():
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        second.weight.copy_(torch.tensor([[-5.0, 6.0]]))
    made = subject_of(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), 2)
    # Absolute weights pass 3 and 7 on to 5 * 3 + 6 * 7 = 57; each layer holds all of it.
    assert synflow(made) == pytest.approx((math.log(2 * 57),), rel=1e-12)


def test_every_layer_of_a_plain_chain_holds_the_whole_flow():
    """Norms removed, and without biases, |theta dR/dtheta| sums to R in each layer."""
    spec = net(ConvUnit(out_channels=12, act="relu6"), ConvUnit(out_channels=10, act="relu"))
    made = subject(spec)
    convolutions = [
        each.weight.detach().double().abs().numpy()
        for each in made.model.module.modules()
        if isinstance(each, nn.Conv2d | nn.Linear)
    ]
    x = torch.ones(1, 3, 16, 16, dtype=torch.float64)
    flow = x
    with torch.no_grad():
        for each in made.model.module.modules():
            if isinstance(each, nn.Conv2d):
                weight = each.weight.double().abs()
                flow = nn.functional.conv2d(flow, weight, None, each.stride, each.padding)
            elif isinstance(each, nn.Linear):
                flow = flow.mean(dim=(2, 3)) @ each.weight.double().abs().T
    expected = math.log(len(convolutions) * float(flow.sum()))
    assert synflow(made)[0] == pytest.approx(expected, rel=1e-9)


def test_nothing_that_flows_is_not_a_number():
    layer = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(layer.weight)
    assert np.isnan(synflow(subject_of(nn.Sequential(nn.Flatten(), layer), 2))[0])


def test_more_than_a_float_holds_is_not_a_number():
    layers = [nn.Linear(2, 2, bias=False) for _ in range(9)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1e38)
    assert np.isnan(synflow(subject_of(nn.Sequential(nn.Flatten(), *layers), 2))[0])
