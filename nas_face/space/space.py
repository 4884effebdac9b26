"""SearchSpace: what may be chosen, and how choices become an ArchSpec."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.features import features_by_block
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, SpaceError, near_names
from nas_face.space.assemble import assemble
from nas_face.space.constraints import Constraint, RuleBroken
from nas_face.space.encoding import encode, encoding_names
from nas_face.space.picks import another, evenly, prefer
from nas_face.space.template import Choice, Label, Pick, Template, choices_in, count, resolve

INPUT_SHAPE = "input_shape"
"""Key of the template, and path of the choice, where the image's shape is to be chosen."""

MAX_TRIES = 200
MAX_DRAWS = 10_000
"""Tries that may break a rule of the space, which shows before anything is computed."""

N_CHANGES_AFTER = 50
"""Tries after which a mutation changes one choice more, for rules that tie choices together."""

MAX_DEFAULTS = 64
"""Ways to fill in newly active choices that `neighbours` looks through for a legal one."""


class FeatureAvoided(RuleBroken):
    """The design has a feature that its space avoids."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One point of a space.

    Attributes:
        choices: label of every active choice, by path; inactive choices are absent.
        spec: the architecture that they decode to.
    """

    choices: dict[str, Label]
    spec: ArchSpec


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Choices and how to decode them; immutable.

    Different choices may decode to one architecture, so sameness is by `arch_id`.

    Attributes:
        name: short name.
        description: one line for people.
        input_shape: channels, height, width of the image; where that is to be chosen, the first.
        template: `stem`, `stages` and `head` with choices in them, and `input_shape` where that is
            to be chosen.
        shared: choices that several places refer to.
        constraints: rules between choices; every design that comes out obeys them.
        avoided: features (`nas_face.arch.features`) that no design that comes out has.
    """

    name: str
    description: str
    input_shape: tuple[int, int, int]
    template: dict[str, Template]
    shared: dict[str, Template]
    constraints: tuple[Constraint, ...] = ()
    avoided: frozenset[str] = field(default=frozenset())

    @property
    def size(self) -> int:
        """Number of ways to choose (not of distinct architectures), before any rule is applied."""
        return count(self.template, self.shared)

    def choices(self) -> dict[str, Choice]:
        """Every choice of the space by path, conditional ones included."""
        return dict(choices_in(self.template, "", self.shared))

    def with_input_size(self, height: int, width: int | None = None) -> "SearchSpace":
        """The same space for images of one size, in pixels; square ones, if no width is given."""
        return replace(
            self,
            input_shape=(self.input_shape[0], height, height if width is None else width),
            template={key: part for key, part in self.template.items() if key != INPUT_SHAPE},
        )

    def propose(self, pick: Pick) -> Design:
        """The design that a picker chooses; it is asked about active choices only, in order.

        Raises:
            SpaceError: a picked label does not exist.
            ArchError: the choices make no working network; the message says which part. Of class
                `RuleBroken`: they break a constraint, or have what is avoided.
        """
        chosen, data = self._choose(pick)
        for constraint in self.constraints:
            constraint.require(chosen)
        spec = assemble(data, data.get(INPUT_SHAPE, self.input_shape))
        spec.cost()  # a clash of shapes shows here and not when a trial is under way
        if self.avoided:
            _require_without(self.avoided, spec)
        return Design(choices=chosen, spec=spec)

    def design(self, choices: Mapping[str, Label]) -> Design:
        """The design that has these labels; more of them than are active do no harm.

        Raises:
            KeyError: an active choice has no label.
            SpaceError, ArchError: as of `propose`.
        """
        return self.propose(lambda path, _: choices[path])

    def _choose(self, pick: Pick) -> tuple[dict[str, Label], Any]:
        """Labels of all active choices, and the plain data that they make."""
        chosen: dict[str, Label] = {}

        def remember(path: str, choice: Choice) -> Label:
            if path not in chosen:
                chosen[path] = pick(path, choice)
            return chosen[path]

        data = resolve(self.template, "", remember, self.shared)
        return chosen, data

    def decode(self, choices: Mapping[str, Label]) -> ArchSpec:
        """The architecture of a full set of choices.

        Raises:
            SpaceError: a choice is missing, unknown, inactive in this design, or has no such
                label; or the choices break a constraint or have what is avoided.
            ArchError: the choices make no working network.
        """

        def given(path: str, choice: Choice) -> Label:
            if path not in choices:
                raise SpaceError(f"{self.name}: no value for {path}")
            return choices[path]

        try:
            design = self.propose(given)
        except RuleBroken as failure:
            raise SpaceError(f"{self.name}: {failure}") from failure
        unused = sorted(choices.keys() - design.choices.keys())
        if unused:
            hint = near_names(unused[0], self.choices())
            raise SpaceError(f"{self.name}: {unused[0]} has no effect in this design; {hint}")
        return design.spec

    def sample(self, rng: np.random.Generator) -> Design:
        """A design with every active choice drawn evenly.

        Raises:
            SpaceError: no draw of many makes a working network.
        """
        return self._try(lambda: self.propose(evenly(rng)))

    def mutate(self, design: Design, rng: np.random.Generator) -> Design:
        """A copy with one active choice changed; choices that become active are drawn evenly.

        Numbers move to a neighbouring option half of the time and anywhere otherwise. Where
        constraints tie choices together, so that no single change out of many is legal, two or
        more are made.

        Raises:
            SpaceError: no change of many makes a working network.
        """
        knobs = {
            path: choice
            for path, choice in self.choices().items()
            if path in design.choices and len(choice.options) > 1
        }
        if not knobs:
            return design
        paths = sorted(knobs)
        tries = itertools.count()

        def attempt() -> Design:
            chosen = dict(design.choices)
            for _ in range(1 + next(tries) // N_CHANGES_AFTER):
                path = paths[int(rng.integers(len(paths)))]
                chosen[path] = another(design.choices[path], knobs[path], rng)
            return self.propose(prefer(chosen, rng))

        return self._try(attempt)

    def crossover(self, a: Design, b: Design, rng: np.random.Generator) -> Design:
        """A child that takes every choice from one parent or the other.

        Raises:
            SpaceError: no mixture of many makes a working network.
        """

        def attempt() -> Design:
            first, second = (a, b) if rng.random() < 0.5 else (b, a)
            mixed = {
                path: first.choices[path]
                if path not in second.choices or (path in first.choices and rng.random() < 0.5)
                else second.choices[path]
                for path in [
                    *first.choices,
                    *(p for p in second.choices if p not in first.choices),
                ]
            }
            return self.propose(prefer(mixed, rng))

        return self._try(attempt)

    def ways(self, fixed: Mapping[str, Label] | None = None) -> Iterator[dict[str, Label]]:
        """All ways to choose, in the order of the file, those that break a rule included.

        Args:
            fixed: labels that are kept wherever their choice is active and has them.
        """
        held = fixed or {}
        turns: list[int] = []  # position of the label taken at each free choice that was met
        while True:
            met: list[Choice] = []

            def pick(path: str, choice: Choice, met: list[Choice] = met) -> Label:
                if path in held and held[path] in choice.options:
                    return held[path]
                if len(met) == len(turns):
                    turns.append(0)
                met.append(choice)
                return choice.labels[turns[len(met) - 1]]

            yield self._choose(pick)[0]
            while turns and turns[-1] == len(met[len(turns) - 1].labels) - 1:
                turns.pop()
            if not turns:
                return
            turns[-1] += 1

    def enumerate(self, limit: int) -> Iterator[Design]:
        """All distinct architectures of a small space, each with the first choices that make it.

        Args:
            limit: most ways to choose that are gone through.

        Raises:
            SpaceError: there are more.
        """
        if self.size > limit:
            raise SpaceError(
                f"{self.name}: has {self.size:,} ways to choose, more than the {limit:,} that "
                "were asked to be gone through; draw a sample, or offer fewer options"
            )
        return self._distinct()

    def _distinct(self) -> Iterator[Design]:
        seen: set[str] = set()
        for choices in self.ways():
            try:
                design = self.design(choices)
            except ArchError:
                continue
            if design.spec.arch_id not in seen:
                seen.add(design.spec.arch_id)
                yield design

    def neighbours(self, design: Design) -> Iterator[Design]:
        """All legal designs with exactly one choice changed, in the order of the file.

        Choices that become active take their first options, or the next ones that are legal.
        """
        for path, choice in self.choices().items():
            if path not in design.choices:
                continue
            for label in choice.labels:
                if label == design.choices[path]:
                    continue
                ways = self.ways({**design.choices, path: label})
                for choices in itertools.islice(ways, MAX_DEFAULTS):
                    try:
                        other = self.design(choices)
                    except ArchError:
                        continue
                    yield other
                    break

    def encode(self, design: Design) -> NDArray[np.float32]:
        """A design as numbers from 0 to 1, for predictors; see `nas_face.space.encoding`.

        Returns:
            `(n,)`, the same `n` for all designs of the space; `encoding_names` says what is what.
        """
        return encode(self.template, self.shared, design.choices)

    def encoding_names(self) -> tuple[str, ...]:
        """What each number of `encode` stands for."""
        return encoding_names(self.template, self.shared)

    def _try(self, attempt: Callable[[], Design]) -> Design:
        left = {RuleBroken: MAX_DRAWS, FeatureAvoided: MAX_DRAWS // 10, ArchError: MAX_TRIES}
        n_tries = 0
        while True:
            n_tries += 1
            try:
                return attempt()
            except ArchError as failure:
                kind = next(each for each in type(failure).__mro__ if each in left)
                left[kind] -= 1
                if left[kind] == 0:
                    legal = "makes a working network" if kind is ArchError else "obeys the rules"
                    raise SpaceError(
                        f"{self.name}: none of {n_tries} designs {legal}; the last: {failure}"
                    ) from failure


def _require_without(avoided: frozenset[str], spec: ArchSpec) -> None:
    for block, features in features_by_block(spec):
        if features & avoided:
            found = ", ".join(sorted(features & avoided))
            raise FeatureAvoided(f"{block} has {found}, which the target avoids")
