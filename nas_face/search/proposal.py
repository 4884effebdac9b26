"""One new design from a sampler, without a trace in the study until it is wanted."""

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_face.space import Choice, Design, Label, SearchSpace


def propose(study: Study, space: SearchSpace, sampler: BaseSampler) -> tuple[Design, FrozenTrial]:
    """Ask a sampler for a design.

    Optuna opens a trial in the storage before it asks its sampler, and files label after label: a
    process that is killed in between, or a design that turns out to be taken, leaves a stub behind
    which no later trial gives its number back. So the sampler is asked in a copy of the study in
    memory, and what it says is filed in one step, by the caller.

    Args:
        study: the history; it stays as it is.
        space: what may be chosen.
        sampler: any.

    Returns:
        The design, and the trial of the copy, with parameters, distributions and the sampler's own
        attributes.

    Raises:
        SpaceExhausted: the sampler found nothing new.
        SpaceError, ArchError: what the sampler chose is no design of the space.
    """
    asked = _copy(study, sampler)
    trial = asked.ask()

    def suggest(path: str, choice: Choice) -> Label:
        label: Label = trial.suggest_categorical(path, choice.labels)
        return label

    design = space.propose(suggest)
    return design, asked.get_trials(deepcopy=False)[-1]


def propose_labels(
    study: Study, distributions: Mapping[str, BaseDistribution], sampler: BaseSampler
) -> FrozenTrial:
    """Ask a sampler for labels of plain parameters; otherwise as `propose`.

    Args:
        study: the history; it stays as it is.
        distributions: of every parameter, by name.
        sampler: any.

    Returns:
        The trial of the copy.

    Raises:
        SpaceExhausted: the sampler found nothing new.
    """
    asked = _copy(study, sampler)
    asked.ask(dict(distributions))
    return asked.get_trials(deepcopy=False)[-1]


def _copy(study: Study, sampler: BaseSampler) -> Study:
    """A study in memory with the same trials."""
    storage = InMemoryStorage()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
    try:
        twin = optuna.create_study(
            storage=storage, sampler=sampler, directions=study.directions, study_name="proposal"
        )
    finally:
        optuna.logging.set_verbosity(level)
    (study_id,) = (each._study_id for each in storage.get_all_studies())
    for past in study.get_trials(deepcopy=False):
        storage.create_new_trial(study_id, _Shared.of(past))
    return twin


def opened(asked: FrozenTrial, user_attrs: dict[str, Any]) -> FrozenTrial:
    """What to file of a proposal that is going to be tried."""
    return FrozenTrial(
        number=asked.number,
        trial_id=-1,  # both are the storage's to give
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params=asked.params,
        distributions=asked.distributions,
        user_attrs=user_attrs,
        system_attrs=asked.system_attrs,
        intermediate_values={},
    )


class _Shared(FrozenTrial):
    """A trial whose copies share what lies deeper than its attributes: a storage in memory copies
    what it is given, and a history of 500 trials of 30 parameters in depth takes a third of a
    second."""

    @staticmethod
    def of(trial: FrozenTrial) -> "_Shared":
        shared = _Shared.__new__(_Shared)
        shared.__dict__.update(trial.__dict__)
        if trial.state == TrialState.WAITING:  # enqueued by a user: not for this copy to answer
            shared.state = TrialState.FAIL
        return shared

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        twin = _Shared.__new__(_Shared)
        for name, value in self.__dict__.items():
            twin.__dict__[name] = copy.copy(value)
        return twin
