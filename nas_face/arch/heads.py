"""Heads: last feature map to embedding. Every head ends in batch normalisation of the
embedding."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.parts import ActivationName, activation, conv_norm
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
)
from nas_face.errors import ShapeError


class AbstractHead(abc.ABC):
    """Feature map to a flat embedding of `embedding_size` values, not yet of unit length."""

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @abc.abstractmethod
    def lower(self, x: Shape) -> Layer:
        """Layers of this head for a last feature map of shape `x`.

        Raises:
            ShapeError: the head cannot take `x`.
        """


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalDepthwiseHead(AbstractHead):
    """1x1 convolution, one depthwise filter over the whole map for each channel, linear layer.

    Attributes:
        embedding_size: length of the embedding.
        tail_channels: width of the 1x1 convolution.
        act: after the 1x1 convolution.
        global_act: after the global depthwise convolution, or none.
        embedding_bias: whether the linear layer has a bias.

    Source: Chen et al., MobileFaceNets, arXiv 1804.07573, section 3.2 and table 1.
    Differs: the source has neither `global_act` nor `embedding_bias`; ShuffleFaceNet has both.
    """

    embedding_size: int
    tail_channels: int = 512
    act: ActivationName = "prelu"
    global_act: ActivationName | None = None
    embedding_bias: bool = False
    kind: Literal["global_depthwise"] = "global_depthwise"

    def lower(self, x: Shape) -> Layer:
        tail = self.tail_channels
        steps: list[tuple[str, Layer]] = [
            ("tail", conv_norm(tail, act=self.act)),
            ("global", Conv(out_channels=tail, kernel=(x.height, x.width), groups=tail)),
            ("global_norm", BatchNorm()),
        ]
        if self.global_act is not None:
            steps.append(("global_act", activation(self.global_act)))
        return _to_embedding(steps, self.embedding_size, bias=self.embedding_bias)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VariableGroupHead(AbstractHead):
    """1x1 convolution, group convolution over the whole map, 1x1 convolution, linear layer.

    Attributes:
        embedding_size: length of the embedding.
        tail_channels: width of the first 1x1 convolution, a multiple of `group_width`.
        group_width: channels in each group of the global convolution.
        act: after both 1x1 convolutions.

    Source: Yan et al., VarGFaceNet, arXiv 1910.04985, figure 2c (embedding setting).
    """

    embedding_size: int
    tail_channels: int = 1024
    group_width: Literal[4, 8, 16] = 8
    act: ActivationName = "prelu"
    kind: Literal["variable_group"] = "variable_group"

    def lower(self, x: Shape) -> Layer:
        tail, eps = self.tail_channels, 2e-5
        if tail % self.group_width:
            raise ShapeError(
                f"variable_group head: tail_channels must be a multiple of group_width="
                f"{self.group_width}, got {tail}"
            )
        groups = tail // self.group_width
        steps: list[tuple[str, Layer]] = [
            ("tail", conv_norm(tail, act=self.act, eps=eps)),
            ("global", Conv(out_channels=tail, kernel=(x.height, x.width), groups=groups)),
            ("global_norm", BatchNorm(eps=eps)),
            ("pointwise", conv_norm(self.embedding_size, act=self.act, eps=eps)),
        ]
        return _to_embedding(steps, self.embedding_size, bias=True, eps=eps)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NormAwareHead(AbstractHead):
    """1x1 convolution, norm-aware pooling (GNAP), linear layer.

    Attributes:
        embedding_size: length of the embedding.
        tail_channels: width of the 1x1 convolution.
        act: after the 1x1 convolution.

    Source: the "GNAP" head of InsightFace's MobileFaceNet variants: normalisation, norm-aware
        pooling, normalisation, linear layer, normalisation (no paper defines it).
    """

    embedding_size: int
    tail_channels: int = 512
    act: ActivationName = "prelu"
    kind: Literal["norm_aware"] = "norm_aware"

    def lower(self, x: Shape) -> Layer:
        steps: list[tuple[str, Layer]] = [
            ("tail", conv_norm(self.tail_channels, act=self.act)),
            ("map_norm", BatchNorm()),
            ("pool", NormAwarePool()),
            ("pool_norm", BatchNorm()),
        ]
        return _to_embedding(steps, self.embedding_size)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PooledLinearHead(AbstractHead):
    """1x1 convolution, global average pooling, linear layer.

    Attributes:
        embedding_size: length of the embedding.
        tail_channels: width of the 1x1 convolution.
        act: after the 1x1 convolution.

    Source: the classifier end of MobileNetV2 (arXiv 1801.04381, table 2) with an embedding in
        place of class scores.
    """

    embedding_size: int
    tail_channels: int = 512
    act: ActivationName = "prelu"
    kind: Literal["pooled_linear"] = "pooled_linear"

    def lower(self, x: Shape) -> Layer:
        steps: list[tuple[str, Layer]] = [
            ("tail", conv_norm(self.tail_channels, act=self.act)),
            ("pool", GlobalAveragePool()),
        ]
        return _to_embedding(steps, self.embedding_size)


def _to_embedding(
    steps: list[tuple[str, Layer]], embedding_size: int, *, bias: bool = False, eps: float = 1e-5
) -> Sequence:
    """`steps`, then flat vector, linear layer and batch normalisation of the embedding."""
    steps = [
        *steps,
        ("flatten", Flatten()),
        ("embedding", Linear(out_features=embedding_size, bias=bias)),
        ("embedding_norm", BatchNorm(eps=eps)),
    ]
    return Sequence(
        layers=tuple(layer for _, layer in steps), names=tuple(name for name, _ in steps)
    )
