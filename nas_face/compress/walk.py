"""The walk behind `nas_face.compress.channels`: one rule a layer for what happens to channel
ids."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    Flatten,
    Linear,
    NormAwarePool,
)

Ids = NDArray[np.int64]
NOT_ZERO_AT_ZERO = frozenset({"sigmoid", "hard_sigmoid"})


class Signal(NamedTuple):
    """A tensor on its way through the tree.

    Attributes:
        ids: `(channels,)`, id of each position.
        height: of the map.
        width: of the map.
        silent: whether channels that are removed would be exactly zero here.
    """

    ids: Ids
    height: int
    width: int
    silent: bool

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return Shape(len(self.ids), self.height, self.width)


@final
class Walk:
    """What is collected on the way.

    Attributes:
        n_ids: ids handed out so far.
        ties: pairs of arrays of one length, tied position by position.
        protected: ids that must stay.
        tensors: ids of everything that enters or leaves a node.
        sites: path, node, ids read and ids written, of primitive layers and splits.
    """

    def __init__(self) -> None:
        self.n_ids = 0
        self.ties: list[tuple[Ids, Ids]] = []
        self.protected: list[Ids] = []
        self.tensors: list[Ids] = []
        self.sites: list[tuple[str, Layer, Ids, Ids]] = []

    def fresh(self, count: int) -> Ids:
        """Hand out new ids."""
        self.n_ids += count
        return np.arange(self.n_ids - count, self.n_ids, dtype=np.int64)

    def tie(self, left: Ids, right: Ids) -> None:
        """Tie ids position by position, after broadcasting."""
        first, second = np.broadcast_arrays(left, right)
        self.ties.append((first.reshape(-1), second.reshape(-1)))

    def visit(self, layer: Layer, x: Signal, path: str) -> Signal:
        """Walk through one node.

        Args:
            layer: the node.
            x: what it reads.
            path: where it is in the tree.
        """
        y = self._through(layer, x, path)
        self.tensors += [x.ids, y.ids]
        return y

    def _through(self, layer: Layer, x: Signal, path: str) -> Signal:
        match layer:
            case Sequence():
                for name, child in layer.named_layers():
                    x = self.visit(child, x, _below(path, name))
                return x
            case Sum():
                results = self._branches(layer.branches, [x] * len(layer.branches), path)
                for result in results[1:]:
                    self.tie(results[0].ids, result.ids)
                return _joined(results, results[0].ids)
            case Concat():
                results = self._branches(layer.branches, [x] * len(layer.branches), path)
                return _joined(results, np.concatenate([result.ids for result in results]))
            case Split():
                cuts = np.split(x.ids, np.cumsum(layer.sizes)[:-1])
                parts = [x._replace(ids=ids) for ids in cuts]
                results = self._branches(layer.branches, parts, path)
                y = _joined(results, np.concatenate([result.ids for result in results]))
                self.sites.append((path, layer, x.ids, y.ids))
                return y
            case Gate():
                factor = self.visit(layer.body, x, _below(path, "body"))
                self.tie(x.ids, factor.ids)
                return x._replace(silent=x.silent or factor.silent)
            case _:
                y = self._primitive(layer, x)
                self.sites.append((path, layer, x.ids, y.ids))
                return y

    def _branches(
        self, branches: tuple[Layer, ...], inputs: list[Signal], path: str
    ) -> list[Signal]:
        return [
            self.visit(branch, x, _below(path, f"branches.{position}"))
            for position, (branch, x) in enumerate(zip(branches, inputs, strict=True))
        ]

    def _primitive(self, layer: Layer, x: Signal) -> Signal:
        ids, silent = x.ids, x.silent
        shape = layer.output_shape(x.shape)
        match layer:
            case Conv(groups=1) | Linear():
                self._must_be_silent(x)
                ids, silent = self.fresh(shape.channels), True
            case Conv():
                ids, silent = self.fresh(shape.channels), True
                members = x.ids.reshape(layer.groups, -1)
                self.tie(members[:, :1], members)
                self.tie(members[:, :1], ids.reshape(layer.groups, -1))
            case ChannelShuffle():
                members = x.ids.reshape(layer.groups, -1)
                self.tie(members[0], members)
                ids = members.T.reshape(-1)
            case Flatten():
                ids = np.repeat(x.ids, x.height * x.width)
            case BatchNorm():
                silent = True  # scale and shift of a removed channel are zero
            case NormAwarePool():
                self._must_be_silent(x)
            case Activation(function=function) if function in NOT_ZERO_AT_ZERO:
                silent = False
        return Signal(ids, shape.height, shape.width, silent)

    def _must_be_silent(self, x: Signal) -> None:
        if not x.silent:
            self.protected.append(x.ids)

    def classes(self) -> Ids:
        """`(n_ids,)`, class of each id: connected components of the ties.

        Every id points to a lower or equal one of its component. Each round hooks what two tied
        ids point to under the lower of the two, then shortens all chains.
        """
        nothing = np.zeros(0, np.int64)
        left = np.concatenate([nothing, *(pair[0] for pair in self.ties)])
        right = np.concatenate([nothing, *(pair[1] for pair in self.ties)])
        label = np.arange(self.n_ids)
        while not np.array_equal(label[left], label[right]):
            low = np.minimum(label[left], label[right])
            np.minimum.at(label, label[left], low)
            np.minimum.at(label, label[right], low)
            while not np.array_equal(label, label[label]):
                label = label[label]
        return np.asarray(np.unique(label, return_inverse=True)[1], np.int64)


def _joined(results: list[Signal], ids: Ids) -> Signal:
    return results[0]._replace(ids=ids, silent=all(result.silent for result in results))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
