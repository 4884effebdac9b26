"""Structured pruning to a target: a model in, a narrower model out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.gradients import Gradients
from nas_face.compress.pruning.importance import Importance
from nas_face.compress.pruning.measured import fit_measured
from nas_face.compress.pruning.refit import refit
from nas_face.compress.pruning.scope import Scope
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.target import Target
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)

MAX_MEASUREMENTS = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyWidth:
    """What pruning did to one family of channels.

    Attributes:
        name: path of the layer that writes it.
        channels_before: channels in the narrowest tensor that holds the family.
        channels_after: the same after pruning.
    """

    name: str
    channels_before: int
    channels_after: int

    @property
    def n_removed(self) -> int:
        """Channels that went."""
        return self.channels_before - self.channels_after


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """A pruned model and how it came about.

    Attributes:
        model: the pruned model.
        target: what was asked for.
        reached: what the pruned model has of it; of a measured cost, the mean of its measurements.
        measurements: of a measured cost: MAdds of every network that was measured and the mean of
            what it gave, in order.
        madds_before: of the model that was given.
        madds_after: of the pruned model.
        params_before: of the model that was given.
        params_after: of the pruned model.
        removed: classes that went, as `channels.couple` of the given model's tree numbers them.
        families: one for each family that may be pruned, also where nothing went.
    """

    model: FaceModel
    target: Target
    reached: float
    measurements: tuple[tuple[int, float], ...] = ()
    madds_before: int
    madds_after: int
    params_before: int
    params_after: int
    removed: tuple[int, ...]
    families: tuple[FamilyWidth, ...]

    @property
    def off_target(self) -> float:
        """How far from the target, as a share of it; below 0 where less was reached. MAdds and
        parameters are never above it."""
        return self.reached / self.target.amount - 1


def prune(
    model: FaceModel,
    *,
    target: Target | None = None,
    target_madds: int | None = None,
    importance: Importance = "l2",
    scope: Scope = "global",
    round_to: int = 8,
    min_keep: float = 0.25,
    gradients: Gradients | None = None,
    tolerance: float = 0.01,
    max_measurements: int = MAX_MEASUREMENTS,
    refit_on: NDArray[np.uint8] | None = None,
) -> PruneResult:
    """Remove the least important channels until a network meets a target.

    The embedding keeps its size by construction. The given model is not changed; the result
    computes exactly what the given one would with the removed channels silenced, so it needs
    fine-tuning like any pruned network, and `recalibrate_norms` or `refit_on` at the least.

    MAdds and parameters end at the target or below it, by less than `tolerance` wherever the grid
    of widths has such a network near the ranking; `off_target` of the result says how far, and
    more than the tolerance is logged as a warning.

    Args:
        model: what to prune.
        target: what to reach; or
        target_madds: short for `Target(madds=...)`.
        importance: criterion; see `nas_face.compress.pruning.importance`.
        scope: which families of channels are ranked together.
        round_to: channels; widths of families become multiples of it, as far as the number of
            channels that must go together permits. A family that is not a multiple may stay whole.
        min_keep: fraction of each family that must stay, 0 to 1; one class always stays.
        gradients: for the criteria of `BY_GRADIENT`.
        tolerance: how near to the target is near enough, as a share of it.
        max_measurements: most calls of a measured target's cost.
        refit_on: `(N, H, W, 3)` RGB crops to fit what is left to what was there, see `refit`; none
            leaves the weights as they are.

    Raises:
        CompressionError: an argument is out of range, the target is above the present cost or
            below what `round_to` and `min_keep` can reach, or `importance` lacks what it needs.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> model = FaceModel.fresh(network("mobilefacenet_128").spec, seed=0)
        >>> result = prune(model, target_madds=110_000_000)
        >>> result.madds_before, 108_900_000 < result.madds_after <= 110_000_000
        (220965376, True)
        >>> result.model.description.embedding_size
        128
    """
    if (target is None) == (target_madds is None):
        raise CompressionError("target: give target or target_madds, and not both")
    return pruned_to(
        model,
        target or Target(madds=target_madds),
        importance=importance,
        scope=scope,
        round_to=round_to,
        min_keep=min_keep,
        gradients=gradients,
        tolerance=tolerance,
        max_measurements=max_measurements,
        refit_on=refit_on,
        whole={},
    )


def pruned_to(
    model: FaceModel,
    target: Target,
    *,
    importance: Importance,
    scope: Scope,
    round_to: int,
    min_keep: float,
    gradients: Gradients | None,
    tolerance: float,
    max_measurements: int,
    refit_on: NDArray[np.uint8] | None,
    whole: Mapping[str, int],
) -> PruneResult:
    """As `prune`, of a model that may have lost channels before.

    Args:
        whole: channels of families before earlier rounds, by name; `min_keep` is of these.
    """
    if not 0 <= tolerance < 1 or max_measurements < 4:
        raise CompressionError(
            "tolerance must be from 0 to 1 and max_measurements 4 or more, got "
            f"{tolerance} and {max_measurements}"
        )
    cutter = Cutter(
        model,
        importance=importance,
        scope=scope,
        round_to=round_to,
        min_keep=min_keep,
        gradients=gradients,
        whole=whole,
        saved="params" if target.quantity == "params" else "madds",
    )
    measurements: tuple[tuple[int, float], ...] = ()
    if target.quantity == "cost":
        counts, points = fit_measured(
            cutter, model, target, tolerance=tolerance, max_calls=max_measurements
        )
        measurements = tuple((point.madds, point.value) for point in points)
        reached = next(point.value for point in points if point.counts == counts)
    else:
        counts = cutter.fit(target.quantity, int(target.amount), tolerance=tolerance)
        reached = cutter.counter(target.quantity)(counts)
    pruned = cutter.model(counts)
    before, after = model.description.cost, pruned.description.cost
    step = (
        f"pruned from {before.madds:,} to {after.madds:,} MAdds (target="
        f"{target.said(target.amount)}, importance={importance}, scope={scope}, "
        f"round_to={round_to}, min_keep={min_keep}, arch_id before={model.description.arch_id})"
    )
    logger.info("%s", step)
    removed = cutter.removed(counts)
    pruned = pruned.noting(step)
    if refit_on is not None and removed:
        pruned = refit(model, pruned, removed, refit_on)
    result = PruneResult(
        model=pruned,
        target=target,
        reached=reached,
        measurements=measurements,
        madds_before=before.madds,
        madds_after=after.madds,
        params_before=before.params,
        params_after=after.params,
        removed=removed,
        families=_widths(cutter, counts),
    )
    if abs(result.off_target) > tolerance:
        logger.warning(
            "%s is %.1f %% off the target of %s; a round_to below %d comes nearer",
            target.said(reached),
            100 * result.off_target,
            target.said(target.amount),
            round_to,
        )
    return result


def _widths(cutter: Cutter, counts: Counts) -> tuple[FamilyWidth, ...]:
    return tuple(
        FamilyWidth(
            name=family.name,
            channels_before=len(family.classes) * family.class_width,
            channels_after=count * family.class_width,
        )
        for family, count in zip(cutter.coupling.families, counts, strict=True)
    )
