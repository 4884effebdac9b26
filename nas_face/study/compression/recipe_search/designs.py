"""Labels of Optuna's parameters to recipes, and what a recipe costs before it is tried."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from nas_face.compress.pruning import (
    BY_GRADIENT,
    Importance,
    Scope,
    angular_gradients,
    restore_norms,
    stage_of,
)
from nas_face.compress.pruning.channels import columns_of
from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.stages import prunable_channels, stage_counts
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.errors import CompressionError, ConfigError, near_names
from nas_face.nn import FaceModel
from nas_face.search import ParameterDesigns
from nas_face.search.budget import UNITS, figure
from nas_face.study.compression.float_layers import chosen_layers
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.step_settings import (
    Bits,
    PruneStep,
    Step,
)

SHARE: Final = "share."
WEIGHTS: Final = "weights."
"""Beginnings of the names of parameters that there are for each stage."""

N_STEPS: Final = "n_steps"
_FLOAT_BYTES: Final = 4
_BITS: Final[Mapping[str, Bits]] = {"w4": 4, "w6": 6, "w8": 8}
_BITS_OF: Final[Mapping[str, int]] = {**_BITS, "int8": 8, "fp32": 32}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What some labels come to: labels without effect are gone.

    Attributes:
        shares: of the channels of a stage, by stage; those that lose some.
        importance: which channels go first; means nothing where none goes.
        scope: likewise.
        round_to: likewise.
        recover_epochs: of training behind the pruning.
        precision: of the file.
        in_float: stages that stay in float32 in a file of few bits.
        counts: classes of each family that stay.
    """

    shares: Mapping[str, float]
    importance: Importance
    scope: Scope
    round_to: int
    recover_epochs: int
    precision: str
    in_float: tuple[str, ...]
    counts: Counts


