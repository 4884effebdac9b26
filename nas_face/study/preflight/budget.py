"""Before a search: what the space costs, and how much of it fits the budget."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from nas_face.arch.spec import ArchSpec
from nas_face.arch.summary import summarise
from nas_face.errors import ArchError, ConfigError
from nas_face.search import Budget
from nas_face.search.budget import LATENCY, UNITS, Miss, Wall, figure
from nas_face.space import Screened, SearchSpace, screener_of
from nas_face.space.nearest import nearest
from nas_face.space.space import INPUT_SHAPE
from nas_face.space.survey import Survey, survey
from nas_face.study.config import StudyConfig

N_MOST = 6000
"""Designs drawn where few of them fit."""

N_EVERYTHING = 2000
"""Ways to choose up to which all of them are looked at where none of the draws fits."""

SIDE_STEP = 16
"""Input sizes that are tried are multiples of this: most spaces halve maps four times."""


STEEP = 4
"""Power of what is missed of a wall: a sum of powers leads on where the largest one is stuck."""

WEIGHTS = (1.0, 10.0, 1000.0)
"""Of the other walls, while a design is looked for that misses one wall only: light ones first, so
that the way there may cross them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What is known before a search.

    Attributes:
        space: at the study's input size.
        budget: the walls; those of latency are looked at by `nas_face.study.preflight.latency`.
        survey: of the space.
        walked: where no drawn design fits: one that does, found by walking.
    """

    space: SearchSpace
    budget: Budget
    survey: Survey
    walked: Screened | None

    def lines(self) -> list[str]:
        """What the space costs, and how much of it fits, for people."""
        found = self.survey
        median, largest = (found.quantile(lambda cost: cost.madds, each) for each in (0.5, 1.0))
        size = (
            f"space {self.space.name}: {self.space.size:.2g} designs of "
            f"{found.smallest.madds / 1e6:,.1f}M to {largest / 1e6:,.0f}M MAdds "
            f"(median {median / 1e6:,.0f}M)"
        )
        return [size, *self._fitting()] if self.budget.analytic_walls else [size]

    def _fitting(self) -> Iterator[str]:
        found = self.survey
        n, walls = len(found.costs), self.budget.analytic_walls
        low, high = found.interval
        share = f"{percent(found.share_fitting)} of designs fit"
        if self.walked is not None:
            share = f"fewer than {percent(high)} of designs fit"
        within = f"95 %: {percent(low)} to {percent(high)}"
        drawn = f"{found.n_fitting:,} of {n:,} drawn"
        text = f"budget: {share} ({drawn}" + (f"; {within})" if self.walked is None else ")")
        if len(walls) > 1:
            alone = (
                f"{wall.name} {percent(found.n_fitting_alone[wall.name] / n)}" for wall in walls
            )
            text += f"; each wall alone: {', '.join(alone)}"
        yield text
        if self.walked is not None:
            values = ", ".join(_amount(wall, self.walked) for wall in _one_each(walls))
            yield f"rare: a design that fits was found by walking; it has {values}"


def check_budget(space: SearchSpace, config: StudyConfig) -> Preflight:
    """Survey a space against the budget of a study; latency is not looked at.

    Args:
        space: at the study's input size.
        config: the study.

    Raises:
        ConfigError: nothing fits; the message names the nearest miss and what to relax.
    """
    return preflight(space, config.budget, seed=config.seed, name=config.space)


def preflight(space: SearchSpace, budget: Budget, *, seed: int, name: str) -> Preflight:
    """Survey a space against a budget; latency is not looked at.

    Args:
        space: the space.
        budget: the walls.
        seed: of the draws.
        name: of the space, for messages.

    Raises:
        ConfigError: nothing fits; the message names the nearest miss and what to relax.
    """
    alone = {wall.name: _alone(wall).fits for wall in budget.analytic_walls}
    found = survey(space, budget.fits, seed=seed, walls=alone, n_most=N_MOST)
    walked = None
    if found.n_fitting == 0:
        search = _Search(space, (*found.drawn, found.smallest, *_everything(space)), seed)
        walked = search.nearest(budget.analytic_walls)
        if not budget.fits(walked.cost):
            raise ConfigError(_nothing_fits(search, budget, walked, name))
    return Preflight(space=space, budget=budget, survey=found, walked=walked)


def _everything(space: SearchSpace) -> Iterator[Screened]:
    """All designs of a small space, so that what is said of it is exact; none of a large one."""
    if space.size > N_EVERYTHING:
        return
    for choices in space.ways():
        design = screener_of(space).screened(choices)
        if design is not None:
            yield design


@final
class _Search:
    """Looks for designs that come nearest to walls, from the same starts.

    Args:
        space: the space.
        starts: designs.
        seed: of random steps.
    """

    def __init__(self, space: SearchSpace, starts: Sequence[Screened], seed: int) -> None:
        self.space = space
        self._starts = starts
        self._seed = seed

    def nearest(self, walls: Sequence[Wall]) -> Screened:
        """The design that misses the walls by least; what it misses most by counts most."""

        def rank(design: Screened) -> tuple[float, ...]:
            cost = design.cost
            return (sum((1 + wall.excess(wall.value(cost))) ** STEEP - 1 for wall in walls),)

        return nearest(self.space, self._starts, rank, seed=self._seed, enough=(0.0,))

    def any_fits(self, walls: Sequence[Wall]) -> bool:
        """Whether a design was found that fits all of some walls."""
        cost = self.nearest(walls).cost
        return not any(wall.excess(wall.value(cost)) for wall in walls)

    def relaxed(self, wall: Wall, others: Sequence[Wall]) -> int | None:
        """The limit of a wall at which a design would fit it and the others; none where even the
        others leave nothing."""
        starts = self._starts
        for weight in WEIGHTS:

            def rank(design: Screened, weight: float = weight) -> tuple[float, ...]:
                over = [each.excess(each.value(design.cost)) for each in others]
                own = wall.excess(wall.value(design.cost))
                return max(over, default=0.0) * weight + own, own

            starts = (nearest(self.space, starts, rank, seed=self._seed), *starts)
        inside = [
            each.cost
            for each in starts
            if not any(other.excess(other.value(each.cost)) for other in others)
        ]
        best = min(inside, key=lambda cost: wall.excess(wall.value(cost)), default=None)
        return None if best is None else wall.value(best)


def _nothing_fits(search: _Search, budget: Budget, near: Screened, name: str) -> str:
    missed = budget.checks(near.cost)
    key = f"budget.{missed[0].wall.name}" if len(missed) == 1 else "budget"
    quantity = missed[0].wall.quantity
    part = largest_part(near.spec, quantity)
    remedies = [
        *_relaxations(search, budget, missed),
        *_input_sizes(search.space, budget, near, missed),
        part.remedy(larger=not missed[0].wall.is_upper),
    ]
    return (
        f"{key}: nothing in {name} fits {_conflict(search, budget, missed)}; "
        f"{_misses(budget, missed)}, {part}: {joined(remedies, 'or')}"
    )


def _conflict(search: _Search, budget: Budget, missed: Sequence[Miss]) -> str:
    """The walls that leave nothing: those that do so alone, or two that contradict each other, or
    all."""
    walls = budget.analytic_walls
    if len(walls) == 1:
        return figure(walls[0].limit)
    impossible = [str(miss.wall) for miss in missed if not search.any_fits([miss.wall])]
    if impossible:
        return joined(impossible, "or")
    for miss, other in itertools.product(missed, walls):
        if miss.wall != other and not search.any_fits([miss.wall, other]):
            return f"{miss.wall} and {other} together, though each alone fits"
    return f"{joined(list(map(str, walls)), 'and')} together, though any two of them fit"


def _misses(budget: Budget, missed: Sequence[Miss]) -> str:
    """What the nearest miss has of what it misses."""
    if len(budget.analytic_walls) == 1:
        [miss] = missed
        who = "smallest" if miss.wall.is_upper else "largest"
        return (
            f"the {who} design has {figure(miss.value)} {miss.wall.quantity} "
            f"({miss.times:.2f} times the limit)"
        )
    each = [
        f"{figure(miss.value)} {miss.wall.quantity} ({miss.times:.2f} times {miss.wall.name})"
        for miss in missed
    ]
    return f"the nearest miss has {joined(each, 'and')}"


def _relaxations(search: _Search, budget: Budget, missed: Sequence[Miss]) -> list[str]:
    """Single walls that would let a design in if they were moved, and where to; all that the
    nearest miss asks for, if no single one would."""
    found = []
    for miss in missed:
        others = [wall for wall in budget.analytic_walls if wall != miss.wall]
        limit = search.relaxed(miss.wall, others)
        if limit is not None:
            found.append(_moved(miss.wall, limit))
    return found or [joined([_moved(miss.wall, miss.value) for miss in missed], "and")]


def _moved(wall: Wall, limit: float) -> str:
    return f"{'raise' if wall.is_upper else 'lower'} {wall.name} to {figure(limit)}"


def _input_sizes(
    space: SearchSpace, budget: Budget, near: Screened, missed: Sequence[Miss]
) -> Iterator[str]:
    """The input size nearest to the present one at which a near miss fits, where there is one."""
    height, width = space.input_shape[1:]
    if height != width or INPUT_SHAPE in space.template:
        return
    smaller = range(height - 1 - (height - 1) % SIDE_STEP, 0, -SIDE_STEP)
    larger = range(height + SIDE_STEP - height % SIDE_STEP, 2 * height + 1, SIDE_STEP)
    directions = {miss.wall.is_upper for miss in missed}
    for side in sorted(
        [*(smaller if True in directions else ()), *(larger if False in directions else ())],
        key=lambda each: abs(each - height),
    ):
        try:
            spec = space.with_input_size(side).design(near.choices).spec
        except ArchError:
            continue
        if budget.fits(spec.cost()):
            verb = "lower" if side < height else "raise"
            yield f"{verb} input_size from {height} to {side}"
            return


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a network that has most of something.

    Attributes:
        name: `stem`, `stages.N` or `head`.
        quantity: of what.
        share: how much of the whole it has, 0 to 1; none for a peak, which lies in one place.
    """

    name: str
    quantity: str
    share: float | None

    def remedy(self, *, larger: bool) -> str:
        """What to change about it."""
        return f"offer {'larger' if larger else 'smaller'} options in {self.name}"

    def __str__(self) -> str:
        if self.share is None:
            return f"which lie in {self.name}"
        return f"{self.share:.0%} of its {self.quantity} in {self.name}"


