"""Candidates from a search space, within a budget."""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
)

from nas_face.arch.cost import Cost
from nas_face.errors import ArchError, SpaceError
from nas_face.search.budget import Budget
from nas_face.search.designs.candidates import Candidate, key_of
from nas_face.search.objectives import OBJECTIVES
from nas_face.space import Choice, Label, Screened, SearchSpace, screener_of
from nas_face.space.encoding import encode
from nas_face.space.template import Template

N_WALK = 400
"""Single changes that are tried to bring a design that breaks a wall within the walls."""

MIN_HITS = 0.02
"""Share of draws within the walls below which the others are walked inside instead of dropped."""

N_LOST = 5
"""Draws that may fail to be walked inside before nothing is expected to fit."""

N_CACHED = 4
"""Spaces whose compiled form a process keeps."""


@final
class SpaceDesigns:
    """Designs of a search space within a budget, costed without being built.

    What is compiled of a space is kept for the life of the process, so that making one of these
    for every trial costs nothing.

    Args:
        space: the space.
        budget: the walls; latency, which has to be measured, is not looked at.
    """

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        self._space = space
        self._budget = budget
        self._compiled = _compiled(space)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of every choice of the space."""
        return self._compiled.distributions

    @property
    def knobs(self) -> NDArray[np.intp]:
        """See `Designs`."""
        return self._compiled.encoder.knobs

    @property
    def kinds(self) -> NDArray[np.intp]:
        """See `Designs`; what differs between two places is a position in a list."""
        return self._compiled.encoder.kinds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpaceDesigns) and (
            self._space is other._space and self._budget == other._budget
        )

    def __hash__(self) -> int:
        return hash((id(self._space), self._budget))

    def draws(self, seed: int) -> Iterator[Candidate]:
        """Every active choice drawn evenly; where hardly any draw is within the walls, draws are
        changed one choice at a time until they are."""
        rng = np.random.default_rng(seed)
        n_inside = n_lost = 0
        for n_drawn, screened in enumerate(self._compiled.screener.draws(seed), 1):
            if self._budget.fits(screened.cost):
                n_inside += 1
                yield self._candidate(screened)
            elif n_drawn * MIN_HITS > n_inside + 1:
                inside = self._walked(screened, rng)
                if inside is not None:
                    n_inside += 1
                    yield self._candidate(inside)
                elif n_inside == 0:
                    n_lost += 1
                    if n_lost == N_LOST:
                        return

    def mutate(self, candidate: Candidate, rng: np.random.Generator) -> Candidate | None:
        """See `Designs`."""
        return self._inside(self._compiled.screener.mutated(candidate.params, rng))

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate | None:
        """See `Designs`."""
        return self._inside(self._compiled.screener.crossed(a.params, b.params, rng))

    def of(self, params: Mapping[str, Any]) -> Candidate | None:
        """See `Designs`."""
        key = tuple(params.items())
        known = self._compiled.known
        if key not in known:
            try:
                screened = self._compiled.screener.screened(params)
            except (KeyError, ArchError, SpaceError):
                screened = None
            known[key] = None if screened is None else self._candidate(screened)
        return known[key]

    def everything(self, limit: int) -> Sequence[Candidate] | None:
        """See `Designs`."""
        if self._space.size > limit:
            return None
        key = str(self._budget)
        if key not in self._compiled.everything:
            self._compiled.everything[key] = [
                candidate
                for choices in self._space.ways()
                if (candidate := self._inside(self._compiled.screener.screened(choices)))
            ]
        return self._compiled.everything[key]

    def fits(self, candidate: Candidate) -> bool:
        """See `Designs`."""
        screened = self._compiled.screener.screened(candidate.params)
        return screened is not None and self._budget.fits(screened.cost)

    def identity(self, candidate: Candidate) -> str:
        """The `arch_id`; different choices may decode to one architecture."""
        ids = self._compiled.ids
        if candidate.key not in ids:
            ids[candidate.key] = self._space.design(candidate.params).spec.arch_id
        return ids[candidate.key]

    def _inside(self, screened: Screened | None) -> Candidate | None:
        if screened is None or not self._budget.fits(screened.cost):
            return None
        return self._candidate(screened)

    def _walked(self, screened: Screened, rng: np.random.Generator) -> Screened | None:
        """A design within the walls that single changes lead to, or none."""
        excess = self._budget.excess(screened.cost)
        for _ in range(N_WALK):
            other = self._compiled.screener.mutated(screened.choices, rng)
            if other is None:
                return None
            other_excess = self._budget.excess(other.cost)
            if other_excess <= excess:
                screened, excess = other, other_excess
            if excess == 0.0:
                return screened
        return None

    def _candidate(self, screened: Screened) -> Candidate:
        choices = screened.choices
        return Candidate(
            key=key_of(choices),
            params=choices,
            vector=self._compiled.encoder.vector(choices),
            known=_known(screened.cost),
        )


@final
class Encoder:
    """`SearchSpace.encode` as a table look-up, a hundred times as fast.

    Args:
        space: the space.
    """

    def __init__(self, space: SearchSpace) -> None:
        names = space.encoding_names()
        columns: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            path = name.partition("=")[0].removesuffix(":active")
            columns.setdefault(path, []).append(at)
        conditional = {path for path in columns if f"{path}:active" in names}
        self.width = len(names)
        self._entries: dict[tuple[str, Label], tuple[tuple[int, float], ...]] = {}
        knobs = np.zeros(len(names), dtype=np.intp)
        for knob, (path, choice) in enumerate(space.choices().items()):
            knobs[columns.get(path, [])] = knob
            table = columns_of(choice, conditional=path in conditional)
            for label, numbers in table.items():
                entries = zip(columns.get(path, []), numbers, strict=False)
                self._entries[path, label] = tuple((at, each) for at, each in entries if each)
        self.knobs: NDArray[np.intp] = knobs
        alike = [re.sub(r"\.\d+(?=[.=:]|$)", ".*", name) for name in names]
        kinds = {name: kind for kind, name in enumerate(dict.fromkeys(alike))}
        self.kinds: NDArray[np.intp] = np.array([kinds[name] for name in alike], dtype=np.intp)

    def vector(self, choices: Mapping[str, Label]) -> NDArray[np.float32]:
        """`(n,)` of a design's active choices."""
        vector = np.zeros(self.width, dtype=np.float32)
        for pick in choices.items():
            for at, number in self._entries[pick]:
                vector[at] = number
        return vector


