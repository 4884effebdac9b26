"""What a primitive layer is."""

import abc
from typing import ClassVar

from nas_face.arch.cost import Cost, Shape


class AbstractLayer(abc.ABC):
    """A node of a layer tree."""

    __slots__ = ()
    # Read by pydantic when a layer comes from a file: a misspelt field is an error, not a silent
    # default.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @abc.abstractmethod
    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        """Output shape and cost for an input of shape `x`.

        Raises:
            ShapeError: the layer cannot take `x`.
        """

    def output_shape(self, x: Shape) -> Shape:
        """Output shape for an input of shape `x`."""
        return self.measure(x)[0]

    def cost(self, x: Shape) -> Cost:
        """Cost for an input of shape `x`."""
        return self.measure(x)[1]
