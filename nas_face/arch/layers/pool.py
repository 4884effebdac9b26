"""Many values to one."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers.base import AbstractLayer
from nas_face.arch.layers.window import window_output
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(AbstractLayer):
    """Maximum or mean of a window that moves over the map; what lies outside the map counts for
    neither.

    Attributes:
        function: of the window.
        kernel: height and width of the window.
        stride: step in both directions.
        padding: on each side, at most half of the kernel.
        ceil: whether a last window that hangs over the edge counts.
    """

    function: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int] = (0, 0)
    ceil: bool = False
    kind: Literal["pool"] = "pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        y = window_output(self, x, x.channels, ceil=self.ceil)
        if 2 * self.padding[0] > self.kernel[0] or 2 * self.padding[1] > self.kernel[1]:
            raise ShapeError(
                f"pool: padding {self.padding} must be at most half of the kernel {self.kernel}"
            )
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool(AbstractLayer):
    """Mean over all positions; the result keeps a 1x1 map."""

    kind: Literal["global_average_pool"] = "global_average_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = x.elements + x.channels
        return Shape(x.channels, 1, 1), Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NormAwarePool(AbstractLayer):
    """Mean over positions after every position's feature vector is brought to the mean vector
    length of the map.

    With v(p) the feature vector at position p, the result is the mean over p of v(p) * mean_q
    |v(q)| / |v(p)|, so a position counts for its direction and not for its length.

    Attributes:
        eps: added to the squared length under the root (assumed; it matters only for all-zero
            vectors).

    Source: the "GNAP" head of InsightFace's MobileFaceNet variants (no paper defines it).
    """

    eps: float = 1e-12
    kind: Literal["norm_aware_pool"] = "norm_aware_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = 2 * x.elements + x.channels
        return Shape(x.channels, 1, 1), Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAverageMaxPool(AbstractLayer):
    """Mean and maximum over all positions, side by side as the two positions of a 1x2 map.

    What follows treats both alike, as the shared layers of CBAM do.

    Source: Woo et al., CBAM, arXiv 1807.06521, figure 2.
    """

    kind: Literal["global_average_max_pool"] = "global_average_max_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = x.elements + 2 * x.channels
        return Shape(x.channels, 1, 2), Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPool(AbstractLayer):
    """Mean and maximum over the channels at each position: a map of two channels.

    Source: Woo et al., CBAM, arXiv 1807.06521, equation 3.
    """

    kind: Literal["channel_pool"] = "channel_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        y = x._replace(channels=2)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)