def largest_part(spec: ArchSpec, quantity: str) -> Part:
    """The part of a network that has most of a limited quantity; of latency, most
    multiply-adds."""
    counted = {"size_bytes": "folded_params", LATENCY: "madds"}.get(quantity, quantity)
    rows = summarise(spec.lower(), spec.input).stages
    counts = {row.name: int(getattr(row.cost, counted)) for row in rows}
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / max(1, sum(counts.values()))
    return Part(
        name=largest,
        quantity="params" if counted == "folded_params" else counted,
        share=None if counted == "peak_activations" else share,
    )


def _alone(wall: Wall) -> Budget:
    """A budget of one wall."""
    limit: Any = wall.limit
    return replace(Budget(), **{wall.name: limit})


def _one_each(walls: Sequence[Wall]) -> list[Wall]:
    """One wall of each quantity."""
    return list({wall.quantity: wall for wall in walls}.values())


def _amount(wall: Wall, design: Screened) -> str:
    return f"{figure(wall.value(design.cost))} {UNITS[wall.quantity]}"


def percent(share: float) -> str:
    """A share with two digits that say something."""
    text = f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"
    return f"{text} %"


def joined(words: Sequence[str], last: str) -> str:
    """Words as a list in a sentence, with `and` or `or` before the last one."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
