"""AZ-NAS: four figures of a network, each a view of its own, joined by ranks."""

import contextlib
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nas_face.proxies.size import madds
from nas_face.proxies.subject import Subject, batch_statistics

FIGURES = ("az_expressivity", "az_progressivity", "az_trainability", "madds")


def az_nas(subject: Subject) -> tuple[float, float, float, float]:
    """Expressivity, progressivity, trainability and complexity.

    With F_l the feature map behind block l of stem and stages, one row a pixel and image:

    - expressivity: sum over l of s_l, the entropy of the eigenvalues of the covariance of F_l,
      shared out to sum 1;
    - progressivity: min over l of s_l - s_(l-1);
    - trainability: mean over l >= 2 of 2 - sigma_l - 1 / sigma_l. Sigma_l is the spectral norm of
      the block's Jacobian, estimated from one backward pass of random signs v through the block:
      of the mean over pixels and images of (J^T v) v^T;
    - complexity: multiply-adds.

    The proxy itself is the sum of the logarithms of the ranks in each; see `log_rank_sum`.

    Source: Lee and Ham, AZ-NAS, arXiv 2403.19232, section 3; with the authors' code, a block
    that changes the resolution by s has its s x s pixels counted as channels, and 1e-6 is added
    to sigma in the fraction.
    Differs: on faces instead of noise; weights are this package's (He-normal for a slope of 0.25);
    a map whose side is no multiple of s is filled up with zeros.

    Returns:
        NaN in the figures that a network with fewer than two blocks, or with values that are not
        finite, does not have.
    """
    with batch_statistics(subject.model.module):
        maps = _feature_maps(subject)
        entropies = [_entropy(each.detach()) for each in maps]
        generator = torch.Generator().manual_seed(subject.seed)
        sigmas = [
            _spectral_norm(before, behind, generator)
            for before, behind in reversed(list(pairwise(maps)))
        ]
    rises = [later - earlier for earlier, later in pairwise(entropies)]
    health = [2 - sigma - 1 / (sigma + 1e-6) for sigma in sigmas]
    return (
        _finite(sum(entropies)),
        _finite(min(rises)) if rises and all(map(math.isfinite, rises)) else math.nan,
        _finite(math.fsum(health) / len(health)) if health else math.nan,
        *madds(subject),
    )


def _feature_maps(subject: Subject) -> list[Tensor]:
    """Output of every block but the head, `(N, C, H, W)`, each joined to the one before by its
    graph."""
    module = subject.model.module
    maps: list[Tensor] = []

    def note(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        maps.append(output)

    with contextlib.ExitStack() as hooks:
        for name, _ in subject.spec.named_blocks()[:-1]:
            hooks.callback(module.get_submodule(name).register_forward_hook(note).remove)
        with torch.enable_grad():
            module(subject.x)
    return maps


def _entropy(features: Tensor) -> float:
    """Of the variances along the principal axes of the pixels, in nats."""
    rows = features.movedim(1, -1).flatten(0, -2)  # (N H W, C)
    rows = (rows - rows.mean(dim=0)).double()
    covariance = rows.T @ rows / len(rows)
    if not covariance.isfinite().all():
        return math.nan
    variances = torch.linalg.eigvalsh(covariance).clamp_min(0)
    shares = variances / variances.sum()
    return float(-torch.special.xlogy(shares, shares).sum())


def _spectral_norm(before: Tensor, behind: Tensor, generator: torch.Generator) -> float:
    """Of the Jacobian of the block between two maps, estimated; NaN if it is not finite."""
    signs = torch.randint(0, 2, behind.shape, generator=generator).to(behind.dtype) * 2 - 1
    (pulled,) = torch.autograd.grad(behind, before, signs, materialize_grads=True)
    folded = _fold(pulled, (behind.shape[2], behind.shape[3]))
    rows = folded.movedim(1, -1).flatten(0, -2)  # (N H W, C_in s s)
    columns = signs.movedim(1, -1).flatten(0, -2)  # (N H W, C_out)
    jacobian = rows.T @ columns / len(rows)
    if not jacobian.isfinite().all():
        return math.nan
    return float(torch.linalg.matrix_norm(jacobian, ord=2))


def _fold(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels of a map as channels of a smaller one, `(N, C, H, W)` to `(N, C s t, *size)`."""
    s, t = (-(-old // new) for old, new in zip(x.shape[2:], size, strict=True))
    height, width = size
    filled = nn.functional.pad(x, (0, width * t - x.shape[3], 0, height * s - x.shape[2]))
    cells = filled.unflatten(3, (width, t)).unflatten(2, (height, s))  # (N, C, H, s, W, t)
    folded: Tensor = cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    return folded


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
