"""What quantisation did to a file, whichever quantiser did it."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationReport:
    """What quantisation did to a file.

    Attributes:
        size_bytes_before: of the float32 file, with its weights.
        size_bytes_after: of the int8 file, with its weights.
        reduce_range: whether weights have 7 bits, as processors without VNNI need.
        quantised_layers: paths of the convolutions and linear layers that now work on 8-bit
            values, in running order.
        float_layers: those of the ones left in float32.
        n_images: images that the ranges were measured on.
        method: how ranges follow from the values seen, and what else was done.
    """

    size_bytes_before: int
    size_bytes_after: int
    reduce_range: bool
    quantised_layers: tuple[str, ...]
    float_layers: tuple[str, ...]
    n_images: int
    method: str

    @property
    def n_quantised_nodes(self) -> int:
        """Convolutions and linear layers that now work on 8-bit values."""
        return len(self.quantised_layers)

    @property
    def n_float_nodes(self) -> int:
        """Convolutions and linear layers left in float32."""
        return len(self.float_layers)

    @property
    def summary(self) -> str:
        """In one line, for the file itself."""
        bits = 7 if self.reduce_range else 8
        return (
            f"int8: {self.n_quantised_nodes} layers, {self.n_float_nodes} in float32; {bits}-bit "
            f"weights; {self.method} ranges of {self.n_images} images"
        )
