"""Windows that move over a map: what convolutions and pools share."""

from typing import Protocol

from nas_face.arch.cost import Shape
from nas_face.errors import ShapeError


class Window(Protocol):
    """What moves over a map."""

    @property
    def kind(self) -> str: ...
    @property
    def kernel(self) -> tuple[int, int]: ...
    @property
    def stride(self) -> int: ...
    @property
    def padding(self) -> tuple[int, int]: ...


def window_output(layer: Window, x: Shape, out_channels: int, *, ceil: bool = False) -> Shape:
    """Shape behind a window that moves over a map of shape `x`.

    Args:
        layer: the layer with the window.
        x: shape of its input.
        out_channels: of its output.
        ceil: whether a last window that hangs over the edge counts, provided it starts inside.

    Raises:
        ShapeError: the window does not fit.
    """
    if min(layer.stride, *layer.kernel) < 1 or min(layer.padding) < 0:
        raise ShapeError(
            f"{layer.kind}: kernel {layer.kernel} and stride {layer.stride} must be at least 1, "
            f"and padding {layer.padding} at least 0"
        )
    sizes = []
    for size, kernel, padding in zip(x[1:], layer.kernel, layer.padding, strict=True):
        room = size + 2 * padding - kernel
        steps = room // layer.stride
        if ceil and room % layer.stride and (steps + 1) * layer.stride < size + padding:
            steps += 1
        sizes.append(steps + 1)
    if out_channels < 1 or sizes[0] < 1 or sizes[1] < 1:
        raise ShapeError(
            f"{layer.kind}: kernel {layer.kernel[0]}x{layer.kernel[1]}, stride {layer.stride} to "
            f"{out_channels} channels leaves nothing of a {x} input; use a larger input, a "
            "smaller kernel or fewer strides"
        )
    return Shape(out_channels, *sizes)