def columns_of(choice: Choice, *, conditional: bool) -> dict[Label, tuple[float, ...]]:
    """Numbers that each label of a choice stands for, as in `nas_face.space.encoding`."""
    flat: dict[str, Template] = {"": Choice(options={label: label for label in choice.labels})}
    single = {label: tuple(encode(flat, {}, {"": label}).tolist()) for label in choice.labels}
    if not conditional:
        return single
    return {label: (1.0, *numbers) for label, numbers in single.items()}


@final
class _Compiled:
    """What is made of a space once."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space  # kept, so that its id stays its own
        self.screener = screener_of(space)
        self.encoder = Encoder(space)
        self.distributions: dict[str, BaseDistribution] = {
            path: CategoricalDistribution(choice.labels)
            for path, choice in space.choices().items()
        }
        self.known: dict[tuple[tuple[str, Label], ...], Candidate | None] = {}
        self.ids: dict[str, str] = {}
        self.everything: dict[str, list[Candidate]] = {}


_compiled_spaces: OrderedDict[int, _Compiled] = OrderedDict()


def _compiled(space: SearchSpace) -> _Compiled:
    if id(space) not in _compiled_spaces:
        _compiled_spaces[id(space)] = _Compiled(space)
        if len(_compiled_spaces) > N_CACHED:
            _compiled_spaces.popitem(last=False)
    _compiled_spaces.move_to_end(id(space))
    return _compiled_spaces[id(space)]


def _known(cost: Cost) -> dict[str, float]:
    return {
        objective.name: objective.analytic_value(cost)
        for objective in OBJECTIVES.values()
        if objective.origin == "analytic"
    }
