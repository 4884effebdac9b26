"""What several pruning tests share: models with telling weights, and the one promise that all
keep."""

import copy
import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec
from nas_face.compress.pruning import mask_
from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.compress.pruning.surgery import alive_without, narrowed, sliced
from nas_face.nn.build import build
from nas_face.nn.model import Description, FaceModel
from nas_face.nn.modules import TranslationVariantConvModule

EACH_KIND = (
    "mobilefacenet_128",
    "insightface_y2",
    "seesaw_share",
    "seesaw_shuffle",
    "vargfacenet",
    "shufflefacenet_1x",
    "mixfacenet_xs",
    "shufflemixfacenet_xs",
    "ghostfacenet_v1_2",
    "ghostfacenet_v2_2",
    "lightcnn_9",
    "lightcnn_29v2",
    "squeezefacenet",
    "iresnet_18",
    "pocketnet_s_128",
    "edgeface_xs",
    "edgeface_xs_06",
    "mobilenetv2_tvconv_0_5",
)
"""Published networks of all families, one where several differ in widths only."""


def shrunk(spec: ArchSpec, *, side: int = 56) -> ArchSpec:
    """The same network for a smaller image."""
    return dataclasses.replace(spec, input_shape=(spec.input_shape[0], side, side))


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
                if each.weight.requires_grad:  # a fixed scale stays one
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
            elif isinstance(each, TranslationVariantConvModule):
                bound = (3.0 / each.weight.shape[1]) ** 0.5
                fill_(each.weight, -bound, bound)
            else:
                for parameter in each.parameters(recurse=False):
                    fill_(parameter, 0.5, 1.5)
    module.eval()


def noise_crops(model: FaceModel, *, n: int = 2, seed: int = 0) -> NDArray[np.uint8]:
    """Images of the model's input size in which every pixel is random."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, model.height, model.width, 3), dtype=np.uint8)


def random_choice(coupling: Coupling, *, seed: int) -> list[int]:
    """Any number of classes of every family, never all."""
    generator = np.random.default_rng(seed)
    return [
        each
        for family in coupling.families
        for each in generator.permutation(family.classes)[
            : generator.integers(0, len(family.classes))
        ].tolist()
    ]


def without(
    model: FaceModel, removed: Iterable[int], coupling: Coupling | None = None
) -> FaceModel:
    """The model without some classes, in evaluation mode.

    Args:
        coupling: that of the model, where it is known.
    """
    tree = model.description.network
    coupling = coupling or couple(tree, model.description.input)
    alive = alive_without(coupling, removed)
    description = dataclasses.replace(model.description, network=narrowed(tree, coupling, alive))
    pruned = FaceModel.of(description, sliced(model.module.state_dict(), coupling, alive))
    pruned.module.eval()
    return pruned


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
    """Half of what torch's own counter sees in one forward pass, and the weights of
    translation-variant convolutions, each of which it does not see used once."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.module(torch.zeros(1, *model.description.input_shape))
    unseen = sum(
        each.weight.numel()
        for each in model.module.modules()
        if isinstance(each, TranslationVariantConvModule)
    )
    return int(counter.get_total_flops()) // 2 + unseen


def counted_params(model: FaceModel) -> int:
    """Parameters as torch has them."""
    return sum(each.numel() for each in model.module.parameters())
