"""Removing classes from a tree and from its weights, and masking them where they are."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Product, Sequence, Split, Sum
from nas_face.arch.layers import (
    BatchNorm,
    ChannelScale,
    ChannelSlice,
    Conv,
    CrossCovarianceAttention,
    Linear,
    PReLU,
    TranslationVariantConv,
)
from nas_face.compress.pruning.channels import Coupling, Site, columns_of, couple
from nas_face.compress.pruning.walk import Ids, keeps_groups
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

Alive = NDArray[np.bool_]


def alive_without(coupling: Coupling, removed: Iterable[int]) -> Alive:
    """`(n_classes,)`, whether each class stays.

    Args:
        coupling: of the network.
        removed: classes to remove.

    Raises:
        CompressionError: a class does not exist or is protected.
    """
    alive = np.ones(coupling.n_classes, np.bool_)
    for each in removed:
        if not 0 <= each < coupling.n_classes:
            raise CompressionError(
                f"removed: classes are numbered 0 to {coupling.n_classes - 1}, got {each}"
            )
        if coupling.protected[each]:
            raise CompressionError(
                f"removed: class {each} is protected (input, embedding, never zero, or averaged "
                "over) and must stay; families of the coupling list what may go"
            )
        alive[each] = False
    return alive


def narrowed(network: Sequence, coupling: Coupling, alive: Alive) -> Sequence:
    """The tree with only the classes that are alive; names and paths stay.

    Args:
        network: the tree that `coupling` was made from.
        coupling: its classes.
        alive: `(n_classes,)`, whether each stays.
    """
    sites = {site.path: site for site in coupling.sites}
    return _narrowed_sequence(network, sites, alive, "")


def _narrowed_sequence(
    layer: Sequence, sites: Mapping[str, Site], alive: Alive, prefix: str
) -> Sequence:
    return replace(
        layer,
        layers=tuple(
            _narrowed(child, sites, alive, prefix + name) for name, child in layer.named_layers()
        ),
    )


def _narrowed(layer: Layer, sites: Mapping[str, Site], alive: Alive, path: str) -> Layer:
    match layer:
        case Sequence():
            return _narrowed_sequence(layer, sites, alive, f"{path}.")
        case Sum() | Product() | Concat() | Split():
            branches = tuple(
                _narrowed(branch, sites, alive, f"{path}.branches.{position}")
                for position, branch in enumerate(layer.branches)
            )
            if not isinstance(layer, Split):
                return replace(layer, branches=branches)
            parts = np.split(alive[sites[path].in_classes], np.cumsum(layer.sizes)[:-1])
            return Split(sizes=tuple(int(part.sum()) for part in parts), branches=branches)
        case Gate():
            return Gate(body=_narrowed(layer.body, sites, alive, f"{path}.body"))
        case Graph():
            steps = tuple(
                replace(step, layer=_narrowed(step.layer, sites, alive, f"{path}.steps.{name}"))
                for name, step in layer.named_steps()
            )
            return replace(layer, steps=steps)
        case ChannelSlice():
            before = alive[sites[path].in_classes]
            return ChannelSlice(
                start=int(before[: layer.start].sum()), stop=int(before[: layer.stop].sum())
            )
        case _:
            site = sites[path]
            n_read, n_written = (
                int(alive[classes].sum()) for classes in (site.in_classes, site.out_classes)
            )
            return narrowed_to(site, n_read, n_written)


def narrowed_to(site: Site, n_read: int, n_written: int) -> Layer:
    """A primitive layer for fewer channels; slices, which depend on which they are, excepted.

    Args:
        site: where the layer is.
        n_read: channels that it reads.
        n_written: channels that it writes.
    """
    layer = site.layer
    match layer:
        case Conv():
            groups = layer.groups
            if not keeps_groups(layer, len(site.in_classes)):
                groups = groups * n_read // len(site.in_classes)
            return replace(layer, out_channels=n_written, groups=groups)
        case Linear():
            return replace(layer, out_features=n_written)
        case CrossCovarianceAttention():
            heads = layer.heads * n_written // len(site.out_classes)
            return CrossCovarianceAttention(heads=heads)
        case _:
            return layer


def sliced(weights: Mapping[str, Tensor], coupling: Coupling, alive: Alive) -> dict[str, Tensor]:
    """Weights of the classes that are alive, in the same order; those that lose nothing share
    memory with the originals.

    Args:
        weights: a state dict of the whole network.
        coupling: its classes.
        alive: `(n_classes,)`, whether each stays.
    """
    kept = {key: value.detach() for key, value in weights.items()}
    for site in coupling.sites:
        rows = torch.from_numpy(np.flatnonzero(alive[_row_classes(site)]))
        for key in _keys_by_row(site, weights):
            kept[key] = kept[key].index_select(0, rows.to(kept[key].device))
        read = columns_of(site)
        if read is not None:
            key = f"{site.path}.weight"
            columns = torch.from_numpy(np.flatnonzero(alive[read[0]]))  # alike in every group
            kept[key] = kept[key].index_select(1, columns.to(kept[key].device))
    return kept


def mask_(model: FaceModel, removed: Iterable[int]) -> None:
    """Make channels exactly zero in place, wherever they are written.

    Rows and biases of convolutions and linear layers become zero, and scale, shift and running
    mean of batch normalisations (a scale that is fixed stays one). Nothing that reads a channel is
    touched: that removed channels have no effect is for the forward pass to show.

    Args:
        model: what to mask.
        removed: classes of `channels.couple` for the model's tree and input.

    Raises:
        CompressionError: a class does not exist or is protected.
    """
    coupling = couple(model.description.network, model.description.input)
    alive = alive_without(coupling, removed)
    weights = model.module.state_dict()  # shares memory with the module
    for site in coupling.sites:
        dead = torch.from_numpy(np.flatnonzero(~alive[_row_classes(site)]))
        fixed = isinstance(site.layer, BatchNorm) and site.layer.fixed_scale
        for key in _keys_by_row(site, weights):
            if not key.endswith(".running_var") and not (fixed and key.endswith(".weight")):
                weights[key].index_fill_(0, dead.to(weights[key].device), 0.0)


def _keys_by_row(site: Site, weights: Mapping[str, Tensor]) -> list[str]:
    """Keys of a site's tensors that have one row for each of `_row_classes`.

    Layers of which no channel can go (layer normalisation and the like) are not among them.
    """
    match site.layer:
        case Conv() | Linear():
            names = ["weight", "bias"]
        case BatchNorm():
            names = ["weight", "bias", "running_mean", "running_var"]
        case TranslationVariantConv() | ChannelScale() | PReLU(shared=False):
            names = ["weight"]
        case CrossCovarianceAttention():
            names = ["temperature"]
        case _:
            names = []
    return [key for name in names if (key := f"{site.path}.{name}") in weights]


def _row_classes(site: Site) -> Ids:
    """Class of each row of a site's tensors: one for each output channel, or for each head."""
    if isinstance(site.layer, CrossCovarianceAttention):
        return _head_classes(site.layer, site.out_classes)
    return site.out_classes


def _head_classes(layer: CrossCovarianceAttention, out_classes: Ids) -> Ids:
    """`(heads,)`, the class of each head, which all its channels share."""
    return out_classes.reshape(layer.heads, -1)[:, 0]
