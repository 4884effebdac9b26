"""Places of a template where a block or a head stands: drawing what stands there."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, final

from nas_face.arch.catalog import BLOCKS, HEADS
from nas_face.arch.tracing import Numbers
from nas_face.errors import SpaceError
from nas_face.space.forms import Forms, Plan, Taken, described
from nas_face.space.tables import (
    MAX_WAYS,
    Picked,
    Picks,
    Random,
    Table,
    Way,
    ways,
    with_references,
)
from nas_face.space.template import Label, Template

MAX_PLANS = 2_000

T = TypeVar("T", bound=Picked)


class Draw:
    """One design while it is being drawn.

    Args:
        random: source of numbers.
        shared: tables of the shared choices.
    """

    __slots__ = ("_of_shared", "_shared", "picks", "random")

    def __init__(self, random: Random | None, shared: Mapping[str, Table[Way]]) -> None:
        self.random = random
        self.picks: list[Picks] = []
        self._shared = shared
        self._of_shared: dict[str, Way] = {}

    def take(self, table: Table[T]) -> T:
        """One entry of a table."""
        assert self.random is not None
        entry = table.draw(self.random)
        self.picks.append(entry.picks)
        return entry

    def shared(self, name: str) -> Way:
        """What a shared choice is in this design; drawn when it is first met."""
        way = self._of_shared.get(name)
        if way is None:
            way = self._of_shared[name] = self.take(self._shared[name])
        return way


@final
class Given(Draw):
    """One design that is given by its labels.

    Args:
        labels: by path of the choice.
        random: draws labels that are missing or no option; none to insist on them.
        shared: tables of the shared choices.
    """

    __slots__ = ("_labels",)

    def __init__(
        self,
        labels: Mapping[str, Label],
        random: Random | None,
        shared: Mapping[str, Table[Way]],
    ) -> None:
        super().__init__(random, shared)
        self._labels = labels

    def take(self, table: Table[T]) -> T:
        """The entry of a table that the labels lead to.

        Raises:
            KeyError: a label is missing, or is not an option, and none is drawn.
        """
        entry = table.find(self._labels, self.random)
        self.picks.append(entry.picks)
        return entry


class Entry(NamedTuple):
    """One way to draw several fields at once."""

    taken: tuple[Taken, ...]
    picks: Picks


@final
class Fields:
    """The fields of a block's template; those without shared choices are drawn together.

    Args:
        templates: of each field, with its path.
        describe: what a resolved value of a field means for the block.
    """

    __slots__ = ("_joint", "_known", "_single", "names")

    def __init__(
        self, templates: Mapping[str, tuple[str, Template]], describe: "Describe"
    ) -> None:
        tables = {name: ways(node, path) for name, (path, node) in templates.items()}
        alone = [n for n, table in tables.items() if any(w.names for w in table.entries)]
        together = [name for name in tables if name not in alone]
        self.names = (*together, *alone)
        self._joint: list[Table[Entry]] = []
        for name in together:
            described = tables[name].mapped(
                lambda way, name=name: Entry((describe(name, way.value),), way.picks)  # type: ignore[misc]
            )
            if self._joint and len(self._joint[-1].entries) * len(described.entries) <= MAX_WAYS:
                self._joint[-1] = self._joint[-1].times(described, _both)
            else:
                self._joint.append(described)
        self._single = [(tables[name], functools.partial(describe, name)) for name in alone]
        self._known: dict[tuple[int, ...], Taken] = {}

    def take(self, draw: Draw) -> list[Taken]:
        """Draw all fields, in the order of `names`."""
        found: list[Taken] = []
        for table in self._joint:
            found += draw.take(table).taken
        for single, describe in self._single:
            way = draw.take(single)
            shared = [draw.shared(name) for name in way.names]
            key = (id(way), *map(id, shared))
            known = self._known.get(key)
            if known is None:
                resolved = {name: each.value for name, each in zip(way.names, shared, strict=True)}
                known = self._known[key] = describe(with_references(way.value, resolved))
            found.append(known)
        return found


def _both(left: Entry, right: Entry) -> Entry:
    return Entry(left.taken + right.taken, left.picks + right.picks)


Describe: TypeAlias = Callable[[str, Any], Taken]


@final
class Site:
    """A place where one kind of block or head stands.

    Args:
        knobs: template of each field, with its path.
        is_head: whether a head stands there.
        where: the place, for messages.
        forms: what is known of forms of blocks, shared by all places.

    Raises:
        SpaceError: what stands there is no block of one kind.
    """

    def __init__(
        self,
        knobs: Mapping[str, tuple[str, Template]],
        *,
        is_head: bool,
        where: str,
        forms: Forms,
    ) -> None:
        self.where = where
        fields = dict(knobs)
        _, kind = fields.pop("kind", ("", None))
        known: Mapping[str, type] = HEADS if is_head else BLOCKS
        if not isinstance(kind, str) or kind not in known:
            raise SpaceError(f"{where}: not a block of one kind that is known")
        self.cls: Any = known[kind]
        self.kind = kind
        self.own_repeats = any(each.name == "repeats" for each in dataclasses.fields(self.cls))
        self.forms = forms
        self.fields = Fields(fields, functools.partial(described, self.cls, forms.plain))
        self.names = self.fields.names
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def cost(
        self,
        taken: Sequence[Taken],
        x: tuple[int, int, int],
        given: tuple[int, int, int] | None = None,
    ) -> Numbers | str:
        """Output shape and cost, or why the block cannot stand there.

        Args:
            taken: of each field.
            x: shape of the input.
            given: width of the output, stride and repeats, where a stage gives them.
        """
        stride = None if given is None else given[1]
        key = (stride, *[each.structure for each in taken])
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = Plan(
                self.cls,
                self.names,
                own_repeats=self.own_repeats,
                forms=self.forms,
                taken=taken,
                given=given,
            )
        return plan.cost(taken, x, given)
