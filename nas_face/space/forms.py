"""What drawn values mean for a block, and what it costs: forms of blocks, and functions of their
numbers."""

import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from nas_face.arch.blocks.attention import ATTENTIONS
from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.codec import from_data, to_data
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.tracing import Function, NotTraceable, Numbers, trace
from nas_face.errors import ArchError, SpaceError
from nas_face.space.assemble import ATTENTION_RATIOS, share_of

MAX_REMEMBERED = 50_000
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
class Form:
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
        self.known: dict[tuple[Any, ...], Form] = {}
        self.plain: set[tuple[Any, str]] = set()

    def form(self, key: tuple[Any, ...], *, traceable: bool) -> Form:
        """What is known of one form; a new record, if it is met for the first time."""
        form = self.known.get(key)
        if form is None:
            if len(self.known) >= MAX_FORMS:
                self.known.clear()
            form = self.known[key] = Form(traceable=traceable)
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
class Plan:
    """How the numbers of one form come about in one place.

    Args:
        cls: the block or head.
        names: of its fields, as they are drawn.
        own_repeats: whether it makes all blocks of its stage.
        forms: what is known of forms.
        taken: what was drawn, of the form in question.
        given: width of the output, stride and repeats, where a stage gives them.
    """

    def __init__(
        self,
        cls: Any,
        names: Sequence[str],
        *,
        own_repeats: bool,
        forms: Forms,
        taken: Sequence[Taken],
        given: tuple[int, int, int] | None,
    ) -> None:
        self._cls = cls
        self._fixed: dict[str, Any] = {}
        self._attention: dict[str, Any] | None = None
        self._names: list[str] = []
        self._plain: list[int] = []  # fields that are numbers
        self._shares: list[tuple[int, int, int]] = []  # field, position of its base, multiple
        form = sorted(zip(names, (each.structure for each in taken), strict=True))
        key = (cls, None if given is None else given[1], repr(form))
        self._form = forms.form(key, traceable=not own_repeats)
        self._own_repeats = own_repeats
        self.problem: str | None = None
        if given is not None:
            self._names.append("out_channels")
            self._fixed["stride"] = given[1]
            if own_repeats:
                self._names.append("repeats")
        ratios = []
        # By name, so that places which list fields in another order share their functions.
        for name, at in sorted((name, at) for at, name in enumerate(names)):
            each = taken[at]
            if isinstance(each.structure, Impossible):
                self.problem = each.structure.reason
            elif name == "attention" and each.value is not None:
                ratios.append((at, name))
            elif each.number is None:
                field = cls.RATIOS[name].field if name in _ratios(cls) else name
                self._fixed[field] = each.value
            elif name in _ratios(cls):
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
        """Output shape and cost, or why the block cannot stand there; see `Site.cost`."""
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


class Impossible(NamedTuple):
    """Structure of a value that its field refuses."""

    reason: str


def _ratios(cls: Any) -> Mapping[str, Any]:
    return cls.RATIOS if issubclass(cls, AbstractBlock) else {}


def described(cls: Any, plain: set[tuple[Any, str]], name: str, value: Any) -> Taken:
    """What a value of a field means for the form of the block."""
    if name in _ratios(cls):
        if value is None:
            return Taken(None, None, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            return Taken(value, Impossible(f"{name} must be a positive number"), None)
        return Taken(value, NUMBER, value)
    if name == "attention" and isinstance(value, dict):
        return _described_attention(value)
    try:
        typed = from_data(_field_types(cls)[name], to_data(value), where=name)
    except (ArchError, KeyError) as failure:
        return Taken(value, Impossible(f"{name}: {failure}"), None)
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
        return Taken(value, Impossible(str(failure)), None)
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
    if kind not in ATTENTIONS:
        raise SpaceError(f"attention: unknown kind {kind!r}")
    return ATTENTIONS[kind]