@final
class RecipeDesigns:
    """Recipes of one model.

    Args:
        model: what is compressed.
        space: what may be chosen.
        crops: on which importances by gradient and statistics of norms are measured, as the
            pruning does.

    Raises:
        ConfigError: a stage of the space is none of the model's.
        CompressionError: a criterion lacks what it needs, or a layer is not there.
    """

    def __init__(self, model: FaceModel, space: RecipeSpace, crops: NDArray[np.uint8]) -> None:
        self.space = space
        self._model = restore_norms(model, crops)  # as the pruning step does
        self._crops = crops
        self._layers = weighted_layers(self._model.description)
        self._kept = chosen_layers(self._layers, space.keep_float)
        self._weights = {each.path: each.weights for each in self._layers}
        first = self._cutter(space.importance[0], space.scope[0], space.round_to[0])
        self._prunable = tuple(prunable_channels(first.selection))
        self._weighted = tuple(
            dict.fromkeys(
                stage_of(each.path) for each in self._layers if each.path not in self._kept
            )
        )
        for stage in space.stages:
            if stage not in self._prunable:
                raise ConfigError(
                    f"stages: {stage!r} is no stage with channels that can be pruned; "
                    f"{near_names(stage, self._prunable)}"
                )
        self.distributions = self._made_distributions()

    def designs(self, float_bytes: int | None = None) -> ParameterDesigns:
        """For samplers: all that is proposed does something and is within the walls that are known
        before.

        Args:
            float_bytes: of the model's float32 file, from which follows what files have beside
                their weights; None where there is no file yet.
        """
        budget = self.space.budget
        whole = self._model.description.cost
        beside = 0 if float_bytes is None else float_bytes - _FLOAT_BYTES * whole.params

        def known(labels: Mapping[str, Any]) -> dict[str, float]:
            found = self.known(labels)
            return {**found, "size_bytes": max(1.0, found["size_bytes"] + beside)}

        def fits(known: Mapping[str, float]) -> bool:
            return known[N_STEPS] > 0 and not any(
                wall.excess(known[wall.quantity]) for wall in budget.analytic_walls
            )

        return ParameterDesigns(self.distributions, known, fits, self.identity)

    def require_reachable(self) -> None:
        """Raise if the narrowest network in the fewest bits is over a wall that is known before.

        Raises:
            CompressionError: it is.
        """
        space = self.space
        few = min(space.stage_precision, key=lambda each: each == "float")
        smallest: dict[str, Any] = {
            **{SHARE + stage: min(space.shares_of(stage)) for stage in self._prunable},
            "importance": space.importance[0],
            "scope": space.scope[0],
            "round_to": min(space.round_to),
            "recover_epochs": space.recover_epochs[0],
            "precision": min(space.precision, key=lambda each: _BITS_OF[each]),
            **{WEIGHTS + stage: few for stage in self._weighted},
        }
        known = self.known(smallest)
        for wall in space.budget.analytic_walls:
            value = known[wall.quantity]
            if wall.is_upper and wall.excess(value):
                raise CompressionError(
                    f"budget.{wall.name} of {figure(wall.limit)} cannot be reached: the smallest "
                    f"network of the space has {figure(round(value))} {UNITS[wall.quantity]}; "
                    "give "
                    "smaller shares, a lower min_keep or round_to, or fewer bits"
                )

    def recipe(self, labels: Mapping[str, Any]) -> Recipe:
        """The recipe of some labels.

        Raises:
            ConfigError: it does nothing.
        """
        space, draft = self.space, self.draft(labels)
        steps: list[Step] = []
        if draft.shares:
            recover = None
            if draft.recover_epochs:
                recover = replace(space.recover, epochs=draft.recover_epochs)
            steps.append(
                PruneStep(
                    stages=draft.shares,
                    importance=draft.importance,
                    scope=draft.scope,
                    round_to=draft.round_to,
                    min_keep=space.min_keep,
                    recover=recover,
                )
            )
        keep_float = (*space.keep_float, *draft.in_float)
        if draft.precision == "int8":
            steps.append(replace(space.quantise, keep_float=keep_float))
        elif draft.precision != "fp32":
            bits = _BITS[draft.precision]
            steps.append(replace(space.low_bits, bits=bits, keep_float=keep_float))
        return Recipe(
            name=space.name, runtime=space.runtime, deliver=space.deliver, steps=tuple(steps)
        )

    def draft(self, labels: Mapping[str, Any]) -> Draft:
        """What some labels come to."""
        cutter = self._cutter_of(labels)
        sizes = [grid.size for grid in cutter.selection.grids]
        counts, shares = list(sizes), {}
        for stage in self._prunable:
            share = float(labels[SHARE + stage])
            if share == 1:
                continue
            kept = self._stage_counts(*_pruning_of(labels), stage, share)
            moved = [at for at, count in enumerate(kept) if count < sizes[at]]
            if moved:
                shares[stage] = share
            for at in moved:
                counts[at] = kept[at]
        precision = str(labels["precision"])
        in_float = tuple(stage for stage in self._weighted if labels[WEIGHTS + stage] == "float")
        if precision == "fp32" or len(in_float) == len(self._weighted):
            precision, in_float = "fp32", ()
        return Draft(
            shares=shares,
            importance=cast(Importance, labels["importance"]),
            scope=cast(Scope, labels["scope"]),
            round_to=int(labels["round_to"]),
            recover_epochs=int(labels["recover_epochs"]) if shares else 0,
            precision=precision,
            in_float=in_float,
            counts=tuple(counts),
        )

    def known(self, labels: Mapping[str, Any]) -> dict[str, float]:
        """What is known of a recipe before it is tried: `madds` and `params`, exactly; an estimate
        of `size_bytes`, that of the weights alone, each stored in its bits; and `n_steps`."""
        draft, cutter = self.draft(labels), self._cutter_of(labels)
        params = cutter.counter("params")(draft.counts)
        weights = self._weights_of(*_pruning_of(labels), draft.counts)
        bits = _BITS_OF[draft.precision]
        few = sum(
            count
            for path, count in weights.items()
            if path not in self._kept and stage_of(path) not in draft.in_float
        )
        size = _FLOAT_BYTES * (params - few) + few * bits / 8
        return {
            "madds": float(cutter.counter("madds")(draft.counts)),
            "params": float(params),
            "size_bytes": size,
            N_STEPS: float(bool(draft.shares) + (draft.precision != "fp32")),
        }

    def identity(self, labels: Mapping[str, Any]) -> str:
        """Of the network, the training and the file that some labels lead to: two recipes that
        remove the same channels are the same."""
        draft = self.draft(labels)
        removed = self._cutter_of(labels).removed(draft.counts)
        text = json.dumps(
            [removed, draft.recover_epochs, draft.precision, draft.in_float], separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _made_distributions(self) -> dict[str, CategoricalDistribution]:
        space = self.space
        choices: dict[str, tuple[Any, ...]] = {
            **{SHARE + stage: space.shares_of(stage) for stage in self._prunable},
            "importance": space.importance,
            "scope": space.scope,
            "round_to": space.round_to,
            "recover_epochs": space.recover_epochs,
            "precision": space.precision,
            **{WEIGHTS + stage: space.stage_precision for stage in self._weighted},
        }
        return {name: CategoricalDistribution(each) for name, each in choices.items()}

    def _cutter_of(self, labels: Mapping[str, Any]) -> Cutter:
        return self._cutter(*_pruning_of(labels))

    @functools.cache  # noqa: B019  there is one of these in a search
    def _cutter(self, importance: Importance, scope: Scope, round_to: int) -> Cutter:
        return Cutter(
            self._model,
            importance=importance,
            scope=scope,
            round_to=round_to,
            min_keep=self.space.min_keep,
            gradients=self._gradients if importance in BY_GRADIENT else None,
        )

    @functools.cached_property
    def _gradients(self) -> Any:
        return angular_gradients(self._model, self._crops)

    @functools.cache  # noqa: B019
    def _stage_counts(
        self, importance: Importance, scope: Scope, round_to: int, stage: str, share: float
    ) -> Counts:
        return stage_counts(self._cutter(importance, scope, round_to).selection, {stage: share})

    @functools.lru_cache(maxsize=100_000)  # noqa: B019
    def _weights_of(
        self, importance: Importance, scope: Scope, round_to: int, counts: Counts
    ) -> Mapping[str, int]:
        """Weights of every convolution and linear layer that is left, by path."""
        cutter = self._cutter(importance, scope, round_to)
        alive = cutter.selection.alive(counts)
        found: dict[str, int] = {}
        for site in cutter.coupling.sites:
            if site.path not in self._weights:
                continue
            columns = columns_of(site)
            share = alive[site.out_classes].mean()
            if columns is not None:
                share *= alive[columns].mean()
            found[site.path] = round(float(share) * self._weights[site.path])
        return found


def _pruning_of(labels: Mapping[str, Any]) -> tuple[Importance, Scope, int]:
    return (
        cast(Importance, labels["importance"]),
        cast(Scope, labels["scope"]),
        int(labels["round_to"]),
    )
