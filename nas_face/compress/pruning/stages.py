"""Pruning by a share for each stage of a network, instead of one target for the whole."""

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.gradients import Gradients
from nas_face.compress.pruning.importance import Importance
from nas_face.compress.pruning.refit import refit
from nas_face.compress.pruning.scope import Scope
from nas_face.compress.pruning.selection import Counts, Selection
from nas_face.errors import CompressionError, near_names
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)


def stage_of(path: str) -> str:
    """Stage that a layer lies in: `stem`, `stages.0`, `stages.1`, ..., `head`.

    That is the first part of its path, with the number behind it where the first part is
    `stages`; another tree has a stage for each of its children.
    """
    first, _, rest = path.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "stages" and rest else first


def prunable_channels(selection: Selection) -> dict[str, int]:
    """Channels that may be pruned, by stage, in the order of the network; each family counts with
    its narrowest tensor, and belongs to the stage that first writes it."""
    found: dict[str, int] = {}
    for family in selection.coupling.families:
        stage = stage_of(family.name)
        found[stage] = found.get(stage, 0) + len(family.classes) * family.class_width
    return found


def require_shares(shares: Mapping[str, float], selection: Selection) -> None:
    """Raise if shares are none of a network's.

    Raises:
        CompressionError: a share is not above 0 and at most 1, or a stage has no channels that may
            be pruned.
    """
    known = prunable_channels(selection)
    for stage, share in shares.items():
        if not 0 < share <= 1:
            raise CompressionError(f"stages: {stage}: must be above 0 and at most 1, got {share}")
        if stage not in known:
            raise CompressionError(
                f"stages: {stage!r} is no stage with channels that can be pruned; "
                f"{near_names(stage, known)}"
            )


def stage_counts(selection: Selection, shares: Mapping[str, float]) -> Counts:
    """Classes of each family that stay when every stage keeps a share of its channels.

    In a stage go the least important channels, as the selection ranks them; stages do not compete
    with each other. A stage ends at its share or below it, and above it only where rounding and
    floors permit nothing as narrow: then with the fewest channels that they permit.

    Args:
        selection: of the network.
        shares: of channels that stay, above 0 and at most 1, by stage; those that are not named
            stay whole.

    Raises:
        CompressionError: see `require_shares`.
    """
    require_shares(shares, selection)
    coupling = selection.coupling
    counts = [grid.size for grid in selection.grids]
    for stage, share in shares.items():
        numbers = [
            number
            for number, family in enumerate(coupling.families)
            if stage_of(family.name) == stage
        ]
        widths = [coupling.families[number].class_width for number in numbers]
        alone = Selection(
            replace(coupling, families=tuple(coupling.families[number] for number in numbers)),
            selection.scores,
            round_to=selection.round_to,
            min_keep=selection.min_keep,
            scope=selection.scope,
            whole=selection.whole,
        )
        channels = functools.partial(_channels, widths)
        budget = int(share * channels(tuple(grid.size for grid in alone.grids)) + 1e-9)
        fits = channels(alone.floors) <= budget
        kept = alone.fit(budget, channels) if fits else alone.floors
        for number, count in zip(numbers, kept, strict=True):
            counts[number] = count
    return tuple(counts)


def prune_stages(
    model: FaceModel,
    shares: Mapping[str, float],
    *,
    importance: Importance = "l2",
    scope: Scope = "global",
    round_to: int = 8,
    min_keep: float = 0.25,
    gradients: Gradients | None = None,
    refit_on: NDArray[np.uint8] | None = None,
) -> FaceModel:
    """Remove the least important channels of each stage until a share of them is left.

    Otherwise as `prune`: the embedding keeps its size, the given model is not changed, and the
    result needs `recalibrate_norms` or `refit_on` at the least.

    Args:
        model: what to prune.
        shares: of channels that stay, by stage; see `stage_counts`.
        importance: criterion.
        scope: which families of a stage are ranked together.
        round_to: channels, of which widths become multiples.
        min_keep: fraction of each family that must stay, 0 to 1.
        gradients: for the criteria of `BY_GRADIENT`.
        refit_on: `(N, H, W, 3)` RGB crops to fit what is left to what was there, see `refit`; none
            leaves the weights as they are.

    Raises:
        CompressionError: an argument is out of range, or `importance` lacks what it needs.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> model = FaceModel.fresh(network("mobilefacenet_128").spec, seed=0)
        >>> pruned = prune_stages(model, {"stages.2": 0.5, "head": 0.5}, scope="local")
        >>> model.description.cost.params, pruned.description.cost.params
        (1003136, 719104)
    """
    cutter = Cutter(
        model,
        importance=importance,
        scope=scope,
        round_to=round_to,
        min_keep=min_keep,
        gradients=gradients,
    )
    counts = stage_counts(cutter.selection, shares)
    pruned = cutter.model(counts)
    before, after = model.description.cost, pruned.description.cost
    said = ", ".join(f"{stage} {share:g}" for stage, share in shares.items())
    step = (
        f"pruned from {before.madds:,} to {after.madds:,} MAdds (shares={said}, importance="
        f"{importance}, scope={scope}, round_to={round_to}, min_keep={min_keep}, arch_id before="
        f"{model.description.arch_id})"
    )
    logger.info("%s", step)
    pruned = pruned.noting(step)
    removed = cutter.removed(counts)
    return pruned if refit_on is None or not removed else refit(model, pruned, removed, refit_on)


def _channels(widths: list[int], counts: Counts) -> int:
    return sum(width * count for width, count in zip(widths, counts, strict=True))
