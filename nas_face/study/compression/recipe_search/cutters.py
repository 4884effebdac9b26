"""What prunings of one model leave: made once for each way of pruning, asked thousands of
times."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast, final

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning import (
    BY_GRADIENT,
    Importance,
    Scope,
    angular_gradients,
    restore_norms,
)
from nas_face.compress.pruning.channels import columns_of
from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.stages import stage_counts
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.nn import FaceModel
from nas_face.study.compression.pruning_step import N_FOR_GRADIENTS


class Way(NamedTuple):
    """How channels are chosen.

    Attributes:
        importance: which go first.
        scope: within what they compete.
        round_to: widths become multiples of this.
    """

    importance: Importance
    scope: Scope
    round_to: int

    @classmethod
    def of(cls, labels: Mapping[str, Any]) -> Self:
        """That of some labels."""
        return cls(
            cast(Importance, labels["importance"]),
            cast(Scope, labels["scope"]),
            int(labels["round_to"]),
        )


@final
class Cutters:
    """Cutters of one model.

    Args:
        model: what is pruned.
        min_keep: share of each group of channels that stays in any case.
        crops: on which importances by gradient and statistics of norms are measured, as the
            pruning does.
    """

    def __init__(self, model: FaceModel, min_keep: float, crops: NDArray[np.uint8]) -> None:
        self.model = restore_norms(model, crops)
        """As the pruning step makes it of what it is given."""
        self._min_keep = min_keep
        self._crops = crops
        self._weights = {
            each.path: each.weights for each in weighted_layers(self.model.description)
        }

    @functools.cache  # noqa: B019  there is one of these in a search
    def of(self, way: Way) -> Cutter:
        """The cutter of one way.

        Raises:
            CompressionError: a criterion lacks what it needs.
        """
        return Cutter(
            self.model,
            importance=way.importance,
            scope=way.scope,
            round_to=way.round_to,
            min_keep=self._min_keep,
            gradients=self._gradients if way.importance in BY_GRADIENT else None,
        )

    @functools.cache  # noqa: B019
    def counts(self, way: Way, stage: str, share: float) -> Counts:
        """Classes of each family that stay where one stage is pruned to a share."""
        return stage_counts(self.of(way).selection, {stage: share})

    @functools.lru_cache(maxsize=100_000)  # noqa: B019
    def weights(self, way: Way, counts: Counts) -> Mapping[str, int]:
        """Weights of every convolution and linear layer that is left, by path."""
        cutter = self.of(way)
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

    @functools.cached_property
    def _gradients(self) -> Any:
        return angular_gradients(self.model, self._crops[:N_FOR_GRADIENTS])
