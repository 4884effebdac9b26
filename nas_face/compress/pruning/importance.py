"""How much a class of channels matters: one function a criterion, higher is more important.

Each returns one raw score a class. Classes of one family hold the same layers' weights in the same
numbers, so raw scores compare within a family; `score_classes` divides them by the family's mean,
and thereby families compare with one another. `lamp` makes its own scores comparable.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.arch.layers import BatchNorm, Conv, Linear, TranslationVariantConv
from nas_face.compress.pruning.channels import Coupling, Site, columns_of
from nas_face.compress.pruning.gradients import Gradients
from nas_face.compress.pruning.walk import Ids
from nas_face.errors import CompressionError, near_names

Importance = Literal["l1", "l2", "lamp", "bn_scale", "fpgm", "taylor", "hessian", "fisher"]
Scores = NDArray[np.float64]

BY_GRADIENT: frozenset[Importance] = frozenset({"taylor", "hessian", "fisher"})
"""Criteria that need gradients; the others look at the weights alone."""


def score_classes(
    coupling: Coupling,
    module: nn.Module,
    importance: Importance,
    gradients: Gradients | None = None,
    *,
    raw: bool = False,
) -> Scores:
    """Importance of every class, with mean 1 over each family; of `lamp`, with maximum 1.

    Args:
        coupling: of the tree that `module` was built from.
        module: its weights are read, and for `taylor` without `gradients` their `.grad`.
        importance: name of the criterion.
        gradients: for those of `BY_GRADIENT`.
        raw: as the criterion gives it, not divided by the mean of the family.

    Returns:
        `(n_classes,)`; protected classes have whatever the criterion gives them. A family whose
        raw scores are all zero scores 0.

    Raises:
        CompressionError: the criterion is unknown, lacks what it needs, or gives a score that is
            not finite.
    """
    if importance not in CRITERIA:
        raise CompressionError(
            f"importance: no criterion {importance!r}; {near_names(importance, CRITERIA)}"
        )
    scores = CRITERIA[importance](coupling, module, gradients)
    for family in coupling.families:
        members = list(family.classes)
        if not np.isfinite(scores[members]).all():
            raise CompressionError(
                f"importance: {importance!r} is not finite for some channels of {family.name}; "
                "the weights or gradients hold NaN or infinity, so restore an earlier checkpoint"
            )
        if importance != "lamp" and not raw:
            mean = scores[members].mean()
            scores[members] /= mean if mean > 0 else 1.0
    return scores


def l1(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Sum of absolute values of the weights that `l2` looks at.

    Source: Li et al., arXiv 1608.08710, section 3.1.
    Differs: columns are counted too, as in `l2`.
    """
    sums = np.zeros(coupling.n_classes)
    for site, weight in _weights(coupling, module):
        _add_rows_and_columns(sums, site, weight.detach().abs() / _n_positions(site, weight))
    return sums


