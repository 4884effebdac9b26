"""Designs as vectors for predictors: fixed length for a space, equal only for equal choices.

The choices of a space stand in the order of its file, each with the columns that it needs:

- `path` for a choice of numbers: 0 for the smallest option, 1 for the largest, between them by
  logarithm where all are positive (widths double rather than grow), by rank otherwise;
- `path=label` for each option of any other choice: 1 for the one that is taken;
- `path:active` for a choice of numbers that some designs lack: 1 where it matters. What does not
  matter is 0 throughout.

A choice of a single option says nothing but whether it is active.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas_face.space.template import Choice, Label, Template, choices_in, needs


def encode(
    template: Template, shared: Mapping[str, Template], choices: Mapping[str, Label]
) -> NDArray[np.float32]:
    """Vector of a design.

    Args:
        template: of the space.
        shared: of the space.
        choices: of the design.

    Returns:
        `(n,)`, each number from 0 to 1.
    """
    columns: list[float] = []
    for path, choice, conditional in _knobs(template, shared):
        active = path in choices
        if choice.ordered:
            scale = _scale(choice)
            columns += [float(active)] if conditional else []
            if len(choice.labels) > 1:
                columns.append(scale[choices[path]] if active else 0.0)
        elif len(choice.labels) > 1 or conditional:
            columns += [float(active and choices[path] == label) for label in choice.labels]
    return np.array(columns, dtype=np.float32)


def encoding_names(template: Template, shared: Mapping[str, Template]) -> tuple[str, ...]:
    """What each column of `encode` stands for."""
    names: list[str] = []
    for path, choice, conditional in _knobs(template, shared):
        if choice.ordered:
            names += [f"{path}:active"] if conditional else []
            names += [path] if len(choice.labels) > 1 else []
        elif len(choice.labels) > 1 or conditional:
            names += [f"{path}={label}" for label in choice.labels]
    return tuple(names)


def _knobs(template: Template, shared: Mapping[str, Template]) -> list[tuple[str, Choice, bool]]:
    """Path, choice, and whether some designs lack it, of every choice."""
    above = needs(template, shared)
    return [
        (path, choice, bool(above[path]))
        for path, choice in dict(choices_in(template, "", shared)).items()
    ]


def _scale(choice: Choice) -> dict[Label, float]:
    """Place of each number between the smallest and the largest option."""
    ranked = sorted(choice.labels, key=float)  # type: ignore[arg-type]
    last = max(1, len(ranked) - 1)
    by_rank = {label: rank / last for rank, label in enumerate(ranked)}
    numbers = [float(label) for label in ranked]  # type: ignore[arg-type]
    if numbers[0] <= 0 or len(numbers) < 2:
        return by_rank
    low, high = math.log(numbers[0]), math.log(numbers[-1])
    if low == high:
        return by_rank
    by_log = {
        label: (math.log(number) - low) / (high - low)
        for label, number in zip(ranked, numbers, strict=True)
    }
    distinct = len({float(np.float32(place)) for place in by_log.values()}) == len(ranked)
    return by_log if distinct else by_rank
