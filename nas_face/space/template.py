"""Templates: plain data with choices in it, and how picking turns it into plain data."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from nas_face.errors import SpaceError, near_names

Label: TypeAlias = str | int | float | bool | None
"""What names one option of a choice; the value itself for scalar options."""


def shown(label: object) -> str:
    """A label as YAML writes it."""
    if label is None:
        return "null"
    return str(label).lower() if isinstance(label, bool) else str(label)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A knob: exactly one of its options is taken.

    Attributes:
        options: template for each label, in the order of the file.
    """

    options: "dict[Label, Template]"

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, in the order of the file."""
        return tuple(self.options)

    @property
    def ordered(self) -> bool:
        """Whether labels are numbers, so that neighbours in size are alike."""
        return all(
            isinstance(label, int | float) and not isinstance(label, bool) for label in self.labels
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Stands for the shared choice of that name: picked once, the same everywhere."""

    name: str


Template: TypeAlias = "Label | Choice | Reference | dict[str, Template] | tuple[Template, ...]"
"""Plain data with choices and references in it."""

Data: TypeAlias = "Label | dict[str, Data] | tuple[Data, ...]"
"""Plain data."""

Pick = Callable[[str, Choice], Label]
"""Asked for the label of an active choice; the path is its name."""


def resolve(node: "Template", path: str, pick: Pick, shared: "Mapping[str, Template]") -> "Data":
    """Plain data of a template: active choices are picked in the order of the file.

    Args:
        node: the template.
        path: where it stands, such as `stages.0.block`.
        pick: chooses a label; it is asked only about choices that matter for this design.
        shared: what references stand for.

    Raises:
        SpaceError: a picked label is not among the options.
    """
    match node:
        case Choice():
            label = pick(path, node)
            if label not in node.options:
                known = ", ".join(map(shown, node.options))
                raise SpaceError(f"{path}: {label!r} is not an option; known: {known}")
            return resolve(node.options[label], inside(node, label, path), pick, shared)
        case Reference():
            return resolve(shared[node.name], f"shared.{node.name}", pick, shared)
        case dict():
            return {
                key: resolve(value, f"{path}.{key}" if path else key, pick, shared)
                for key, value in node.items()
            }
        case tuple():
            return tuple(
                resolve(value, f"{path}.{position}", pick, shared)
                for position, value in enumerate(node)
            )
        case _:
            return node


def choices_in(
    node: "Template", path: str, shared: "Mapping[str, Template]"
) -> Iterator[tuple[str, Choice]]:
    """Every choice that some design meets, with its path; shared ones once for each use."""
    match node:
        case Choice():
            yield path, node
            for label, option in node.options.items():
                yield from choices_in(option, inside(node, label, path), shared)
        case Reference():
            yield from choices_in(shared[node.name], f"shared.{node.name}", shared)
        case dict():
            for key, value in node.items():
                yield from choices_in(value, f"{path}.{key}" if path else key, shared)
        case tuple():
            for position, value in enumerate(node):
                yield from choices_in(value, f"{path}.{position}", shared)
        case _:
            return


def leaves(node: "Template", path: str) -> Iterator[tuple[str, "Template"]]:
    """Everything in a template that is no choice: references and plain values, with their
    paths."""
    match node:
        case Choice():
            for label, option in node.options.items():
                yield from leaves(option, inside(node, label, path))
        case dict():
            for key, value in node.items():
                yield from leaves(value, f"{path}.{key}" if path else key)
        case tuple():
            for position, value in enumerate(node):
                yield from leaves(value, f"{path}.{position}")
        case _:
            yield path, node


def needs(
    node: "Template", shared: "Mapping[str, Template]"
) -> "dict[str, tuple[tuple[str, Label], ...]]":
    """What must be chosen for each choice to be active: labels of the choices that it lies in.

    A shared choice that is met in several places has the shortest of their lists.
    """
    found: dict[str, tuple[tuple[str, Label], ...]] = {}

    def visit(at: "Template", where: str, above: "tuple[tuple[str, Label], ...]") -> None:
        match at:
            case Choice():
                if where not in found or len(above) < len(found[where]):
                    found[where] = above
                for label, option in at.options.items():
                    visit(option, inside(at, label, where), (*above, (where, label)))
            case Reference():
                visit(shared[at.name], f"shared.{at.name}", above)
            case dict():
                for key, value in at.items():
                    visit(value, f"{where}.{key}" if where else key, above)
            case tuple():
                for position, value in enumerate(at):
                    visit(value, f"{where}.{position}", above)

    visit(node, "", ())
    return found


