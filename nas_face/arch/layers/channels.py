"""Moving channels about."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers.base import AbstractLayer
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShuffle(AbstractLayer):
    """Fixed permutation that deals the channels of `groups` equal groups out in turn: (g, n) is
    read as (n, g).

    Attributes:
        groups: number of equal groups.
        inverse: the permutation that undoes the one without it.

    Source: Zhang et al., ShuffleNet, arXiv 1707.01083, figure 1.
    """

    groups: int
    inverse: bool = False
    kind: Literal["channel_shuffle"] = "channel_shuffle"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if self.groups < 1 or x.channels % self.groups:
            raise ShapeError(
                f"channel_shuffle: input width {x.channels} must be a multiple of "
                f"groups={self.groups}"
            )
        alive = 2 * x.elements
        return x, Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSlice(AbstractLayer):
    """A run of neighbouring channels.

    Attributes:
        start: first channel.
        stop: one behind the last.
    """

    start: int
    stop: int
    kind: Literal["channel_slice"] = "channel_slice"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if not 0 <= self.start < self.stop <= x.channels:
            raise ShapeError(
                f"channel_slice: {self.start} to {self.stop} is no part of {x.channels} channels"
            )
        y = x._replace(channels=self.stop - self.start)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)
