"""A face network as a stranger writes it in plain torch, and the spec that is the same network."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec

SIZE, EMBEDDING = 32, 24

SPEC = ArchSpec(
    input_shape=(3, SIZE, SIZE),
    stem=(ConvUnit(out_channels=8, stride=2), ConvUnit(out_channels=8, depthwise=True)),
    stages=(
        (
            InvertedResidual(out_channels=8, hidden_channels=16, stride=2),
            InvertedResidual(out_channels=8, hidden_channels=16),
            InvertedResidual(out_channels=8, hidden_channels=16),
            InvertedResidual(out_channels=8, hidden_channels=16),
        ),
        (
            InvertedResidual(out_channels=12, hidden_channels=16, stride=2),
            InvertedResidual(out_channels=12, hidden_channels=16),
        ),
    ),
    head=GlobalDepthwiseHead(embedding_size=EMBEDDING, tail_channels=32),
)


def write_spec(folder: Path) -> Path:
    path = folder / "small.spec.json"
    path.write_text(json.dumps(SPEC.to_data()), encoding="utf-8")
    return path


class ConvBlock(nn.Module):
    def __init__(self, width: int, out: int, kernel: int, stride: int, padding: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class LinearBlock(nn.Module):
    def __init__(self, width: int, out: int, kernel: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class DepthWise(nn.Module):
    def __init__(self, width: int, out: int, hidden: int, stride: int, residual: bool = False):
        super().__init__()
        self.conv = ConvBlock(width, hidden, 1, 1, 0, 1)
        self.conv_dw = ConvBlock(hidden, hidden, 3, stride, 1, hidden)
        self.project = LinearBlock(hidden, out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class Residual(nn.Module):
    def __init__(self, width: int, hidden: int, repeats: int):
        super().__init__()
        blocks = [DepthWise(width, width, hidden, 1, residual=True) for _ in range(repeats)]
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Stranger(nn.Module):
    """Names as in the oldest public port: stages 2 to 3 and 3 to 4 are called 23 and 34."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 8, 3, 2, 1, 1)
        self.conv2_dw = ConvBlock(8, 8, 3, 1, 1, 8)
        self.conv_23 = DepthWise(8, 8, 16, 2)
        self.conv_3 = Residual(8, 16, 3)
        self.conv_34 = DepthWise(8, 12, 16, 2)
        self.conv_4 = Residual(12, 16, 1)
        self.conv_6_sep = ConvBlock(12, 32, 1, 1, 0, 1)
        self.conv_6_dw = LinearBlock(32, 32, SIZE // 8, 32)
        self.linear = nn.Linear(32, EMBEDDING, bias=False)
        self.bn = nn.BatchNorm1d(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_23(self.conv2_dw(self.conv1(x)))
        x = self.conv_6_sep(self.conv_4(self.conv_34(self.conv_3(x))))
        return self.bn(self.linear(self.conv_6_dw(x).flatten(1)))


def stranger(seed: int = 0) -> Stranger:
    """With weights and statistics that would show any two being swapped."""
    generator = torch.Generator().manual_seed(seed)
    net = Stranger()
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if key.endswith("num_batches_tracked"):
                value.fill_(7)
            elif value.ndim == 1:
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            else:
                value.copy_(torch.randn(value.shape, generator=generator))
                value.div_(value[0].numel() ** 0.5)
    return net.eval()


def leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers in running order, which is the order of definition in `Stranger`."""
    for name, module in net.named_modules():
        if not list(module.children()):
            yield name, module


def folded(net: Stranger) -> dict[str, Tensor]:
    """The state dict with every batch normalisation folded into the layer before it."""
    state: dict[str, Tensor] = {}
    layers = list(leaves(net))
    for at, (name, module) in enumerate(layers):
        if isinstance(module, nn.Conv2d | nn.Linear):
            norm = layers[at + 1][1]
            assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            shape = (-1, *[1] * (module.weight.ndim - 1))
            state[f"{name}.weight"] = module.weight * scale.reshape(shape)
            state[f"{name}.bias"] = norm.bias - norm.running_mean * scale
        elif isinstance(module, nn.PReLU):
            state[f"{name}.weight"] = module.weight
    return {key: value.detach() for key, value in state.items()}
