"""Which channels of a layer tree belong together, found by walking the tree with channel names
instead of numbers (numpy only).

Every tensor of the network becomes an array of channel ids, one for each position. A dense
convolution or a linear layer writes new ids; other layers hand on, reorder, cut or repeat what
they read. Where two channels can only be removed together, their ids are tied:

- convolution with many narrow groups: all that a group reads and all that it writes (so whole
  groups go, the width of a group stays, and a depthwise filter goes with its channel);
- convolution with groups at least twice as wide as they are many: the same place in all groups,
  of what it reads and of what it writes (so the number of groups stays);
- sum and product: the same position of all branches, or of all sources of a graph's step; gate:
  the same position of input and factor;
- channel shuffle and its inverse: the same place in each of the groups, so that the rest is one
  again;
- max feature map: the same position of both halves;
- cross-covariance attention: query, key and value of a head, so that heads go whole. Within a
  head nothing can go, because the softmax runs over its channels.

Ids that are tied, directly or through others, are one *class*: the smallest thing that can be
removed. Classes that have the same number of channels in every tensor of the network are one
*family*: which of them goes makes no difference to shapes and costs, only how many. The hidden
width of a block is a family, and so is the residual stream of a stage. A tensor can hold several
families: a two-group shuffle of uneven parts does.

A class is protected, so that it stays, where removing it would not be the same as silencing it:

- channels of the network's input and of the embedding;
- channels that would not be exactly zero when removed, because a function with f(0) != 0 acts on
  them, and that a dense layer reads;
- all that enters a layer normalisation, a gated channel transform or a channel pool: they average
  over channels, and a zero counts in that average where a missing channel does not;
- all that enters a channel convolution of more than one tap: its neighbours would move up;
- what a channel pool or Fourier features write, and the factor of a gate that has one for all
  channels: their number is fixed.

So the residual stream of a network with layer normalisations keeps its width, and the hidden
widths behind them are what can be pruned.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv, Linear
from nas_face.compress.pruning.walk import Ids, Signal, Walk, keeps_groups


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """One primitive layer or one split, at its place in the tree.

    Attributes:
        path: where it is, as the keys of the weights name it, without the last part.
        layer: the node.
        input: shape of what it reads.
        in_classes: `(in_channels,)`, class of each position that it reads.
        out_classes: `(out_channels,)`, class of each position that it writes.
    """

    path: str
    layer: Layer
    input: Shape
    in_classes: Ids
    out_classes: Ids


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Classes that are interchangeable as far as shapes and costs go.

    Attributes:
        name: path of the first layer that writes them; a second family of that layer ends in
            `/2`, and so on.
        classes: in order of first appearance.
        class_width: channels of one class in the narrowest tensor that holds it.
    """

    name: str
    classes: tuple[int, ...]
    class_width: int


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coupling:
    """All classes of a network and where they occur; equal trees give equal numbers.

    Attributes:
        n_classes: classes are numbered from 0 in order of first appearance.
        protected: `(n_classes,)`, whether a class must stay.
        families: of the classes that are not protected, in order of first appearance.
        sites: primitive layers and splits in running order.
    """

    n_classes: int
    protected: NDArray[np.bool_]
    families: tuple[Family, ...]
    sites: tuple[Site, ...]


def columns_of(site: Site) -> Ids | None:
    """`(groups, columns)`, class of what each column of a site's weight reads, in every group.

    None where the weight has no columns that could go by themselves: whole groups go, or the layer
    mixes no channels.
    """
    if isinstance(site.layer, Linear):
        return site.in_classes[np.newaxis]
    if isinstance(site.layer, Conv) and keeps_groups(site.layer, len(site.in_classes)):
        return site.in_classes.reshape(site.layer.groups, -1)
    return None


def couple(network: Layer, x: Shape) -> Coupling:
    """Classes and families of a layer tree.

    Args:
        network: root of the tree.
        x: shape of its input.

    Raises:
        ShapeError: some layer cannot take the shape in front of it.
    """
    network.measure(x)
    walk = Walk()
    entry = Signal(walk.fresh(x.channels), x.height, x.width, np.ones(x.channels, np.bool_))
    walk.protected.append(entry.ids)
    walk.protected.append(walk.visit(network, entry, "").ids)
    classes = walk.classes()
    n_classes = int(classes.max()) + 1
    protected = np.zeros(n_classes, np.bool_)
    protected[classes[np.concatenate(walk.protected)]] = True
    sites = tuple(
        Site(
            path=path,
            layer=layer,
            input=x.shape,
            in_classes=classes[x.ids],
            out_classes=classes[y.ids],
        )
        for path, layer, x, y in walk.sites
    )
    return Coupling(
        n_classes=n_classes,
        protected=protected,
        families=_families([classes[ids] for ids in walk.tensors], protected, sites),
        sites=sites,
    )


def _families(
    tensors: list[Ids], protected: NDArray[np.bool_], sites: tuple[Site, ...]
) -> tuple[Family, ...]:
    """Group classes by their number of channels in each of `tensors`, given as classes."""
    counts: list[list[tuple[int, int]]] = [[] for _ in protected]  # class -> (tensor, channels)
    for number, tensor in enumerate(tensors):
        for member, count in zip(*np.unique(tensor, return_counts=True), strict=True):
            counts[member].append((number, int(count)))
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for member in np.flatnonzero(~protected).tolist():
        groups.setdefault(tuple(counts[member]), []).append(member)
    writers: dict[int, str] = {}
    for site in sites:
        for member in site.out_classes.tolist():
            writers.setdefault(member, site.path)
    families = []
    n_named: dict[str, int] = {}
    for where, members in groups.items():
        writer = writers[members[0]]
        n_named[writer] = n_named.get(writer, 0) + 1
        suffix = f"/{n_named[writer]}" if n_named[writer] > 1 else ""
        narrowest = min(count for _, count in where)
        families.append(
            Family(name=writer + suffix, classes=tuple(members), class_width=narrowest)
        )
    return tuple(families)
