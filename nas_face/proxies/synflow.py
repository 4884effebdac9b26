"""SynFlow: how much signal all weights pass on together, without any data."""

import copy
import math

import torch
from torch import nn

from nas_face.nn.modules import LayerNormModule
from nas_face.proxies.subject import Subject


def synflow(subject: Subject) -> tuple[float]:
    """Natural logarithm of the sum over all parameters of |theta * dR / dtheta|.

    R is the sum of the embedding of one image of ones, in the network with absolute weights.

    Source: Tanaka et al., SynFlow, arXiv 2006.05467, the saliency |theta * dR / dtheta| of
    synaptic flow; summed over the network as a score of architectures by Abdelfattah et al.,
    Zero-Cost Proxies, arXiv 2101.08134.
    Differs: the logarithm, which changes no rank and fits a float; norms let everything through
    unchanged, as in the second source; ReLU6 does not clip, since behind a clip nothing would
    flow; a network with SiLU, h-swish, GELU or gates is not linear even for positive signals, and
    is taken as it is.

    Returns:
        NaN where nothing flows, or more than a float64 can hold.
    """
    module = copy.deepcopy(subject.model.module).double().eval()
    _linearise(module)
    weights = [each for each in module.parameters() if each.requires_grad]
    with torch.no_grad():
        for each in module.parameters():
            each.abs_()
    x = torch.ones(1, *subject.spec.input_shape, dtype=torch.float64)
    flow = module(x).sum()
    gradients = torch.autograd.grad(flow, weights, materialize_grads=True)
    total = math.fsum(
        float((weight.detach() * gradient).abs().sum())
        for weight, gradient in zip(weights, gradients, strict=True)
    )
    return (math.log(total) if 0 < total < math.inf else math.nan,)


def _linearise(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm | LayerNormModule):
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.ReLU6):
            setattr(module, name, nn.ReLU())
        else:
            _linearise(child)
