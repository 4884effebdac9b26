"""Thousands of designs a second: drawn evenly and costed, without building anything.

The template of a space is compiled once: what can be chosen in a place becomes a table to draw
from, and the cost of each form of a block becomes a function, traced from its own rules (see
`nas_face.arch.tracing`). A draw then is a few table look-ups and one call a block. The costs are
those of `ArchSpec.cost`, to the last digit.
"""

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple, final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.arch.spec import ArchSpec
from nas_face.arch.tracing import Numbers
from nas_face.errors import ArchError, SpaceError
from nas_face.space.forms import FORMS, Forms, MustBePlain, Taken
from nas_face.space.picks import another
from nas_face.space.sites import Draw, Fields, Given, Site
from nas_face.space.space import INPUT_SHAPE, MAX_DRAWS, N_CHANGES_AFTER, SearchSpace
from nas_face.space.tables import Picks, Random, Table, variants, ways
from nas_face.space.template import Label, Template, resolve

MAX_SCREENERS = 8
MAX_MOVES = 1000
"""Changes or mixtures that are tried for a legal one."""

STAGE_NUMBERS = ("out_channels", "stride", "repeats")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """A design that was drawn and costed.

    Attributes:
        space: where it comes from.
        madds: multiply-accumulates, image to embedding.
        params: parameters as torch counts them.
        folded_params: parameters once batch normalisation is folded away.
        peak_activations: most activation values alive at once.
        picks: choices of each part.
    """

    space: SearchSpace
    madds: int
    params: int
    folded_params: int
    peak_activations: int
    picks: tuple[Picks, ...]

    @property
    def cost(self) -> Cost:
        """Cost, without the peak of a kept input."""
        return Cost(
            madds=self.madds,
            params=self.params,
            folded_params=self.folded_params,
            peak_activations=self.peak_activations,
        )

    @property
    def choices(self) -> dict[str, Label]:
        """Label of every active choice, by path."""
        return {path: label for part in self.picks for path, label in part}

    @property
    def spec(self) -> ArchSpec:
        """The architecture."""
        return self.space.decode(self.choices)


