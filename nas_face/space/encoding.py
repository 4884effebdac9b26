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
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from nas_face.space.template import Choice, Label, Template, choices_in, needs

MAX_ENCODERS = 16


@final
class Encoder:
    """Makes vectors of the designs of one space.

    Args:
        template: of the space.
        shared: of the space.

    Attributes:
        names: what each column stands for.
    """

    def __init__(self, template: Template, shared: Mapping[str, Template]) -> None:
        names: list[str] = []
        self._columns: dict[str, dict[Label, tuple[tuple[int, float], ...]]] = {}
        for path, choice, conditional in _knobs(template, shared):
            columns: dict[Label, tuple[tuple[int, float], ...]]
            columns = {label: () for label in choice.labels}
            if choice.ordered:
                if conditional:
                    columns = {label: ((len(names), 1.0),) for label in choice.labels}
                    names.append(f"{path}:active")
                if len(choice.labels) > 1:
                    scale = _scale(choice)
                    columns = {
                        label: (*before, (len(names), scale[label]))
                        for label, before in columns.items()
                    }
                    names.append(path)
            elif len(choice.labels) > 1 or conditional:
                columns = {
                    label: ((len(names) + at, 1.0),) for at, label in enumerate(choice.labels)
                }
                names += [f"{path}={label}" for label in choice.labels]
            self._columns[path] = columns
        self.names = tuple(names)

    def encode(self, choices: Mapping[str, Label]) -> NDArray[np.float32]:
        """Vector of a design.

        Args:
            choices: of the design; those of another space do no harm.

        Returns:
            `(n,)`, each number from 0 to 1.

        Raises:
            KeyError: a label is not an option.
        """
        found = np.zeros(len(self.names), dtype=np.float32)
        for path, label in choices.items():
            for column, value in self._columns[path][label] if path in self._columns else ():
                found[column] = value
        return found


def encoder_of(template: Template, shared: Mapping[str, Template]) -> Encoder:
    """The encoder of a space, made once in a process for each template."""
    key = (id(template), id(shared))
    if key not in _ENCODERS:
        if len(_ENCODERS) >= MAX_ENCODERS:
            del _ENCODERS[next(iter(_ENCODERS))]
        # What the key names is kept, so that nothing else can come to bear its identity.
        _ENCODERS[key] = (Encoder(template, shared), template, shared)
    return _ENCODERS[key][0]


_ENCODERS: Final[dict[tuple[int, int], tuple[Encoder, Template, Mapping[str, Template]]]] = {}


def encode(
    template: Template, shared: Mapping[str, Template], choices: Mapping[str, Label]
) -> NDArray[np.float32]:
    """Vector of a design; see `Encoder.encode`."""
    return encoder_of(template, shared).encode(choices)


def encoding_names(template: Template, shared: Mapping[str, Template]) -> tuple[str, ...]:
    """What each column of `encode` stands for."""
    return encoder_of(template, shared).names


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
