"""A run folder: the study, the space, Optuna's storage, trained candidates, the report.

RUN/study.json        the resolved study
RUN/space.yaml        the search space as it was
RUN/target.yaml       the deployment target as it was, if there is one
RUN/study.db          Optuna's storage (SQLite): the journal, which its dashboard opens
RUN/candidates/ID/    model folder of every trained candidate
RUN/report/           front.csv, front.png, front.html
"""

import contextlib
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import filelock
import optuna
import torch
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import network
from nas_face.deploy import LatencyMeter
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.search import SearchSettings, objective, run_search
from nas_face.space import SearchSpace, load_space
from nas_face.space.filtering import filtered
from nas_face.space.survey import Survey
from nas_face.space.target import load_target
from nas_face.study.config import StudyConfig, load_run_study, study_of
from nas_face.study.evaluate import TrainAndVerify
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.study.layout import LOCK_FILE, SPACE_FILE, STORAGE_FILE, STUDY_FILE, TARGET_FILE
from nas_face.study.preflight import check_budget
from nas_face.study.same_study import require_same
from nas_face.train import EpochReport

logger = logging.getLogger(__name__)

_PARTIAL_STUDY_FILE = STUDY_FILE + ".partial"
_FILES_AT_START = (LOCK_FILE, SPACE_FILE, TARGET_FILE, STUDY_FILE, _PARTIAL_STUDY_FILE)
REFERENCE_NETWORK = "mobilefacenet_128"
REFERENCE_MS = "reference_ms"
"""User attribute of the study: latency of the reference network when the run began."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder that exists.

    Attributes:
        folder: the folder.
        config: the study; `space` points into the folder.
        space: what may be chosen, at the study's input size; where the run was started or taken up
            and not only opened, without what the study's target refuses.
    """

    folder: Path
    config: StudyConfig
    space: SearchSpace

    @staticmethod
    def open(folder: Path) -> "Run":
        """Open a run folder.

        Raises:
            ConfigError: it is not one.
        """
        config = load_run_study(folder)
        return Run(folder=folder, config=config, space=_space_of(config))

    @staticmethod
    def start(folder: Path, config: StudyConfig) -> "Run":
        """Make a run folder, or take up the one that is there.

        A folder in which no search has begun yet, because the budget or the faces turned out wrong
        first, is made anew.

        Raises:
            ConfigError: the folder holds something else, or a run of another study; the message
                names the first difference.
        """
        if folder.is_dir() and any(each.name not in _FILES_AT_START for each in folder.iterdir()):
            if not (folder / STUDY_FILE).exists():
                raise ConfigError(
                    f"{folder}: not empty and not a run folder; choose another with --out"
                )
            run = Run.open(folder)
            require_same(folder, run.config, config)
            again = _with_trials(run.config, config.trials)
            return Run(folder=folder, config=again, space=_for_target(run.space, again))
        space = _for_target(_space_of(config), config)
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder=folder, config=config, space=space)
        with run.locked():
            (folder / SPACE_FILE).write_bytes(Path(config.space).read_bytes())
            if config.target is not None:
                (folder / TARGET_FILE).write_bytes(Path(config.target).read_bytes())
            text = json.dumps(config.to_data(), indent=1) + "\n"
            partial = folder / _PARTIAL_STUDY_FILE
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, folder / STUDY_FILE)
        return run

    @property
    def storage_url(self) -> str:
        """Optuna's name for the storage, as its dashboard takes it."""
        path = str((self.folder / STORAGE_FILE).absolute())
        return str(
            URL.create("sqlite", database=path)
        )  # escapes what a URL would take for its own

    def study(self) -> Study:
        """The Optuna study, made if it is not there yet.

        Raises:
            ConfigError: the storage is broken.
        """
        with self._naming_storage():
            return _open_study(self.storage_url, self.config.name, self.config.objectives)

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, those that found no architecture included.

        Raises:
            ConfigError: the storage is broken.
        """
        if not (self.folder / STORAGE_FILE).exists():
            return []
        with self._naming_storage():
            return self.study().get_trials(deepcopy=False)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this process.

        Raises:
            ConfigError: another process holds it.
        """
        lock = filelock.FileLock(self.folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as failure:
            raise ConfigError(
                f"{self.folder}: another process is searching here; wait for it, "
                "or choose another folder with --out"
            ) from failure
        try:
            yield
        finally:
            lock.release()

    def faces(self, input_size: tuple[int, int] | None = None) -> StudyFaces:
        """Faces of the study; the same people and pairs at every size.

        Args:
            input_size: height and width of the crops; the space's, or its first, by default.

        Raises:
            DataError: faces are missing, broken or too few.
        """
        height, width = input_size or self.space.input_shape[1:]
        return load_faces(self.config.data, height=height, width=width, seed=self.config.seed)

    def survey(self) -> Survey:
        """What the space costs, and whether anything in it fits the budget.

        Raises:
            ConfigError: nothing fits; the message names the nearest miss and what to relax.
        """
        return check_budget(self.space, self.config)

    def search(
        self,
        faces: StudyFaces,
        *,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
        on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    ) -> Study:
        """Run the search to its number of trials.

        Args:
            faces: of `faces()`; where the space offers several input sizes, those of the other
                sizes are loaded when a candidate asks for them.
            on_epoch: told of every epoch of every candidate.
            on_trial: told of every trial that ends.

        Raises:
            NasFaceError: several trials in a row failed.
            ConfigError: the storage is broken or cannot be written.
        """
        torch.set_num_threads(self.config.threads)
        study = self.study()
        objectives = tuple(objective(name) for name in self.config.objectives)
        timed = any(each.origin == "timed" for each in objectives)
        meter = self._meter() if timed else None
        if meter is not None and REFERENCE_MS not in study.user_attrs:
            with self._naming_storage():
                study.set_user_attr(REFERENCE_MS, meter.reference_ms)
        loaded = {self.space.input_shape[1:]: faces}

        def faces_of(input_size: tuple[int, int]) -> StudyFaces:
            if input_size not in loaded:
                loaded[input_size] = self.faces(input_size)
            return loaded[input_size]

        evaluate = TrainAndVerify(
            config=self.config,
            faces_of=faces_of,
            meter=meter,
            reference_ms=study.user_attrs.get(REFERENCE_MS, 0.0),
            folder=self.folder / "candidates",
            on_epoch=on_epoch,
        )
        settings = SearchSettings(
            objectives=objectives,
            budget=self.config.budget,
            n_trials=self.config.trials,
            seed=self.config.seed,
            sampler=self.config.sampler,
            rungs=self.config.rungs,
        )
        with self._naming_storage():
            run_search(study, self.space, evaluate, settings, on_trial=on_trial)
        return study

    def n_ended(self) -> int:
        """Candidates that are over and done with: complete, stopped or failed."""
        return sum(
            "arch_id" in trial.user_attrs and trial.state.is_finished() for trial in self.trials()
        )

    def trial(self, number: int) -> FrozenTrial:
        """A trial that ended with a trained network.

        Raises:
            ConfigError: there is none of that number, or it was stopped or failed.
        """
        trials = self.trials()
        if not 0 <= number < len(trials):
            known = f"there are 0 to {len(trials) - 1}" if trials else "there is none yet"
            raise ConfigError(f"{self.folder}: no trial {number}; {known}")
        if trials[number].state != TrialState.COMPLETE:
            state = trials[number].state.name.lower()
            raise ConfigError(f"{self.folder}: trial {number} is {state}; choose a complete one")
        return trials[number]

    def spec(self, trial: FrozenTrial) -> ArchSpec:
        """Architecture of a trial."""
        return self.space.decode(trial.params)

    def model(self, trial: FrozenTrial) -> FaceModel:
        """Network of a trial as the search trained it.

        Raises:
            BuildError: its folder is missing or broken.
        """
        return FaceModel.load(self.folder / "candidates" / trial.user_attrs["arch_id"])

    @contextlib.contextmanager
    def _naming_storage(self) -> Iterator[None]:
        """Failures of the storage as one line that names the file."""
        try:
            yield
        except (DBAPIError, StorageInternalError) as failure:
            cause = failure if isinstance(failure, DBAPIError) else failure.__cause__
            reason = cause.orig if isinstance(cause, DBAPIError) else failure
            raise ConfigError(
                f"{self.folder / STORAGE_FILE}: cannot be read or written ({reason}); "
                "put back a copy of the file, or choose another folder with --out"
            ) from failure

    def _meter(self) -> LatencyMeter:
        size = self.space.input_shape[1]
        reference = network(REFERENCE_NETWORK).spec
        at_size = ArchSpec(
            input_shape=(3, size, self.space.input_shape[2]),
            stem=reference.stem,
            stages=reference.stages,
            head=reference.head,
        )
        return LatencyMeter(FaceModel.fresh(at_size, seed=0), self.folder)


@functools.cache
def _open_study(url: str, name: str, objectives: tuple[str, ...]) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url)
    try:
        # First, because `create_study` writes, and a finished run may lie on a read-only disk.
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        directions = [objective(each).direction for each in objectives]
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    with warnings.catch_warnings():
        # Naming the axes, for the dashboard, is marked experimental since Optuna 3.2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if study.metric_names is None:
            study.set_metric_names(list(objectives))
    return study


def _space_of(config: StudyConfig) -> SearchSpace:
    space = load_space(Path(config.space))
    return space if config.image_size is None else space.with_input_size(*config.image_size)


def _for_target(space: SearchSpace, config: StudyConfig) -> SearchSpace:
    """What may be proposed; designs that a run holds decode in the whole space as well."""
    if config.target is None:
        return space
    target = load_target(Path(config.target))
    return filtered(space, target, allow_slow=config.allow_slow, seed=config.seed)


def _with_trials(config: StudyConfig, trials: int) -> StudyConfig:
    return study_of({**config.to_data(), "trials": trials}, where=STUDY_FILE)
