"""Gradients one sample at a time, for the importances that ask how much the output would change.

A gradient of a whole batch is a mean, in which samples that pull a weight in opposite directions
cancel. What is kept here are means over samples of |gradient| and of gradient squared, which do
not cancel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nas_face.errors import CompressionError
from nas_face.nn.fast.subnormals import subnormals_flushed
from nas_face.nn.model import FaceModel

Loss = Callable[[Tensor, int], Tensor]
"""Embedding `(D,)` of one crop, not of unit length, and the crop's number, to one loss `()`, or to
several `(K,)`, each of which counts as a sample of its own."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradients:
    """What the samples' gradients say about every weight.

    Attributes:
        magnitudes: by key of the state dict, mean over samples of |gradient|.
        squares: likewise, mean over samples of gradient squared: the diagonal of the empirical
            Fisher matrix.
        gates: by path of a convolution or linear layer, `(n_samples, in_channels)`: derivative
            with respect to a factor, 1 now, of each channel that it reads. It is the sum of
            weight times gradient over the weights that read the channel.
        n_samples: losses that were differentiated.
    """

    magnitudes: Mapping[str, Tensor]
    squares: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]
    n_samples: int


@subnormals_flushed()
def per_sample_gradients(model: FaceModel, crops: NDArray[np.uint8], loss: Loss) -> Gradients:
    """Run one crop after another forward and backward, in evaluation mode.

    The model is left as it was, its `.grad` included. On one core a crop takes about three times
    as long as in inference, and 32 to 256 of them are enough (assumed).

    Args:
        model: whose weights are differentiated.
        crops: `(N, H, W, 3)` RGB crops of the model's input size.
        loss: what is differentiated.

    Raises:
        CompressionError: there is no crop, or the loss does not depend on the embedding.
    """
    if not len(crops):
        raise CompressionError("crops: gradients need at least one, got none")
    module, preprocessing = model.module, model.description.preprocessing
    named = {name: each for name, each in module.named_parameters() if each.requires_grad}
    magnitudes = {name: torch.zeros_like(each) for name, each in named.items()}
    squares = {name: torch.zeros_like(each) for name, each in named.items()}
    readers = {
        f"{path}.weight": each
        for path, each in module.named_modules()
        if isinstance(each, nn.Conv2d | nn.Linear)
    }
    gates: dict[str, list[Tensor]] = {name.removesuffix(".weight"): [] for name in readers}
    device = next(module.parameters()).device
    was_training, n_samples = module.training, 0
    module.eval()
    try:
        for number in range(len(crops)):
            x = preprocessing.apply(crops[number : number + 1]).to(device)
            with torch.enable_grad():
                losses = loss(module(x)[0], number).reshape(-1)
            if not losses.requires_grad:
                raise CompressionError("loss: it must depend on the embedding, and does not")
            for at, each in enumerate(losses):
                found = torch.autograd.grad(
                    each,
                    tuple(named.values()),
                    retain_graph=at + 1 < len(losses),
                    allow_unused=True,
                )
                for name, gradient in zip(named, found, strict=True):
                    if gradient is not None:
                        magnitudes[name] += gradient.abs()
                        squares[name] += gradient.square()
                    if (reader := readers.get(name)) is not None:
                        gates[name.removesuffix(".weight")].append(_gates(reader, gradient))
                n_samples += 1
    finally:
        module.train(was_training)
    for sums in (magnitudes, squares):
        for value in sums.values():
            value /= n_samples
    return Gradients(
        magnitudes=magnitudes,
        squares=squares,
        gates={path: torch.stack(found) for path, found in gates.items() if found},
        n_samples=n_samples,
    )


def _gates(reader: nn.Conv2d | nn.Linear, gradient: Tensor | None) -> Tensor:
    """`(in_channels,)`, sum of weight x gradient over the weights that read each channel."""
    weight = reader.weight.detach()
    if gradient is None:
        return weight.new_zeros(weight.shape[1] * getattr(reader, "groups", 1))
    product = (weight * gradient).flatten(2).sum(dim=2) if weight.ndim > 2 else weight * gradient
    groups = reader.groups if isinstance(reader, nn.Conv2d) else 1
    gates: Tensor = product.unflatten(0, (groups, -1)).sum(dim=1).flatten()
    return gates


def angular_gradients(
    model: FaceModel, crops: NDArray[np.uint8], *, n_projections: int = 1, seed: int = 0
) -> Gradients:
    """Gradients without labels: of the unit embedding, seen along random directions.

    What pruning should keep is the direction of the embedding u. The distance to the unpruned one,
    1 - cos = |u - u0|^2 / 2, has gradient zero at the unpruned weights, so there is nothing for a
    first-order criterion to read. Its second derivative there is J^T J with J = du/dw. For a
    vector v of random signs, the mean of the squared gradient of v.u is the diagonal of J^T J
    (Hutchinson's estimate), so `squares` give the second-order change of the distance, and
    `magnitudes` the first-order change of u along a random direction.

    Args:
        model: whose weights are differentiated.
        crops: `(N, H, W, 3)` RGB crops of the model's input size; real faces.
        n_projections: random vectors a crop; more crops do more for the same time.
        seed: of the vectors.

    Raises:
        CompressionError: there is no crop.

    Source: Hutchinson, Communications in Statistics 18, 1989, for the estimate.
    """
    generator = torch.Generator().manual_seed(seed)

    def projected(embedding: Tensor, number: int) -> Tensor:
        shape = (n_projections, len(embedding))
        signs = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0
        return signs.to(embedding) @ functional.normalize(embedding, dim=0)

    return per_sample_gradients(model, crops, projected)
