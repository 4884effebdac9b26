"""Weights on grids of few bits in an ONNX graph: packed without gaps, and unpacked by operators
that every runtime has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GriddedWeights:
    """Weights of one layer on a grid.

    Attributes:
        name: of the array.
        bits: of a level.
        levels: uint8, in the shape of the weights.
        scale: float32, one for each output channel, in a shape that broadcasts.
        zero: uint8, the level of zero; likewise.
    """

    name: str
    bits: int
    levels: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]


def pack_(model: ModelProto, grids: Sequence[GriddedWeights]) -> None:
    """Put packed levels and the nodes that unpack them in place of arrays; shapes of inner values
    go.

    Args:
        model: changed in place.
        grids: of arrays of the model.
    """
    unpacking = _Unpacking()
    for bits in sorted({each.bits for each in grids}):
        unpacking.write([each for each in grids if each.bits == bits], bits)
    gone = {each.name for each in grids}
    arrays = [each for each in model.graph.initializer if each.name not in gone]
    nodes = [*unpacking.nodes, *model.graph.node]
    for field, content in (
        (model.graph.initializer, [*arrays, *unpacking.arrays]),
        (model.graph.node, nodes),
        (model.graph.value_info, []),
    ):
        del field[:]
        field.extend(content)


@final
class _Unpacking:
    """The arrays and nodes that give the weights back."""

    def __init__(self) -> None:
        self.arrays: list[TensorProto] = []
        self.nodes: list[NodeProto] = []

    def write(self, grids: Sequence[GriddedWeights], bits: int) -> None:
        """All weights whose levels have the same bits, packed as one array."""
        at = f"w{bits}"
        levels = np.concatenate([each.levels.reshape(-1) for each in grids])
        rest = -len(levels) % {8: 1, 6: 4, 4: 2}[bits]
        levels = np.concatenate([levels, np.zeros(rest, np.uint8)])
        match bits:
            case 4:
                unpacked = self._two_in_a_byte(at, levels)
            case 6:
                unpacked = self._four_in_three_bytes(at, levels)
            case _:
                unpacked = self._node("Cast", f"{at}.levels", self._array(at, levels), to=1)
        stems = [f"{at}.{number}" for number in range(len(grids))]  # short: names are bytes, too
        parts = [f"{stem}.flat" for stem in stems]
        sizes = [each.levels.size for each in grids]
        if rest:
            parts, sizes = [*parts, f"{at}.rest"], [*sizes, rest]
        lengths = self._array(f"{at}.sizes", np.array(sizes, np.int64))
        self.nodes.append(
            helper.make_node("Split", [unpacked, lengths], parts, name=f"{at}.split", axis=0)
        )
        for stem, each in zip(stems, grids, strict=True):
            self._restored(stem, each)

    def _restored(self, at: str, grid: GriddedWeights) -> None:
        shape = self._array(f"{at}.shape", np.array(grid.levels.shape, np.int64))
        scale = self._array(f"{at}.scale", grid.scale)
        levels = self._node("Reshape", f"{at}.levels", f"{at}.flat", shape)
        zero = self._node("Cast", f"{at}.zero", self._array(f"{at}.z", grid.zero), to=1)
        self._node("Mul", grid.name, self._node("Sub", f"{at}.centred", levels, zero), scale)

    def _two_in_a_byte(self, at: str, levels: NDArray[np.uint8]) -> str:
        """The first half of the levels in the upper bits, the second in the lower ones."""
        upper, lower = levels.reshape(2, -1)
        packed = self._array(at, ((upper << 4) | lower).reshape(1, -1))
        high, low = self._parted(at, packed, 16.0)
        both = self._node("Concat", f"{at}.both", high, low, axis=0)
        return self._node("Reshape", f"{at}.levels", both, self._flat(at))

    def _four_in_three_bytes(self, at: str, levels: NDArray[np.uint8]) -> str:
        """Three quarters of the levels in the lower bits of a byte each; two bits of each level of
        the last quarter in the upper ones."""
        *whole, spread = levels.reshape(4, -1)
        bytes_ = [each | ((spread >> 2 * k & 3) << 6) for k, each in enumerate(whole)]
        high, low = self._parted(at, self._array(at, np.stack(bytes_)), 64.0)
        powers = self._array(f"{at}.powers", np.array([[1.0], [4.0], [16.0]], np.float32))
        axis = self._array(f"{at}.axis", np.array([0], np.int64))
        shifted = self._node("Mul", f"{at}.shifted", high, powers)
        last = self._node("ReduceSum", f"{at}.last", shifted, axis, keepdims=1)
        both = self._node("Concat", f"{at}.both", low, last, axis=0)
        return self._node("Reshape", f"{at}.levels", both, self._flat(at))

    def _parted(self, at: str, packed: str, base: float) -> tuple[str, str]:
        """Bytes divided by `base`: what is left of the point, and the remainder.

        In float arithmetic, which is exact here and which every runtime folds.
        """
        whole = self._array(f"{at}.base", np.float32(base))
        part = self._array(f"{at}.part", np.float32(1 / base))
        number = self._node("Cast", f"{at}.numbers", packed, to=1)
        high = self._node("Floor", f"{at}.high", self._node("Mul", f"{at}.over", number, part))
        removed = self._node("Mul", f"{at}.removed", high, whole)
        return high, self._node("Sub", f"{at}.low", number, removed)

    def _flat(self, at: str) -> str:
        return self._array(f"{at}.flat", np.array([-1], np.int64))

    def _array(self, name: str, values: NDArray[np.generic] | np.float32) -> str:
        self.arrays.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operator: str, name: str, *inputs: str, **attributes: int) -> str:
        node = helper.make_node(operator, inputs, [name], name=name)
        node.attribute.extend(helper.make_attribute(*each) for each in attributes.items())
        self.nodes.append(node)
        return name
