"""Places of a template where a block or a head stands: from what was drawn there to its cost."""

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, final

from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.catalog import BLOCKS, HEADS
from nas_face.arch.codec import from_data, to_data
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.tracing import Function, NotTraceable, Numbers, trace
from nas_face.errors import ArchError, SpaceError
from nas_face.space.assemble import ATTENTION_RATIOS, share_of
from nas_face.space.tables import MAX_WAYS, Picks, Random, Table, Way, ways, with_references
from nas_face.space.template import Template

MAX_REMEMBERED = 50_000
MAX_PLANS = 2_000
MAX_FORMS = 20_000
N_MEASURED = 6
"""Times that a form is measured layer by layer before it is traced, which takes as long as a dozen
measurements: a wide space has forms that are met once."""

SAME_COST: Final = {
    **dict.fromkeys(("relu6", "silu", "hard_swish", "gelu"), "relu"),
    "unshuffle": "shuffle",
}
"""Activations without weights cost the same, so one of them stands for all; so do permutations."""

NUMBER: Final = "a number"


class Taken(NamedTuple):
    """What was drawn for one field.

    Attributes:
        value: plain data.
        structure: what it means for the form of the block; equal for equal forms.
        number: the number, or the ratio of one, that does not change the form; or none.
    """

    value: Any
    structure: Any
    number: float | None


@final
class Draw:
    """One design while it is being drawn.

    Args:
        random: source of numbers.
        shared: tables of the shared choices.
    """

    __slots__ = ("_of_shared", "_shared", "picks", "random")

    def __init__(self, random: Random, shared: Mapping[str, Table[Way]]) -> None:
        self.random = random
        self.picks: list[Picks] = []
        self._shared = shared
        self._of_shared: dict[str, Way] = {}

    def shared(self, name: str) -> Way:
        """What a shared choice is in this design; drawn when it is first met."""
        way = self._of_shared.get(name)
        if way is None:
            way = self._of_shared[name] = self._shared[name].draw(self.random)
            self.picks.append(way.picks)
        return way


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
            taken, picks = table.draw(draw.random)
            found += taken
            draw.picks.append(picks)
        for single, describe in self._single:
            way = single.draw(draw.random)
            draw.picks.append(way.picks)
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


Describe: TypeAlias = "typing.Callable[[str, Any], Taken]"


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
        forms: "Forms",
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
        self.fields = Fields(fields, functools.partial(_described, self.cls, forms.plain))
        self.names = self.fields.names
        self._plans: dict[tuple[Any, ...], _Plan] = {}

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
            plan = self._plans[key] = _Plan(self, taken, given)
        return plan.cost(taken, x, given)


@final
class _Form:
    """Blocks of one form: functions of their numbers, or costs by numbers where none can be
    traced."""

    __slots__ = ("functions", "n_met", "remembered", "traceable")

    def __init__(self, *, traceable: bool) -> None:
        self.traceable = traceable
        self.n_met = 0
        self.functions: list[Function] = []
        self.remembered: dict[tuple[int, ...], Numbers | str] = {}


