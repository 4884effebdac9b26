"""From an architecture back to the choices of a space that decode to it."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec, measured
from nas_face.errors import ArchError, SpaceError
from nas_face.space.assemble import ATTENTION_RATIOS, share_of
from nas_face.space.space import INPUT_SHAPE, Design, SearchSpace
from nas_face.space.template import Choice, Label, Reference, Template, inside, shown

Picks: TypeAlias = dict[str, Label]
Placed: TypeAlias = tuple[AbstractBlock, Shape]
"""A block with the shape in front of it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """What came of looking for an architecture in a space.

    Attributes:
        design: one that decodes to it, or none.
        missed: where there is none: the furthest place at which space and architecture differ, as
            a clause such as ``stages.2.out_channels offers 32, 64, not 128``.
    """

    design: Design | None
    missed: str = ""


def locate(space: SearchSpace, spec: ArchSpec) -> Design | None:
    """A design of the space that decodes to `spec`, or none.

    The template is held against the architecture part by part, and choices are tried where both
    could agree. Choices that do not matter for this architecture take their first option.

    Args:
        space: where to look.
        spec: what to look for.
    """
    return located(space, spec).design


def located(space: SearchSpace, spec: ArchSpec) -> Located:
    """As `locate`, with the reason where the space lacks the architecture.

    Args:
        space: where to look.
        spec: what to look for.
    """
    template: dict[str, Template] = {INPUT_SHAPE: space.input_shape, **space.template}
    matcher = _Matcher(space.shared)
    refused = ""
    for picks in matcher.network(template, spec):
        try:
            design = space.propose(
                lambda path, choice, picks=picks: picks.get(path, choice.labels[0])  # type: ignore[misc]
            )
        except (ArchError, SpaceError) as failure:
            refused = str(failure)
            continue
        if design.spec == spec:
            return Located(design=design)
    return Located(design=None, missed=refused or matcher.missed)