@final
class Screener:
    """Draws designs of a space evenly, as `SearchSpace.sample` does, and costs them.

    Args:
        space: the space.

    Attributes:
        n_screened: designs looked at so far, those that turned out not to be legal included.

    Raises:
        SpaceError: the template has a form that cannot be compiled; sample the space instead.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.n_screened = 0
        self._space = space
        self._forms = FORMS
        self._choices = space.choices()
        self._compile()

    def _compile(self) -> None:
        space, forms = self._space, self._forms
        try:
            self._shared = {
                name: ways(node, f"shared.{name}") for name, node in space.shared.items()
            }
            images = space.template.get(INPUT_SHAPE, space.input_shape)
            self._images = _table(images, INPUT_SHAPE, lambda node, _: node)
            self._stem = _table(space.template["stem"], "stem", functools.partial(_stem, forms))
            self._stages = _table(
                space.template["stages"], "stages", functools.partial(_stages, forms)
            )
            self._head = _table(space.template["head"], "head", functools.partial(_head, forms))
        except SpaceError as failure:
            raise SpaceError(f"{space.name}: cannot be screened: {failure}") from failure

    def draws(self, seed: int) -> Iterator[Screened]:
        """Designs without end, every active choice drawn evenly; a seed gives the same ones.

        Raises:
            SpaceError: no draw of many makes a working network.
        """
        rng = random.Random(seed).random
        n_drawn = 0
        while True:
            try:
                screened = self._draw(rng)
            except MustBePlain as found:
                self._forms.plain.add((found.cls, found.name))
                self._compile()
                rng = random.Random(seed).random
                for _ in range(n_drawn):  # to where it was, so that a seed gives the same ones
                    self._draw(rng)
                continue
            n_drawn += 1
            yield screened

    def screened(self, choices: Mapping[str, Label]) -> Screened | None:
        """Costs of a design that is given by its labels, without building it.

        Args:
            choices: label of every active choice; more of them than are active do no harm.

        Returns:
            The design; none where the choices break a rule of the space or make no working
            network (`SearchSpace.design` says why).

        Raises:
            KeyError: an active choice has no label.
            SpaceError: a label is not an option.
        """
        try:
            found = self._given(choices, lambda: None)
        except KeyError:
            self._check_labels(choices)
            raise
        if found is None:  # what comes after the part that fails was not looked at
            self._check_labels(choices)
        return found

    def _check_labels(self, choices: Mapping[str, Label]) -> None:
        resolve(self._space.template, "", lambda path, _: choices[path], self._space.shared)

    def changed(
        self, choices: Mapping[str, Label], labels: Mapping[str, Label]
    ) -> Screened | None:
        """A design with some labels changed; choices that become active take their first option.

        Args:
            choices: label of every active choice.
            labels: the new ones; one that is no option is not taken.

        Returns:
            The design; none where it is not legal.
        """
        return self._given({**choices, **labels}, lambda: _first)

    def mutated(self, choices: Mapping[str, Label], rng: np.random.Generator) -> Screened | None:
        """A design with one active choice changed, drawn as `SearchSpace.mutate` draws it.

        Args:
            choices: label of every active choice, and of no other.
            rng: source of numbers.

        Returns:
            The design; the one that is given, where its choices have a single option each; none
            where none of many changes is legal.
        """
        paths = sorted(path for path in choices if len(self._choices[path].options) > 1)
        if not paths:
            return self.screened(choices)
        for n_tries in range(MAX_MOVES):
            changed = dict(choices)
            for _ in range(1 + n_tries // N_CHANGES_AFTER):
                path = paths[int(rng.integers(len(paths)))]
                changed[path] = another(choices[path], self._choices[path], rng)
            found = self._completed(changed, rng)
            if found is not None:
                return found
        return None

    def crossed(
        self, a: Mapping[str, Label], b: Mapping[str, Label], rng: np.random.Generator
    ) -> Screened | None:
        """A child that takes every choice from one parent or the other, drawn as
        `SearchSpace.crossover` draws it; none where none of many is legal."""
        paths = list({**a, **b})
        for _ in range(MAX_MOVES):
            first, second = (a, b) if rng.random() < 0.5 else (b, a)
            from_first = rng.random(len(paths)) < 0.5
            mixed = {
                path: first[path]
                if path not in second or (path in first and here)
                else second[path]
                for path, here in zip(paths, from_first, strict=True)
            }
            found = self._completed(mixed, rng)
            if found is not None:
                return found
        return None

    def _completed(self, labels: Mapping[str, Label], rng: np.random.Generator) -> Screened | None:
        """The design of some labels, others drawn evenly; none where it is not legal."""
        seed = int(rng.integers(2**62))
        return self._given(labels, lambda: random.Random(seed).random)

    def _given(
        self, labels: Mapping[str, Label], drawing: Callable[[], Random | None]
    ) -> Screened | None:
        while True:
            try:
                return self._attempt(Given(labels, drawing(), self._shared))
            except MustBePlain as found:
                self._forms.plain.add((found.cls, found.name))
                self._compile()

    def _draw(self, rng: Random) -> Screened:
        for _ in range(MAX_DRAWS):
            screened = self._attempt(Draw(rng, self._shared))
            if screened is not None:
                return screened
        # The slow path says what is wrong, in words of its own.
        design = self._space.sample(np.random.default_rng(0))
        raise SpaceError(
            f"{self._space.name}: hardly any design can be built; one is {design.choices}"
        )

    def _attempt(self, draw: Draw) -> Screened | None:
        self.n_screened += 1
        total = _Total()
        shape: tuple[int, int, int] = draw.take(self._images).part
        for place in draw.take(self._stem).part:
            found = _cost_at(draw.take(place).part, draw, shape)
            if isinstance(found, str):
                return None
            shape = total.add(found)
        for place in draw.take(self._stages).part:
            behind = draw.take(place).part.run(draw, shape, total)
            if behind is None:
                return None
            shape = behind
        found = _cost_at(draw.take(self._head).part, draw, shape)
        if isinstance(found, str):
            return None
        total.add(found)
        screened = Screened(
            space=self._space,
            madds=total.madds,
            params=total.params,
            folded_params=total.folded_params,
            peak_activations=total.peak_activations,
            picks=tuple(draw.picks),
        )
        return screened if self._is_legal(screened) else None

    def _is_legal(self, screened: Screened) -> bool:
        if self._space.constraints:
            choices = screened.choices
            if not all(rule.holds(choices) for rule in self._space.constraints):
                return False
        if self._space.avoided:
            try:
                _ = screened.spec
            except (ArchError, SpaceError):
                return False
        return True


def screener_of(space: SearchSpace) -> Screener:
    """The screener of a space, compiled once in a process; equal spaces share it."""
    fields = (space.name, space.input_shape, space.template, space.shared, space.constraints)
    key = repr((fields, sorted(space.avoided)))
    screener = _SCREENERS.pop(key, None) or Screener(space)
    _SCREENERS[key] = screener  # the latest one comes last
    if len(_SCREENERS) > MAX_SCREENERS:
        del _SCREENERS[next(iter(_SCREENERS))]
    return screener


_SCREENERS: Final[dict[str, Screener]] = {}


def _first() -> float:
    return 0.0


class _Part(NamedTuple):
    """Something compiled, and the choices that lead to it."""

    part: Any
    picks: Picks


@final
class _Total:
    """Costs of blocks one after another."""

    __slots__ = ("folded_params", "madds", "params", "peak_activations")

    def __init__(self) -> None:
        self.madds = self.params = self.folded_params = self.peak_activations = 0

    def add(self, found: Numbers, times: int = 1) -> tuple[int, int, int]:
        """Add a block that stands there so many times; its output shape."""
        channels, height, width, madds, params, folded_params, peak = found
        self.madds += times * madds
        self.params += times * params
        self.folded_params += times * folded_params
        if peak > self.peak_activations:
            self.peak_activations = peak
        return channels, height, width


@final
class _Stage:
    """A stage: its numbers, and for each kind of block the first and the other ones."""

    def __init__(self, forms: Forms, node: Template, path: str) -> None:
        if not isinstance(node, dict):
            raise SpaceError(f"{path}: a stage is a mapping")
        numbers = {name: (f"{path}.{name}", node[name]) for name in STAGE_NUMBERS}
        self._numbers = Fields(numbers, _plain)
        self._order = [self._numbers.names.index(name) for name in STAGE_NUMBERS]
        self._blocks = _table(node["block"], f"{path}.block", functools.partial(_Blocks, forms))

    def run(
        self, draw: Draw, shape: tuple[int, int, int], total: _Total
    ) -> tuple[int, int, int] | None:
        """Draw and cost the stage; the shape behind it, or none where it cannot stand there."""
        numbers = self._numbers.take(draw)
        out_channels, stride, repeats = (numbers[at].value for at in self._order)
        blocks: _Blocks = draw.take(self._blocks).part
        rest = blocks.rest.fields.take(draw)
        site, taken = blocks.first(draw, rest)
        found = site.cost(taken, shape, (out_channels, stride, repeats))
        if isinstance(found, str):
            return None
        shape = total.add(found)
        left = 0 if blocks.rest.own_repeats else repeats - 1
        while left:
            found = blocks.rest.cost(rest, shape, (out_channels, 1, repeats))
            if isinstance(found, str):
                return None
            same = found[:3] == shape
            shape = total.add(found, left if same else 1)
            left = 0 if same else left - 1
        return shape


@final
class _Blocks:
    """The blocks of a stage, of one kind, and what its first one has of its own."""

    def __init__(self, forms: Forms, node: Template, path: str) -> None:
        if not isinstance(node, dict):
            raise SpaceError(f"{path}: a block is a mapping")
        usual = {key: (f"{path}.{key}", each) for key, each in node.items() if key != "first"}
        self._forms = forms
        self.rest = Site(usual, is_head=False, where=path, forms=forms)
        self._first: Table[_Part] | None = None
        if "first" in node:
            self._first = _table(node["first"], f"{path}.first", self._compile_first)

    def _compile_first(self, node: Template, path: str) -> tuple[Site, tuple[int, ...]]:
        """The site of a first block, and which fields of the others it has in front of its own."""
        if not isinstance(node, dict):
            raise SpaceError(f"{path}: a block is a mapping")
        own = {key: (f"{path}.{key}", each) for key, each in node.items()}
        if "kind" in node:
            return Site(own, is_head=False, where=path, forms=self._forms), ()
        fields = {"kind": ("", self.rest.kind), **own}
        site = Site(fields, is_head=False, where=path, forms=self._forms)
        inherited = tuple(at for at, name in enumerate(self.rest.names) if name not in node)
        names = tuple(self.rest.names[at] for at in inherited)
        site.names = (*names, *site.names)
        return site, inherited

    def first(self, draw: Draw, rest: list[Taken]) -> tuple[Site, list[Taken]]:
        """The first block's site and fields."""
        if self._first is None:
            return self.rest, rest
        site, inherited = draw.take(self._first).part
        return site, [rest[at] for at in inherited] + site.fields.take(draw)


