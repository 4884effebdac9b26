"""ZiCo against its formula, weight by weight."""

import copy
import dataclasses
import math

import pytest
from proxy_cases import net, subject
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.proxies.zico import zico


def by_the_formula(made) -> float:
    module = copy.deepcopy(made.model.module).train()
    classifier = copy.deepcopy(made.classifier)
    gradients = []
    for start in (0, 1):
        module.zero_grad()
        classifier(module(made.x[start::2]), made.labels[start::2]).backward()
        gradients.append(
            [
                each.weight.grad.flatten().tolist()
                for each in module.modules()
                if isinstance(each, nn.Conv2d | nn.Linear)
            ]
        )
    total = 0.0
    for one, two in zip(*gradients, strict=True):
        within = 0.0
        for a, b in zip(one, two, strict=True):
            mean = (a + b) / 2
            deviation = (((a - mean) ** 2 + (b - mean) ** 2) / 2) ** 0.5
            if deviation > 0:
                within += (abs(a) + abs(b)) / 2 / deviation
        total += math.log(within)
    return total


@pytest.mark.parametrize(
    "spec",
    [
        net(ConvUnit(out_channels=6, act="relu")),
        net(InvertedResidual(out_channels=8, hidden_channels=12)),
    ],
    ids=["relu", "inverted residual"],
)
def test_value_is_that_of_the_formula(spec):
    made = subject(spec, n=12)
    assert zico(made)[0] == pytest.approx(by_the_formula(made), rel=1e-5)


def test_batches_that_say_the_same_are_not_defined():
    made = subject(net())
    same = [0, 0, 2, 2, 4, 4]
    twice = dataclasses.replace(made, images=made.images[same], identities=made.identities[same])
    assert math.isnan(zico(twice)[0])


def test_another_loss_gives_another_value():
    made = subject(net())
    other = dataclasses.replace(made, loss=dataclasses.replace(made.loss, margin=0.1))
    assert zico(made) != zico(other)
