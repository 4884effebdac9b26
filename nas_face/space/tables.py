"""Templates as tables to draw from: every way to resolve a small part, each as likely as it is
when its choices are picked evenly, one after another; and found by the labels that lead to it."""

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, final

from nas_face.errors import SpaceError
from nas_face.space.template import Choice, Label, Reference, Template, inside

MAX_WAYS = 4096

Picks: TypeAlias = tuple[tuple[str, Label], ...]
"""Paths of choices and the labels taken."""

Random: TypeAlias = Callable[[], float]
"""Gives a number from 0 up to, and not including, 1."""


class Picked(Protocol):
    """Something that choices lead to."""

    @property
    def picks(self) -> Picks:
        """The choices, in the order in which they are met."""


T = TypeVar("T", bound=Picked)
S = TypeVar("S", bound=Picked)
U = TypeVar("U", bound=Picked)


class Fork(NamedTuple):
    """A choice on the way to an entry.

    Attributes:
        path: of the choice.
        branches: next fork, or position of the entry, behind each label.
        labels: the labels, to draw from.
    """

    path: str
    branches: "dict[Label, Fork | int]"
    labels: tuple[Label, ...]


@final
class Table(Generic[T]):
    """Entries with their probabilities.

    Args:
        entries: what can be drawn.
        shares: probability of each, adding up to 1.
        factors: tables whose pairs of entries these are; none for one that stands alone.
    """

    def __init__(
        self,
        entries: list[T],
        shares: list[Fraction],
        factors: "tuple[Table[Any], ...] | None" = None,
    ) -> None:
        self.entries = entries
        self._factors = factors or (self,)
        self._fork: Fork | int | None = None
        self._shares = shares
        self._count = len(entries)
        self._bounds: list[float] | None = None
        if len(set(shares)) > 1:
            self._bounds = [float(each) for each in itertools.accumulate(shares)]

    def draw(self, random: Random) -> T:
        """One entry."""
        if self._bounds is None:
            return self.entries[int(random() * self._count)]
        return self.entries[min(bisect.bisect(self._bounds, random()), self._count - 1)]

    def find(self, labels: Mapping[str, Label], random: Random | None) -> T:
        """The entry that these labels lead to.

        Args:
            labels: by path of the choice.
            random: draws a label evenly where there is none, or none that is an option; none to
                insist on the labels.

        Raises:
            KeyError: a label is missing, or is not an option.
        """
        at = 0
        for factor in self._factors:
            node = factor._fork
            if node is None:
                node = factor._fork = _forked(
                    [(each.picks, place) for place, each in enumerate(factor.entries)]
                )
            while not isinstance(node, int):
                path, branches, known = node
                if path in labels and labels[path] in branches:
                    node = branches[labels[path]]
                elif random is None:
                    raise KeyError(path)
                else:
                    node = branches[known[int(random() * len(known))]]
            at = at * factor._count + node
        return self.entries[at]

    def mapped(self, change: Callable[[T], S]) -> "Table[S]":
        """The same table with every entry changed, but for the choices that lead to it."""
        return Table([change(each) for each in self.entries], self._shares)

    def times(self, other: "Table[S]", both: Callable[[T, S], U]) -> "Table[U]":
        """Table of all pairs of entries, drawn independently."""
        return Table(
            [both(mine, theirs) for mine in self.entries for theirs in other.entries],
            [mine * theirs for mine in self._shares for theirs in other._shares],
            self._factors + other._factors,
        )


def _forked(rest: Sequence[tuple[Picks, int]]) -> Fork | int:
    """The forks on the way to entries, given what is left of their choices and their positions."""
    picks, place = rest[0]
    if not picks:
        return place
    path = picks[0][0]  # all ways that agree so far meet the same choice next
    behind: dict[Label, list[tuple[Picks, int]]] = {}
    for picks, place in rest:
        behind.setdefault(picks[0][1], []).append((picks[1:], place))
    branches = {label: _forked(each) for label, each in behind.items()}
    return Fork(path, branches, tuple(branches))


class Way(NamedTuple):
    """One way to resolve a part of a template.

    Attributes:
        value: plain data, with a `Reference` wherever a shared choice stands.
        picks: choices that lead to it.
        names: shared choices that the value refers to.
    """

    value: Any
    picks: Picks
    names: tuple[str, ...]


class Variant(NamedTuple):
    """A template behind the choices at its root.

    Attributes:
        node: with no choice at its root.
        path: of the node.
        picks: choices that lead to it.
    """

    node: Template
    path: str
    picks: Picks


def ways(node: Template, path: str) -> Table[Way]:
    """Every way to resolve a part.

    Args:
        node: the part.
        path: where it stands.

    Raises:
        SpaceError: there are too many for a table.
    """
    found = list(itertools.islice(_ways(node, path), MAX_WAYS + 1))
    if len(found) > MAX_WAYS:
        raise SpaceError(f"{path}: more than {MAX_WAYS} ways to choose in one place")
    return Table([way for way, _ in found], [share for _, share in found])


def _ways(node: Template, path: str) -> Iterator[tuple[Way, Fraction]]:
    match node:
        case Choice():
            share = Fraction(1, len(node.options))
            for label, option in node.options.items():
                for way, part in _ways(option, inside(node, label, path)):
                    yield way._replace(picks=((path, label), *way.picks)), share * part
        case Reference():
            yield Way(node, (), (node.name,)), Fraction(1)
        case dict():
            keys = list(node)
            for parts, share in _products([(f"{path}.{key}", node[key]) for key in keys]):
                value = dict(zip(keys, (part.value for part in parts), strict=True))
                yield _together(value, parts), share
        case tuple():
            places = [(f"{path}.{at}", each) for at, each in enumerate(node)]
            for parts, share in _products(places):
                yield _together(tuple(part.value for part in parts), parts), share
        case _:
            yield Way(node, (), ()), Fraction(1)


def _products(
    places: list[tuple[str, Template]],
) -> Iterator[tuple[tuple[Way, ...], Fraction]]:
    if not places:
        yield (), Fraction(1)
        return
    (path, node), *rest = places
    for way, share in _ways(node, path):
        for others, part in _products(rest):
            yield (way, *others), share * part


def _together(value: Any, parts: tuple[Way, ...]) -> Way:
    picks = tuple(pick for part in parts for pick in part.picks)
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    return Way(value, picks, names)


def variants(node: Template, path: str) -> list[tuple[Variant, Fraction]]:
    """What a template may be once the choices at its root are taken, with probabilities.

    Raises:
        SpaceError: a shared choice stands at the root, so that places depend on one another.
    """
    if isinstance(node, Reference):
        raise SpaceError(f"{path}: a shared choice of whole blocks")
    if not isinstance(node, Choice):
        return [(Variant(node, path, ()), Fraction(1))]
    share = Fraction(1, len(node.options))
    return [
        (found._replace(picks=((path, label), *found.picks)), share * part)
        for label, option in node.options.items()
        for found, part in variants(option, inside(node, label, path))
    ]


def with_references(value: Any, resolved: dict[str, Any]) -> Any:
    """`value` with what references stand for put in their place."""
    match value:
        case Reference():
            return resolved[value.name]
        case dict():
            return {key: with_references(each, resolved) for key, each in value.items()}
        case tuple():
            return tuple(with_references(each, resolved) for each in value)
        case _:
            return value
