"""Pruning in rounds, with recovery in between: what goes next is decided on a network that has got
used to what went before."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning.gradients import Gradients
from nas_face.compress.pruning.importance import Importance
from nas_face.compress.pruning.prune import MAX_MEASUREMENTS, PruneResult, pruned_to
from nas_face.compress.pruning.scope import Scope
from nas_face.compress.pruning.target import Target
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)

Recover = Callable[[FaceModel, int], FaceModel]
"""A pruned model and the round that made it, counted from 1, to the same network with better
weights."""


def prune_in_rounds(
    model: FaceModel,
    target: Target,
    *,
    rounds: int,
    recover: Recover,
    importance: Importance = "l2",
    scope: Scope = "global",
    round_to: int = 8,
    min_keep: float = 0.25,
    gradients: Callable[[FaceModel], Gradients] | None = None,
    tolerance: float = 0.01,
    max_measurements: int = MAX_MEASUREMENTS,
    refit_on: NDArray[np.uint8] | None = None,
) -> tuple[PruneResult, ...]:
    """Prune to a target in several rounds, each by the same factor.

    Importances are scored anew in every round. The weights are recovered between rounds, and not
    behind the last one, which is for the caller to do as after `prune`.

    Args:
        model: what to prune; it is not changed.
        target: of the last round. A measured cost is searched for in every round.
        rounds: one or more.
        recover: called between rounds; it must leave the network's widths alone.
        importance: criterion.
        scope: which families of channels are ranked together.
        round_to: channels, of which widths become multiples.
        min_keep: fraction of each family of the given model that must stay, over all rounds.
        gradients: for the criteria of `BY_GRADIENT`: called with the model at the start of every
            round.
        tolerance: how near to the target is near enough, as a share of it.
        max_measurements: most calls of a measured target's cost in one round.
        refit_on: crops to fit what is left to what was there, in every round; see `prune`.

    Returns:
        One result a round; the last has the model.

    Raises:
        CompressionError: as `prune`, or `recover` gives another network.
    """
    if rounds < 1:
        raise CompressionError(f"rounds must be 1 or more, got {rounds}")
    start = _amount(model, target)
    whole: dict[str, int] = {}
    results: list[PruneResult] = []
    current = model
    for number in range(1, rounds + 1):
        amount = start * (target.amount / start) ** (number / rounds)
        result = pruned_to(
            current,
            target if number == rounds else _at(target, amount),
            importance=importance,
            scope=scope,
            round_to=round_to,
            min_keep=min_keep,
            gradients=None if gradients is None else gradients(current),
            tolerance=tolerance,
            max_measurements=max_measurements,
            refit_on=refit_on,
            whole=whole,
        )
        logger.info("round %d of %d: %s", number, rounds, target.said(result.reached))
        results.append(result)
        for family in result.families:
            whole.setdefault(family.name, family.channels_before)
        if number < rounds:
            current = _recovered(result.model, number, recover)
    return tuple(results)


def _recovered(model: FaceModel, number: int, recover: Recover) -> FaceModel:
    recovered = recover(model, number)
    if recovered.description.network != model.description.network:
        raise CompressionError(
            f"recover: round {number} came back as another network; it may change weights only"
        )
    return recovered


def _amount(model: FaceModel, target: Target) -> float:
    """What the model has of what the target counts."""
    if target.cost is not None:
        return target.cost(model)
    cost = model.description.cost
    return float(cost.madds if target.madds is not None else cost.params)


def _at(target: Target, amount: float) -> Target:
    """The same target with another amount."""
    if target.cost is not None:
        return replace(target, value=amount)
    if target.madds is not None:
        return replace(target, madds=round(amount))
    return replace(target, params=round(amount))
