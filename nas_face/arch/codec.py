"""Frozen dataclasses to plain data and back: what `spec.json` and `model.json` hold.

Fields that equal their default are left out, so that a field added later does not change the
identity of what was written before.
"""

import dataclasses
import functools
import json
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from nas_face.errors import ArchError, NasFaceError

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """Plain dicts, lists and scalars for a tree of frozen dataclasses.

    Args:
        value: a dataclass instance, a tuple of them, or a scalar.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_data(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name == "kind" or getattr(value, field.name) != field.default
        }
    if isinstance(value, tuple):
        return [to_data(each) for each in value]
    return value


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, defaults left out."""
    return json.dumps(to_data(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def from_data(kind: type[T], data: Any, *, where: str, error: type[NasFaceError] = ArchError) -> T:
    """Rebuild a frozen dataclass from plain data, strictly.

    Args:
        kind: the dataclass.
        data: what `to_data` gave, or the same read from JSON or YAML.
        where: file or object that `data` came from; starts the message.
        error: class of the error to raise.

    Raises:
        NasFaceError: of class `error`: a key is unknown or missing, a value has the wrong type,
            or the dataclass refuses it.
    """
    try:
        text = json.dumps(data)
    except (TypeError, ValueError, RecursionError) as failure:
        raise error(
            f"{where}: holds something that is no number, word, list or mapping ({failure})"
        ) from failure
    try:
        value: T = _adapter(cast(Any, kind)).validate_json(text, strict=True)
        return value
    except ValidationError as failure:
        raise error(f"{where}: {first_problem(failure)}") from failure
    except NasFaceError as failure:  # a rule that the dataclass itself checks
        raise error(f"{where}: {failure}") from failure


def first_problem(failure: ValidationError) -> str:
    """One line for a failed validation: path, rule, what was found, and how many more there
    are."""
    problems = failure.errors(include_url=False)
    first = problems[0]
    path = ".".join(str(part) for part in first["loc"]) or "the file"
    found = "" if first["type"] == "missing" else f", got {first['input']!r}"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        text = f"{path} is not a known key; remove it or correct its spelling"
    else:
        text = f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}{found[:200]}"
    return text + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