def l2(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Root of the sum of squares of all weights that go with the class: of convolutions and linear
    layers, the rows that write its channels and the columns that read them. Of a
    translation-variant convolution it is the mean over positions, as a plain one counts once.

    Source: the norm of a filter is Li et al., arXiv 1608.08710, section 3.1.
    Differs: they sum absolute values of the rows only; columns are counted here because they go
        too, and because batch normalisation makes the scale of the rows alone meaningless.
    """
    squares = np.zeros(coupling.n_classes)
    for site, weight in _weights(coupling, module):
        _add_rows_and_columns(squares, site, weight.detach().square() / _n_positions(site, weight))
    return np.asarray(np.sqrt(squares), np.float64)


def bn_scale(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Mean absolute scale of the batch normalisations that the class passes; families that pass
    none (inside squeeze-and-excitation), or none that learns its scale, are scored by `l2`.

    A network that was imported with folded normalisations has scales of one only: `restore_norms`
    brings them back.

    Source: Liu et al., network slimming, arXiv 1708.06519, section 3.
    """
    sums, n_passed = np.zeros(coupling.n_classes), np.zeros(coupling.n_classes)
    for site in coupling.sites:
        if isinstance(site.layer, BatchNorm) and not site.layer.fixed_scale:
            scale = module.get_parameter(f"{site.path}.weight")
            np.add.at(sums, site.out_classes, _numpy(scale.abs()))
            np.add.at(n_passed, site.out_classes, 1)
    means = sums / np.maximum(n_passed, 1)
    return np.where(n_passed > 0, means, l2(coupling, module, None))


def lamp(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Square of `l2` over the sum of those of its family that are not smaller: what its removal
    costs of what would be left of the family.

    Source: Lee et al., layer-adaptive magnitude pruning, arXiv 2010.07611.
    Differs: theirs is for single weights of a layer, this for classes of a family.
    """
    squares = l2(coupling, module, None) ** 2
    scores = np.ones(coupling.n_classes)
    for family in coupling.families:
        members = np.array(family.classes)
        rising = members[np.argsort(squares[members], kind="stable")]
        at_least = np.cumsum(squares[rising][::-1])[::-1]
        scores[rising] = squares[rising] / np.where(at_least > 0, at_least, 1.0)
    return scores


def taylor(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Sum of |weight x gradient| over the weights that `l2` looks at: a first-order bound of how
    much the loss changes without the class.

    With `gradients` it is the mean of that over samples. Without, the caller has run the backward
    passes, and the weights' `.grad` is read as it stands.

    Source: Molchanov et al., arXiv 1906.10771, equation 8.
    Differs: absolute values instead of squares, so that many small weights count.

    Raises:
        CompressionError: a weight has no gradient.
    """
    sums = np.zeros(coupling.n_classes)
    for site, weight in _weights(coupling, module):
        key = f"{site.path}.weight"
        found = weight.grad if gradients is None else gradients.magnitudes.get(key)
        if found is None:
            raise CompressionError(
                f"importance: 'taylor' needs gradients and {key} has none; run a "
                "loss backward on the model first, or choose 'l2'"
            )
        _add_rows_and_columns(sums, site, (weight.detach() * found).abs())
    return sums


def hessian(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Sum of (weight x gradient) squared over the weights that `l2` looks at, the mean of it over
    samples: the second-order change of the loss, with the diagonal of the empirical Fisher matrix
    for the Hessian.

    Source: LeCun et al., optimal brain damage, NIPS 1989; the Fisher matrix in its
        place as in Molchanov et al., arXiv 1906.10771.

    Raises:
        CompressionError: a weight has no gradients.
    """
    sums = np.zeros(coupling.n_classes)
    for site, weight in _weights(coupling, module):
        key = f"{site.path}.weight"
        squares = None if gradients is None else gradients.squares.get(key)
        if squares is None:
            raise CompressionError(
                f"importance: 'hessian' needs gradients of single samples and {key} has none; "
                "pass what angular_gradients or per_sample_gradients give, or choose 'l2'"
            )
        _add_rows_and_columns(sums, site, weight.detach().square() * squares)
    return sums


def fisher(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Mean over samples of the squared derivative with respect to one factor of all channels of
    the class, where layers read them: the second-order change of the loss without the class, what
    its weights do to one another included.

    A depthwise filter hands its channel on and does not count as a reader. Classes that no layer
    reads but those are scored by `hessian`.

    Source: Theis et al., arXiv 1801.05787, equation 8; the same as the squared sum of Molchanov et
        al., arXiv 1906.10771, equation 8, over the weights that read the class.

    Raises:
        CompressionError: a weight has no gradients.
    """
    if gradients is None:
        raise CompressionError(
            "importance: 'fisher' needs gradients of single samples; pass what angular_gradients "
            "or per_sample_gradients give, or choose 'l2'"
        )
    sums = np.zeros((gradients.n_samples, coupling.n_classes))
    is_read = np.zeros(coupling.n_classes, np.bool_)
    for site in coupling.sites:
        if columns_of(site) is not None and site.path in gradients.gates:
            gates = _numpy(gradients.gates[site.path])
            np.add.at(sums.T, site.in_classes, gates.T)
            is_read[site.in_classes] = True
    squares = np.square(sums).mean(axis=0)
    return np.where(is_read, squares, hessian(coupling, module, gradients))


def fpgm(coupling: Coupling, module: nn.Module, gradients: Gradients | None) -> Scores:
    """Sum of distances to the other classes of the family: a class near the middle of its family
    is the easiest to stand in for.

    A class is the vector of all rows of convolutions and linear layers that write its channels.

    Source: He et al., geometric median, arXiv 1811.00250, equation 6.
    Differs: all layers that write a class count together, so that a residual stream gets one
        order.
    """
    weights = [
        (site, weight.detach() / _n_positions(site, weight) ** 0.5)
        for site, weight in _weights(coupling, module)
    ]
    scores = np.ones(coupling.n_classes)
    for family in coupling.families:
        place = np.full(coupling.n_classes, len(family.classes))
        place[list(family.classes)] = np.arange(len(family.classes))
        rows = []
        for site, weight in weights:
            places = place[site.out_classes]
            order = np.argsort(places, kind="stable")[: int((places < len(family.classes)).sum())]
            if len(order):
                vectors = weight[torch.from_numpy(order).to(weight.device)]
                rows.append(vectors.reshape(len(family.classes), -1))
        points = torch.cat(rows, dim=1).double()  # (classes, weights of each)
        scores[list(family.classes)] = _numpy(torch.cdist(points, points).sum(dim=1))
    return scores


CRITERIA: dict[Importance, Callable[[Coupling, nn.Module, Gradients | None], Scores]] = {
    "l1": l1,
    "l2": l2,
    "lamp": lamp,
    "bn_scale": bn_scale,
    "fpgm": fpgm,
    "taylor": taylor,
    "hessian": hessian,
    "fisher": fisher,
}
"""Every criterion by name."""


def _weights(coupling: Coupling, module: nn.Module) -> Iterator[tuple[Site, nn.Parameter]]:
    """Sites of convolutions and linear layers, each with its weight."""
    for site in coupling.sites:
        if isinstance(site.layer, Conv | TranslationVariantConv | Linear):
            yield site, module.get_parameter(f"{site.path}.weight")


def _n_positions(site: Site, weight: nn.Parameter) -> int:
    """Positions that have a filter of their own; 1 where they share one."""
    if isinstance(site.layer, TranslationVariantConv):
        return weight.shape[2] * weight.shape[3]  # (channels, taps, height, width)
    return 1


def _add_rows_and_columns(scores: Scores, site: Site, values: Tensor) -> None:
    """Add `values`, one for each weight of a site, to the classes that the weights belong to.

    Where whole groups go, a group is one class, rows and columns alike, so rows are enough.
    """
    _add(scores, site.out_classes, values.flatten(1).sum(dim=1))
    read = columns_of(site)
    if read is not None:
        by_group = values.unflatten(0, (len(read), -1))  # (groups, rows, columns, ...)
        _add(scores, read.reshape(-1), by_group.transpose(1, 2).flatten(2).sum(dim=2).flatten())


def _add(scores: Scores, classes: Ids, values: Tensor) -> None:
    np.add.at(scores, classes, _numpy(values))


def _numpy(values: Tensor) -> Scores:
    return np.asarray(values.detach().double().cpu().numpy(), np.float64)
