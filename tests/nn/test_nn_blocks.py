"""What blocks and heads compute, against each paper's figure written out in plain tensor code.

Equal costs do not show whether channels are cut 1:3 or 3:1, or where a shuffle stands; this does.
"""

import pytest
import torch
from block_weights import Weights, image
from torch import Tensor
from torch.nn import functional

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.heads import (
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)


def itself(x: Tensor) -> Tensor:
    return x


def nothing(x: Tensor) -> int:
    return 0


def interleave(x: Tensor) -> Tensor:
    """Two-group shuffle: first of one half, first of the other, second of one half, ..."""
    halves = x.chunk(2, dim=1)
    return torch.stack(halves, dim=2).flatten(1, 2)


def test_conv_unit():
    w = Weights(ConvUnit(out_channels=16, kernel=5, stride=2, depthwise=True, act="prelu"))
    x = image()
    y = functional.conv2d(x, w["conv.weight"], stride=2, padding=2, groups=16)
    assert w.agree(x, w.prelu(w.norm(y, "norm"), "act"))


@pytest.mark.parametrize(
    ("out", "stride", "at", "shortcut"),
    [(16, 1, "branches.0.", itself), (24, 1, "", nothing), (16, 2, "", nothing)],
)
def test_inverted_residual(out, stride, at, shortcut):
    w = Weights(
        InvertedResidual(
            out_channels=out,
            hidden_channels=32,
            stride=stride,
            attention=SqueezeExcite(channels=4),
        )
    )
    x = image()
    y = w.prelu(w.conv(x, f"{at}expand"), f"{at}expand.act")
    y = w.conv(y, f"{at}depthwise", stride=stride, groups=32)
    y = w.excite(w.prelu(y, f"{at}depthwise.act"), f"{at}attention.body")
    y = w.conv(y, f"{at}project")
    assert w.agree(x, y + shortcut(x))


seesaws = pytest.mark.parametrize(
    ("out", "stride", "at", "shortcut"), [(16, 1, "branches.0.", itself), (24, 2, "", nothing)]
)


@seesaws
def test_seesaw_shuffle(out, stride, at, shortcut):
    """First quarter and the rest apart, shuffle, depthwise, attention, first quarter again."""
    w = Weights(
        Seesaw(
            out_channels=out,
            hidden_channels=32,
            mixing="shuffle",
            stride=stride,
            attention=SqueezeExcite(channels=8),
        )
    )
    x = image()
    small = functional.silu(w.conv(x[:, :4], f"{at}expand.branches.0"))
    large = functional.silu(w.conv(x[:, 4:], f"{at}expand.branches.1"))
    assert (small.shape[1], large.shape[1]) == (8, 24)
    y = interleave(torch.cat([small, large], 1))
    y = functional.silu(w.conv(y, f"{at}depthwise", stride=stride, groups=32))
    y = w.excite(y, f"{at}attention.body")
    small = w.conv(y[:, :8], f"{at}project.branches.0")
    large = w.conv(y[:, 8:], f"{at}project.branches.1")
    assert small.shape[1] * 3 == large.shape[1]
    y = torch.cat([small, large], 1)
    assert w.agree(x, y + shortcut(x))


@seesaws
def test_seesaw_share(out, stride, at, shortcut):
    """No shuffle; the projection is cut after three quarters instead."""
    w = Weights(Seesaw(out_channels=out, hidden_channels=32, mixing="share", stride=stride))
    x = image()
    small = functional.silu(w.conv(x[:, :4], f"{at}expand.branches.0"))
    large = functional.silu(w.conv(x[:, 4:], f"{at}expand.branches.1"))
    y = torch.cat([small, large], 1)
    y = functional.silu(w.conv(y, f"{at}depthwise", stride=stride, groups=32))
    large = w.conv(y[:, :24], f"{at}project.branches.0")
    small = w.conv(y[:, 24:], f"{at}project.branches.1")
    assert small.shape[1] * 3 == large.shape[1]
    y = torch.cat([large, small], 1)
    assert w.agree(x, y + shortcut(x))


def test_shuffle_unit_lets_the_first_half_pass():
    w = Weights(ShuffleUnit(out_channels=16, hidden_channels=12))
    x = image()
    at = "units.branches.1"
    y = w.prelu(w.conv(x[:, 8:], f"{at}.expand"), f"{at}.expand.act")
    y = w.conv(y, f"{at}.depthwise", groups=12)
    y = w.prelu(w.conv(y, f"{at}.project"), f"{at}.project.act")
    assert w.agree(x, interleave(torch.cat([x[:, :8], y], 1)))