def _table(node: Template, path: str, compiled: Any) -> Table[_Part]:
    found: list[tuple[Any, Fraction]] = variants(node, path)
    return Table(
        [_Part(compiled(each.node, each.path), each.picks) for each, _ in found],
        [share for _, share in found],
    )


def _cost_at(site: Site, draw: Draw, shape: tuple[int, int, int]) -> Numbers | str:
    return site.cost(site.fields.take(draw), shape)


def _stem(forms: Forms, node: Template, path: str) -> list[Table[_Part]]:
    return _places(node, path, functools.partial(_site, forms, is_head=False))


def _stages(forms: Forms, node: Template, path: str) -> list[Table[_Part]]:
    return _places(node, path, functools.partial(_Stage, forms))


def _places(node: Template, path: str, compiled: Any) -> list[Table[_Part]]:
    if not isinstance(node, tuple):
        raise SpaceError(f"{path}: expected a list")
    return [_table(each, f"{path}.{at}", compiled) for at, each in enumerate(node)]


def _head(forms: Forms, node: Template, path: str) -> Site:
    return _site(forms, node, path, is_head=True)


def _site(forms: Forms, node: Template, path: str, *, is_head: bool) -> Site:
    if not isinstance(node, dict):
        raise SpaceError(f"{path}: expected a mapping")
    knobs = {key: (f"{path}.{key}", each) for key, each in node.items()}
    return Site(knobs, is_head=is_head, where=path, forms=forms)


def _plain(_: str, value: Any) -> Taken:
    return Taken(value, None, None)
