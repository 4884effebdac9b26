"""Resolved template to ArchSpec: repeats become blocks, ratios become widths."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any

from nas_face.arch.catalog import Head, block_class
from nas_face.arch.codec import from_data
from nas_face.arch.cost import Shape
from nas_face.arch.spec import ArchSpec, measured
from nas_face.errors import ArchError, ShapeError, SpaceError

STAGE_KEYS = frozenset({"out_channels", "stride", "repeats", "block"})
ATTENTION_RATIOS = ("ratio", "input_ratio")


def assemble(data: Mapping[str, Any], input_shape: tuple[int, int, int]) -> ArchSpec:
    """The architecture that plain data of a space describes.

    Args:
        data: `stem`, `stages` and `head`, without choices.
        input_shape: channels, height, width.

    Raises:
        SpaceError: a part is malformed.
        ArchError: a block cannot be made of its numbers, or cannot take the shape in front of it.
    """
    for key in ("stem", "stages"):
        if not isinstance(data[key], tuple):
            raise SpaceError(f"{key}: expected a list, got {data[key]!r}")
    shape = Shape(*input_shape)
    stem = []
    for position, knobs in enumerate(data["stem"]):
        block = _block(knobs, shape.channels, where=f"stem.{position}")
        stem.append(block)
        shape = _behind(block, shape, where=f"stem.{position}")
    stages = []
    for position, stage in enumerate(data["stages"]):
        where = f"stages.{position}"
        blocks = []
        for turn, knobs in enumerate(_turns(stage, where)):
            block = _block(knobs, shape.channels, where=f"{where}.block")
            blocks.append(block)
            shape = _behind(block, shape, where=f"{where}.{turn}")
        stages.append(tuple(blocks))
    head = _typed(json.dumps(data["head"], sort_keys=True), "head")
    return ArchSpec(input_shape=input_shape, stem=tuple(stem), stages=tuple(stages), head=head)


def _behind(block: Any, shape: Shape, *, where: str) -> Shape:
    try:
        return measured(block, shape)[0]
    except ShapeError as failure:
        raise ShapeError(f"{where}: {failure}") from failure


def _turns(stage: Any, where: str) -> list[dict[str, Any]]:
    """Knobs of each block of a stage."""
    if not isinstance(stage, dict) or stage.keys() != STAGE_KEYS:
        raise SpaceError(f"{where}: a stage has exactly the keys {', '.join(sorted(STAGE_KEYS))}")
    repeats = stage["repeats"]
    if not isinstance(repeats, int) or repeats < 1:
        raise SpaceError(f"{where}.repeats must be 1 or more, got {repeats!r}")
    rest = _mapping(stage["block"], f"{where}.block")
    first = rest.pop("first", None)
    turns = []
    if _has_own_repeats(rest.get("kind")):
        if first is not None:
            raise SpaceError(f"{where}.block.first: {rest['kind']} makes all blocks of its stage")
        turns.append({**rest, "repeats": repeats})
    else:
        turns += [dict(rest) for _ in range(repeats)]
    if first is not None:
        first = _mapping(first, f"{where}.block.first")
        turns[0] = first if "kind" in first else {**rest, **first}
    for turn, knobs in enumerate(turns):
        knobs["out_channels"] = stage["out_channels"]
        knobs["stride"] = stage["stride"] if turn == 0 else 1
    return turns


@functools.cache
def _has_own_repeats(kind: object) -> bool:
    try:
        fields = dataclasses.fields(block_class(kind))  # type: ignore[arg-type]
    except ArchError:
        return False  # said with its place, once the block is made
    return any(field.name == "repeats" for field in fields)


def _mapping(value: object, where: str) -> dict[str, Any]:
    """A copy of what must be a mapping."""
    if not isinstance(value, dict):
        raise SpaceError(f"{where}: expected a mapping of a block's numbers, got {value!r}")
    return dict(value)


def _block(knobs: Any, in_channels: int, *, where: str) -> Any:
    """Block of its knobs, ratios resolved against the widths around it."""
    numbers = _mapping(knobs, where)
    if not isinstance(numbers.get("kind"), str):
        raise SpaceError(f"{where}: a block needs a kind, got {numbers.get('kind')!r}")
    try:
        kind = block_class(numbers["kind"])
    except ArchError as failure:
        raise SpaceError(f"{where}: {failure}") from failure
    for knob, ratio in kind.RATIOS.items():
        if knob not in numbers:
            continue
        if ratio.field in numbers:
            raise SpaceError(f"{where}: {knob} and {ratio.field} say the same; give one of them")
        value = numbers.pop(knob)
        base = in_channels if ratio.base == "in_channels" else numbers.get(ratio.base)
        numbers[ratio.field] = (
            None if value is None else share_of(value, base, ratio.multiple, f"{where}.{knob}")
        )
    if isinstance(numbers.get("attention"), dict):
        acts_on = numbers.get("attention_on", kind.ATTENTION_ON)
        numbers["attention"] = _attention(
            numbers["attention"], numbers.get(acts_on), in_channels, f"{where}.attention"
        )
    return _typed(json.dumps(numbers, sort_keys=True), where)


def _attention(
    knobs: Mapping[str, Any], width: Any, in_channels: int, where: str
) -> dict[str, Any]:
    """Numbers of an attention: `ratio` of the width that it acts on, or `input_ratio` of the
    block's input, becomes `channels`, a multiple of `multiple`."""
    numbers = dict(knobs)
    multiple = numbers.pop("multiple", 1)
    if not isinstance(multiple, int) or multiple < 1:
        raise SpaceError(f"{where}.multiple must be a whole number from 1, got {multiple!r}")
    given = [word for word in (*ATTENTION_RATIOS, "channels") if word in numbers]
    if len(given) > 1:
        raise SpaceError(f"{where}: {' and '.join(given)} say the same; give one of them")
    for word, base in zip(ATTENTION_RATIOS, (width, in_channels), strict=True):
        if word in numbers:
            share = share_of(numbers.pop(word), base, multiple, f"{where}.{word}")
            numbers["channels"] = share
    return numbers


def share_of(value: Any, base: Any, multiple: int, where: str) -> int:
    """`value` x `base`, rounded (half up) to a multiple, at least one.

    Raises:
        SpaceError: the ratio is no positive number, or the width that it refers to is unknown;
            `where` starts the message.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SpaceError(f"{where} must be a positive number, got {value!r}")
    if not isinstance(base, int):
        raise SpaceError(f"{where}: the width that it refers to is not given")
    return max(1, math.floor(value * base / multiple + 0.5)) * multiple


@functools.lru_cache(maxsize=65536)
def _typed(text: str, where: str) -> Any:
    """Validated block or head; cached, because a search meets the same ones over and over."""
    data = json.loads(text)
    kind: Any = Head if where == "head" else block_class(data["kind"])
    return from_data(kind, data, where=where, error=SpaceError)
