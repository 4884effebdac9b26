"""Moving positions about."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape, free
from nas_face.arch.layers.base import AbstractLayer
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(AbstractLayer):
    """Feature map to flat vector, channel by channel."""

    kind: Literal["flatten"] = "flatten"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return Shape(x.elements, 1, 1), free(x.elements)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Crop(AbstractLayer):
    """The map without its first rows and columns.

    Attributes:
        top: rows that go.
        left: columns that go.
    """

    top: int
    left: int
    kind: Literal["crop"] = "crop"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if min(self.top, self.left) < 0 or self.top >= x.height or self.left >= x.width:
            raise ShapeError(f"crop: {self.top} rows and {self.left} columns of a {x} input")
        y = Shape(x.channels, x.height - self.top, x.width - self.left)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(AbstractLayer):
    """Bilinear interpolation to another map size; pixel centres are half a step from the edges.

    Attributes:
        height: of the result.
        width: of the result.
    """

    height: int
    width: int
    kind: Literal["resize"] = "resize"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if min(self.height, self.width) < 1:
            raise ShapeError(f"resize: size must be at least 1, got {self.height}x{self.width}")
        y = Shape(x.channels, self.height, self.width)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FourierFeatures(AbstractLayer):
    """Sines and cosines of each position, the same for every image; the input gives only the size.

    Channels 2i and 2i + 1, for i from 0 to width / 2 - 1, are sine and cosine of
    2 pi (y + 1) / (H + 1e-6) / 10000^(2i / width), where y is the row counted from 0 and H the
    number of rows. The second half of the channels is the same of columns.

    Attributes:
        width: channels for rows, and as many for columns; even.

    Source: the positional encoding of XCiT, arXiv 2106.09681, section 3, as EdgeNeXt (arXiv
        2206.10589) uses it.
    """

    width: int = 32
    kind: Literal["fourier_features"] = "fourier_features"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if self.width < 2 or self.width % 2:
            raise ShapeError(f"fourier_features: width must be even, got {self.width}")
        y = x._replace(channels=2 * self.width)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)
