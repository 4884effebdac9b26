"""Convolutions and linear layers with their costs, against torch's own counter and hooks."""

from collections import Counter

import pytest
import torch
from quantisation_checks import gated_model, small_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.zoo import network
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.nn.model import FaceModel


def counted(model: FaceModel) -> dict[str, int]:
    """Multiply-adds of each convolution and linear layer, in the order in which they run."""
    found = {}
    for path, each in model.module.named_modules():
        if isinstance(each, nn.Conv2d | nn.Linear):

            def run(module, inputs, output, path=path):
                with FlopCounterMode(display=False) as counter:
                    type(module).forward(module, *inputs)
                found[path] = counter.get_total_flops() // 2

            each.register_forward_hook(run)
    with torch.no_grad():
        model.module(torch.zeros(1, *model.description.input_shape))
    return found


@pytest.mark.parametrize(
    "name", ["mobilefacenet_128", "seesaw_shuffle", "mixfacenet_xs", "pocketnet_m_128"]
)
def test_costs_and_order_are_those_that_torch_sees(name: str) -> None:
    model = FaceModel.fresh(network(name).make(network(name).input_shape, 128), seed=0)
    layers = weighted_layers(model.description)
    model.module.eval()
    assert [(each.path, each.madds) for each in layers] == list(counted(model).items())
    weights = {key: value.numel() for key, value in model.module.state_dict().items()}
    assert [each.weights for each in layers] == [weights[f"{each.path}.weight"] for each in layers]


def test_kinds_and_gates() -> None:
    layers = weighted_layers(gated_model().description)
    assert [(each.path, each.kind, each.gates) for each in layers] == [
        ("0", "conv", False),
        ("3.body.1", "pointwise", True),
        ("3.body.3", "pointwise", True),
        ("4", "grouped", False),
        ("7", "linear", False),
    ]
    assert Counter(each.kind for each in weighted_layers(small_model().description)) == {
        "conv": 1,
        "depthwise": 4,
        "pointwise": 7,
        "linear": 1,
    }


def test_blocks_are_those_of_the_spec() -> None:
    spec = network("mobilefacenet_128").spec
    model = FaceModel.fresh(spec, seed=0)
    blocks = dict.fromkeys(each.block for each in weighted_layers(model.description))
    assert list(blocks) == [name for name, _ in spec.named_blocks()]
