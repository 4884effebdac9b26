"""A space with only what a deployment target runs."""

import dataclasses
from collections.abc import Iterator
from typing import Any, cast, final

import numpy as np

from nas_face.arch.features import features_by_block
from nas_face.errors import ArchError, SpaceError
from nas_face.space.blocking import blocking, part_of
from nas_face.space.picks import prefer
from nas_face.space.space import Design, SearchSpace
from nas_face.space.survey import descend
from nas_face.space.target import Target
from nas_face.space.template import Label, keep, needs

N_STARTS = 20
N_DESCENTS = 3
N_TRIES = 50
CLEAN = (0.0,)


def filtered(
    space: SearchSpace, target: Target, *, allow_slow: bool = False, seed: int = 0
) -> SearchSpace:
    """The space without what a target refuses.

    Options that always bring a refused feature are taken out, as a probe of each shows; a design
    that has one all the same, by a combination of options, is rejected when it is proposed.

    Args:
        space: the space.
        target: what refuses.
        allow_slow: whether to offer what the target runs poorly.
        seed: of the probes.

    Raises:
        SpaceError: nothing is left; the message names the feature and the choice that brings it.
    """
    refused = target.refused(allow_slow=allow_slow)
    if not refused:
        return space
    prober = _Prober(space, refused, seed)
    if prober.base is None:
        hint = (
            "" if allow_slow or not (refused - target.avoid) else "; or allow what is slow there"
        )
        raise SpaceError(
            f"{space.name}: nothing is left for {target.name}: "
            f"{blocking(space, prober.nearest, refused)}{hint}"
        )
    alive = prober.alive()

    def kept(path: str, label: Label) -> bool:
        return (path, label) in alive

    return dataclasses.replace(
        space,
        template=cast(Any, keep(space.template, "", kept)),
        shared={name: keep(each, f"shared.{name}", kept) for name, each in space.shared.items()},
        avoided=space.avoided | refused,
    )


@final
class _Prober:
    """Finds designs without refused features, and the options that they can take."""

    def __init__(self, space: SearchSpace, refused: frozenset[str], seed: int) -> None:
        self._space = space
        self._refused = refused
        self._rng = np.random.default_rng(seed)
        starts = sorted((space.sample(self._rng) for _ in range(N_STARTS)), key=self._rank)
        descents: Iterator[Design] = (self._cleaned(each) for each in starts[:N_DESCENTS])
        self.nearest = starts[0]
        self.base: Design | None = None
        for design in descents:
            self.nearest = min(self.nearest, design, key=self._rank)
            if self._rank(design) == CLEAN:
                self.base = design
                break

    def alive(self) -> set[tuple[str, Label]]:
        """Every option, by the path of its choice and its label, that some clean design takes."""
        assert self.base is not None
        found = set(self.base.choices.items())
        above = needs(self._space.template, self._space.shared)
        for path, choice in self._space.choices().items():
            for label in choice.labels:
                if (path, label) in found or not all(each in found for each in above[path]):
                    continue
                design = self._with({**dict(above[path]), path: label})
                if design is not None:
                    found |= set(design.choices.items())
        return found

    def _with(self, labels: dict[str, Label]) -> Design | None:
        """A clean design with these labels, or none."""
        assert self.base is not None
        try:
            start = self._forced(self.base, labels)
        except SpaceError:
            return None
        design = self._cleaned(start, labels, self._places(start))
        return design if self._rank(design) == CLEAN else None

    def _forced(self, base: Design, labels: dict[str, Label]) -> Design:
        """A legal design with these labels, as like the base as may be."""
        for choices in (base.choices, {}):
            for _ in range(N_TRIES):
                try:
                    return self._space.propose(prefer({**choices, **labels}, self._rng))
                except ArchError:
                    continue
        raise SpaceError("no design has these labels")

    def _places(self, design: Design) -> tuple[str, ...]:
        """Where the choices lie that a block with a refused feature depends on: its own part of
        the template, the part in front of it, which sets its input, and what is shared."""
        parts = list(dict.fromkeys(part_of(name) for name, _ in design.spec.named_blocks()))
        guilty = {
            parts.index(part_of(name))
            for name, features in features_by_block(design.spec)
            if features & self._refused
        }
        near = {parts[max(0, at - step)] for at in guilty for step in (0, 1)}
        # A stem or a list of stages may be a choice as a whole, with its label in the paths.
        return ("shared.", *("stem" if part.startswith("stem") else part for part in near))

    def _cleaned(
        self,
        design: Design,
        held: dict[str, Label] | None = None,
        places: tuple[str, ...] = ("",),
    ) -> Design:
        return descend(
            self._space, design, self._rank, held=held or {}, places=places, enough=CLEAN
        )

    def _rank(self, design: Design) -> tuple[float, ...]:
        """How often a refused feature is there."""
        blocks = features_by_block(design.spec)
        return (float(sum(len(features & self._refused) for _, features in blocks)),)
