"""What accuracy a step has to keep, and whether the pairs can tell."""

from typing import final

from nas_face.data import PairList
from nas_face.study.compression.bench import standard_error
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.state import State
from nas_face.study.compression.step_settings import DistilStep, LowBitsStep, QuantiseStep


@final
class Floors:
    """Floors of a recipe, as accuracy on the pairs that decide.

    Args:
        recipe: with the floors, in points.
        original: what was given.
    """

    def __init__(self, recipe: Recipe, original: State) -> None:
        self._steps = recipe.steps
        floor = recipe.floor
        self.whole = None if floor is None else original.judged + floor / 100
        """What the recipe as a whole has to keep, 0 to 1; None where it asks nothing."""

    def least(self, number: int, state: State) -> float | None:
        """What a step has to keep, 0 to 1; None where nothing is asked.

        A step's own floor is below the accuracy in front of it. The recipe's counts for a step
        behind which weights change no more, unless it was broken before.

        Args:
            number: of the step, from 0.
            state: in front of it.
        """
        step = self._steps[number]
        floors = [] if step.floor is None else [state.judged + step.floor / 100]
        rest = self._steps[number + 1 :]
        last = all(isinstance(each, QuantiseStep | LowBitsStep) for each in rest)
        if (
            self.whole is not None
            and last
            and not isinstance(step, DistilStep)  # has nothing to soften
            and state.judged >= self.whole
        ):
            floors.append(self.whole)
        return max(floors) if floors else None


def unresolved_floors(recipe: Recipe, judged: float, pairs: PairList) -> list[str]:
    """A line on floors that are finer than the pairs can tell.

    Args:
        recipe: with the floors, in points.
        judged: accuracy of the original, 0 to 1.
        pairs: that decide.
    """
    own = [each.floor for each in recipe.steps if not isinstance(each, DistilStep)]
    finest = max((each for each in (recipe.floor, *own) if each is not None), default=None)
    error = 100 * standard_error(judged, pairs)
    if finest is None or -finest >= error:
        return []
    return [
        f"a floor of {finest:g} points is finer than the pairs that decide can tell: the "
        f"{pairs.n_same:,} same and {pairs.n_different:,} different ones give accuracy to "
        f"± {error:.2g} points (one standard error); use a study with more people, or take its "
        "verdicts for what they are"
    ]
