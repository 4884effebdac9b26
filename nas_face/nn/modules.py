"""Torch modules of the primitive layers that torch has no module for.

Each is named after the layer in `nas_face.arch.layers` whose docstring says what it computes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_SLOPE = 0.25
"""Of PReLU at the start of training; the gain of initial weights follows from it."""


class AnyRankBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of `(N, C)` and `(N, C, H, W)` alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any rank of two or more is right: the channel is always the second dimension."""


class FixedScaleBatchNorm(AnyRankBatchNorm):
    """Batch normalisation whose scale stays at one: `weight` asks for no gradient, `bias` is
    learned."""

    def __init__(self, channels: int, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.weight.requires_grad_(False)


class LayerNormModule(nn.Module):
    """`weight` and `bias` are `(C,)`; takes `(N, C)` and `(N, C, H, W)`."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.movedim(1, -1)  # no copy: torch copies by itself where it has to
        y = functional.layer_norm(
            channels_last, self.weight.shape, self.weight, self.bias, self.eps
        )
        return y.movedim(-1, 1)


class ChannelScaleModule(nn.Module):
    """`weight` is `(C,)`."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(-1, *[1] * (x.ndim - 2))


class TranslationVariantConvModule(nn.Module):
    """`weight` is `(C, kh * kw, H, W)` with the size of the output; tap = row * kw + column."""

    def __init__(
        self,
        output: tuple[int, int, int],
        kernel: tuple[int, int],
        stride: int,
        padding: tuple[int, int],
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        channels, height, width = output
        self.weight = nn.Parameter(torch.empty(channels, kernel[0] * kernel[1], height, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw one He-normal depthwise filter a channel and put it at every position."""
        channels, taps = self.weight.shape[:2]
        filters = torch.empty(channels, taps, device=self.weight.device)
        nn.init.kaiming_normal_(filters, a=FIRST_SLOPE)
        with torch.no_grad():
            self.weight.copy_(filters[:, :, None, None].expand_as(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.padding
        padded = functional.pad(x, (right, right, down, down))
        # One pass a tap keeps no copy of the map for each; measured, it is also the fastest.
        first, *others = zip(self._shifted(padded), self.weight.unbind(1), strict=True)
        y = first[0] * first[1]
        for window, weight in others:
            y = torch.addcmul(y, window, weight)
        return y

    def _shifted(self, padded: Tensor) -> list[Tensor]:
        """What each tap reads at every position of the output, `(N, C, H, W)`, as views."""
        height, width = (self.stride * (size - 1) + 1 for size in self.weight.shape[2:])
        return [
            padded[:, :, row : row + height : self.stride, column : column + width : self.stride]
            for row in range(self.kernel[0])
            for column in range(self.kernel[1])
        ]


class ChannelConvModule(nn.Module):
    """`weight` is `(k,)`."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a He-normal filter."""
        nn.init.kaiming_normal_(self.weight.data.view(1, -1), a=FIRST_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.weight.view(1, 1, -1)
        y = functional.conv1d(x.reshape(x.shape[0], 1, -1), taps, padding="same")  # (N, 1, C)
        return y.reshape(x.shape)


class MaxFeatureMapModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.maximum(first, second)


class ChannelSliceModule(nn.Module):
    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start = start
        self.stop = stop

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


class GlobalAveragePoolModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)


class GlobalAverageMaxPoolModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return torch.cat([mean, x.amax(dim=(2, 3), keepdim=True)], dim=3)  # (N, C, 1, 2)


class ChannelPoolModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        return torch.cat([mean, x.amax(dim=1, keepdim=True)], dim=1)  # (N, 2, H, W)


class NormAwarePoolModule(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        norms = (x.square().sum(dim=1, keepdim=True) + self.eps).sqrt()  # (N, 1, H, W)
        weights = norms.mean(dim=(2, 3), keepdim=True) / norms  # (N, 1, H, W)
        return (x * weights).mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)


class CrossCovarianceAttentionModule(nn.Module):
    """`temperature` is `(heads,)`."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.temperature.shape[0]
        rows = x.flatten(2).unflatten(1, (3, heads, -1))  # (N, 3, heads, C / heads, H W)
        query, key, value = rows.unbind(1)
        query = functional.normalize(query, dim=-1, eps=1e-12)
        key = functional.normalize(key, dim=-1, eps=1e-12)
        products = query @ key.transpose(-2, -1) * self.temperature.view(-1, 1, 1)
        mixed: Tensor = products.softmax(dim=-1) @ value  # (N, heads, C / heads, H W)
        return mixed.reshape(x.shape[0], -1, *x.shape[2:])


class GatedChannelTransformModule(nn.Module):
    """`alpha`, `gamma` and `beta` are `(C,)`."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        e = self.alpha * (x.square().sum(dim=(2, 3)) + self.eps).sqrt()  # (N, C)
        rms = (e.square().mean(dim=1, keepdim=True) + self.eps).sqrt()  # (N, 1)
        factors = 1 + torch.tanh(self.gamma * e / rms + self.beta)
        return x * factors[:, :, None, None]


class CropModule(nn.Module):
    def __init__(self, top: int, left: int) -> None:
        super().__init__()
        self.top = top
        self.left = left

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.top :, self.left :]


class ResizeModule(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, self.size, mode="bilinear", align_corners=False)


class FourierFeaturesModule(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows = self._features(height, x.device)[:, :, None].expand(-1, -1, width)
        columns = self._features(width, x.device)[:, None, :].expand(-1, height, -1)
        features = torch.cat([rows, columns]).to(x.dtype)  # (2 width, H, W)
        return features.expand(x.shape[0], -1, -1, -1)

    def _features(self, size: int, device: torch.device) -> Tensor:
        """Sines and cosines in turn of each of `size` positions, `(width, size)`."""
        positions = torch.arange(1, size + 1, device=device) * (2 * math.pi / (size + 1e-6))
        powers = torch.arange(0, self.width, 2, device=device) / self.width
        angles = positions / (10000**powers)[:, None]  # (width / 2, size)
        return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)
