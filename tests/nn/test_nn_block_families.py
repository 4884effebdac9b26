"""What mixed units, ghost bottlenecks, improved residuals, max-feature units and fire modules
compute, written out from the papers in plain tensor code."""

import pytest
import torch
from block_weights import Weights, image
from torch import Tensor
from torch.nn import functional

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.fire import Fire
from nas_face.arch.blocks.ghost import Ghost
from nas_face.arch.blocks.improved_residual import ImprovedResidual
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.arch.cost import Shape
from nas_face.arch.heads import FlattenLinearHead, PooledLinearHead


def deal_back(x: Tensor) -> Tensor:
    """Channels 0, 2, 4, ... and then 1, 3, 5, ...: MixFaceNets' shuffle of two groups."""
    return torch.cat([x[:, 0::2], x[:, 1::2]], dim=1)


def test_mixed_unit():
    """Both 1x1 convolutions in two groups, kernels 3, 5 and 7 on 12, 11 and 11 channels, one norm
    behind each; the reduction of the attention refers to the block's input."""
    w = Weights(
        InvertedResidual(
            out_channels=16,
            hidden_channels=34,
            kernel=(3, 5, 7),
            act="silu",
            expand_partition=(1, 1),
            project_partition=(1, 1),
            attention=SqueezeExcite(channels=8, act="silu"),
            out_mixing="unshuffle",
        )
    )
    x = image()
    at = "block.branches.0"
    y = functional.silu(w.conv(x, f"{at}.expand", groups=2))
    parts = [
        functional.conv2d(
            part,
            w[f"{at}.depthwise.conv.branches.{turn}.weight"],
            padding=turn + 1,
            groups=part.shape[1],
        )
        for turn, part in enumerate(y.split((12, 11, 11), dim=1))
    ]
    y = functional.silu(w.norm(torch.cat(parts, dim=1), f"{at}.depthwise.norm"))
    squeezed = y.mean((2, 3), keepdim=True)
    for turn in ("squeeze", "excite"):
        step = f"{at}.attention.body.{turn}"
        squeezed = functional.conv2d(squeezed, w[f"{step}.weight"], w[f"{step}.bias"])
        squeezed = functional.silu(squeezed) if turn == "squeeze" else squeezed.sigmoid()
    y = w.conv(y * squeezed, f"{at}.project", groups=2)
    assert w.agree(x, deal_back(x + y))


def ghost_module(w: Weights, x: Tensor, at: str, *, act: bool) -> Tensor:
    def maybe(y: Tensor, where: str) -> Tensor:
        return w.prelu(y, f"{where}.act") if act else y

    primary = maybe(w.conv(x, f"{at}.primary"), f"{at}.primary")
    cheap = w.conv(primary, f"{at}.ghost.branches.1", groups=primary.shape[1])
    return torch.cat([primary, maybe(cheap, f"{at}.ghost.branches.1")], dim=1)


def decoupled(w: Weights, x: Tensor, at: str) -> Tensor:
    """Attention at half the resolution: along each row, then along each column."""
    y = w.conv(functional.avg_pool2d(x, 2), f"{at}.pointwise")
    wide = y.shape[1]
    y = functional.conv2d(y, w[f"{at}.rows.conv.weight"], padding=(0, 2), groups=wide)
    y = w.norm(y, f"{at}.rows.norm")
    y = functional.conv2d(y, w[f"{at}.columns.conv.weight"], padding=(2, 0), groups=wide)
    y = w.norm(y, f"{at}.columns.norm").sigmoid()
    return functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("version", [1, 2])