@final
class Forms:
    """What is known of forms of blocks.

    Attributes:
        known: by class, stride and structure of all fields.
        plain: classes and fields whose numbers are part of the form.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], _Form] = {}
        self.plain: set[tuple[Any, str]] = set()

    def form(self, key: tuple[Any, ...], *, traceable: bool) -> _Form:
        """What is known of one form; a new record, if it is met for the first time."""
        form = self.known.get(key)
        if form is None:
            if len(self.known) >= MAX_FORMS:
                self.known.clear()
            form = self.known[key] = _Form(traceable=traceable)
        return form


FORMS: Final = Forms()
"""Of this process: what was traced for one space serves the next one."""


@final
class MustBePlain(Exception):
    """A number has to be part of the form, as the length of a loop has to.

    Attributes:
        cls: the block.
        name: the field.
    """

    def __init__(self, cls: Any, name: str) -> None:
        super().__init__(f"{name} of {cls.__name__}")
        self.cls = cls
        self.name = name


@final
class _Plan:
    """How the numbers of one form come about in one place."""

    def __init__(
        self, site: Site, taken: Sequence[Taken], given: tuple[int, int, int] | None
    ) -> None:
        self._cls = site.cls
        self._fixed: dict[str, Any] = {}
        self._attention: dict[str, Any] | None = None
        self._names: list[str] = []
        self._plain: list[int] = []  # fields that are numbers
        self._shares: list[tuple[int, int, int]] = []  # field, position of its base, multiple
        form = sorted(zip(site.names, (each.structure for each in taken), strict=True))
        key = (site.cls, None if given is None else given[1], repr(form))
        self._forms = site.forms
        self._form = site.forms.form(key, traceable=not site.own_repeats)
        self._own_repeats = site.own_repeats
        self.problem: str | None = None
        if given is not None:
            self._names.append("out_channels")
            self._fixed["stride"] = given[1]
            if site.own_repeats:
                self._names.append("repeats")
        ratios = []
        # By name, so that places which list fields in another order share their functions.
        for name, at in sorted((name, at) for at, name in enumerate(site.names)):
            each = taken[at]
            if isinstance(each.structure, _Impossible):
                self.problem = each.structure.reason
            elif name == "attention" and each.value is not None:
                ratios.append((at, name))
            elif each.number is None:
                field = site.cls.RATIOS[name].field if name in _ratios(site.cls) else name
                self._fixed[field] = each.value
            elif name in _ratios(site.cls):
                ratios.append((at, name))
            else:
                self._names.append(name)
                self._plain.append(at)
        if self.problem is None:
            try:
                # Attention comes last: it may refer to a width that another ratio gives.
                for at, name in sorted(ratios, key=lambda each: each[1] == "attention"):
                    self._add_ratio(at, name, taken[at])
            except SpaceError as failure:
                self.problem = str(failure)

    def _add_ratio(self, at: int, name: str, taken: Taken) -> None:
        if name != "attention":
            ratio = self._cls.RATIOS[name]
            self._shares.append((at, self._position(ratio.base), ratio.multiple))
            self._names.append(ratio.field)
            return
        knobs = dict(taken.value)
        multiple = knobs.pop("multiple", 1)
        word = next((word for word in (*ATTENTION_RATIOS, "channels") if word in knobs), None)
        self._attention = knobs
        if word is None:
            return
        del knobs[word]
        self._names.append("attention_channels")
        base = 0  # of a plain number, which is a share of nothing
        if word == "input_ratio":
            base = self._position("in_channels")
        elif word == "ratio":
            acts_on = self._fixed.get("attention_on", self._cls.ATTENTION_ON)
            base = self._position(acts_on)
        self._shares.append((at, base, multiple if word != "channels" else 0))

    def _position(self, base: str) -> int:
        """Where a width stands among the arguments of the functions."""
        if base == "in_channels":
            return 0
        if base not in self._names:
            raise SpaceError(f"the width {base} that a ratio refers to is not given")
        return 3 + self._names.index(base)

    def cost(
        self,
        taken: Sequence[Taken],
        x: tuple[int, int, int],
        given: tuple[int, int, int] | None,
    ) -> Numbers | str:
        if self.problem is not None:
            return self.problem
        numbers: list[Any] = [*x]
        if given is not None:
            numbers.append(given[0])
            if self._own_repeats:
                numbers.append(given[2])
        for at in self._plain:
            numbers.append(taken[at].number)
        for at, base, multiple in self._shares:
            share: Any = taken[at].number
            if multiple:
                steps = int(share * numbers[base] / multiple + 0.5)
                share = (steps if steps > 1 else 1) * multiple
            numbers.append(share)
        form = self._form
        for function in form.functions:
            found = function(*numbers)
            if found is not None:
                return found
        if not form.traceable:
            return self._measured(tuple(numbers))
        form.n_met += 1
        return self._traced(numbers) if form.n_met > N_MEASURED else self._numbers(numbers)

    def _traced(self, numbers: list[int]) -> Numbers | str:
        try:
            function = trace(self._measure, self._names, numbers[3:], Shape(*numbers[:3]))
        except NotTraceable as failure:
            if failure.name in self._names:
                raise MustBePlain(self._cls, failure.name) from failure
            self._form.traceable = False
            return self._measured(tuple(numbers))
        except ArchError as failure:
            self.problem = str(failure)
            return self.problem
        self._form.functions.append(function)
        found = function(*numbers)
        assert found is not None
        return found

    def _measured(self, numbers: tuple[int, ...]) -> Numbers | str:
        """Cost by way of layers, remembered; for what cannot be traced."""
        found = self._form.remembered.get(numbers)
        if found is None:
            if len(self._form.remembered) >= MAX_REMEMBERED:
                self._form.remembered.clear()
            found = self._form.remembered[numbers] = self._numbers(numbers)
        return found

    def _numbers(self, numbers: Sequence[int]) -> Numbers | str:
        try:
            named = dict(zip(self._names, numbers[3:], strict=True))
            shape, cost = self._measure(named, Shape(*numbers[:3]))
        except ArchError as failure:
            return str(failure)
        counts = (cost.madds, cost.params, cost.folded_params, cost.peak_activations)
        return (*shape, *counts)

    def _measure(self, numbers: Mapping[str, Any], x: Shape) -> tuple[Shape, Cost]:
        values = {**self._fixed, **numbers}
        if self._attention is not None:
            attention = dict(self._attention)
            if "attention_channels" in values:
                attention["channels"] = values.pop("attention_channels")
            values["attention"] = _attention_class(attention.pop("kind"))(**attention)
        block: AbstractBlock = self._cls(**values)
        return block.lower(x).measure(x)


class _Impossible(NamedTuple):
    """Structure of a value that its field refuses."""

    reason: str


def _ratios(cls: Any) -> Mapping[str, Any]:
    return cls.RATIOS if issubclass(cls, AbstractBlock) else {}


def _described(cls: Any, plain: set[tuple[Any, str]], name: str, value: Any) -> Taken:
    """What a value of a field means for the form of the block."""
    if name in _ratios(cls):
        if value is None:
            return Taken(None, None, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            return Taken(value, _Impossible(f"{name} must be a positive number"), None)
        return Taken(value, NUMBER, value)
    if name == "attention" and isinstance(value, dict):
        return _described_attention(value)
    try:
        typed = from_data(_field_types(cls)[name], to_data(value), where=name)
    except (ArchError, KeyError) as failure:
        return Taken(value, _Impossible(f"{name}: {failure}"), None)
    if isinstance(typed, int) and not isinstance(typed, bool) and (cls, name) not in plain:
        return Taken(typed, NUMBER, typed)
    if isinstance(typed, str):
        return Taken(typed, SAME_COST.get(typed, typed), None)
    return Taken(typed, typed, None)


def _described_attention(value: dict[str, Any]) -> Taken:
    words = [word for word in (*ATTENTION_RATIOS, "channels") if word in value]
    trial = {key: each for key, each in value.items() if key not in (*words, "multiple")}
    try:
        if words:
            share_of(value[words[0]], 8, value.get("multiple", 1), "attention")
            trial["channels"] = 8
        if len(words) > 1:
            raise SpaceError("attention: give one of its widths")
        from_data(_attention_class(str(value.get("kind"))), trial, where="attention")
    except ArchError as failure:
        return Taken(value, _Impossible(str(failure)), None)
    form = tuple(
        (key, NUMBER if key in words else SAME_COST.get(each, each))
        for key, each in sorted(value.items())
    )
    return Taken(value, form, value[words[0]] if words else None)


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _attention_class(kind: str) -> Any:
    from nas_face.arch.blocks.attention import ATTENTIONS

    if kind not in ATTENTIONS:
        raise SpaceError(f"attention: unknown kind {kind!r}")
    return ATTENTIONS[kind]