@final
class _Matcher:
    """Holds templates against values; every method yields the picks under which both agree."""

    def __init__(self, shared: Mapping[str, Template]) -> None:
        self._shared = shared
        self._furthest: tuple[int, ...] = ()
        self.missed = "nothing in it is like this"

    def network(self, template: Mapping[str, Template], spec: ArchSpec) -> Iterator[Picks]:
        spec_stem, spec_stages = _placed(spec)
        for start in self._value(template[INPUT_SHAPE], INPUT_SHAPE, spec.input_shape, {}):
            for _, stem, path, picks in self._options(template["stem"], "stem", start):
                if not isinstance(stem, tuple) or len(stem) != len(spec_stem):
                    self._miss(path, f"has another number of blocks than {len(spec_stem)}", picks)
                    continue
                places = [(f"{path}.{at}", node) for at, node in enumerate(stem)]
                for after_stem in self._blocks(places, spec_stem, picks):
                    yield from self._stages_and_head(template, spec, spec_stages, after_stem)

    def _stages_and_head(
        self,
        template: Mapping[str, Template],
        spec: ArchSpec,
        spec_stages: list[list[Placed]],
        picks: Picks,
    ) -> Iterator[Picks]:
        for _, stages, path, after in self._options(template["stages"], "stages", picks):
            if not isinstance(stages, tuple) or len(stages) != len(spec_stages):
                self._miss(path, f"has another number of stages than {len(spec_stages)}", after)
                continue
            places = [(f"{path}.{at}", node) for at, node in enumerate(stages)]
            for after_stages in self._stages(places, spec_stages, after):
                for _, head, where, last in self._options(template["head"], "head", after_stages):
                    yield from self._fields(head, where, spec.head, last)

    def _stages(
        self, places: list[tuple[str, Template]], stages: list[list[Placed]], picks: Picks
    ) -> Iterator[Picks]:
        if not places:
            yield picks
            return
        for _, stage, path, after in self._options(places[0][1], places[0][0], picks):
            for done in self._stage(stage, path, stages[0], after):
                yield from self._stages(places[1:], stages[1:], done)

    def _stage(
        self, stage: Template, path: str, blocks: list[Placed], picks: Picks
    ) -> Iterator[Picks]:
        if not isinstance(stage, dict) or not blocks:
            return
        first: Any = blocks[0][0]
        own_repeats = getattr(first, "repeats", None)
        numbers = {
            "out_channels": first.out_channels,
            "stride": first.stride,
            "repeats": len(blocks) if own_repeats is None else own_repeats,
        }
        for after in self._mapping(stage, path, numbers, picks):
            for _, rest, where, done in self._options(stage["block"], f"{path}.block", after):
                if isinstance(rest, dict):
                    yield from self._turns(rest, where, blocks, done)

    def _turns(
        self,
        rest: dict[str, Template],
        path: str,
        blocks: list[Placed],
        picks: Picks,
    ) -> Iterator[Picks]:
        usual = {key: (f"{path}.{key}", node) for key, node in rest.items() if key != "first"}
        turns = [usual] * len(blocks)
        given = {"out_channels", "stride", "repeats"}
        if "first" not in rest:
            yield from self._in_turn(turns, blocks, picks, given)
            return
        for _, first, where, after in self._options(rest["first"], f"{path}.first", picks):
            if isinstance(first, dict):
                own = {key: (f"{where}.{key}", node) for key, node in first.items()}
                merged = own if "kind" in first else {**usual, **own}
                yield from self._in_turn([merged, *turns[1:]], blocks, after, given)

    def _in_turn(
        self,
        turns: list[dict[str, tuple[str, Template]]],
        blocks: list[Placed],
        picks: Picks,
        given: set[str],
    ) -> Iterator[Picks]:
        if not turns:
            yield picks
            return
        for after in self._block(turns[0], blocks[0], picks, given):
            yield from self._in_turn(turns[1:], blocks[1:], after, given)

    def _blocks(
        self,
        places: list[tuple[str, Template]],
        blocks: list[Placed],
        picks: Picks,
    ) -> Iterator[Picks]:
        if not places:
            yield picks
            return
        for _, node, path, after in self._options(places[0][1], places[0][0], picks):
            if not isinstance(node, dict):
                continue
            knobs = {key: (f"{path}.{key}", value) for key, value in node.items()}
            for done in self._block(knobs, blocks[0], after, set()):
                yield from self._blocks(places[1:], blocks[1:], done)

    def _block(
        self,
        knobs: Mapping[str, tuple[str, Template]],
        placed: Placed,
        picks: Picks,
        given: set[str],
    ) -> Iterator[Picks]:
        """Knobs of a block against the block; `given` are fields that its stage sets."""
        block, x = placed
        values = _fields_of(block)
        ratios = {name: ratio for name, ratio in block.RATIOS.items() if name in knobs}
        said = {*knobs, *given, *(ratio.field for ratio in ratios.values())}
        unsaid = _unsaid(block, said)
        if unsaid:
            path = next(iter(knobs.values()))[0].rpartition(".")[0]
            self._miss(path, f"leaves no choice of {unsaid[0]}", picks)
            return
        plain = [
            (path, node, values.get(name, _MISSING))
            for name, (path, node) in knobs.items()
            if name not in ratios and name != "attention"
        ]
        for after in self._all(plain, picks):
            yield from self._ratios(ratios, knobs, values, x, after)

    def _ratios(
        self,
        ratios: Mapping[str, Any],
        knobs: Mapping[str, tuple[str, Template]],
        values: Mapping[str, Any],
        x: Shape,
        picks: Picks,
    ) -> Iterator[Picks]:
        if ratios:
            (name, ratio), *others = ratios.items()
            path, node = knobs[name]
            base = x.channels if ratio.base == "in_channels" else values[ratio.base]
            for _, value, _, after in self._options(node, path, picks):
                if _is_share(value, base, ratio.multiple, values[ratio.field]):
                    yield from self._ratios(dict(others), knobs, values, x, after)
                else:
                    wanted = f"has none that gives {ratio.field} = {values[ratio.field]}"
                    self._miss(path, wanted, after)
            return
        if "attention" not in knobs:
            yield picks
            return
        path, node = knobs["attention"]
        acts_on = values.get("attention_on", values["ATTENTION_ON"])
        for _, template, where, after in self._options(node, path, picks):
            attention = values["attention"]
            if attention is None or not isinstance(template, dict):
                if attention is template is None:
                    yield after
                else:
                    self._miss(path, f"has no {_word(attention)} here", after)
                continue
            yield from self._attention(template, where, attention, values[acts_on], x, after)

    def _attention(
        self,
        template: dict[str, Template],
        path: str,
        attention: Any,
        width: int,
        x: Shape,
        picks: Picks,
    ) -> Iterator[Picks]:
        bases = dict(zip(ATTENTION_RATIOS, (width, x.channels), strict=True))
        ratio = next((word for word in ATTENTION_RATIOS if word in template), None)
        said = {*template, *(["channels"] if ratio else [])}
        if _unsaid(attention, said):
            self._miss(path, f"is not {_word(attention)}", picks)
            return
        values = _fields_of(attention)
        plain = [
            (f"{path}.{name}", node, values.get(name, _MISSING))
            for name, node in template.items()
            if name not in (ratio, "multiple")
        ]
        for after in self._all(plain, picks):
            if ratio is None:
                yield after
                continue
            steps = self._options(template.get("multiple", 1), f"{path}.multiple", after)
            for _, multiple, _, again in steps:
                for _, value, _, done in self._options(template[ratio], f"{path}.{ratio}", again):
                    if _is_share(value, bases[ratio], multiple, values.get("channels")):
                        yield done

    def _fields(self, template: Template, path: str, part: Any, picks: Picks) -> Iterator[Picks]:
        """A mapping against a dataclass, field by field."""
        if not isinstance(template, dict):
            return
        unsaid = _unsaid(part, set(template))
        if unsaid:
            self._miss(path, f"leaves no choice of {unsaid[0]}", picks)
            return
        yield from self._mapping(template, path, _fields_of(part), picks, whole=True)

    def _mapping(
        self,
        template: dict[str, Template],
        path: str,
        values: Mapping[str, Any],
        picks: Picks,
        *,
        whole: bool = False,
    ) -> Iterator[Picks]:
        yield from self._all(
            [
                (f"{path}.{name}", node, values.get(name, _MISSING))
                for name, node in template.items()
                if whole or name in values
            ],
            picks,
        )

    def _all(self, parts: list[tuple[str, Template, Any]], picks: Picks) -> Iterator[Picks]:
        if not parts:
            yield picks
            return
        path, node, value = parts[0]
        for after in self._value(node, path, value, picks):
            yield from self._all(parts[1:], after)

    def _value(self, node: Template, path: str, value: Any, picks: Picks) -> Iterator[Picks]:
        for _, found, where, after in self._options(node, path, picks):
            if dataclasses.is_dataclass(value) and isinstance(found, dict):
                yield from self._fields(found, where, value, after)
            elif isinstance(found, tuple):
                if isinstance(value, tuple) and len(value) == len(found):
                    parts = [(f"{where}.{at}", each) for at, each in enumerate(found)]
                    yield from self._all(
                        [(*part, each) for part, each in zip(parts, value, strict=True)], after
                    )
            elif found == value and isinstance(found, bool) == isinstance(value, bool):
                yield after
            elif value is _MISSING:
                self._miss(path, "is nothing that the network's part has", picks)
            else:
                self._miss(path, f"{_offer(node, found)}, not {_word(value)}", picks)

    def _miss(self, path: str, text: str, picks: Picks) -> None:
        """Keep a difference if it lies as far in the network as any before."""
        part, _, rest = path.partition(".")
        order = (INPUT_SHAPE, "stem", "stages", "head")
        at = order.index(part) if part in order else 0
        index = rest.partition(".")[0]
        place = int(index) if part == "stages" and index.isdecimal() else 0
        # That a block is of another kind says least: some option of the choice is always so.
        progress = (at, place, len(picks), not path.endswith(".kind"))
        if progress >= self._furthest:
            self._furthest, self.missed = progress, f"{path} {text}"

    def _options(
        self, node: Template, path: str, picks: Picks
    ) -> Iterator[tuple[Label, Template, str, Picks]]:
        """What a template may stand for: label, template without choice at its root, its path."""
        match node:
            case Reference():
                yield from self._options(self._shared[node.name], f"shared.{node.name}", picks)
            case Choice():
                for label, option in node.options.items():
                    if path in picks and picks[path] != label:
                        continue
                    chosen = picks if path in picks else {**picks, path: label}
                    where = inside(node, label, path)
                    for _, found, below, after in self._options(option, where, chosen):
                        yield label, found, below, after
            case _:
                yield None, node, path, picks


