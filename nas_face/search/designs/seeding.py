"""Designs that a search is to begin with: known networks, or members of an earlier front."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, SpaceError
from nas_face.space import Design, Label, SearchSpace
from nas_face.space.locate import located
from nas_face.space.template import Choice, shown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A design to begin with, or the reason why it cannot be one.

    Attributes:
        design: in the space that is searched, or none.
        reason: one clause where there is none.
    """

    design: Design | None
    reason: str = ""


def start_of_spec(space: SearchSpace, spec: ArchSpec) -> Start:
    """An architecture as a design of a space.

    Args:
        space: what is searched.
        spec: for an image of a size that the space offers; see `resized`.
    """
    try:
        found = located(space, spec)
    except ArchError as failure:
        return Start(design=None, reason=str(failure))
    return Start(design=found.design, reason=found.missed)


def start_of_choices(space: SearchSpace, choices: Mapping[str, Label]) -> Start:
    """Labels from another run, or a file, as a design of a space.

    Args:
        space: what is searched.
        choices: labels by path; those of choices that are not active do no harm.
    """

    def pick(path: str, choice: Choice) -> Label:
        if path not in choices:
            raise SpaceError(f"{path} is not chosen")
        if choices[path] not in choice.options:
            offered = ", ".join(map(shown, choice.labels))
            raise SpaceError(f"{path} offers {offered}, not {shown(choices[path])}")
        return choices[path]

    try:
        return Start(design=space.propose(pick))
    except (ArchError, SpaceError) as failure:
        return Start(design=None, reason=str(failure))


def first_unseen(
    starts: Sequence[Mapping[str, Label]],
    design_of: Callable[[Mapping[str, Label]], Design | None],
    seen: Iterable[str],
) -> Design | None:
    """The first design to begin with that is possible and new, or none.

    Args:
        starts: labels, in order.
        design_of: the design of labels, none where it is not possible.
        seen: identities of what was proposed.
    """
    known = set(seen)
    for labels in starts:
        design = design_of(labels)
        if design is not None and design.spec.arch_id not in known:
            return design
    return None


def resized(spec: ArchSpec, height: int, width: int) -> ArchSpec:
    """The same blocks for images of another size, in pixels."""
    return ArchSpec(
        input_shape=(spec.input_shape[0], height, width),
        stem=spec.stem,
        stages=spec.stages,
        head=spec.head,
    )
