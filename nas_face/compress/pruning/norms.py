"""Statistics of batch normalisations: brought back where they were folded away, and measured anew
behind a pruning, which shifts what flows through."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.errors import CompressionError
from nas_face.nn.fast.subnormals import subnormals_flushed
from nas_face.nn.model import FaceModel
from nas_face.nn.modules import FixedScaleBatchNorm

Norm = nn.modules.batchnorm._BatchNorm


def restore_norms(
    model: FaceModel, crops: NDArray[np.uint8], *, batch_size: int = 64
) -> FaceModel:
    """The same function, with batch normalisations that hold the statistics of what they read.

    A network imported from a file for inference has lost them: its normalisations were folded into
    the convolutions, and do nothing. It computes what it should, but it cannot be trained further
    or measured anew, because both would bring normalisation back and change the function. Here
    mean and variance become what they are on the crops, and scale and shift make up for it:
    w (x - m) / s + b = w' (x - m') / s' + b' with w' = w s' / s and b' = b + w (m' - m) / s.

    Do this before pruning such a network; the scales then tell channels apart, too. On a trained
    network that has its statistics, little changes. A norm that learns no scale is left alone.

    Args:
        model: what to restore; it is not changed.
        crops: `(N, H, W, 3)` RGB crops of the model's input size, two at least; hundreds are
            better.
        batch_size: crops at once; makes no difference.

    Raises:
        CompressionError: there are fewer than two crops.
    """
    _check_crops(crops, batch_size)
    module = deepcopy(model.module)
    was_training = module.training
    module.eval()
    sums: dict[Norm, list[Tensor]] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, Norm)
        x = inputs[0].double().transpose(0, 1).flatten(1)  # (C, N H W)
        found = [torch.full_like(x[:, 0], x.shape[1]), x.sum(dim=1), x.square().sum(dim=1)]
        before = sums.get(norm, [torch.zeros_like(each) for each in found])
        sums[norm] = [a + b for a, b in zip(before, found, strict=True)]

    norms = [each for each in _norms(module) if not isinstance(each, FixedScaleBatchNorm)]
    hooks = [each.register_forward_pre_hook(note) for each in norms]
    _run(replace(model, module=module), crops, batch_size)
    for hook in hooks:
        hook.remove()
    for norm, (count, total, squares) in sums.items():
        _hold_(norm, total / count, (squares - total.square() / count) / (count - 1))
    module.train(was_training)
    return replace(model, module=module)


def _hold_(norm: Norm, mean: Tensor, variance: Tensor) -> None:
    """Let a norm hold statistics without changing what it computes."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).sqrt()
    variance = variance.clamp_min(0)
    with torch.no_grad():
        weight = norm.weight.double() / scale
        norm.bias.add_((weight * (mean - norm.running_mean)).to(norm.bias))
        norm.weight.copy_(weight * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def lacks_statistics(model: FaceModel) -> bool:
    """Whether the batch normalisations of a model do nothing, as in a network that was imported
    with folded ones: then `restore_norms` comes before any training."""
    norms = list(_norms(model.module))
    return bool(norms) and all(_is_blank(each) for each in norms)


def recalibrate_norms(
    model: FaceModel, crops: NDArray[np.uint8], *, batch_size: int = 64
) -> FaceModel:
    """The model with means and variances of its batch normalisations as they are on some crops.

    Behind a pruning they still describe the network as it was before channels went. Measuring them
    anew takes no labels and no training. All layers are measured in one pass, each behind norms
    that use the statistics of the batch; batches weigh alike.

    Args:
        model: what to measure; it is not changed.
        crops: `(N, H, W, 3)` RGB crops of the model's input size, two at least; hundreds are
            better.
        batch_size: crops at once, about; the more, the steadier.

    Raises:
        CompressionError: there are fewer than two crops, or the norms hold no statistics of the
            unpruned network, so that measuring would change the function.
    """
    _check_crops(crops, batch_size)
    module = deepcopy(model.module)
    was_training = module.training
    norms = list(_norms(module))
    if lacks_statistics(model):
        raise CompressionError(
            "norms hold no statistics, as in a network that was imported with folded "
            "normalisations; call restore_norms on the unpruned network first"
        )
    momenta = [each.momentum for each in norms]
    module.eval()
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # a plain mean over batches
        each.train()
    _run(replace(model, module=module), crops, batch_size)
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    module.train(was_training)
    return replace(model, module=module).noting(
        f"statistics of batch normalisations measured anew on {len(crops)} crops"
    )


def _is_blank(norm: Norm) -> bool:
    """Whether mean and variance are no more than constants."""
    assert norm.running_mean is not None and norm.running_var is not None
    return not norm.running_mean.any() and bool((norm.running_var == norm.running_var[0]).all())


def _norms(module: nn.Module) -> Iterator[Norm]:
    return (each for each in module.modules() if isinstance(each, Norm))


def _check_crops(crops: NDArray[np.uint8], batch_size: int) -> None:
    if len(crops) < 2 or batch_size < 2:
        raise CompressionError(
            f"crops: statistics need at least two at once, got {len(crops)} in batches of "
            f"{batch_size}"
        )


@subnormals_flushed()
def _run(model: FaceModel, crops: NDArray[np.uint8], batch_size: int) -> None:
    """Run crops through the module in batches of nearly one size."""
    device = next(model.module.parameters()).device
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(crops)), max(1, len(crops) // batch_size)):
            model.module(model.description.preprocessing.apply(crops[rows]).to(device))
