"""The grids of real int8 kernels: symmetric weights with a scale for each output channel,
unsigned activations with one range for each tensor.

Differs: ONNX Runtime has 64 levels on each side at `reduce_range`, where `weight_scale` of 7 bits
and NNCF's overflow fix have 63.
"""

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from nas_face.errors import CompressionError

NEXT_TO_NOTHING: Final = 1e-20
"""Weight decay leaves channels of subnormal weights in trained networks, of which a part is zero
in float32. They change nothing that float32 can show, and export stores them as zeros."""


def largest_level(bits: int) -> int:
    """Of signed weights: 127 of 8 bits, 63 of 7, 7 of 4; the grid is symmetric, so that the lowest
    two's complement number is not used.

    Raises:
        CompressionError: not 2 to 8 bits.
    """
    if not 2 <= bits <= 8:
        raise CompressionError(f"weight_bits must be 2 to 8, got {bits}")
    return (1 << bits - 1) - 1


def weight_scale(weight: Tensor, bits: int) -> Tensor:
    """Step of the grid of each output channel: its largest weight is the largest level.

    Args:
        weight: `(out, ...)`.
        bits: 2 to 8.

    Returns:
        `(out, 1, ...)`, as many dimensions as `weight`; 1 for a channel of zeros or next to
        nothing.
    """
    largest = weight.detach().abs().flatten(1).amax(dim=1)
    scale = torch.where(largest > NEXT_TO_NOTHING, largest / largest_level(bits), 1.0)
    return scale.view(-1, *[1] * (weight.ndim - 1))


def rounded(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Each weight's nearest value on the grid, a multiple of `scale`; halves go to the even level.

    Args:
        weight: `(out, ...)`.
        scale: of `weight_scale`.
        bits: 2 to 8.
    """
    largest = largest_level(bits)
    return (weight / scale).round().clamp(-largest, largest) * scale


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRange:
    """What a tensor's values lie between; a value outside becomes the nearest end.

    Zero is always inside and exactly on the grid, as padding asks for.

    Attributes:
        low: at most 0.
        high: at least 0.

    Source: ONNX Runtime, quantization/quant_utils.py, compute_scale_zp, of unsigned 8 bit.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -float("inf") < self.low <= 0 <= self.high < float("inf"):
            raise CompressionError(
                f"an activation range must be finite and hold zero, got {self.low} to {self.high}"
            )

    def scale(self, bits: int = 8) -> float:
        """Step of the grid; 1 where the range is a point."""
        width = self.high - self.low
        return width / (2**bits - 1) if width > 0 else 1.0

    def zero_point(self, bits: int = 8) -> int:
        """Level of zero, 0 to 2**bits - 1."""
        return round(-self.low / self.scale(bits))


@final
class RangeObserver:
    """Finds the range of a tensor from batches of its values.

    Args:
        n_images: that will be seen in all.
        percentile: per cent of all values that the range holds, above 0 to 100: one half of the
            others is cut off at each end. At 100, the range is from the least to the largest.

    Differs: exact, where ONNX Runtime reads percentiles off a histogram; memory grows with the
        number of values cut off.
    """

    def __init__(self, n_images: int, *, percentile: float = 100.0) -> None:
        if not 0 < percentile <= 100:
            raise CompressionError(f"percentile must be above 0 and at most 100, got {percentile}")
        self._n_images = n_images
        self._share = (100.0 - percentile) / 200.0
        self._tails: tuple[Tensor, Tensor] | None = None

    def see(self, values: Tensor) -> None:
        """Take in the values of some images, `(N, ...)`."""
        n_cut = int(self._n_images * values[0].numel() * self._share)
        flat = values.detach().flatten()
        low = high = flat
        if not n_cut:
            low, high = (end.view(1) for end in flat.aminmax())
        if self._tails is not None:
            low, high = (torch.cat(pair) for pair in zip(self._tails, (low, high), strict=True))
        ends = []
        for tail, largest in ((low, False), (high, True)):
            n_kept = min(n_cut + 1, tail.numel())
            ends.append(tail.topk(n_kept, largest=largest).values)
        self._tails = (ends[0], ends[1])

    def range(self) -> ActivationRange:
        """Of what was seen, widened to hold zero.

        Raises:
            CompressionError: nothing was seen, or values that are not finite.
        """
        if self._tails is None:
            raise CompressionError("no images were seen, so no range is known")
        low, high = self._tails
        if not (low[0].isfinite() and high[0].isfinite()):
            raise CompressionError(
                f"values must be finite to have a range, got {float(low[0])} to {float(high[0])}"
            )
        return ActivationRange(low=min(0.0, float(low[-1])), high=max(0.0, float(high[-1])))
