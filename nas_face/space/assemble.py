"""Resolved template to ArchSpec: repeats become blocks, ratios become widths."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from nas_face.arch.catalog import Head, block_class
from nas_face.arch.codec import from_data
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, SpaceError

STAGE_KEYS = frozenset({"out_channels", "stride", "repeats", "block"})


def assemble(data: Mapping[str, Any], input_shape: tuple[int, int, int]) -> ArchSpec:
    """The architecture that plain data of a space describes.

    Args:
        data: `stem`, `stages` and `head`, without choices.
        input_shape: channels, height, width.

    Raises:
        SpaceError: a part is malformed.
        ArchError: a block cannot be made of its numbers.
    """
    for key in ("stem", "stages"):
        if not isinstance(data[key], tuple):
            raise SpaceError(f"{key}: expected a list, got {data[key]!r}")
    channels = input_shape[0]
    stem = []
    for position, knobs in enumerate(data["stem"]):
        block = _block(knobs, channels, where=f"stem.{position}")
        stem.append(block)
        channels = block.out_channels
    stages = []
    for position, stage in enumerate(data["stages"]):
        where = f"stages.{position}"
        if not isinstance(stage, dict) or stage.keys() != STAGE_KEYS:
            raise SpaceError(
                f"{where}: a stage has exactly the keys {', '.join(sorted(STAGE_KEYS))}"
            )
        if not isinstance(stage["repeats"], int) or stage["repeats"] < 1:
            raise SpaceError(f"{where}.repeats must be 1 or more, got {stage['repeats']!r}")
        blocks = []
        for turn in range(stage["repeats"]):
            knobs = _mapping(stage["block"], f"{where}.block")
            first = knobs.pop("first", None)
            if turn == 0 and first is not None:
                first = _mapping(first, f"{where}.block.first")
                knobs = first if "kind" in first else {**knobs, **first}
            knobs["out_channels"] = stage["out_channels"]
            knobs["stride"] = stage["stride"] if turn == 0 else 1
            block = _block(knobs, channels, where=f"{where}.block")
            blocks.append(block)
            channels = block.out_channels
        stages.append(tuple(blocks))
    head = _typed(json.dumps(data["head"], sort_keys=True), "head")
    return ArchSpec(input_shape=input_shape, stem=tuple(stem), stages=tuple(stages), head=head)


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
        ratios = block_class(numbers["kind"]).RATIOS
    except ArchError as failure:
        raise SpaceError(f"{where}: {failure}") from failure
    for knob, ratio in ratios.items():
        if knob not in numbers:
            continue
        value = numbers.pop(knob)
        base = in_channels if ratio.base == "in_channels" else numbers.get(ratio.base)
        if value is None:
            numbers[ratio.field] = None
        elif not isinstance(value, int | float) or not isinstance(base, int) or value <= 0:
            raise SpaceError(f"{where}.{knob} must be a positive number, got {value!r}")
        else:
            steps = round(value * base / ratio.multiple)
            numbers[ratio.field] = max(1, steps) * ratio.multiple
    return _typed(json.dumps(numbers, sort_keys=True), where)


@functools.lru_cache(maxsize=65536)
def _typed(text: str, where: str) -> Any:
    """Validated block or head; cached, because a search meets the same ones over and over."""
    data = json.loads(text)
    kind: Any = Head if where == "head" else block_class(data["kind"])
    return from_data(kind, data, where=where, error=SpaceError)
