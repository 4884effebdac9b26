"""Pickers: what answers when a space asks for the label of a choice."""

from collections.abc import Mapping

import numpy as np

from nas_face.space.template import Choice, Label, Pick


def evenly(rng: np.random.Generator) -> Pick:
    """Draws every option of a choice with equal chance."""
    return lambda path, choice: choice.labels[int(rng.integers(len(choice.labels)))]


def prefer(chosen: Mapping[str, Label], rng: np.random.Generator) -> Pick:
    """Takes what was chosen where that is still an option, and draws evenly elsewhere."""
    draw = evenly(rng)
    return lambda path, choice: (
        chosen[path] if path in chosen and chosen[path] in choice.options else draw(path, choice)
    )


def another(label: Label, choice: Choice, rng: np.random.Generator) -> Label:
    """Another label of a choice; of numbers, half of the time a neighbouring one."""
    others = [each for each in choice.labels if each != label]
    if choice.ordered and rng.random() < 0.5:
        ranked = sorted(choice.labels, key=float)  # type: ignore[arg-type]
        at = ranked.index(label)
        others = [ranked[near] for near in (at - 1, at + 1) if 0 <= near < len(ranked)]
    return others[int(rng.integers(len(others)))]


def changed(choices: Mapping[str, Label], labels: Mapping[str, Label]) -> Pick:
    """Takes the choices of a design with some labels changed; choices that become active take
    their first option."""
    chosen = {**choices, **labels}
    return lambda at, choice: (
        chosen[at] if at in chosen and chosen[at] in choice.options else choice.labels[0]
    )
