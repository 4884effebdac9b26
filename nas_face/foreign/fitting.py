"""Whether an operator of a file is a layer of ours, and its weights in our form."""

from math import prod

import numpy as np
import torch

from nas_face.arch.combinators import Layer
from nas_face.arch.layers import (
    BatchNorm,
    ChannelConv,
    ChannelScale,
    Conv,
    CrossCovarianceAttention,
    GatedChannelTransform,
    LayerNorm,
    Linear,
    PReLU,
    TranslationVariantConv,
)
from nas_face.foreign.operators import Array, Operator
from nas_face.foreign.sites import Site
from nas_face.nn.build import build

Weights = dict[str, Array]


def fitted(operator: Operator, site: Site) -> Weights | None:
    """Weights of a site out of an operator; none if it is another layer.

    A bias that the site has no place for stays under the key `bias`; the normalisation behind the
    site takes it up.
    """
    layer = site.layer
    match operator.kind:
        case "affine":
            return _affine(operator, layer, site)
        case "batch_norm" if isinstance(layer, BatchNorm):
            return _batch_norm(operator, layer, site)
        case "pair" if isinstance(layer, BatchNorm):
            return _scale_and_shift(operator, layer, site)
        case "pair" if isinstance(layer, LayerNorm):
            same = all(
                operator.arrays[key].size == prod(shape) for key, shape in site.shapes.items()
            )
            return {key: operator.arrays[key].reshape(-1) for key in site.shapes} if same else None
        case "pair" if isinstance(layer, GatedChannelTransform) and len(site.shapes) == 2:
            (shape, _) = site.shapes.values()
            if any(value.size != prod(shape) for value in operator.arrays.values()):
                return None
            gamma, beta = (operator.arrays[key].reshape(shape) for key in ("weight", "bias"))
            return {"gamma": gamma, "beta": beta}
        case "vector" if len(site.shapes) == 1:
            return _vector(operator, layer, site)
        case "other":
            return _encoding(operator.arrays["value"], layer, site)
    return None


def identity_norm(layer: BatchNorm, channels: int) -> Weights:
    """Batch normalisation that changes nothing, to the last bit: sqrt(1 - eps + eps) is one."""
    ones = np.ones(channels, np.float32)
    zeros = np.zeros(channels, np.float32)
    return {
        "weight": ones,
        "bias": zeros,
        "running_mean": zeros,
        "running_var": _variance_of(ones, layer.eps),
    }


def _variance_of(scale: Array, eps: float) -> Array:
    """Variance whose batch normalisation multiplies by `scale`."""
    wanted = 1.0 / np.square(scale.astype(np.float64)) - eps
    return wanted.astype(np.float32)


def _affine(operator: Operator, layer: Layer, site: Site) -> Weights | None:
    weight, bias = operator.arrays["weight"], operator.arrays.get("bias")
    if isinstance(layer, ChannelConv):
        # (1, 1, k) of one dimension, or (1, 1, k, 1) and (1, 1, 1, k) of two
        along = weight.size == layer.kernel and max(weight.shape) == layer.kernel
        return {"weight": weight.reshape(-1)} if along and bias is None else None
    if not isinstance(layer, Conv | Linear | TranslationVariantConv):
        return None
    wanted = site.shapes["weight"]
    if weight.shape != wanted and not _same_order(weight.shape, wanted, site):
        return None
    if isinstance(layer, Conv) and operator.window is not None and weight.ndim == 4:
        window = operator.window
        if (
            window.strides != (layer.stride,) * 2
            or window.pads != layer.padding * 2
            or window.groups != layer.groups
        ):
            return None
    biased = "bias" in site.shapes
    if biased and bias is None:
        return None
    if bias is not None and not biased and site.norm is None:
        return None
    weights = {"weight": weight.reshape(wanted)}
    if bias is not None:
        if bias.size != wanted[0]:
            return None
        weights["bias"] = bias.reshape(-1)
    return weights


