"""What cells and split attention compute, written out from the papers in plain tensor code."""

import math

import pytest
import torch
from block_weights import Weights, image
from torch import Tensor
from torch.nn import functional

from nas_face.arch.blocks.cells import Cells, genotype
from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.cost import Shape


def separable(w: Weights, x: Tensor, at: str, *, stride: int = 1) -> Tensor:
    weight = w[f"{at}.depthwise.weight"]
    padding = weight.shape[-1] // 2
    y = functional.conv2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])
    return functional.conv2d(y, w[f"{at}.pointwise.weight"])


def unit(w: Weights, x: Tensor, at: str, *, stride: int = 1) -> Tensor:
    y = separable(w, w.prelu(x, f"{at}.act"), at, stride=stride)
    return w.norm(y, f"{at}.norm")


def halved(w: Weights, x: Tensor, at: str) -> Tensor:
    y = w.prelu(x, f"{at}.act")
    shifted = y[:, :, 1 - y.shape[2] % 2 :, 1 - y.shape[3] % 2 :]
    halves = f"{at}.halves.branches"
    first = separable(w, y, f"{halves}.0", stride=2)
    second = separable(w, shifted, f"{halves}.1", stride=2)
    return w.norm(torch.cat([first, second], 1), f"{at}.norm")


def operation(w: Weights, x: Tensor, name: str, at: str, stride: int) -> Tensor:
    if name == "skip":
        return x if stride == 1 else halved(w, x, at)
    if name == "max_pool_3x3":
        return w.norm(functional.max_pool2d(x, 3, stride, 1), f"{at}.norm")
    if name == "average_pool_3x3":
        y = functional.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        return w.norm(y, f"{at}.norm")
    return unit(w, x, at, stride=stride)


def cells(w: Weights, x: Tensor, block: Cells) -> Tensor:
    """The network of DARTS: every cell reads the results of both cells before it."""
    before = last = x
    for position in range(block.repeats):
        halving = position in block.positions
        at = f"steps.cell{position}"
        fits = before.shape[2:] == last.shape[2:]
        values = [
            (unit if fits else halved)(w, before, f"{at}_input0"),
            unit(w, last, f"{at}_input1"),
        ]
        for node, edges in enumerate(block.reduction if halving else block.normal):
            total = 0
            for slot, edge in enumerate(edges):
                stride = 2 if halving and edge.source < 2 else 1
                path = f"{at}_node{node}_edge{slot}"
                total += operation(w, values[edge.source], edge.operation, path, stride)
            values.append(total)
        before, last = last, torch.cat(values[2:], 1)
    return last


OTHER = genotype(
    (("skip", 0), ("average_pool_3x3", 1)),
    (("skip", 2), ("skip", 1)),
    (("max_pool_3x3", 3), ("depthwise_7x7", 0)),
)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (Cells(out_channels=16), Shape(6, 6, 5)),
        (Cells(out_channels=32, repeats=3, stride=4, reductions=(0, 2)), Shape(6, 8, 8)),
        (Cells(out_channels=32, repeats=3, stride=4, reductions=(0, 1)), Shape(6, 9, 6)),
        (
            Cells(out_channels=24, repeats=3, stride=2, normal=OTHER, reduction=OTHER),
            Shape(5, 7, 10),
        ),
    ],
)
def test_cells(block, shape):
    w = Weights(block, shape)
    x = image(shape)
    assert w.agree(x, cells(w, x, block))


def normed(w: Weights, x: Tensor, at: str) -> Tensor:
    deviation = x - x.mean(1, keepdim=True)
    y = deviation / (deviation.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return y * w[f"{at}.weight"][:, None, None] + w[f"{at}.bias"][:, None, None]


def conv(w: Weights, x: Tensor, at: str, **options) -> Tensor:
    return functional.conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], **options)


def mix(w: Weights, x: Tensor, at: str) -> Tensor:
    y = functional.gelu(conv(w, normed(w, x, f"{at}.norm"), f"{at}.expand"))
    return conv(w, y, f"{at}.project") * w[f"{at}.scale.weight"][:, None, None]


