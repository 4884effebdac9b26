"""A space as the plain data of NNI's search-space JSON."""

from collections.abc import Mapping
from typing import Any, TypeAlias, final

from nas_face.space import Choice, Label, SearchSpace
from nas_face.space.template import Reference, Template, inside

TYPE, VALUE, NAME = "_type", "_value", "_name"

Option: TypeAlias = tuple[tuple[str, Label], ...]
"""Where something stands: labels of the choices that it lies in, from the outermost."""


def written(space: SearchSpace) -> dict[str, Any]:
    """Every choice once, under its path; those that lie in an option of another, nested."""
    return _Writer(space).entries(space.template, "", ()) or {}


@final
class _Writer:
    def __init__(self, space: SearchSpace) -> None:
        self._shared = space.shared
        self._homes: dict[str, Option] = {}
        self._find_homes(space.template, "", ())

    def _find_homes(self, node: Template, path: str, option: Option) -> None:
        """Innermost option that holds all uses of each shared choice."""
        match node:
            case Reference(name=name):
                self._homes[name] = _common(self._homes.get(name, option), option)
            case Choice():
                for label, inner in node.options.items():
                    self._find_homes(inner, inside(node, label, path), (*option, (path, label)))
            case dict() | tuple():
                for where, part in _parts(node, path):
                    self._find_homes(part, where, option)

    def entries(self, node: Template, path: str, option: Option) -> dict[str, Any]:
        """Entries of an option, or of the whole: shared choices that are at home there first."""
        found: dict[str, Any] = {}
        for name, home in self._homes.items():
            if home == option:
                found |= self._visit(self._shared[name], f"shared.{name}", (*option, (name, None)))
        return found | self._visit(node, path, option)

    def _visit(self, node: Template, path: str, option: Option) -> dict[str, Any]:
        match node:
            case Choice():
                inner = {
                    label: self.entries(each, inside(node, label, path), (*option, (path, label)))
                    for label, each in node.options.items()
                }
                options: list[Any] = list(inner)
                if any(inner.values()):
                    options = [{NAME: label, **entries} for label, entries in inner.items()]
                return {path: {TYPE: "choice", VALUE: options}}
            case dict() | tuple():
                found: dict[str, Any] = {}
                for where, part in _parts(node, path):
                    found |= self._visit(part, where, option)
                return found
        return {}


def _parts(
    node: "Mapping[str, Template] | tuple[Template, ...]", path: str
) -> list[tuple[str, Template]]:
    items = enumerate(node) if isinstance(node, tuple) else node.items()
    return [(f"{path}.{key}" if path else str(key), part) for key, part in items]


def _common(one: Option, other: Option) -> Option:
    """The options that both lie in."""
    n_common = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        n_common += 1
    return one[:n_common]