def test_ghost_bottleneck_of_stride_2(version):
    """Its shortcut is a depthwise and a 1x1 convolution, with the kernel of the block."""
    block = Ghost(
        out_channels=12,
        hidden_channels=20,
        stride=2,
        kernel=5,
        attention=SqueezeExcite(channels=4),
        decoupled_attention=version == 2,
    )
    w = Weights(block, Shape(8, 7, 6))
    x = image(Shape(8, 7, 6))
    at = "branches.0"
    if version == 1:
        y = ghost_module(w, x, f"{at}.expand", act=True)
    else:
        y = ghost_module(w, x, f"{at}.expand.branches.0", act=True)
        y = y * decoupled(w, x, f"{at}.expand.branches.1")
    y = w.conv(y, f"{at}.depthwise", stride=2, groups=20)
    y = w.excite(y, f"{at}.attention.body")
    y = ghost_module(w, y, f"{at}.project", act=False)
    shortcut = w.conv(x, "branches.1.depthwise", stride=2, groups=8)
    assert w.agree(x, y + w.conv(shortcut, "branches.1.project"))


def test_ghost_bottleneck_that_keeps_its_shape():
    w = Weights(Ghost(out_channels=16, hidden_channels=6))
    x = image()
    y = ghost_module(w, x, "branches.0.expand", act=True)
    assert w.agree(x, x + ghost_module(w, y, "branches.0.project", act=False))


def test_improved_residual():
    w = Weights(ImprovedResidual(out_channels=12, hidden_channels=10, stride=2))
    x = image()
    y = w.conv(w.norm(x, "branches.0.norm"), "branches.0.first")
    y = w.conv(w.prelu(y, "branches.0.act"), "branches.0.second", stride=2)
    assert w.agree(x, y + w.conv(x, "branches.1", stride=2))


def max_feature(w: Weights, x: Tensor, at: str) -> Tensor:
    weight = w[f"{at}.conv.weight"]
    y = functional.conv2d(x, weight, w[f"{at}.conv.bias"], padding=weight.shape[-1] // 2)
    half = y.shape[1] // 2
    return torch.maximum(y[:, :half], y[:, half:])


def test_max_feature_group_with_a_pool_behind_it():
    w = Weights(MaxFeature(out_channels=6, kernel=5, stride=2))
    x = image()
    y = max_feature(w, max_feature(w, x, "block.reduce"), "block.conv")
    assert y.shape[1] == 6
    assert w.agree(x, functional.max_pool2d(y, 2, ceil_mode=True))


def test_max_feature_residual_with_both_pools_behind_it():
    w = Weights(MaxFeature(out_channels=16, form="residual", stride=2, pool="max_average"))
    x = image(Shape(16, 6, 4))
    y = max_feature(w, max_feature(w, x, "block.branches.0.first"), "block.branches.0.second")
    y = x + y
    assert w.agree(x, functional.max_pool2d(y, 2) + functional.avg_pool2d(y, 2))


def test_fire():
    w = Weights(Fire(out_channels=14, hidden_channels=5, stride=2))
    x = image()
    y = functional.max_pool2d(x, 3, 2, 1)
    y = w.conv(y, "squeeze").relu()
    halves = [w.conv(y, f"expand.branches.{turn}").relu() for turn in (0, 1)]
    assert w.agree(x, torch.cat(halves, dim=1))
    assert w["expand.branches.0.conv.weight"].shape == (7, 5, 1, 1)
    assert w["expand.branches.1.conv.weight"].shape == (7, 5, 3, 3)


def test_pooled_head_without_linear_layer():
    w = Weights(PooledLinearHead(embedding_size=9, tail_channels=9, act="relu", linear=False))
    x = image()
    assert w.agree(x, w.conv(x, "tail").relu().mean((2, 3)))


def test_flatten_head_with_the_larger_of_both_halves():
    w = Weights(
        FlattenLinearHead(
            embedding_size=5, map_norm=False, max_feature_map=True, embedding_norm=False
        )
    )
    x = image()
    y = functional.linear(x.flatten(1), w["embedding.weight"], w["embedding.bias"])
    assert w.agree(x, torch.maximum(y[:, :5], y[:, 5:]))


def test_flatten_head_with_normalisations():
    w = Weights(FlattenLinearHead(embedding_size=5, fixed_embedding_scale=True))
    x = image()
    y = w.norm(x, "map_norm").flatten(1)
    y = functional.linear(y, w["embedding.weight"], w["embedding.bias"])
    assert w.agree(x, w.norm(y, "embedding_norm"))
