"""NASWOT: how differently the units of an untrained network respond to different images."""

import contextlib
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.nn.modules import MaxFeatureMapModule
from nas_face.proxies.subject import Subject, batch_statistics

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU)


def naswot(subject: Subject) -> tuple[float]:
    """Logarithm of |det K|, where K counts the units that agree on two images.

    A unit is one number in front of an activation, its code for an image 1 where that number is
    positive: K_ij = units - Hamming distance of the codes of images i and j.

    Source: Mellor et al., Neural Architecture Search without Training, arXiv 2006.04647,
    the kernel K_H of Hamming distances and the score log |K_H|.
    Differs: the paper has ReLU only. PReLU, ReLU6, SiLU, h-swish and GELU are coded alike, by the
    sign of what they are given; a max-feature-map by which of its two halves is the larger; the
    sigmoids of gates rectify nothing and are left out.

    Returns:
        NaN for a network without such activations, or where two images have the same code, as two
        copies of an image do.
    """
    kernel = agreement_kernel(subject)
    if not kernel.any():
        return (math.nan,)
    sign, logarithm = np.linalg.slogdet(kernel)
    return (float(logarithm) if sign != 0 and np.isfinite(logarithm) else math.nan,)


def agreement_kernel(subject: Subject) -> NDArray[np.float64]:
    """K, `(N, N)`; zero for a network without activations."""
    module = subject.model.module
    n = len(subject.x)
    kernel = torch.zeros(n, n, dtype=torch.float64)

    def note(activation: nn.Module, inputs: tuple[Any, ...]) -> None:
        codes = _codes(activation, inputs[0]).flatten(1).float().mul_(2).sub_(1)  # (N, units)
        # Sums of +-1 are exact in float32 as long as a layer has under 2**24 units.
        kernel.add_((codes @ codes.T + codes.shape[1]) / 2)

    with contextlib.ExitStack() as hooks, batch_statistics(module), torch.no_grad():
        for each in module.modules():
            if isinstance(each, (*_RECTIFIERS, MaxFeatureMapModule)):
                hooks.callback(each.register_forward_pre_hook(note).remove)
        module(subject.x)
    return kernel.numpy()


def _codes(activation: nn.Module, x: Tensor) -> Tensor:
    """Whether each unit is on, boolean."""
    if isinstance(activation, MaxFeatureMapModule):
        first, second = x.chunk(2, dim=1)
        return first > second
    return x > 0