def test_conv_encoder():
    w = Weights(ConvEncoder(out_channels=12, hidden_channels=20, stride=2, kernel=5))
    x = image()
    x_down = conv(w, normed(w, x, "down.norm"), "down.conv", stride=2)
    assert x_down.shape[2:] == (3, 2)
    at = "encoder.branches.0"
    y = conv(w, x_down, f"{at}.depthwise", padding=2, groups=12)
    assert w.agree(x, x_down + mix(w, y, f"{at}.mix"))


def attention(w: Weights, x: Tensor, at: str, heads: int) -> Tensor:
    """Between channels, head by head."""
    y = conv(w, normed(w, x, f"{at}.norm"), f"{at}.qkv")
    query, key, value = y.flatten(2).chunk(3, 1)
    width = query.shape[1] // heads
    mixed = []
    for head in range(heads):
        q, k, v = (each[:, head * width : (head + 1) * width] for each in (query, key, value))
        q, k = (each / each.norm(dim=2, keepdim=True) for each in (q, k))
        scores = q @ k.transpose(1, 2) * w[f"{at}.attend.temperature"][head]
        mixed.append(scores.softmax(2) @ v)
    y = torch.cat(mixed, 1).unflatten(2, x.shape[2:])
    return conv(w, y, f"{at}.project") * w[f"{at}.scale.weight"][:, None, None]


def positions(x: Tensor) -> Tensor:
    """Sines and cosines of rows, then of columns, at sixteen frequencies each."""
    maps = []
    for axis in (0, 1):
        size = x.shape[2 + axis]
        for i in range(16):
            for function in (math.sin, math.cos):
                line = torch.tensor(
                    [
                        function(2 * math.pi * (y + 1) / (size + 1e-6) / 10000 ** (2 * i / 32))
                        for y in range(size)
                    ]
                )
                maps.append((line[:, None] if axis == 0 else line).expand(x.shape[2:]))
    return torch.stack(maps)[None]


@pytest.mark.parametrize("encoded", [False, True])
def test_split_attention(encoded):
    """Widths 6, 6 and 4: each part joins the result of the part before, the last stays."""
    w = Weights(
        SplitAttention(out_channels=16, hidden_channels=20, parts=3, heads=2, positions=encoded)
    )
    x = image()
    at = "encoder.branches.0"
    first = conv(w, x[:, :6], f"{at}.split.steps.conv0", padding=1, groups=6)
    second = conv(w, first + x[:, 6:12], f"{at}.split.steps.conv1", padding=1, groups=6)
    y = torch.cat([first, second, x[:, 12:]], 1)
    if encoded:
        y = y + conv(w, positions(x), f"{at}.positions.branches.0.project")
    y = y + attention(w, y, f"{at}.attention.branches.0", heads=2)
    assert w.agree(x, x + mix(w, y, f"{at}.mix"))


def test_low_rank_is_two_layers_and_one_bias():
    block = ConvEncoder(out_channels=16, hidden_channels=40, rank_ratio=0.6)
    w = Weights(block)
    assert w.state["encoder.branches.0.mix.expand.reduce.weight"].shape == (9, 16, 1, 1)
    assert w.state["encoder.branches.0.mix.expand.restore.weight"].shape == (40, 9, 1, 1)
    assert "encoder.branches.0.mix.expand.restore.bias" in w.state
    assert "encoder.branches.0.mix.expand.reduce.bias" not in w.state


@pytest.mark.parametrize("stride", [1, 2])
def test_translation_variant_convolution(stride):
    """Position by position: the filter of that place times the window there."""
    block = InvertedResidual(
        out_channels=24, hidden_channels=20, stride=stride, translation_variant=True
    )
    w = Weights(block)
    x = image()
    y = w.prelu(w.conv(x, "expand"), "expand.act")
    weight = w["depthwise.conv.weight"]  # (C, 9, H, W)
    padded = functional.pad(y, (1, 1, 1, 1))
    rows = []
    for row in range(weight.shape[2]):
        line = []
        for column in range(weight.shape[3]):
            top, left = row * stride, column * stride
            window = padded[:, :, top : top + 3, left : left + 3].flatten(2)
            line.append((window * weight[:, :, row, column]).sum(2))
        rows.append(torch.stack(line, 2))
    y = w.norm(torch.stack(rows, 2), "depthwise.norm")
    y = w.conv(w.prelu(y, "depthwise.act"), "project")
    assert w.agree(x, y)
