"""`start_with`: networks that a search proposes first, found in its space and kept with the
run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from optuna.study import Study

from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ArchError, ConfigError, NasFaceError, near_names
from nas_face.search.budget import Budget, figure
from nas_face.search.designs.seeding import Start, resized, start_of_choices, start_of_spec
from nas_face.space import Label, SearchSpace
from nas_face.study.config import StudyConfig
from nas_face.study.layout import STUDY_FILE

logger = logging.getLogger(__name__)

START = "start"
"""User attribute of the Optuna study: the designs that it starts with, and what was left out."""

SPEC_FILE = "spec.json"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StartDesigns:
    """What a search is to begin with.

    Attributes:
        choices: labels of each design, by path, in the order of the study.
        notes: one line for each name that is left out, wholly or in part.
    """

    choices: tuple[dict[str, Label], ...] = ()
    notes: tuple[str, ...] = ()


def kept_start(study: Study, config: StudyConfig, space: SearchSpace) -> StartDesigns:
    """The designs to begin with: as the run keeps them, or found now, kept and their notes logged.

    Once kept, the folders and files that they came from may go, and other machines that join the
    run need not have them.

    Args:
        study: of the run.
        config: whose `start_with` counts.
        space: what is searched, without what the target refuses.

    Raises:
        ConfigError: a name means nothing, or none of the list can be used.
    """
    kept = study.user_attrs.get(START)
    if kept is not None:
        return StartDesigns(choices=tuple(kept["choices"]), notes=tuple(kept["notes"]))
    found = start_designs(config.start_with, space, config.budget)
    if config.start_with:
        for note in found.notes:
            logger.warning("%s", note)
        data = {"choices": list(found.choices), "notes": list(found.notes)}
        study.set_user_attr(START, data)
    return found


def start_designs(names: Sequence[str], space: SearchSpace, budget: Budget) -> StartDesigns:
    """Find networks in a space.

    Args:
        names: zoo networks, spec files, folders of candidates, and run folders, of which the
            members of the front are taken.
        space: what is searched.
        budget: what lies outside it is left out.

    Raises:
        ConfigError: a name means nothing, or none of the list can be used.
    """
    found: dict[str, dict[str, Label]] = {}
    notes: list[str] = []
    for name in names:
        missed: list[str] = []
        n_found = 0
        for label, start in _starts(name, space):
            reason = start.reason
            if start.design is not None:
                spec = start.design.spec
                reason = _outside(budget, spec)
                if not reason:
                    found.setdefault(spec.arch_id, start.design.choices)
                    n_found += 1
                    continue
            missed.append(f"{label}: {reason}")
        if missed:
            n_all = n_found + len(missed)
            taken = f"{n_found} of {n_all} taken" if n_all > 1 else "left out"
            notes.append(f"start_with: {name}: {taken}; {missed[0]}")
    if names and not found:
        reasons = "; ".join(note.removeprefix("start_with: ") for note in notes)
        raise ConfigError(
            f"start_with: nothing of it is in {space.name} and within {budget}: {reasons}; take "
            "it out, or widen the space or the budget"
        )
    return StartDesigns(choices=tuple(found.values()), notes=tuple(notes))


def _starts(name: str, space: SearchSpace) -> Iterator[tuple[str, Start]]:
    """What a name stands for, each with what it is called in a message."""
    path = Path(name)
    if name in NETWORKS:
        yield "the network", _of_network(space, name)
    elif (path / STUDY_FILE).is_file():
        yield from _of_run(space, path)
    elif (path / SPEC_FILE).is_file():
        yield "the network", _of_spec(space, ArchSpec.load(path / SPEC_FILE))
    elif path.is_file():
        yield "the network", _of_spec(space, ArchSpec.load(path))
    else:
        raise ConfigError(
            f"start_with: {name} is no zoo network, spec file, run folder or folder with a "
            f"{SPEC_FILE}; {near_names(path.name, NETWORKS)}"
        )


def _of_network(space: SearchSpace, name: str) -> Start:
    """A zoo network as published, or made for the images of the space."""
    _, height, width = space.input_shape
    published = start_of_spec(space, network(name).spec)
    if published.design is not None:
        return published
    try:
        return start_of_spec(space, network(name).variant(input_size=(height, width)))
    except ArchError as failure:
        return Start(design=None, reason=str(failure))


def _of_spec(space: SearchSpace, spec: ArchSpec) -> Start:
    start = start_of_spec(space, spec)
    if start.design is None and spec.input_shape != space.input_shape:
        _, height, width = space.input_shape
        start = start_of_spec(space, resized(spec, height, width))
    return start


def _of_run(space: SearchSpace, folder: Path) -> Iterator[tuple[str, Start]]:
    """Members of a run's front, cheapest first."""
    from nas_face.study.report.front import front_of
    from nas_face.study.run import Run

    run = Run.open(folder)
    numbers = [int(number) for number in front_of(run).members["trial"]]
    if not numbers:
        raise ConfigError(f"start_with: {folder}: the run has no finished candidate yet")
    for number in numbers:
        trial = run.trial(number)
        yield f"trial {number}", _of_trial(space, trial.params, run, number)


def _of_trial(space: SearchSpace, params: Mapping[str, Any], run: Any, number: int) -> Start:
    """By its labels, where the spaces speak the same language, or else by its architecture."""
    by_labels = start_of_choices(space, params)
    if by_labels.design is not None:
        return by_labels
    try:
        return _of_spec(space, run.spec(run.trial(number)))
    except NasFaceError as failure:
        return Start(design=None, reason=str(failure))


def _outside(budget: Budget, spec: ArchSpec) -> str:
    """The first wall that an architecture breaks, or nothing."""
    for miss in budget.checks(spec.cost()):
        return (
            f"has {figure(miss.value)} {miss.wall.quantity}, where {miss.wall.name} is "
            + figure(miss.wall.limit)
        )
    return ""
