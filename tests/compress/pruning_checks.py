"""What several pruning tests share: models with telling weights, and the one promise that all
keep."""

import copy
import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.compress import mask_
from nas_face.nn.build import build
from nas_face.nn.model import Description, FaceModel


def shrunk(spec: ArchSpec, *, side: int = 56) -> ArchSpec:
    """The same network for a smaller image."""
    return dataclasses.replace(spec, input_shape=(3, side, side))


def random_model(spec: ArchSpec, *, seed: int = 0) -> FaceModel:
    """A model in evaluation mode in which no channel is like another and no bias is zero."""
    model = FaceModel.fresh(spec, seed=seed)
    randomise_(model.module, seed=seed)
    return model


def tree_model(network: Sequence, x: Shape, *, seed: int = 0) -> FaceModel:
    """The same for a bare layer tree."""
    description = Description(network=network, input_shape=tuple(x), arch_id="0" * 12)
    model = FaceModel.of(description, build(network, x).state_dict())
    randomise_(model.module, seed=seed)
    return model


def randomise_(module: nn.Module, *, seed: int) -> None:
    """Random statistics, scales, shifts, slopes and biases."""
    generator = torch.Generator().manual_seed(seed)

    def fill_(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                fill_(each.weight, 0.5, 1.5)
                fill_(each.bias, -0.5, 0.5)
                fill_(each.running_mean, -0.5, 0.5)
                fill_(each.running_var, 0.5, 1.5)
            elif isinstance(each, nn.PReLU):
                fill_(each.weight, 0.1, 0.4)
            elif isinstance(each, nn.Conv2d | nn.Linear):
                bound = (3.0 / each.weight[0].numel()) ** 0.5
                fill_(each.weight, -bound, bound)
                if each.bias is not None:
                    fill_(each.bias, -0.5, 0.5)
    module.eval()


def assert_equals_masked(
    model: FaceModel, pruned: FaceModel, removed: Iterable[int], *, n_images: int = 1
) -> float:
    """The pruned model computes what the original does with the same channels at zero, in single
    and in double precision.

    Returns:
        How far both are from the original, relative to the largest value.
    """
    masked = dataclasses.replace(model, module=copy.deepcopy(model.module))
    mask_(masked, removed)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((n_images, *model.description.input_shape), generator=generator) * 2 - 1
    narrow = copy.deepcopy(pruned.module)
    with torch.no_grad():
        single = relative_difference(narrow(images), masked.module(images))
        exact = masked.module.double()(images.double())
        double = relative_difference(narrow.double()(images.double()), exact)
        original = copy.deepcopy(model.module).double()(images.double())
    assert torch.isfinite(exact).all()
    assert single < 1e-5
    assert double < 1e-9
    return relative_difference(original, exact)


def relative_difference(first: Tensor, second: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((first - second).abs().max() / second.abs().max())


def counted_madds(model: FaceModel) -> int:
    """Half of what torch's own counter sees in one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.module(torch.zeros(1, *model.description.input_shape))
    return int(counter.get_total_flops()) // 2
