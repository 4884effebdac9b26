"""What a search for a recipe came to: every recipe that was tried, the front, and the best."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.search import pareto_front
from nas_face.search.budget import Wall
from nas_face.search.record import FAILURE, METRICS, REFUSED
from nas_face.study.compression.recipe_search.objectives import JUDGED, LATENCY, OBJECTIVES, SIZE
from nas_face.study.compression.recipe_search.walls import miss
from nas_face.study.report import Front

STEPS = "steps"
"""User attribute of a trial: the steps of its recipe, as in a recipe file."""

PRECISION = "precision"
RUNTIME = "runtime"
"""User attributes of a trial: of its file."""

COUNTED = ("madds", "params", "size_bytes")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TriedRecipe:
    """A recipe that was tried.

    Attributes:
        trial: number of it.
        steps: of the recipe, as in a recipe file.
        precision: of its last file.
        runtime: that the file is for.
        judged: accuracy on the pairs that decide, 0 to 1.
        latency_ms: of the file, one image, one thread: that of the plain original when the search
            began, times the ratio of both in turns.
        size_bytes: of the file.
        madds: multiply-accumulates.
        params: parameters as torch counts them.
        over: the walls that it breaks, in words; empty where it keeps all of them.
        on_front: whether it keeps all walls and no other one of those is better.
    """

    trial: int
    steps: Sequence[Mapping[str, Any]]
    precision: str
    runtime: str
    judged: float
    latency_ms: float
    size_bytes: int
    madds: int
    params: int
    over: str
    on_front: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecipeFront:
    """All recipes that were tried.

    Attributes:
        original: figures of what was given, by name, as those of a trial.
        tried: in order.
        front: of those that keep all walls.
        best: the one that is published: of the front that which is nearest to the ideal point,
            and neither slower nor larger than what was given where there is such a one; where
            nothing keeps the walls, what misses them least; None without any.
        n_trials: recipes that were tried, those that failed included.
        n_failed: of these, failed.
        last_failure: why the last one did; empty where none did.
    """

    original: Mapping[str, float]
    tried: tuple[TriedRecipe, ...]
    front: Front
    best: TriedRecipe | None
    n_trials: int
    n_failed: int
    last_failure: str

    @property
    def members(self) -> tuple[TriedRecipe, ...]:
        """The front, fastest first."""
        found = [each for each in self.tried if each.on_front]
        return tuple(sorted(found, key=lambda each: (each.latency_ms, each.trial)))

    @property
    def within_walls(self) -> bool:
        """Whether the best keeps all walls."""
        return self.best is not None and not self.best.over

    @property
    def shortfall(self) -> str:
        """What of the best is not as a user would have it, in a line; or nothing."""
        best, given = self.best, self.original
        if best is None:
            return ""
        if best.over:
            return f"nothing keeps the walls; the nearest is trial {best.trial}: {best.over}"
        if (
            best.judged <= given[JUDGED]
            and best.latency_ms >= given[LATENCY]
            and best.size_bytes >= given[SIZE]
        ):
            return (
                f"the best, trial {best.trial}, is neither smaller nor faster nor more accurate "
                "than what was given; try more recipes, or a wider space"
            )
        return ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "original": dict(self.original),
            "best": None if self.best is None else self.best.trial,
            "within_walls": self.within_walls,
            "hypervolume": self.front.hypervolume,
            "n_trials": self.n_trials,
            "n_failed": self.n_failed,
            "front": [each.trial for each in self.members],
            "trials": [asdict(each) for each in self.tried],
        }


def recipe_front(
    study: Study, original: Mapping[str, float], walls: Sequence[Wall]
) -> RecipeFront:
    """Read the trials of a search.

    Args:
        study: of the search.
        original: figures of what was given.
        walls: on what was measured.
    """
    ended = [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]
    measured = [each for each in ended if METRICS in each.user_attrs]
    kept = [each for each in measured if REFUSED not in each.user_attrs]
    table = pd.DataFrame(
        [{"trial": each.number, **_figures(each)} for each in kept],
        columns=["trial", *(each.name for each in OBJECTIVES), "madds", "params"],
    )
    failed = [each for each in ended if each.state == TrialState.FAIL]
    front = Front(
        objectives=OBJECTIVES,
        trials=table.assign(on_front=pareto_front(_losses(table))),
        n_trials=len(ended),
        n_stopped=0,
        n_failed=len(failed),
        n_refused=len(measured) - len(kept),
    )
    numbers = set(front.members["trial"])
    tried = tuple(_tried(each, each.number in numbers) for each in measured)
    return RecipeFront(
        original=original,
        tried=tried,
        front=front,
        best=_best(front, tried, original, walls),
        n_trials=len(ended),
        n_failed=len(failed),
        last_failure=str(failed[-1].user_attrs.get(FAILURE, "unknown")) if failed else "",
    )


def _figures(trial: FrozenTrial) -> dict[str, float]:
    figures: dict[str, float] = trial.user_attrs[METRICS]
    return {name: int(each) if name in COUNTED else each for name, each in figures.items()}


def _losses(table: pd.DataFrame) -> NDArray[np.float64]:
    """`(N, M)`, small is good."""
    columns = [
        (-1.0 if each.direction == "maximize" else 1.0)
        * np.asarray(table[each.name], dtype=np.float64)
        for each in OBJECTIVES
    ]
    return np.stack(columns, axis=1)


def _tried(trial: FrozenTrial, on_front: bool) -> TriedRecipe:
    record, figures = trial.user_attrs, _figures(trial)
    return TriedRecipe(
        trial=trial.number,
        steps=record[STEPS],
        precision=record[PRECISION],
        runtime=record[RUNTIME],
        judged=figures[JUDGED],
        latency_ms=figures["latency_ms"],
        size_bytes=int(figures["size_bytes"]),
        madds=int(figures["madds"]),
        params=int(figures["params"]),
        over=record.get(REFUSED, ""),
        on_front=on_front,
    )


def _best(
    front: Front,
    tried: Sequence[TriedRecipe],
    original: Mapping[str, float],
    walls: Sequence[Wall],
) -> TriedRecipe | None:
    rows = front.trials
    smaller = (rows[LATENCY] <= original[LATENCY]) & (rows[SIZE] <= original[SIZE])
    for some in (replace(front, trials=rows[smaller]), front):
        if some.knee is not None:
            return next(each for each in tried if each.trial == some.knee)
    return min(tried, key=lambda each: (miss(walls, asdict(each)), -each.judged), default=None)