def keep(node: "Template", path: str, kept: "Callable[[str, Label], bool]") -> "Template":
    """A template with fewer options.

    Args:
        node: the template.
        path: where it stands.
        kept: whether an option, by the path of its choice and its label, stays. A choice of which
            nothing would stay is left whole: no design reaches it.
    """
    match node:
        case Choice():
            labels = [label for label in node.labels if kept(path, label)] or node.labels
            return Choice(
                options={
                    label: keep(node.options[label], inside(node, label, path), kept)
                    for label in labels
                }
            )
        case dict():
            return {
                key: keep(value, f"{path}.{key}" if path else key, kept)
                for key, value in node.items()
            }
        case tuple():
            return tuple(
                keep(value, f"{path}.{position}", kept) for position, value in enumerate(node)
            )
        case _:
            return node


def inside(choice: Choice, label: Label, path: str) -> str:
    """Path of what stands inside an option: choices of two options never share a path."""
    inner = choice.options[label]
    return f"{path}.{label}" if isinstance(inner, dict | tuple | Choice) else path


def count(node: "Template", shared: "Mapping[str, Template]") -> int:
    """Number of ways to pick; a shared choice counts where it is met, and there once."""
    return sum(
        ways * math.prod(count(shared[name], {}) for name in met)
        for met, ways in _ways(node).items()
    )


def _ways(node: "Template") -> dict[frozenset[str], int]:
    """Number of ways to pick for each set of references that they meet."""
    ways: dict[frozenset[str], int] = {}
    match node:
        case Reference():
            return {frozenset({node.name}): 1}
        case Choice():
            for option in node.options.values():
                for met, number in _ways(option).items():
                    ways[met] = ways.get(met, 0) + number
            return ways
        case dict() | tuple():
            total = {frozenset[str](): 1}
            for part in node.values() if isinstance(node, dict) else node:
                ways = {}
                for met, number in total.items():
                    for more, times in _ways(part).items():
                        both = met | more
                        ways[both] = ways.get(both, 0) + number * times
                total = ways
            return total
        case _:
            return {frozenset(): 1}


def parse(raw: object, path: str, shared_names: "frozenset[str]") -> "Template":
    """Template of what YAML gave.

    ``{choice: [a, b]}`` or ``{choice: {label: template}}`` is a choice, ``{range: [low, high]}``
    or ``{range: [low, high, step]}`` a choice of whole numbers with both ends, ``{shared: name}``
    a reference.

    Raises:
        SpaceError: something else hides behind one of these words.
    """
    if isinstance(raw, dict):
        words = {"choice", "range", "shared"} & raw.keys()
        if words:
            word = words.pop()
            if len(raw) != 1:
                others = ", ".join(sorted(str(key) for key in raw if key != word))
                raise SpaceError(f"{path}: {word} must stand alone, got also {others}")
            return _parse_word(word, raw[word], path, shared_names)
        for key in raw:
            if not isinstance(key, str):
                raise SpaceError(f"{path}: keys must be words, got {key!r}")
        return {key: parse(value, f"{path}.{key}", shared_names) for key, value in raw.items()}
    if isinstance(raw, list):
        return tuple(
            parse(value, f"{path}.{position}", shared_names) for position, value in enumerate(raw)
        )
    if raw is None or isinstance(raw, str | int | float | bool):
        return raw
    raise SpaceError(f"{path}: expected a number, a word or a mapping, got {raw!r}")


def _parse_word(word: str, value: object, path: str, shared_names: "frozenset[str]") -> "Template":
    if word == "shared":
        if not isinstance(value, str) or value not in shared_names:
            raise SpaceError(
                f"{path}: no shared choice {value!r}; {near_names(str(value), shared_names)}"
            )
        return Reference(name=value)
    if word == "range":
        return Choice(options={number: number for number in _parse_range(value, path)})
    if isinstance(value, dict) and value:
        return Choice(
            options={
                label: parse(option, f"{path}.{label}", shared_names)
                for label, option in value.items()
            }
        )
    if isinstance(value, list) and value:
        for option in value:
            if isinstance(option, dict | list):
                raise SpaceError(
                    f"{path}: options that are not numbers or words need labels; "
                    "write choice: {label: ..., label: ...}"
                )
        if len(set(value)) != len(value):
            raise SpaceError(f"{path}: options must differ, got {value}")
        return Choice(options={option: option for option in value})
    raise SpaceError(f"{path}: choice needs a list or a mapping of options, got {value!r}")


def _parse_range(value: object, path: str) -> range:
    numbers = value if isinstance(value, list) else []
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in numbers)
    if len(numbers) not in (2, 3) or not whole:
        raise SpaceError(f"{path}: range needs [low, high] or [low, high, step], got {value!r}")
    low, high, step = (*numbers, 1)[:3]
    if low > high or step < 1:
        raise SpaceError(f"{path}: range needs low <= high and step >= 1, got {value!r}")
    return range(low, high + 1, step)
