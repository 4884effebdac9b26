"""Heads: last feature map to embedding."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.parts import ActivationName, conv_norm, maybe_activation, named
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
)
from nas_face.arch.sizes import floor_share, largest
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
        embedding_size: length of the embedding; without the linear layer, the width before it.
        map_act: in front of the 1x1 convolution, or none.
        tail_channels: width of the 1x1 convolution; none for no such convolution.
        act: after the 1x1 convolution.
        global_act: after the global depthwise convolution, or none.
        linear: whether the linear layer and its normalisation are there.
        embedding_bias: whether the linear layer has a bias.
        fixed_embedding_scale: whether the last normalisation learns a shift only.
        rank_ratio: of the linear layer, where it is of low rank.

    Source: Chen et al., MobileFaceNets, arXiv 1804.07573, section 3.2 and table 1; its variant -M
        has no linear layer, its variant -S neither that nor the 1x1 convolution.
    Differs: the source has neither `map_act` (PocketNet), nor `global_act` and `embedding_bias`
        (ShuffleFaceNet), nor `fixed_embedding_scale` (MixFaceNets), nor `rank_ratio`.
    """

    embedding_size: int
    map_act: ActivationName | None = None
    tail_channels: int | None = 512
    act: ActivationName = "prelu"
    global_act: ActivationName | None = None
    linear: bool = True
    embedding_bias: bool = False
    fixed_embedding_scale: bool = False
    rank_ratio: float | None = None
    kind: Literal["global_depthwise"] = "global_depthwise"

    def lower(self, x: Shape) -> Layer:
        width = x.channels if self.tail_channels is None else self.tail_channels
        tail = None if self.tail_channels is None else conv_norm(width, act=self.act)
        pooled = named(
            ("map_act", maybe_activation(self.map_act)),
            ("tail", tail),
            ("global", Conv(out_channels=width, kernel=(x.height, x.width), groups=width)),
            ("global_norm", BatchNorm()),
            ("global_act", maybe_activation(self.global_act)),
        )
        if self.linear:
            return _to_embedding(
                pooled,
                width,
                self.embedding_size,
                bias=self.embedding_bias,
                norm=BatchNorm(fixed_scale=self.fixed_embedding_scale),
                rank_ratio=self.rank_ratio,
            )
        return _without_linear("global_depthwise", pooled, width, self.embedding_size)


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
        pooled = named(
            ("tail", conv_norm(tail, act=self.act, eps=eps)),
            ("global", Conv(out_channels=tail, kernel=(x.height, x.width), groups=groups)),
            ("global_norm", BatchNorm(eps=eps)),
            ("pointwise", conv_norm(self.embedding_size, act=self.act, eps=eps)),
        )
        size = self.embedding_size
        return _to_embedding(pooled, size, size, bias=True, norm=BatchNorm(eps=eps))


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
        pooled = named(
            ("tail", conv_norm(self.tail_channels, act=self.act)),
            ("map_norm", BatchNorm()),
            ("pool", NormAwarePool()),
            ("pool_norm", BatchNorm()),
        )
        return _to_embedding(pooled, self.tail_channels, self.embedding_size)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PooledLinearHead(AbstractHead):
    """1x1 convolution, global average pooling, linear layer.

    Attributes:
        embedding_size: length of the embedding.
        tail_channels: width of the 1x1 convolution; none for no such convolution.
        act: after the 1x1 convolution.
        linear: whether the linear layer and its normalisation are there.
        map_norm: whether batch normalisation of the map comes before the pool.
        pool_norm: normalisation over channels behind the pool, or none.
        embedding_bias: whether the linear layer has a bias.
        embedding_norm: whether batch normalisation of the embedding follows.
        rank_ratio: of the linear layer, where it is of low rank.

    Source: the classifier end of MobileNetV2 (arXiv 1801.04381, table 2) with an embedding in
        place of class scores; with `map_norm`, that of TVConv's networks (arXiv 2203.10489); with
        `pool_norm` and without the rest, EdgeFace's (arXiv 2307.01838); without the linear layer,
        the end of SqueezeNet (arXiv 1602.07360, figure 2).
    """

    embedding_size: int
    tail_channels: int | None = 512
    act: ActivationName = "prelu"
    linear: bool = True
    map_norm: bool = False
    pool_norm: Literal["layer"] | None = None
    embedding_bias: bool = False
    embedding_norm: bool = True
    rank_ratio: float | None = None
    kind: Literal["pooled_linear"] = "pooled_linear"

    def lower(self, x: Shape) -> Layer:
        width = x.channels if self.tail_channels is None else self.tail_channels
        tail = None if self.tail_channels is None else conv_norm(width, act=self.act)
        pooled = named(
            ("tail", tail),
            ("map_norm", BatchNorm() if self.map_norm else None),
            ("pool", GlobalAveragePool()),
            ("pool_norm", LayerNorm() if self.pool_norm else None),
        )
        if not self.linear:
            return _without_linear("pooled_linear", pooled, width, self.embedding_size)
        return _to_embedding(
            pooled,
            width,
            self.embedding_size,
            bias=self.embedding_bias,
            norm=BatchNorm() if self.embedding_norm else None,
            rank_ratio=self.rank_ratio,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenLinearHead(AbstractHead):
    """The whole map, flattened, into one linear layer.

    Attributes:
        embedding_size: length of the embedding.
        map_norm: whether batch normalisation of the map comes first.
        max_feature_map: whether the layer makes twice the embedding and the larger of both halves
            is taken.
        embedding_bias: whether the linear layer has a bias.
        embedding_norm: whether batch normalisation of the embedding follows.
        fixed_embedding_scale: whether that normalisation learns a shift only.

    Source: the "E" output of ArcFace (Deng et al., arXiv 1801.07698, section 3.2.2) with both
        normalisations; LightCNN (Wu et al., arXiv 1511.02683, table 1) without them.
    """

    embedding_size: int
    map_norm: bool = True
    max_feature_map: bool = False
    embedding_bias: bool = True
    embedding_norm: bool = True
    fixed_embedding_scale: bool = False
    kind: Literal["flatten_linear"] = "flatten_linear"

    def lower(self, x: Shape) -> Layer:
        wide = self.embedding_size * (2 if self.max_feature_map else 1)
        return named(
            ("map_norm", BatchNorm() if self.map_norm else None),
            ("flatten", Flatten()),
            ("embedding", Linear(out_features=wide, bias=self.embedding_bias)),
            ("max", MaxFeatureMap() if self.max_feature_map else None),
            (
                "embedding_norm",
                BatchNorm(fixed_scale=self.fixed_embedding_scale) if self.embedding_norm else None,
            ),
        )


def _to_embedding(
    pooled: Sequence,
    width: int,
    embedding_size: int,
    *,
    bias: bool = False,
    norm: BatchNorm | None = BatchNorm(),  # noqa: B008 - frozen
    rank_ratio: float | None = None,
) -> Sequence:
    """`pooled`, then flat vector, linear layer and normalisation of the embedding.

    Args:
        pooled: to a 1x1 map.
        width: of that map.
        embedding_size: length of the embedding.
        bias: whether the linear layer has one.
        norm: of the embedding, or none.
        rank_ratio: of the linear layer, where it is of low rank.
    """
    linear: Layer = Linear(out_features=embedding_size, bias=bias)
    if rank_ratio is not None:
        rank = largest(2, floor_share(rank_ratio, min(width, embedding_size)))
        linear = named(("reduce", Linear(out_features=rank)), ("restore", linear))
    return _extended(
        pooled, ("flatten", Flatten()), ("embedding", linear), ("embedding_norm", norm)
    )


def _without_linear(kind: str, pooled: Sequence, width: int, embedding_size: int) -> Sequence:
    if embedding_size != width:
        raise ShapeError(
            f"{kind} head: without its linear layer the embedding is as long as the map is wide, "
            f"{width}, got embedding_size={embedding_size}"
        )
    return _extended(pooled, ("flatten", Flatten()))


def _extended(first: Sequence, *steps: tuple[str, Layer | None]) -> Sequence:
    return named(*first.named_layers(), *steps)