_MISSING = object()


def _fields_of(part: Any) -> dict[str, Any]:
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, AbstractBlock):
        values["ATTENTION_ON"] = part.ATTENTION_ON
    return values


def _unsaid(part: Any, said: set[str]) -> list[str]:
    """Fields that are not at their default, though the template does not speak of them."""
    return [
        field.name
        for field in dataclasses.fields(part)
        if field.name not in said
        and field.name != "kind"
        and getattr(part, field.name) != field.default
    ]


def _offer(node: Template, found: Template) -> str:
    if isinstance(node, Choice):
        return "offers " + ", ".join(map(shown, node.labels))
    return f"is {_word(found)}"


def _word(value: Any) -> str:
    """A value in a message: a part by its kind."""
    return shown(getattr(value, "kind", value))


def _is_share(value: Any, base: Any, multiple: Any, wanted: Any) -> bool:
    if value is None or wanted is None:
        return value is wanted
    try:
        return bool(share_of(value, base, multiple, "") == wanted)
    except SpaceError:
        return False


def _placed(spec: ArchSpec) -> tuple[list[Placed], list[list[Placed]]]:
    """Blocks of stem and stages, each with the shape in front of it."""
    x = spec.input
    parts = []
    for blocks in (spec.stem, *spec.stages):
        part: list[Placed] = []
        for block in blocks:
            part.append((block, x))
            x = measured(block, x)[0]
        parts.append(part)
    return parts[0], parts[1:]
