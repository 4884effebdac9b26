"""Which knob is to blame where every design has a feature that a target refuses."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from nas_face.arch.features import features_by_block, features_of
from nas_face.arch.spec import ArchSpec, measured
from nas_face.errors import ArchError
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import Choice, Label, Reference, Template, inside, shown


def part_of(name: str) -> str:
    """The part of a template that a block comes from: `stages.0` for `stages.0.3`."""
    return ".".join(name.split(".")[:2])


def blocking(space: SearchSpace, design: Design, refused: frozenset[str]) -> str:
    """One line about the first refused feature that a design cannot get rid of.

    Args:
        space: the space.
        design: the design nearest to having none.
        refused: the features.
    """
    name, feature = next(
        (name, feature)
        for name, features in features_by_block(design.spec)
        for feature in sorted(features & refused)
    )
    met: dict[str, Template] = {}
    for path, node in _met(space.template, "", design.choices):
        met.setdefault(path, node)  # a choice goes before its option, which may share its path
    part = part_of(name)
    blocks = ("block", "first") if part.startswith("stages") else ("",)
    for field, value, words in _guilty_fields(design.spec, name, feature):
        for path, node in met.items():
            if path.startswith(part) and path.rpartition(".")[2] in words:
                return _line(feature, part, _knob(space, path, node))
        where = f"{part}.{blocks[0]}.{field}" if blocks[0] else f"{part}.{field}"
        return _line(feature, part, f"{where}, which is {shown(value)} where nothing is given")
    for path in (f"{part}.block", part, part.split(".")[0]):
        if isinstance(met.get(path), Choice):
            return _line(feature, part, _knob(space, path, met[path]))
    return f"every design has {feature} in {part}; offer another block there"


def _line(feature: str, part: str, knob: str) -> str:
    return f"every design has {feature} in {part}, by {knob}; offer an option without it"


def _knob(space: SearchSpace, path: str, node: Template) -> str:
    """A choice with its options, or a fixed value."""
    if isinstance(node, Reference):
        path, node = f"shared.{node.name}", space.shared[node.name]
    if isinstance(node, Choice):
        return f"{path} ({', '.join(map(shown, node.labels))})"
    return path if isinstance(node, dict | tuple) else f"{path}: {shown(node)}"


def _guilty_fields(
    spec: ArchSpec, name: str, feature: str
) -> list[tuple[str, Any, tuple[str, ...]]]:
    """Fields of a block of which some other value brings no such feature: name, value, and the
    words for it in a template. Fields that hold the feature by name come first."""
    shape = spec.input
    for each, block in spec.named_blocks():
        if each == name:
            break
        shape = measured(block, shape)[0]
    ratios = getattr(block, "RATIOS", {})
    guilty = []
    for field in dataclasses.fields(block):
        for value in _values(typing.get_type_hints(type(block)).get(field.name)):
            try:
                other = dataclasses.replace(block, **{field.name: value})
                features = features_of(other.lower(shape), shape)
            except (ArchError, TypeError):
                continue
            if feature not in features:
                words = (
                    field.name,
                    *(word for word in ratios if ratios[word].field == field.name),
                )
                guilty.append((field.name, getattr(block, field.name), words))
                break
    return sorted(guilty, key=lambda each: feature not in _named(each[1]))


def _named(value: Any) -> str:
    """The words of a field's value: itself, or the kind of the part that it holds."""
    return str(getattr(value, "kind", value))


def _values(hint: Any) -> tuple[Any, ...]:
    """Values that a field of that type can be tried with."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(value for each in typing.get_args(hint) for value in _values(each))
    if typing.get_origin(hint) is typing.Annotated:
        return _values(typing.get_args(hint)[0])
    if hint is type(None):
        return (None,)
    return (False, True) if hint is bool else ()


def _met(
    node: "Template", path: str, choices: Mapping[str, Label]
) -> Iterator[tuple[str, "Template"]]:
    """Every node of a template that a design meets; choices before what they open."""
    yield path, node
    match node:
        case Choice():
            label = choices[path]
            yield from _met(node.options[label], inside(node, label, path), choices)
        case dict():
            for key, value in node.items():
                yield from _met(value, f"{path}.{key}" if path else key, choices)
        case tuple():
            for position, value in enumerate(node):
                yield from _met(value, f"{path}.{position}", choices)