@pytest.mark.parametrize(("out", "stride"), [(24, 1), (16, 2)])
def test_shuffle_unit_with_two_branches(out, stride):
    w = Weights(ShuffleUnit(out_channels=out, hidden_channels=12, stride=stride, kernel=5))
    x = image()
    at = "units.branches.0"
    passing = w.conv(x, f"{at}.depthwise", stride=stride, groups=16)
    passing = w.prelu(w.conv(passing, f"{at}.project"), f"{at}.project.act")
    at = "units.branches.1"
    y = w.prelu(w.conv(x, f"{at}.expand"), f"{at}.expand.act")
    y = w.conv(y, f"{at}.depthwise", stride=stride, groups=12)
    y = w.prelu(w.conv(y, f"{at}.project"), f"{at}.project.act")
    assert w.agree(x, interleave(torch.cat([passing, y], 1)))


def separable(w: Weights, x: Tensor, at: str, *, stride: int = 1) -> Tensor:
    """Group convolution of 8 channels a group, PReLU, 1x1 convolution."""
    y = w.conv(x, f"{at}.grouped", stride=stride, groups=x.shape[1] // 8, eps=2e-5)
    return w.conv(w.prelu(y, f"{at}.grouped.act"), f"{at}.pointwise", eps=2e-5)


@pytest.mark.parametrize(
    ("out", "stride", "shortcut"),
    [
        (16, 1, lambda w, x: x),
        (24, 1, lambda w, x: separable(w, x, "0.branches.1")),
        (16, 2, lambda w, x: separable(w, x, "0.branches.1", stride=2)),
    ],
)
def test_variable_group_normal(out, stride, shortcut):
    w = Weights(
        VariableGroupNormal(out_channels=out, stride=stride, attention=SqueezeExcite(channels=4))
    )
    x = image()
    y = separable(w, x, "0.branches.0.0", stride=stride)
    y = w.prelu(y, "0.branches.0.0.pointwise.act")
    y = w.excite(separable(w, y, "0.branches.0.1"), "0.branches.0.2.body")
    assert w.agree(x, w.prelu(y + shortcut(w, x), "1"))


def test_variable_group_down():
    w = Weights(VariableGroupDown(out_channels=24))
    x = image()
    first = separable(w, x, "0.branches.0.0.branches.0", stride=2)
    second = separable(w, x, "0.branches.0.0.branches.1", stride=2)
    y = separable(w, w.prelu(first + second, "0.branches.0.1"), "0.branches.0.2")
    shortcut = separable(w, x, "0.branches.1", stride=2)
    assert w.agree(x, w.prelu(y + shortcut, "1"))


def embedding(w: Weights, y: Tensor, *, eps: float = 1e-5, bias: bool = False) -> Tensor:
    flat = y.flatten(1)
    y = functional.linear(flat, w["embedding.weight"], w["embedding.bias"] if bias else None)
    return w.norm(y, "embedding_norm", eps)


@pytest.mark.parametrize(
    ("act", "function", "bias"), [(None, itself, False), ("silu", functional.silu, True)]
)
def test_global_depthwise_head(act, function, bias):
    head = GlobalDepthwiseHead(
        embedding_size=6,
        tail_channels=24,
        global_act=act,
        embedding_bias=bias,
    )
    w = Weights(head)
    x = image()
    y = w.prelu(w.conv(x, "tail"), "tail.act")
    y = (y * w["global.weight"][:, 0]).sum((2, 3), keepdim=True)
    y = w.norm(y, "global_norm")
    assert w.agree(x, embedding(w, function(y), bias=bias))


def test_variable_group_head():
    w = Weights(VariableGroupHead(embedding_size=6, tail_channels=24))
    x = image()
    y = w.prelu(w.conv(x, "tail", eps=2e-5), "tail.act")
    y = torch.cat(
        [
            torch.einsum("nchw,ochw->no", part, weight)
            for part, weight in zip(y.split(8, 1), w["global.weight"].split(8), strict=True)
        ],
        dim=1,
    )
    y = w.norm(y, "global_norm", 2e-5)[..., None, None]
    y = w.prelu(w.conv(y, "pointwise", eps=2e-5), "pointwise.act")
    assert w.agree(x, embedding(w, y, eps=2e-5, bias=True))


def test_norm_aware_head():
    w = Weights(NormAwareHead(embedding_size=6, tail_channels=24))
    x = image()
    y = w.norm(w.prelu(w.conv(x, "tail"), "tail.act"), "map_norm")
    lengths = y.norm(dim=1, keepdim=True)
    y = (y / lengths * lengths.mean((2, 3), keepdim=True)).mean((2, 3))
    assert w.agree(x, embedding(w, w.norm(y, "pool_norm")))


def test_pooled_linear_head():
    w = Weights(PooledLinearHead(embedding_size=6, tail_channels=24))
    x = image()
    y = w.prelu(w.conv(x, "tail"), "tail.act").mean((2, 3))
    assert w.agree(x, embedding(w, y))
