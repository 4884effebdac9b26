"""Thousands of designs a second: drawn evenly and costed, without building anything.

The template of a space is compiled once: what can be chosen in a place becomes a table to draw
from, and the cost of each form of a block becomes a function, traced from its own rules (see
`nas_face.arch.tracing`). A draw then is a few table look-ups and one call a block. The costs are
those of `ArchSpec.cost`, to the last digit.
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, final

import numpy as np

from nas_face.arch.cost import Cost
from nas_face.arch.spec import ArchSpec
from nas_face.arch.tracing import Numbers
from nas_face.errors import ArchError, SpaceError
from nas_face.space.forms import FORMS, Forms, MustBePlain, Taken
from nas_face.space.sites import Draw, Fields, Site
from nas_face.space.space import INPUT_SHAPE, MAX_DRAWS, SearchSpace
from nas_face.space.tables import Picks, Random, Table, variants, ways
from nas_face.space.template import Label, Template

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

    Raises:
        SpaceError: the template has a form that cannot be compiled; sample the space instead.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._forms = FORMS
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

    def _draw(self, rng: Random) -> Screened:
        for _ in range(MAX_DRAWS):
            screened = self._attempt(rng)
            if screened is not None:
                return screened
        # The slow path says what is wrong, in words of its own.
        design = self._space.sample(np.random.default_rng(0))
        raise SpaceError(
            f"{self._space.name}: hardly any design can be built; one is {design.choices}"
        )

    def _attempt(self, rng: Random) -> Screened | None:
        draw = Draw(rng, self._shared)
        total = _Total()
        shape: tuple[int, int, int] = _taken(self._images, draw)
        for place in _taken(self._stem, draw):
            found = _cost_at(_taken(place, draw), draw, shape)
            if isinstance(found, str):
                return None
            shape = total.add(found)
        for place in _taken(self._stages, draw):
            behind = _taken(place, draw).run(draw, shape, total)
            if behind is None:
                return None
            shape = behind
        found = _cost_at(_taken(self._head, draw), draw, shape)
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
        blocks: _Blocks = _taken(self._blocks, draw)
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
        site, inherited = _taken(self._first, draw)
        return site, [rest[at] for at in inherited] + site.fields.take(draw)


def _table(node: Template, path: str, compiled: Any) -> Table[_Part]:
    found: list[tuple[Any, Fraction]] = variants(node, path)
    return Table(
        [_Part(compiled(each.node, each.path), each.picks) for each, _ in found],
        [share for _, share in found],
    )


def _taken(table: Table[_Part], draw: Draw) -> Any:
    part, picks = table.draw(draw.random)
    if picks:
        draw.picks.append(picks)
    return part


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
