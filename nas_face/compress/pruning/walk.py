"""The walk behind `nas_face.compress.pruning.channels`: one rule a layer for what happens to
channel
ids."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    TranslationVariantConv,
)

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
NOT_ZERO_AT_ZERO = frozenset({"sigmoid", "hard_sigmoid"})


class Signal(NamedTuple):
    """A tensor on its way through the tree.

    Attributes:
        ids: `(channels,)`, id of each position.
        height: of the map.
        width: of the map.
        silent: `(channels,)`, whether each position would be exactly zero here if its channel were
            removed.
    """

    ids: Ids
    height: int
    width: int
    silent: Flags

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
        sites: path, node, what it reads and what it writes, of primitive layers and splits.
    """

    def __init__(self) -> None:
        self.n_ids = 0
        self.ties: list[tuple[Ids, Ids]] = []
        self.protected: list[Ids] = []
        self.tensors: list[Ids] = []
        self.sites: list[tuple[str, Layer, Signal, Signal]] = []

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
                return self._sum(self._branches(layer.branches, [x] * len(layer.branches), path))
            case Product():
                results = self._branches(layer.branches, [x] * len(layer.branches), path)
                self._tie_all(results)
                silent = np.logical_or.reduce([result.silent for result in results])
                return results[0]._replace(silent=silent)
            case Concat():
                return _concat(self._branches(layer.branches, [x] * len(layer.branches), path))
            case Split():
                ends = np.cumsum(layer.sizes)[:-1]
                cuts = zip(np.split(x.ids, ends), np.split(x.silent, ends), strict=True)
                parts = [x._replace(ids=ids, silent=silent) for ids, silent in cuts]
                y = _concat(self._branches(layer.branches, parts, path))
                self.sites.append((path, layer, x, y))
                return y
            case Gate():
                factor = self.visit(layer.body, x, _below(path, "body"))
                if len(factor.ids) < len(x.ids):  # one factor for all channels
                    self.protected.append(factor.ids)
                    return x
                self.tie(x.ids, factor.ids)
                return x._replace(silent=x.silent | factor.silent)
            case Graph():
                values = [x]
                for name, step in layer.named_steps():
                    joined = self._join(step, values)
                    values.append(self.visit(step.layer, joined, _below(path, f"steps.{name}")))
                return values[-1]
            case _:
                y = self._primitive(layer, x)
                self.sites.append((path, layer, x, y))
                return y

    def _branches(
        self, branches: tuple[Layer, ...], inputs: list[Signal], path: str
    ) -> list[Signal]:
        return [
            self.visit(branch, x, _below(path, f"branches.{position}"))
            for position, (branch, x) in enumerate(zip(branches, inputs, strict=True))
        ]

    def _sum(self, results: list[Signal]) -> Signal:
        self._tie_all(results)
        silent = np.logical_and.reduce([result.silent for result in results])
        return results[0]._replace(silent=silent)

    def _join(self, step: Step, values: list[Signal]) -> Signal:
        sources = [values[source] for source in step.sources]
        return _concat(sources) if step.join == "concat" else self._sum(sources)

    def _tie_all(self, results: list[Signal]) -> None:
        for result in results[1:]:
            self.tie(results[0].ids, result.ids)

    def _primitive(self, layer: Layer, x: Signal) -> Signal:
        shape = layer.output_shape(x.shape)
        ids, silent = self._channels(layer, x, shape.channels)
        return Signal(ids, shape.height, shape.width, silent)

    def _channels(self, layer: Layer, x: Signal, out_channels: int) -> tuple[Ids, Flags]:
        """Ids and silence behind a primitive layer; most of them hand both on."""
        always = np.ones(out_channels, np.bool_)
        match layer:
            case Linear():
                self._must_be_silent(x)
                return self.fresh(out_channels), always
            case Conv(groups=groups) if keeps_groups(layer, len(x.ids)):
                self._must_be_silent(x)
                ids = self.fresh(out_channels)
                for places in (x.ids.reshape(groups, -1), ids.reshape(groups, -1)):
                    self.tie(places[0], places)
                return ids, always
            case Conv():
                ids = self.fresh(out_channels)
                members = x.ids.reshape(layer.groups, -1)
                self.tie(members[:, :1], members)
                self.tie(members[:, :1], ids.reshape(layer.groups, -1))
                return ids, always
            case TranslationVariantConv() | ChannelScale() | BatchNorm(fixed_scale=False):
                return x.ids, always  # what a removed channel is multiplied by is zero
            case MaxFeatureMap():
                first, second = x.ids.reshape(2, -1)
                self.tie(first, second)
                return first, np.logical_and(*x.silent.reshape(2, -1))
            case ChannelShuffle(groups=groups, inverse=inverse):
                by_row = np.arange(out_channels).reshape((-1, groups) if inverse else (groups, -1))
                together = by_row if inverse else by_row.T  # (places, groups)
                self.tie(x.ids[together[:, :1]], x.ids[together])
                order = by_row.T.reshape(-1)
                return x.ids[order], x.silent[order]
            case ChannelSlice(start=start, stop=stop):
                return x.ids[start:stop], x.silent[start:stop]
            case CrossCovarianceAttention():
                parts = x.ids.reshape(3, layer.heads, -1)  # query, key, value
                self.tie(parts[:1, :, :1], parts)
                # A head without its value gives zero, whatever its query and key are.
                return x.ids[-out_channels:], x.silent[-out_channels:]
            case Flatten():
                n_positions = x.height * x.width
                return np.repeat(x.ids, n_positions), np.repeat(x.silent, n_positions)
            case NormAwarePool():
                self._must_be_silent(x)
            case LayerNorm() | GatedChannelTransform():
                self.protected.append(x.ids)
            case ChannelConv(kernel=kernel) if kernel > 1:
                self.protected.append(x.ids)
            case ChannelPool():
                self.protected.append(x.ids)
                return self._kept(out_channels), always
            case FourierFeatures():
                return self._kept(out_channels), always
            case Activation(function=function) if function in NOT_ZERO_AT_ZERO:
                return x.ids, ~always
        return x.ids, x.silent

    def _must_be_silent(self, x: Signal) -> None:
        self.protected.append(x.ids[~x.silent])

    def _kept(self, count: int) -> Ids:
        """New ids that must stay."""
        ids = self.fresh(count)
        self.protected.append(ids)
        return ids

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


def keeps_groups(layer: Conv, in_channels: int) -> bool:
    """Whether a convolution keeps the number of its groups, and all of them become narrower alike;
    whole groups go otherwise.

    A network can be pruned in the finer steps where groups that are few and wide are kept, as the
    halves of a convolution in two groups, and many narrow ones go whole, as depthwise filters.
    """
    width = min(in_channels, layer.out_channels) // layer.groups
    return layer.groups == 1 or width >= 2 * layer.groups


def _concat(results: list[Signal]) -> Signal:
    return results[0]._replace(
        ids=np.concatenate([result.ids for result in results]),
        silent=np.concatenate([result.silent for result in results]),
    )


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
