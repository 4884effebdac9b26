"""Walls on what only a recipe that was carried out shows: latency, bytes of the file, the
floor."""

from collections.abc import Mapping, Sequence
from typing import Final

from nas_face.search.budget import Wall
from nas_face.search.front_gain import Walls
from nas_face.study.compression.recipe_search.objectives import JUDGED, LATENCY, SIZE
from nas_face.study.compression.recipe_search.space import RecipeSpace

FLOOR: Final = "floor"
_MEASURED: Final = (JUDGED, LATENCY, SIZE)


def walls_of(space: RecipeSpace, judged: float) -> tuple[Wall, ...]:
    """All that a recipe is held against once it is measured.

    Args:
        space: with the walls.
        judged: accuracy of the original on the pairs that decide, 0 to 1.
    """
    walls = space.budget.walls
    if space.floor is None:
        return walls
    least = judged + space.floor / 100
    return (*walls, Wall(name=FLOOR, quantity=JUDGED, limit=least, is_upper=False))


def limits_of(walls: Sequence[Wall]) -> Walls:
    """Lower and upper limit of each quantity that is measured."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for wall in _measured(walls):
        low, high = found.get(wall.quantity, (None, None))
        found[wall.quantity] = (low, wall.limit) if wall.is_upper else (wall.limit, high)
    return found


def constraints_of(walls: Sequence[Wall], figures: Mapping[str, float]) -> dict[str, float]:
    """Optuna's constraints of a trial, by the names of the walls.

    Positive is the share by which a wall is broken (`Wall.excess`); otherwise it is minus the
    share of the limit that is left, so that a model of it sees how near the wall is.

    Args:
        walls: those that are known before a recipe is tried are left out.
        figures: of the trial.
    """
    return {wall.name: _constraint(wall, figures[wall.quantity]) for wall in _measured(walls)}


def broken(walls: Sequence[Wall], figures: Mapping[str, float]) -> str:
    """The walls that figures break, in words; empty where they keep all."""
    return ", ".join(
        f"{wall.quantity} {figures[wall.quantity]:,.6g} is {'above' if wall.is_upper else 'below'}"
        f" {wall.name} {wall.limit:,.6g}"
        for wall in walls
        if wall.excess(figures[wall.quantity])
    )


def miss(walls: Sequence[Wall], figures: Mapping[str, float]) -> float:
    """Share by which figures miss the wall that they miss most, 0 where they keep all."""
    return max((wall.excess(figures[wall.quantity]) for wall in walls), default=0.0)


def _measured(walls: Sequence[Wall]) -> list[Wall]:
    return [wall for wall in walls if wall.quantity in _MEASURED]


def _constraint(wall: Wall, value: float) -> float:
    excess = wall.excess(value)
    if excess:
        return excess
    low, high = (value, wall.limit) if wall.is_upper else (wall.limit, value)
    return low / high - 1.0
