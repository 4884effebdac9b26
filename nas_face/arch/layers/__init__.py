"""Primitive layers: the only things that know shapes and costs, and the only things that become
torch modules.

Each is a frozen dataclass with one rule, `measure`: input shape to output shape and cost. Layers
say what they produce; what they receive follows from the shape in front of them, so changing a
width is a change in one place.
"""

from nas_face.arch.layers.activation import Activation, Function, MaxFeatureMap, PReLU
from nas_face.arch.layers.affine import ChannelConv, Conv, Linear, TranslationVariantConv
from nas_face.arch.layers.attention import CrossCovarianceAttention, GatedChannelTransform
from nas_face.arch.layers.base import AbstractLayer
from nas_face.arch.layers.channels import ChannelShuffle, ChannelSlice
from nas_face.arch.layers.maps import Crop, Flatten, FourierFeatures, Resize
from nas_face.arch.layers.norm import BatchNorm, ChannelScale, LayerNorm
from nas_face.arch.layers.pool import (
    ChannelPool,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    NormAwarePool,
    Pool,
)

__all__ = [
    "AbstractLayer",
    "Activation",
    "BatchNorm",
    "ChannelConv",
    "ChannelPool",
    "ChannelScale",
    "ChannelShuffle",
    "ChannelSlice",
    "Conv",
    "Crop",
    "CrossCovarianceAttention",
    "Flatten",
    "FourierFeatures",
    "Function",
    "GatedChannelTransform",
    "GlobalAverageMaxPool",
    "GlobalAveragePool",
    "LayerNorm",
    "Linear",
    "MaxFeatureMap",
    "NormAwarePool",
    "PReLU",
    "Pool",
    "Resize",
    "TranslationVariantConv",
]
