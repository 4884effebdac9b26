"""An independent pruner on a network that it can do: the same channels give the same function."""

import copy

import numpy as np
import pytest
import torch
import torch_pruning
from pruning_checks import random_model, relative_difference, shrunk, without
from torch import nn

from nas_face.arch.zoo import network
from nas_face.compress.pruning.channels import couple


@pytest.mark.parametrize(
    "name",
    [
        "stages.0.0.expand.conv",  # a hidden width
        "stages.1.3.branches.0.expand.conv",  # a hidden width behind a shortcut
        "stages.1.0.project.conv",  # a residual stream
        "head.tail.conv",  # through the global depthwise convolution and the flattening
    ],
)
def test_mobilefacenet_agrees_with_torch_pruning(name: str) -> None:
    model = random_model(shrunk(network("mobilefacenet_128").spec))
    tree, x = model.description.network, model.description.input
    family = next(each for each in couple(tree, x).families if each.name == name)
    positions = sorted(np.random.default_rng(0).permutation(len(family.classes))[:24].tolist())
    images = torch.rand((2, *x), generator=torch.Generator().manual_seed(3))

    ours = without(model, [family.classes[at] for at in positions])

    theirs = copy.deepcopy(model.module)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=images)
    conv = theirs.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    graph.get_pruning_group(conv, torch_pruning.prune_conv_out_channels, idxs=positions).prune()

    shapes = {key: value.shape for key, value in ours.module.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    with torch.no_grad():
        assert relative_difference(ours.module(images), theirs.eval()(images)) < 1e-6
