"""Structured pruning to a budget of multiply-accumulates: a model in, a narrower model out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.compress.pruning.importance import Importance, score_classes
from nas_face.compress.pruning.selection import Selection
from nas_face.compress.pruning.surgery import Alive, narrowed, sliced
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

logger = logging.getLogger(__name__)


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
        target_madds: what was asked for.
        madds_before: of the model that was given.
        madds_after: of the pruned model, at most `target_madds`.
        removed: classes that went, as `channels.couple` of the given model's tree numbers them.
        families: one for each family that may be pruned, also where nothing went.
    """

    model: FaceModel
    target_madds: int
    madds_before: int
    madds_after: int
    removed: tuple[int, ...]
    families: tuple[FamilyWidth, ...]


def prune(
    model: FaceModel,
    *,
    target_madds: int,
    importance: Importance = "l2",
    round_to: int = 8,
    min_keep: float = 0.25,
) -> PruneResult:
    """Remove the least important channels until a network costs no more than a target.

    The embedding keeps its size by construction. The given model is not changed; the result
    computes exactly what the given one would with the removed channels silenced, so it needs
    fine-tuning like any pruned network.

    Args:
        model: what to prune.
        target_madds: multiply-accumulates that the result may have at most.
        importance: criterion; see `nas_face.compress.pruning.importance`.
        round_to: channels; widths of families become multiples of it, as far as the number of
            channels that must go together permits. A family that is not a multiple may stay whole.
        min_keep: fraction of each family that must stay, 0 to 1; one class always stays.

    Raises:
        CompressionError: an argument is out of range, the target is above the present cost or
            below what `round_to` and `min_keep` can reach, or `importance` lacks what it needs.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> model = FaceModel.fresh(network("mobilefacenet_128").spec, seed=0)
        >>> result = prune(model, target_madds=110_000_000)
        >>> result.madds_before, 108_000_000 < result.madds_after <= 110_000_000
        (220965376, True)
        >>> result.model.description.embedding_size
        128
    """
    _check_arguments(round_to=round_to, min_keep=min_keep)
    network, x = model.description.network, model.description.input
    madds_before = model.description.cost.madds
    if target_madds > madds_before:
        raise CompressionError(
            f"target_madds must be at most the {madds_before:,} MAdds that the model has, got "
            f"{target_madds:,}; pruning only removes"
        )
    coupling = couple(network, x)
    scores = score_classes(coupling, model.module, importance)
    selection = Selection(coupling, scores, round_to=round_to, min_keep=min_keep)

    def madds(alive: Alive) -> int:
        return narrowed(network, coupling, alive).cost(x).madds

    _check_reachable(target_madds, selection, madds)
    counts = selection.fit(target_madds, lambda counts: madds(selection.alive(counts)))
    alive = selection.alive(counts)
    pruned = _rebuilt(model, coupling, alive)
    madds_after = pruned.description.cost.madds
    step = (
        f"pruned from {madds_before:,} to {madds_after:,} MAdds "
        f"(importance={importance}, round_to={round_to}, min_keep={min_keep})"
    )
    logger.info("%s", step)
    return PruneResult(
        model=pruned.noting(step),
        target_madds=target_madds,
        madds_before=madds_before,
        madds_after=madds_after,
        removed=tuple(np.flatnonzero(~alive).tolist()),
        families=tuple(
            FamilyWidth(
                name=family.name,
                channels_before=len(family.classes) * family.class_width,
                channels_after=count * family.class_width,
            )
            for family, count in zip(coupling.families, counts, strict=True)
        ),
    )


def _check_arguments(*, round_to: int, min_keep: float) -> None:
    if round_to < 1:
        raise CompressionError(f"round_to must be 1 or more channels, got {round_to}")
    if not 0 <= min_keep <= 1:
        raise CompressionError(f"min_keep must be a fraction from 0 to 1, got {min_keep}")


def _check_reachable(
    target_madds: int, selection: Selection, madds: Callable[[Alive], int]
) -> None:
    """Raise if the narrowest network is above the target, and say what each knob would give."""
    smallest = madds(selection.alive(selection.floors))
    if smallest <= target_madds:
        return
    looser = {
        "min_keep=0": selection.loosened(min_keep=0.0),
        "round_to=1": selection.loosened(round_to=1),
        "both": selection.loosened(round_to=1, min_keep=0.0),
    }
    allowed = {knob: madds(each.alive(each.floors)) for knob, each in looser.items()}
    remedies = [f"{knob} would allow {n:,}" for knob, n in allowed.items() if n < smallest]
    raise CompressionError(
        f"target_madds={target_madds:,} cannot be reached: with min_keep={selection.min_keep} and "
        f"round_to={selection.round_to} the smallest network has {smallest:,} MAdds; "
        + (", ".join(remedies) or "nothing narrower exists, so start from a smaller network")
    )


def _rebuilt(model: FaceModel, coupling: Coupling, alive: Alive) -> FaceModel:
    """The model with only the classes that are alive, on the same device and in the same mode."""
    description = replace(
        model.description, network=narrowed(model.description.network, coupling, alive)
    )
    pruned = FaceModel.of(description, sliced(model.module.state_dict(), coupling, alive))
    pruned.module.to(next(model.module.parameters()).device)
    pruned.module.train(model.module.training)
    return pruned
