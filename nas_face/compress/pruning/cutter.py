"""One network with one ranking: what it costs with so many classes, and what it then is."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import final

import numpy as np

from nas_face.arch.spec import ArchSpec
from nas_face.compress.pruning.channels import couple
from nas_face.compress.pruning.gradients import Gradients
from nas_face.compress.pruning.importance import Importance, score_classes
from nas_face.compress.pruning.scope import SCOPES, Scope
from nas_face.compress.pruning.selection import Counts, Selection
from nas_face.compress.pruning.surgery import narrowed, sliced
from nas_face.compress.pruning.width_cost import Counted, WidthCost
from nas_face.errors import ArchError, CompressionError, near_names
from nas_face.nn.model import Description, FaceModel


@final
class Cutter:
    """A model and the order in which its channels go.

    Args:
        model: what is cut; never changed.
        importance: criterion.
        scope: which families are ranked together.
        round_to: channels, of which widths become multiples.
        min_keep: fraction of each family that must stay, 0 to 1.
        gradients: for criteria that need them.
        whole: channels of families before earlier rounds, by name; `min_keep` is of these.
        saved: what the scope `saving` counts.

    Raises:
        CompressionError: an argument is out of range, or the criterion lacks what it needs.
    """

    def __init__(
        self,
        model: FaceModel,
        *,
        importance: Importance,
        scope: Scope,
        round_to: int,
        min_keep: float,
        gradients: Gradients | None = None,
        whole: Mapping[str, int] | None = None,
        saved: Counted = "madds",
    ) -> None:
        _check_arguments(scope=scope, round_to=round_to, min_keep=min_keep)
        self.description = model.description
        self.coupling = couple(self.description.network, self.description.input)
        self._costs = WidthCost(self.coupling)
        raw = scope == "saving"
        scores = score_classes(self.coupling, model.module, importance, gradients, raw=raw)
        if raw:
            savings = self._costs.savings(saved)
            for family, saving in zip(self.coupling.families, savings, strict=True):
                scores[list(family.classes)] /= saving
        self.selection = Selection(
            self.coupling,
            scores,
            round_to=round_to,
            min_keep=min_keep,
            scope=scope,
            whole=whole,
        )
        self._original = model

    def counter(self, quantity: Counted) -> Callable[[Counts], int]:
        """Multiply-accumulates, or parameters, of so many classes of each family."""
        return functools.partial(self._costs.of, quantity)

    def fit(self, quantity: Counted, budget: int, *, tolerance: float) -> Counts:
        """Most classes at or under a budget.

        Raises:
            CompressionError: the budget is above the present cost, or below what rounding and
                floors can reach; the message says what each knob would give.
        """
        before = int(getattr(self.description.cost, quantity))
        unit = "MAdds" if quantity == "madds" else "parameters"
        if budget > before:
            raise CompressionError(
                f"target_{quantity} must be at most the {before:,} {unit} that the model has, got "
                f"{budget:,}; pruning only removes"
            )
        selection = self.selection
        count = self.counter(quantity)
        smallest = count(selection.floors)
        if smallest > budget:
            raise CompressionError(
                f"target_{quantity}={budget:,} cannot be reached: with min_keep="
                f"{selection.min_keep} and round_to={selection.round_to} the smallest network has "
                f"{smallest:,} {unit}; {self._remedies(quantity, smallest)}"
            )
        return selection.fit(budget, count, tolerance=tolerance)

    def _remedies(self, quantity: Counted, smallest: int) -> str:
        looser = {
            "min_keep=0": self.selection.loosened(min_keep=0.0),
            "round_to=1": self.selection.loosened(round_to=1),
            "both": self.selection.loosened(round_to=1, min_keep=0.0),
        }
        allowed = {knob: self._costs.of(quantity, each.floors) for knob, each in looser.items()}
        said = [f"{knob} would allow {n:,}" for knob, n in allowed.items() if n < smallest]
        return ", ".join(said) or "nothing narrower exists, so start from a smaller network"

    def model(self, counts: Counts) -> FaceModel:
        """The model with only so many classes of each family, on the same device and in the same
        mode."""
        original, alive = self._original, self.selection.alive(counts)
        network = narrowed(self.description.network, self.coupling, alive)
        description = replace(self.description, network=network)
        if network != self.description.network:
            description = replace(description, arch_id=_arch_id(description))
        weights = sliced(original.module.state_dict(), self.coupling, alive)
        pruned = FaceModel.of(description, weights)
        pruned.module.to(next(original.module.parameters()).device)
        pruned.module.train(original.module.training)
        return pruned

    def removed(self, counts: Counts) -> tuple[int, ...]:
        """Classes that go, as `channels.couple` numbers them."""
        return tuple(np.flatnonzero(~self.selection.alive(counts)).tolist())


def _arch_id(description: Description) -> str:
    """Of a pruned network. A tree that has no stem, stages and head keeps that of its ancestor."""
    try:
        return ArchSpec.of_tree(description.network, description.input).arch_id
    except ArchError:
        return description.arch_id


def _check_arguments(*, scope: str, round_to: int, min_keep: float) -> None:
    if scope not in SCOPES:
        raise CompressionError(f"scope: no scope {scope!r}; {near_names(scope, SCOPES)}")
    if round_to < 1:
        raise CompressionError(f"round_to must be 1 or more channels, got {round_to}")
    if not 0 <= min_keep <= 1:
        raise CompressionError(f"min_keep must be a fraction from 0 to 1, got {min_keep}")
