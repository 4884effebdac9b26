"""SearchSpace: what may be chosen, and how choices become an ArchSpec."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, SpaceError, near_names
from nas_face.space.assemble import assemble
from nas_face.space.template import Choice, Label, Pick, Template, choices_in, count, resolve

MAX_TRIES = 200


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
        input_shape: channels, height, width of the image.
        template: `stem`, `stages` and `head` with choices in them.
        shared: choices that several places refer to.
        known: named designs of interest, such as published networks, by their choices.
    """

    name: str
    description: str
    input_shape: tuple[int, int, int]
    template: dict[str, Template]
    shared: dict[str, Template]
    known: dict[str, dict[str, Label]]

    @property
    def size(self) -> int:
        """Number of ways to choose (not of distinct architectures)."""
        return count(self.template, self.shared)

    def choices(self) -> dict[str, Choice]:
        """Every choice of the space by path, conditional ones included."""
        return dict(choices_in(self.template, "", self.shared))

    def with_input_size(self, size: int) -> "SearchSpace":
        """The same space for square images of `size` pixels."""
        return replace(self, input_shape=(self.input_shape[0], size, size))

    def propose(self, pick: Pick) -> Design:
        """The design that a picker chooses; it is asked about active choices only, in order.

        Raises:
            SpaceError: a picked label does not exist.
            ArchError: the choices make no working network; the message says which part.
        """
        chosen: dict[str, Label] = {}

        def remember(path: str, choice: Choice) -> Label:
            if path not in chosen:
                chosen[path] = pick(path, choice)
            return chosen[path]

        data: Any = resolve(self.template, "", remember, self.shared)
        spec = assemble(data, self.input_shape)
        spec.cost()  # a clash of shapes shows here and not when a trial is under way
        return Design(choices=chosen, spec=spec)

    def decode(self, choices: Mapping[str, Label]) -> ArchSpec:
        """The architecture of a full set of choices.

        Raises:
            SpaceError: a choice is missing, unknown, inactive in this design, or has no such
            label.
            ArchError: the choices make no working network.
        """

        def given(path: str, choice: Choice) -> Label:
            if path not in choices:
                raise SpaceError(f"{self.name}: no value for {path}")
            return choices[path]

        design = self.propose(given)
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
        return self._try(lambda: self.propose(_evenly(rng)))

    def mutate(self, design: Design, rng: np.random.Generator) -> Design:
        """A copy with one active choice changed; choices that become active are drawn evenly.

        Numbers move to a neighbouring option half of the time and anywhere otherwise.

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

        def attempt() -> Design:
            path = paths[int(rng.integers(len(paths)))]
            chosen = {**design.choices, path: _another(design.choices[path], knobs[path], rng)}
            return self.propose(_prefer(chosen, rng))

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
            return self.propose(_prefer(mixed, rng))

        return self._try(attempt)

    def _try(self, attempt: Callable[[], Design]) -> Design:
        failure: ArchError | None = None
        for _ in range(MAX_TRIES):
            try:
                return attempt()
            except ArchError as reason:
                failure = reason
        raise SpaceError(
            f"{self.name}: none of {MAX_TRIES} designs makes a working network; the last: "
            f"{failure}"
        ) from failure


def _evenly(rng: np.random.Generator) -> Pick:
    return lambda path, choice: choice.labels[int(rng.integers(len(choice.labels)))]


def _prefer(chosen: Mapping[str, Label], rng: np.random.Generator) -> Pick:
    """Takes what was chosen where that is still an option, and draws evenly elsewhere."""
    draw = _evenly(rng)
    return lambda path, choice: (
        chosen[path] if path in chosen and chosen[path] in choice.options else draw(path, choice)
    )


def _another(label: Label, choice: Choice, rng: np.random.Generator) -> Label:
    others = [each for each in choice.labels if each != label]
    if choice.ordered and rng.random() < 0.5:
        ranked = sorted(choice.labels, key=float)  # type: ignore[arg-type]
        at = ranked.index(label)
        others = [ranked[near] for near in (at - 1, at + 1) if 0 <= near < len(ranked)]
    return others[int(rng.integers(len(others)))]
