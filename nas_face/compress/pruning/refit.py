"""What is left of a pruned layer is fitted to what the whole layer gave: no labels, no training.

A layer that has lost some of its inputs does best by other weights on the others, since channels
are correlated. They are found by least squares on crops, one layer after the other in running
order, each on what it now reads, so that it makes up for what the layers in front of it have lost,
too.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.arch.layers import BatchNorm, Conv, Linear, TranslationVariantConv
from nas_face.compress.pruning.channels import Coupling, Site, couple
from nas_face.errors import CompressionError
from nas_face.nn.fast.subnormals import subnormals_flushed
from nas_face.nn.model import FaceModel

N_SAMPLES = 8192
"""Places of all crops together at which a layer is looked at; more for the widest layers."""

_RIDGES = tuple(10.0**power for power in range(-5, 3))
"""How strongly weights are held where they were, as shares of the mean square of the inputs."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """A layer that is fitted.

    Attributes:
        site: in the whole network.
        kept: rows of its weight that are left.
        norm: path of the batch normalisation right behind it, which takes a shift that the layer
            itself has no bias for.
    """

    site: Site
    kept: NDArray[np.intp]
    norm: str | None


def refit(
    model: FaceModel, pruned: FaceModel, removed: Sequence[int], crops: NDArray[np.uint8]
) -> FaceModel:
    """The pruned model with weights fitted to the outputs of the whole one.

    Pointwise convolutions and linear layers get the weights, and a shift, with the least squared
    error; depthwise and other windowed convolutions a scale and a shift for each channel.
    Statistics of batch normalisations stay those of the whole network otherwise, which describe
    what the fitted layers give.

    Args:
        model: the whole network that was pruned; it is not changed.
        pruned: the same without some classes of channels, as `prune` gives it.
        removed: those classes, as `channels.couple` numbers them.
        crops: `(N, H, W, 3)` RGB crops of the model's input size; hundreds of real faces. All of
            them go through at once: 256 of 112 x 112 take 1 to 3 GB.

    Raises:
        CompressionError: there are fewer than two crops, or `pruned` is of another network.

    Source: least squares on the inputs that are left are He et al., channel pruning, arXiv
        1707.06168, equation 1.
    Differs: channels are chosen before by any criterion; every layer is fitted on the inputs that
        it has in the pruned network and to the outputs that it had in the whole one.
    """
    if len(crops) < 2:
        raise CompressionError(f"crops: fitting needs at least two, got {len(crops)}")
    coupling = couple(model.description.network, model.description.input)
    fits = list(_fits(coupling, removed))
    result = replace(pruned, module=deepcopy(pruned.module))
    _check(fits, model.module, result.module)
    before: dict[str, Tensor] = {}

    def note(fit: _Fit) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept = torch.from_numpy(fit.kept).to(output.device)
            before[fit.site.path] = _places(output, fit.site.path)[:, kept]

        return hook

    def improve(fit: _Fit) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            wanted = before.pop(fit.site.path)
            norm = None if fit.norm is None else result.module.get_submodule(fit.norm)
            return _fit_(module, fit, inputs[0], output, wanted, norm)

        return hook

    _run(model, crops, fits, note)
    _run(result, crops, fits, improve)
    return result.noting(f"weights fitted to the unpruned layers on {len(crops)} crops")


def _fits(coupling: Coupling, removed: Sequence[int]) -> Iterator[_Fit]:
    """Layers to fit, in running order."""
    alive = np.ones(coupling.n_classes, np.bool_)
    alive[list(removed)] = False
    for at, site in enumerate(coupling.sites):
        if not isinstance(site.layer, Conv | Linear | TranslationVariantConv):
            continue
        behind = coupling.sites[at + 1] if at + 1 < len(coupling.sites) else None
        norm = (
            behind.path
            if behind is not None
            and isinstance(behind.layer, BatchNorm)
            and np.array_equal(behind.in_classes, site.out_classes)
            else None
        )
        yield _Fit(site=site, kept=np.flatnonzero(alive[site.out_classes]), norm=norm)


def _check(fits: list[_Fit], whole: nn.Module, pruned: nn.Module) -> None:
    for fit in fits:
        before = whole.get_parameter(f"{fit.site.path}.weight")
        after = pruned.get_parameter(f"{fit.site.path}.weight")
        if len(after) != len(fit.kept) or len(before) != len(fit.site.out_classes):
            raise CompressionError(
                f"{fit.site.path}: it has {len(after)} channels where {len(fit.kept)} are left of "
                "the model; give the model that was pruned, and what was made of it"
            )


@subnormals_flushed()
def _run(
    model: FaceModel,
    crops: NDArray[np.uint8],
    fits: list[_Fit],
    hook: Callable[[_Fit], Callable[..., Tensor | None]],
) -> None:
    """Run all crops through a model, with a hook at every layer that is fitted."""
    module = model.module
    was_training = module.training
    module.eval()
    hooks = [module.get_submodule(fit.site.path).register_forward_hook(hook(fit)) for fit in fits]
    device = next(module.parameters()).device
    try:
        with torch.no_grad():
            module(model.description.preprocessing.apply(crops).to(device))
    finally:
        for each in hooks:
            each.remove()
        module.train(was_training)


def _places(x: Tensor, path: str) -> Tensor:
    """`(samples, C)`: some places of every crop, the same for the same path and size."""
    if x.ndim == 2:
        return x
    flat = x.flatten(2)  # (N, C, H W)
    n = min(flat.shape[2], -(-max(N_SAMPLES, 4 * flat.shape[1]) // flat.shape[0]))
    generator = torch.Generator().manual_seed(len(path) + 31 * sum(map(ord, path)))
    chosen = torch.randperm(flat.shape[2], generator=generator)[:n].to(x.device)
    return flat[:, :, chosen].transpose(1, 2).flatten(0, 1)


def _fit_(
    module: nn.Module, fit: _Fit, x: Tensor, output: Tensor, wanted: Tensor, norm: nn.Module | None
) -> Tensor:
    """Change the weights of a layer and give the output that it then has."""
    path = fit.site.path
    given = _places(output, path).double()
    wanted = wanted.double()
    weight = module.get_parameter("weight")
    shiftable = norm is not None or getattr(module, "bias", None) is not None
    if isinstance(module, nn.Linear) or _is_pointwise(module):
        if isinstance(module, nn.Conv2d):
            read = x[:, :, :: module.stride[0], :: module.stride[1]]
            groups = module.groups
        else:
            read, groups = x, 1
        change, shift = _least_squares(
            _places(read, path).double(), wanted - given, groups, centred=shiftable
        )
        weight.add_(change.reshape(weight.shape).to(weight))
    else:
        scale, shift = _line(given, wanted, centred=shiftable)
        weight.mul_(scale.reshape(-1, *[1] * (weight.ndim - 1)).to(weight))
    moved: Tensor = module.forward(x)
    if not shiftable:
        return moved
    bias = getattr(module, "bias", None)
    if bias is not None:
        bias.add_(shift.to(bias))
        return moved + shift.to(moved).reshape(1, -1, *[1] * (moved.ndim - 2))
    assert norm is not None and isinstance(norm.running_mean, Tensor)
    norm.running_mean.sub_(shift.to(norm.running_mean))
    return moved


def _is_pointwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.padding == (0, 0)
        and module.in_channels > module.groups
    )


def _least_squares(
    read: Tensor, error: Tensor, groups: int, *, centred: bool
) -> tuple[Tensor, Tensor]:
    """Change of the weights `(O, I / groups)` and shift `(O,)` that take most of an error away.

    Args:
        read: `(samples, I)`.
        error: `(samples, O)`, wanted less given.
        groups: of the layer.
        centred: whether a shift is possible; it is 0 otherwise.
    """
    means = (read.mean(dim=0), error.mean(dim=0))
    if not centred:
        means = (torch.zeros_like(means[0]), torch.zeros_like(means[1]))
    x = (read - means[0]).unflatten(1, (groups, -1)).transpose(0, 1)  # (groups, samples, I / g)
    y = (error - means[1]).unflatten(1, (groups, -1)).transpose(0, 1)
    ridge = _best_ridge(x, y)
    if ridge == math.inf:
        return x.new_zeros(y.shape[0] * y.shape[2], x.shape[2]), means[1]
    solved = _Ridge(x, y).solved(ridge)
    change = solved.transpose(1, 2).flatten(0, 1)
    explained = solved.transpose(1, 2) @ means[0].unflatten(0, (groups, -1)).unsqueeze(2)
    return change, means[1] - explained.flatten() if centred else torch.zeros_like(means[1])


class _Ridge:
    """Least squares of `y` `(groups, samples, O / g)` on `x` `(groups, samples, I / g)`."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        products = x.transpose(1, 2) @ x
        values, self._vectors = torch.linalg.eigh(products)
        self._values = values.clamp_min(0)
        self._aims = self._vectors.transpose(1, 2) @ (x.transpose(1, 2) @ y)

    def solved(self, share: float) -> Tensor:
        """`(groups, I / g, O / g)`, held back by a share of the mean square of the inputs."""
        ridge = share * self._values.mean() + torch.finfo(torch.float32).tiny
        solved: Tensor = self._vectors @ (self._aims / (self._values + ridge).unsqueeze(2))
        return solved


def _best_ridge(x: Tensor, y: Tensor) -> float:
    """Of `_RIDGES`, that of the least error on the last quarter of the crops; infinite where it is
    best to leave the weights as they are."""
    n = 3 * x.shape[1] // 4
    ridge, held_x, held_y = _Ridge(x[:, :n], y[:, :n]), x[:, n:], y[:, n:]
    errors = {
        share: float((held_y - held_x @ ridge.solved(share)).square().sum()) for share in _RIDGES
    }
    errors[math.inf] = float(held_y.square().sum())
    return min(errors, key=lambda share: errors[share])


def _line(given: Tensor, wanted: Tensor, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel with the least squared error."""
    means = (given.mean(dim=0), wanted.mean(dim=0))
    if not centred:
        means = (torch.zeros_like(means[0]), torch.zeros_like(means[1]))
    x, y = given - means[0], wanted - means[1]
    squares = x.square().sum(dim=0)
    ridge = _RIDGES[0] * squares
    scale = ((x * y).sum(dim=0) + ridge) / (squares + ridge)
    scale = torch.where(squares > 0, scale, torch.ones_like(scale))
    return scale, means[1] - scale * means[0] if centred else torch.zeros_like(means[1])