def _same_order(shape: tuple[int, ...], wanted: tuple[int, ...], site: Site) -> bool:
    """Whether weights of another shape multiply the same values in the same order.

    A linear layer is a 1x1 convolution, and a linear layer behind a flattened map is a convolution
    over the whole map; torch flattens channel by channel, then row by row.
    """
    if len(shape) < 2 or shape[0] != wanted[0] or prod(shape) != prod(wanted):
        return False
    layer = site.layer
    if isinstance(layer, Linear):
        if len(shape) != 4:
            return False
        return shape[2:] == (1, 1) or site.flattened == shape[1:]
    if isinstance(layer, Conv) and layer.groups == 1 and len(shape) == 2:
        whole = wanted[2:] == site.input[1:] and layer.padding == (0, 0)
        return wanted[2:] == (1, 1) or whole
    return False


def _batch_norm(operator: Operator, layer: BatchNorm, site: Site) -> Weights | None:
    channels = site.shapes["running_mean"][0]
    given = operator.arrays
    if any(value.size != channels for value in given.values()):
        return None
    weights = identity_norm(layer, channels)
    for key in weights:
        if key in given:
            weights[key] = given[key].reshape(-1)
    if operator.eps is not None and operator.eps != layer.eps:
        exact = weights["running_var"].astype(np.float64) + operator.eps - layer.eps
        weights["running_var"] = exact.astype(np.float32)
    if layer.fixed_scale:
        return _with_fixed_scale(weights, layer)
    return weights


def _scale_and_shift(operator: Operator, layer: BatchNorm, site: Site) -> Weights | None:
    if operator.use != "scale":  # a plain pair has no statistics: it is a layer normalisation
        return None
    channels = site.shapes["running_mean"][0]
    if any(value.size != channels for value in operator.arrays.values()):
        return None
    weights = identity_norm(layer, channels)
    weights["weight"] = operator.arrays["weight"].reshape(-1)
    weights["bias"] = operator.arrays["bias"].reshape(-1)
    return _with_fixed_scale(weights, layer) if layer.fixed_scale else weights


def _with_fixed_scale(weights: Weights, layer: BatchNorm) -> Weights | None:
    """The scale moved into the variance, where the layer's own scale stays at one."""
    scale = weights["weight"].astype(np.float64)
    if (scale == 1).all():
        return weights
    if (scale <= 0).any():
        return None
    whole = scale / np.sqrt(weights["running_var"].astype(np.float64) + layer.eps)
    variance = 1.0 / np.square(whole) - layer.eps
    if (variance < 0).any():
        return None
    moved = {"weight": np.ones_like(weights["weight"]), "running_var": variance.astype(np.float32)}
    return {**weights, **moved}


def _vector(operator: Operator, layer: Layer, site: Site) -> Weights | None:
    if not isinstance(
        layer, PReLU | ChannelScale | CrossCovarianceAttention | GatedChannelTransform
    ):
        return None
    fits_use = (
        operator.use in (None, "slope") if isinstance(layer, PReLU) else (operator.use != "slope")
    )
    ((key, shape),) = site.shapes.items()
    value = operator.arrays["value"]
    return {key: value.reshape(shape)} if fits_use and value.size == prod(shape) else None


def _encoding(value: Array, layer: Layer, site: Site) -> Weights | None:
    """A 1x1 convolution of features of the position out of its result, which a file holds instead.

    The result is the same for every image. The weights are the smallest that give it.
    """
    if not isinstance(layer, Conv) or site.features is None or layer.kernel != (1, 1):
        return None
    features, shape = site.features
    channels = site.shapes["weight"][0]
    positions = shape.height * shape.width
    if value.size != channels * positions or not layer.bias:
        return None
    with torch.no_grad():
        known = build(features, shape)(torch.zeros(1, *shape))[0].double().numpy()
    known = np.concatenate([known.reshape(-1, positions), np.ones((1, positions))])
    wanted = value.reshape(channels, positions).astype(np.float64)
    solved = np.linalg.lstsq(known.T, wanted.T, rcond=1e-9)[0].T  # (channels, features + 1)
    if np.abs(solved @ known - wanted).max() > 1e-5 * max(1.0, np.abs(wanted).max()):
        return None
    weight = solved[:, :-1].astype(np.float32).reshape(site.shapes["weight"])
    return {"weight": weight, "bias": solved[:, -1].astype(np.float32)}
