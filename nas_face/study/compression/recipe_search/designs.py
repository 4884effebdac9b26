"""Labels of Optuna's parameters to recipes, and what a recipe costs before it is tried."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from nas_face.compress.pruning import stage_of
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.stages import prunable_channels
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.errors import ConfigError, near_names
from nas_face.nn import FaceModel
from nas_face.search import ParameterDesigns
from nas_face.study.compression.float_layers import chosen_layers
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.cutters import Cutters, Way
from nas_face.study.compression.recipe_search.objectives import SIZE
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.step_settings import Bits, PruneStep, Step

SHARE: Final = "share."
WEIGHTS: Final = "weights."
"""Beginnings of the names of parameters that there are for each stage."""

N_STEPS: Final = "n_steps"
BITS_OF: Final[Mapping[str, int]] = {"w4": 4, "w6": 6, "w8": 8, "int8": 8, "fp32": 32}
_BITS: Final[Mapping[str, Bits]] = {"w4": 4, "w6": 6, "w8": 8}
_FLOAT_BYTES: Final = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What some labels come to: labels without effect are gone.

    Attributes:
        shares: of the channels of a stage, by stage; those that lose some.
        way: how channels are chosen; means nothing where none goes.
        recover_epochs: of training behind the pruning.
        precision: of the file.
        in_float: stages that stay in float32 in a file of few bits.
        counts: classes of each family that stay.
    """

    shares: Mapping[str, float]
    way: Way
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
        self._cutters = Cutters(model, space.min_keep, crops)
        restored = self._cutters.model.description
        self._params = restored.cost.params
        layers = weighted_layers(restored)
        self._kept = chosen_layers(layers, space.keep_float)
        first = Way(space.importance[0], space.scope[0], space.round_to[0])
        self.prunable = tuple(prunable_channels(self._cutters.of(first).selection))
        self.weighted = tuple(
            dict.fromkeys(stage_of(each.path) for each in layers if each.path not in self._kept)
        )
        for stage in space.stages:
            if stage not in self.prunable:
                raise ConfigError(
                    f"stages: {stage!r} is no stage of this network with channels that can "
                    f"be pruned; "
                    f"{near_names(stage, self.prunable)}"
                )
        self.distributions = self._made_distributions()

    def designs(
        self, float_bytes: int | None = None, *, within_walls: bool = True
    ) -> ParameterDesigns:
        """For samplers: all that is proposed does something and is within the walls that are known
        before.

        Args:
            float_bytes: of the model's float32 file, from which follows what files have beside
                their weights; None where there is no file yet.
            within_walls: False leaves the walls out.
        """
        walls = self.space.budget.analytic_walls if within_walls else ()
        beside = 0 if float_bytes is None else float_bytes - _FLOAT_BYTES * self._params

        def known(labels: Mapping[str, Any]) -> dict[str, float]:
            found = self.known(labels)
            return {**found, SIZE: max(1.0, found[SIZE] + beside)}

        def fits(known: Mapping[str, float]) -> bool:
            return known[N_STEPS] > 0 and not any(
                wall.excess(known[wall.quantity]) for wall in walls
            )

        return ParameterDesigns(self.distributions, known, fits, self.identity)

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
                    importance=draft.way.importance,
                    scope=draft.way.scope,
                    round_to=draft.way.round_to,
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
        way = Way.of(labels)
        sizes = [grid.size for grid in self._cutters.of(way).selection.grids]
        counts, shares = list(sizes), {}
        for stage in self.prunable:
            share = float(labels[SHARE + stage])
            if share == 1:
                continue
            kept = self._cutters.counts(way, stage, share)
            moved = [at for at, count in enumerate(kept) if count < sizes[at]]
            if moved:
                shares[stage] = share
            for at in moved:
                counts[at] = kept[at]
        precision = str(labels["precision"])
        in_float = tuple(stage for stage in self.weighted if labels[WEIGHTS + stage] == "float")
        if precision == "fp32" or len(in_float) == len(self.weighted):
            precision, in_float = "fp32", ()
        return Draft(
            shares=shares,
            way=way,
            recover_epochs=int(labels["recover_epochs"]) if shares else 0,
            precision=precision,
            in_float=in_float,
            counts=tuple(counts),
        )

    def known(self, labels: Mapping[str, Any]) -> dict[str, float]:
        """What is known of a recipe before it is tried: `madds` and `params`, exactly; an estimate
        of `size_bytes`, that of the weights alone, each stored in its bits; and `n_steps`."""
        draft = self.draft(labels)
        cutter = self._cutters.of(draft.way)
        params = cutter.counter("params")(draft.counts)
        few = sum(
            count
            for path, count in self._cutters.weights(draft.way, draft.counts).items()
            if path not in self._kept and stage_of(path) not in draft.in_float
        )
        return {
            "madds": float(cutter.counter("madds")(draft.counts)),
            "params": float(params),
            SIZE: _FLOAT_BYTES * (params - few) + few * BITS_OF[draft.precision] / 8,
            N_STEPS: float(bool(draft.shares) + (draft.precision != "fp32")),
        }

    def identity(self, labels: Mapping[str, Any]) -> str:
        """Of the network, the training and the file that some labels lead to: two recipes that
        remove the same channels are the same."""
        draft = self.draft(labels)
        removed = self._cutters.of(draft.way).removed(draft.counts)
        text = json.dumps(
            [removed, draft.recover_epochs, draft.precision, draft.in_float], separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _made_distributions(self) -> dict[str, CategoricalDistribution]:
        space = self.space
        choices: dict[str, tuple[Any, ...]] = {
            **{SHARE + stage: space.shares_of(stage) for stage in self.prunable},
            "importance": space.importance,
            "scope": space.scope,
            "round_to": space.round_to,
            "recover_epochs": space.recover_epochs,
            "precision": space.precision,
            **{WEIGHTS + stage: space.stage_precision for stage in self.weighted},
        }
        return {name: CategoricalDistribution(each) for name, each in choices.items()}
